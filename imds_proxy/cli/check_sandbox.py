"""`imds-proxy check`: what the daemon's unit keeps it from writing, which no look at the host from outside shows.

systemd.exec(5): ProtectSystem=, ProtectHome=, ReadWritePaths=, StateDirectory= and its like.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from imds_proxy.cli.check_finding import Finding, Key

if TYPE_CHECKING:
    from imds_proxy.config.model import Config

_SYSTEM: Final = {"yes": ("/usr", "/boot", "/efi"), "full": ("/usr", "/boot", "/efi", "/etc"), "strict": ("/",)}
_ALWAYS_WRITABLE: Final = ("/dev", "/proc", "/sys")
_HOMES: Final = ("/home", "/root", "/run/user")
_YES: Final = frozenset({"yes", "true", "on", "1"})
_MADE: Final = {
    "StateDirectory": "/var/lib",
    "LogsDirectory": "/var/log",
    "CacheDirectory": "/var/cache",
    "RuntimeDirectory": "/run",
}


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What a service may write, by the words of its unit.

    Args:
        system: ProtectSystem=.
        home: ProtectHome=.
        writable: Folders that it may write in any case.
        made: Those of them that systemd makes at each start, with the service's user as their owner.
    """

    system: str = "no"
    home: str = "no"
    writable: tuple[str, ...] = ()
    made: tuple[str, ...] = ()

    @classmethod
    def of(cls, words: dict[str, list[str]]) -> "Sandbox":
        """That of a unit, by the words of its settings; with a specifier in a path, nothing is known of it."""
        paths = [path.lstrip("+-") for path in words.get("ReadWritePaths", [])]
        made = [f"{top}/{name.partition(':')[0]}" for key, top in _MADE.items() for name in words.get(key, [])]
        if any("%" in path for path in (*paths, *made)):
            return cls()
        system, home = (words.get(key, ["no"])[-1].lower() for key in ("ProtectSystem", "ProtectHome"))
        return cls("yes" if system in _YES else system, "yes" if home in _YES else home, (*paths, *made), tuple(made))

    def refuses(self, path: str) -> str | None:
        """The setting that keeps the service from writing a file; None where there is none."""
        path = os.path.realpath(path)
        if _is_in(path, self.writable):
            return None
        if self.home in {"yes", "read-only", "tmpfs"} and _is_in(path, _HOMES):
            return f"ProtectHome={self.home}"
        if _is_in(path, _SYSTEM.get(self.system, ())) and not _is_in(path, _ALWAYS_WRITABLE):
            return f"ProtectSystem={self.system}"
        return None


def findings(config: "Config", sandbox: Sandbox, unit: str) -> Iterator[Finding]:
    """The files that the daemon is to write and that its unit does not let it write."""
    for key, path, place in _written(config):
        if (setting := sandbox.refuses(path)) is not None:
            what = f"{path} cannot be written by {unit}, which has {setting}"
            yield Finding(key, what, f"systemctl edit {unit}: a line ReadWritePaths={place} under [Service]")


def _written(config: "Config") -> Iterator[tuple[Key, str, str]]:
    """Key path, path, and the folder that has to be writable for it."""
    for number, entry in enumerate(config.files):
        yield ("files", number, "path"), entry.path, str(PurePath(entry.path).parent)
    for number, grant in enumerate(config.grants):
        if grant.token_file is not None and not os.path.lexists(grant.token_file):
            yield ("grants", number, "token_file"), grant.token_file, str(PurePath(grant.token_file).parent)
    if config.audit.file is not None:
        yield ("audit", "file"), config.audit.file, str(PurePath(config.audit.file).parent)
    if config.state_dir:
        yield ("state_dir",), config.state_dir, config.state_dir


def _is_in(path: str, folders: tuple[str, ...]) -> bool:
    return any(PurePath(path).is_relative_to(os.path.realpath(folder)) for folder in folders)
