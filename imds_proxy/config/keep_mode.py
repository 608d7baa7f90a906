"""Which roles are needed at all, and for how long: pure, from the config.

A role that nobody may have costs no call to AWS and raises no alert.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from imds_proxy.config.model import Config
from imds_proxy.config.role_base import ON_DEMAND


class Need(Enum):
    """How one role is kept."""

    ALWAYS = "always"
    ON_DEMAND = "on demand"
    PER_SERVICE_ACCOUNT = "per service account"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Needed:
    """The roles of a config.

    Args:
        given: Those that somebody may be handed.
        needs: How each is kept.
    """

    given: frozenset[str]
    needs: dict[str, Need]


def needed(config: Config) -> Needed:
    """The roles that are handed out, that a file holds, and that one of these is assumed from.

    A file has to hold live credentials at any time, and a session is obtained at once only if the one that it is
    assumed from is there: both make a role one that is always kept.
    """
    given = _given(config)
    in_files = {file.role for file in config.files}
    always = in_files | set(_parents(config, given | in_files))
    return Needed(given, {name: _need(config, name, given, always) for name in config.roles})


def _given(config: Config) -> frozenset[str]:
    """Where there are grants, they say who; the token of a role in the state directory alone gives nothing then."""
    served = {name for name, role in config.roles.items() if role.serve}
    return frozenset(served & {grant.role for grant in config.grants} if config.grants else served)


def _parents(config: Config, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        parent = config.roles[name].parent
        while parent is not None:
            yield parent
            parent = config.roles[parent].parent


def _need(config: Config, name: str, given: frozenset[str], always: set[str]) -> Need:
    role = config.roles[name]
    if name in always:
        return Need.ALWAYS
    if name not in given:
        return Need.NONE
    if role.per_service_account:
        return Need.PER_SERVICE_ACCOUNT
    return Need.ON_DEMAND if role.serve == ON_DEMAND else Need.ALWAYS
