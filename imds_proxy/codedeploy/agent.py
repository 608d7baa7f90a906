"""The agent on this host: its processes, whom they run as, what they may read, and its own config.

In: the file system, `/proc` above all. Out: processes, settings. "CodeDeploy agent configuration reference" of the
CodeDeploy user guide.
"""

import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

from imds_proxy.codedeploy import agent_yaml
from imds_proxy.codedeploy.onpremises import LINUX_FOLDER
from imds_proxy.errors import ConfigError
from imds_proxy.host import utf8
from imds_proxy.host.utf8 import NotUtf8Error

_NAME: Final = "codedeploy-agent"
_SETTINGS: Final = (f"{LINUX_FOLDER}/codedeployagent.yml", "/opt/codedeploy-agent/conf/codedeployagent.yml")
_EFFECTIVE: Final = 1
"""Of real, effective, saved and file system id in `/proc/PID/status`."""


@dataclass(frozen=True, slots=True)
class User:
    """Whom a process runs as."""

    uid: int
    gids: frozenset[int]

    def __str__(self) -> str:
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return f"uid {self.uid}"


ROOT: Final = User(0, frozenset({0}))


@dataclass(frozen=True, slots=True)
class Host:
    """A machine's file system; `root` is where it is mounted."""

    root: Path = Path("/")

    def path(self, absolute: str) -> Path:
        """Where `absolute` is found from here."""
        return self.root / absolute.lstrip("/")


def users(host: Host) -> dict[int, User]:
    """The agent's processes that can be seen, by their numbers: 1.8 renames itself, 2.0 is a program of this name."""
    found = {}
    for folder in host.path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            if _is_agent(command):
                found[int(folder.name)] = _user((folder / "status").read_text("utf-8", "replace"))
        except (OSError, ValueError, LookupError):  # it ended meanwhile
            continue
    return found


def settings(host: Host) -> dict[str, str]:
    """What the agent's own config says, empty where there is none that can be read."""
    for name in _SETTINGS:
        try:
            return agent_yaml.read(utf8.decoded(host.path(name).read_bytes()), strict=False)
        except (OSError, NotUtf8Error, ConfigError):
            continue
    return {}


def why_unreadable(path: Path, user: User) -> str | None:
    """What keeps a user from reading a file, by the permission bits of it and of its folders; None: nothing.

    Raises:
        OSError: It is not there, or this process may not look.
    """
    path = path.resolve(strict=True)
    if user.uid == 0:
        return None
    for folder in reversed(path.parents):
        if not _may(user, folder, _SEARCH):
            return f"{folder} lets {user} not through"
    return None if _may(user, path, _READ) else f"{path} may not be read by {user}"


_SEARCH: Final = (stat.S_IXUSR, stat.S_IXGRP, stat.S_IXOTH)
_READ: Final = (stat.S_IRUSR, stat.S_IRGRP, stat.S_IROTH)


def _may(user: User, path: Path, bits: tuple[int, int, int]) -> bool:
    """The kernel's rule: owner's bits for the owner, group's for its members, the rest for the rest."""
    status = path.stat()
    theirs = 0 if status.st_uid == user.uid else 1 if status.st_gid in user.gids else 2
    return bool(status.st_mode & bits[theirs])


def _is_agent(command: list[str]) -> bool:
    names = [PurePath(argument).name for argument in command[:2]]
    if names[0] == _NAME or names[0].startswith(f"{_NAME}:"):
        return True
    return names[0].startswith("ruby") and names[1:] in ([_NAME], [f"{_NAME}.rb"])


def _user(status: str) -> User:
    fields = dict(_fields(status))
    gid = int(fields["Gid"][_EFFECTIVE])
    return User(int(fields["Uid"][_EFFECTIVE]), frozenset({gid, *map(int, fields["Groups"])}))


def _fields(status: str) -> Iterator[tuple[str, list[str]]]:
    for line in status.splitlines():
        name, _, rest = line.partition(":")
        yield name, rest.split()
