"""What systemd's unit files on this host say of the daemon, read without asking systemd.

In: folders of unit files. Out: whom the service runs as, what it may do, which sockets are passed. What cannot be read
is as if it were not there.
"""

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from imds_proxy.cli.check_sandbox import Sandbox
from imds_proxy.cli.options import DEFAULT_PATH, VARIABLE

SERVICE: Final = "imds-proxy.service"
FOLDERS: Final = tuple(
    Path(folder)
    for folder in (
        "/etc/systemd/system",
        "/run/systemd/system",
        "/usr/local/lib/systemd/system",
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
    )
)
"""systemd.unit(5), "Unit File Load Path": the first has precedence."""

Settings = dict[str, list[str]]
"""The values of each key, in the order in which they are set; an empty one takes away those before it."""


@dataclass(frozen=True, slots=True)
class PassedByUnit:
    """One socket unit.

    Args:
        name: What `systemd:NAME` names.
        listen: Its addresses.
        free_bind: Whether these need not be on the host.
    """

    name: str
    listen: tuple[str, ...]
    free_bind: bool


@dataclass(frozen=True, slots=True)
class Unit:
    """The service, as far as its unit file says.

    Args:
        user: As in User=; None: root.
        capabilities: Of AmbientCapabilities=, such as CAP_CHOWN.
        state_directory: Where systemd makes the state directory; None: nowhere.
        sandbox: What it may write.
    """

    user: str | None
    capabilities: frozenset[str]
    state_directory: Path | None
    sandbox: Sandbox = field(default_factory=Sandbox)


def unit_of(config: Path, folders: Sequence[Path] = FOLDERS) -> Unit | None:
    """The service that serves a config file; None where there is no unit of it here."""
    settings = _settings(SERVICE, folders)
    if not settings or not _serves(settings, config):
        return None
    names = _words(settings, "StateDirectory")
    return Unit(
        user=next(iter(_words(settings, "User")[-1:]), None),
        capabilities=frozenset(_words(settings, "AmbientCapabilities")),
        state_directory=Path("/var/lib", names[0].partition(":")[0]) if names else None,
        sandbox=Sandbox.of({key: _words(settings, key) for key in settings}),
    )


def passed_by_units(folders: Sequence[Path] = FOLDERS) -> list[PassedByUnit]:
    """Every socket unit of this host."""
    names = {path.name for folder in folders for path in _listed(folder) if path.suffix == ".socket"}
    found = []
    for name in sorted(names):
        settings = _settings(name, folders)
        given = (_words(settings, "FileDescriptorName") or [name])[-1]
        free = (_words(settings, "FreeBind") or ["no"])[-1].lower() in {"yes", "true", "on", "1"}
        found.append(PassedByUnit(given, tuple(_words(settings, "ListenStream")), free))
    return found


def _serves(settings: Settings, config: Path) -> bool:
    """Whether the service's command names this config file, or none where this is the default one."""
    words = [word for line in settings.get("ExecStart", []) for word in _split(line)]
    given = (word.removeprefix(f"{VARIABLE}=") for word in _words(settings, "Environment") if word.startswith(VARIABLE))
    named = Path(next(given, DEFAULT_PATH))
    for number, word in enumerate(words):
        if word == "--config" and number + 1 < len(words):
            named = Path(words[number + 1])
        elif word.startswith("--config="):
            named = Path(word.removeprefix("--config="))
    return os.path.abspath(named) == os.path.abspath(config)  # noqa: PTH100 - of a file that need not be there


def _words(settings: Settings, key: str) -> list[str]:
    return [word for value in settings.get(key, []) for word in _split(value)]


def _split(value: str) -> list[str]:
    try:
        return shlex.split(value)
    except ValueError:
        return value.split()


def _settings(name: str, folders: Sequence[Path]) -> Settings:
    """Every key of a unit and of the files that change it; without its sections, of which no key has two."""
    found: Settings = {}
    main = next((folder / name for folder in folders if os.path.lexists(folder / name)), None)
    if main is None:
        return found
    changes: dict[str, Path] = {}
    for folder in reversed(folders):
        changes |= {path.name: path for path in _listed(folder / f"{name}.d") if path.suffix == ".conf"}
    for path in (main, *(changes[each] for each in sorted(changes))):
        for key, value in _lines(path):
            found[key] = [*found.get(key, []), value] if value else []
    return found


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    text = ""
    with suppress(OSError):
        text = path.read_text("utf-8", "replace")
    for line in text.replace("\\\n", " ").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.lstrip().startswith(("#", ";", "[")):
            yield key.strip(), value.strip()


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
