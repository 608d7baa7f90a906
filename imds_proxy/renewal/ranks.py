"""In which order roles are obtained first, and in which line their later attempts wait: pure, from the config."""

from collections.abc import Iterable

from imds_proxy.config.model import Config
from imds_proxy.config.roles import FileConfig
from imds_proxy.renewal.turns import DEFAULT, EARLY, ORDINARY


def ranks(config: Config) -> dict[str, int]:
    """The rank of each role, first those that are obtained first.

    A role that another is assumed from is as early as that one, and before it.
    """
    found = dict.fromkeys(config.roles, ORDINARY)
    early = [name for name, role in config.roles.items() if isinstance(role, FileConfig)]
    _raise_to(EARLY, [*(file.role for file in config.files), *early], found, config)
    if config.default_role is not None:
        _raise_to(DEFAULT, [config.default_role], found, config)
    order = sorted(found, key=lambda name: (found[name], _depth(name, config)))
    return {name: found[name] for name in order}


def _raise_to(rank: int, names: Iterable[str], found: dict[str, int], config: Config) -> None:
    for name in names:
        link: str | None = name
        while link is not None and found[link] > rank:
            found[link] = rank
            link = config.roles[link].parent


def _depth(name: str, config: Config) -> int:
    """How many roles one is assumed from, one after the other."""
    parent = config.roles[name].parent
    return 0 if parent is None else 1 + _depth(parent, config)
