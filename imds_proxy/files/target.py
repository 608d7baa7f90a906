"""The file that an entry names: read, replaced as a whole, and known again.

Everything is done inside its folder, held open, and no symbolic link is followed out of it (CODEDEPLOY.md). In: a path,
bytes, and who may read them. Out: the file. Errors: FileError, whose message goes on after the path, and OSError; the
old file is whole then.
"""

import contextlib
import errno
import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imds_proxy import atomic_file
from imds_proxy.atomic_file import Access
from imds_proxy.errors import FileError

_LARGEST: Final = 1 << 20  # bytes
_LARGEST_ID: Final = 2**32 - 2  # the one after it means "leave it" to chown
_MOST_LINKS: Final = 8


@dataclass(frozen=True, slots=True)
class NamedAccess:
    """Who may do what with a file; owner and group by name or number, None: whoever this process is."""

    mode: int = 0o600
    owner: str | None = None
    group: str | None = None

    def numbers(self) -> Access:
        """The same by number; raises FileError for a user or group that is not there."""
        owner = _number(self.owner, "owner", lambda name: pwd.getpwnam(name).pw_uid)
        group = _number(self.group, "group", lambda name: grp.getgrnam(name).gr_gid)
        return Access(self.mode, owner, group)


@dataclass(frozen=True, slots=True)
class Signature:
    """By what a file is known again: which one it is, who may do what with it, and what was written last."""

    file: tuple[int, int]
    access: Access
    content: tuple[int, int]


def signature(path: Path) -> Signature | None:
    """The signature of what is there now, None where there is nothing."""
    try:
        return _signature(path.stat())
    except OSError:
        return None


def read(path: Path) -> bytes:
    """What is in the file now, b"" where there is none. Raises FileError and OSError."""
    with _folder(path) as (folder, name):
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        except FileNotFoundError:
            return b""
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise FileError("is not a regular file", "correct the path, or remove it")
            # In a folder of somebody else's it could be any file of root's, which would then be handed to its owner.
            if status.st_nlink > 1:
                raise FileError("has hard links, which would go on holding the old credentials", "remove them")
            content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise FileError("is larger than 1 MB, which no file of profiles is", "correct the path")
    return content


def replace(path: Path, content: bytes, access: NamedAccess) -> Signature:
    """Make `content` the file's. Raises FileError and OSError; the old file is whole then."""
    numbers = access.numbers()
    with _folder(path) as (folder, name):
        return _signature(atomic_file.replace_in(folder, name, content, numbers, folder_sync_required=False))


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[tuple[int, str]]:
    """The folder of a file, held open, and the file's name there."""
    with atomic_file.open_folder(path.parent) as folder:
        yield folder, _target(folder, path.name)


def _target(folder: int, name: str) -> str:
    """A file's name, or that of the file in the same folder that it is a link to."""
    for _ in range(_MOST_LINKS):
        try:
            link = os.readlink(name, dir_fd=folder)
        except FileNotFoundError:
            return name
        except OSError as error:
            if error.errno == errno.EINVAL:  # no link
                return name
            raise
        head, name = os.path.split(link)
        if name in {"", ".", ".."} or (head and not _is_folder(folder, head)):
            raise FileError("is a symbolic link out of its folder", "configure the path of the file itself")
    raise FileError("is a symbolic link in a circle", "remove it")


def _is_folder(folder: int, path: str) -> bool:
    try:
        return os.path.samestat(os.stat(path, dir_fd=folder), os.fstat(folder))
    except OSError:
        return False


def _signature(status: os.stat_result) -> Signature:
    return Signature(
        (status.st_dev, status.st_ino),
        Access.of(status),
        (status.st_size, status.st_mtime_ns),
    )


def _number(name: str | None, key: str, look_up: Callable[[str], int]) -> int:
    if name is None:
        return -1
    try:
        number = int(name) if name.isdecimal() else look_up(name)
    except KeyError:
        kind = "user" if key == "owner" else "group"
        raise FileError(
            f'cannot be written: there is no {kind} "{name}" on this host', f"create it, or correct {key}"
        ) from None
    if number > _LARGEST_ID:
        raise FileError(f"cannot be written: {number} is no number of an {key}", f"correct {key}")
    return number
