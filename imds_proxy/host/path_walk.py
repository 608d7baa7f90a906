"""A walk along a path on which no other user can lead it elsewhere.

A path is walked name by name. Each is opened in the folder before it, never followed, and judged by its descriptor:
what was judged is what is used, whatever is renamed meanwhile. A step from a folder is safe if the folder belongs to
root or to the daemon's user, or if both its ends belong to one user (as CHASE_SAFE of systemd has it). A symbolic link
of root's or of the daemon's user is walked by the same rules, where "..", and "/" at its beginning, are steps too.

In: names. Out: the descriptor of a folder. Errors: UnsafePathError, and OSError of the system.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from imds_proxy.host.user_namespace import unmapped_uid

ANYONE: Final = -1
"""In place of a uid: whoever is of a folder's group, or every user."""

_FOLDER: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ANYTHING: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS: Final = 40  # as many as the kernel follows
_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH  # the group's bit is set too where an ACL names a user
_ROOT: Final = 0


class UnsafePathError(OSError):
    """Another user could make the path lead elsewhere; `strerror` says where on it."""

    advice = (
        "let every folder of the path belong to root or to the user the daemon runs as, or, from a user's folder on, to"
        " that user, and name real folders in place of a user's symbolic links"
    )

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EPERM, reason)


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that is held open.

    Args:
        descriptor: Fit for listing and syncing.
        status: As it was when it was opened.
        others: The users besides root and the daemon's that can put something else at the path of a file in it, by
            uid; ANYONE where the folder or one above can be written by a group or by all.
    """

    descriptor: int
    status: os.stat_result
    others: frozenset[int]


class Walk:
    """A walk, and the folder that it has come to.

    Args:
        user: The daemon's; None: this process's.
        make: The mode that missing folders are made with; None: they are not made.
        start: The folder that a relative path begins in.
    """

    def __init__(self, user: int | None, *, make: int | None = None, start: int | None = None) -> None:
        self.others: set[int] = set()
        """Who could have changed the way up to here, as in `Folder`, what is in this folder aside."""
        self._trusted = {_ROOT, os.geteuid() if user is None else user}
        self._make = make
        self._links = 0
        self.path = "/" if start is None else "."
        self.folder = os.open("/", _FOLDER) if start is None else os.open(".", _FOLDER, dir_fd=start)
        self.status = os.fstat(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.folder)

    def enter(self, path: Path | str) -> None:
        """Walk to a folder; a relative path begins where this process does, or in `start`."""
        names = self._names(self._from_start(path))
        while names:
            names += self._step(names.pop())

    def enter_folder_of(self, path: Path | str, *, follow: bool = True) -> str:
        """Walk to the folder of a file, or of the one that it is a link to; its name there."""
        names = self._names(self._from_start(path))
        while names:
            name = names.pop()
            if names or name == "..":
                names += self._step(name)
            elif not follow or (link := self._link(name)) is None:
                return name
            else:
                names += link
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))

    def judge(self, name: str, status: os.stat_result) -> None:
        """Refuse what is not the folder's owner's in a folder of a user's."""
        owner = self.status.st_uid
        if owner in self._trusted:
            return
        if status.st_uid != owner:
            raise UnsafePathError(f"{self._at(name)} belongs to uid {status.st_uid}, but its folder to uid {owner}")
        if owner == unmapped_uid():
            raise UnsafePathError(f"{self._at(name)} belongs to a user that this user namespace does not know")

    def judge_new(self, name: str) -> None:
        """The same of a file that would be made."""
        if self.status.st_uid not in self._trusted:
            raise UnsafePathError(f"{self._at(name)} would be made in a folder of uid {self.status.st_uid}'s")

    @contextlib.contextmanager
    def held_open(self) -> Iterator[Folder]:
        """The folder that the walk has come to, opened for listing and syncing."""
        others = self.others | {self.status.st_uid} - self._trusted
        if self.status.st_mode & _WRITABLE_BY_OTHERS:  # were it sticky: a hard link may be put there all the same
            others.add(ANYONE)
        descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.folder)
        try:
            yield Folder(descriptor, self.status, frozenset(others))
        finally:
            os.close(descriptor)

    def _at(self, name: str) -> str:
        """The path of what has that name here, for people."""
        return os.path.join(self.path, name)  # noqa: PTH118 - a Path for each name costs more than the walk

    def _from_start(self, path: Path | str) -> str:
        text = os.fspath(path)
        return text if self.path == "." or text.startswith("/") else f"{Path.cwd()}/{text}"

    @staticmethod
    def _names(path: str) -> list[str]:
        """The names of a path, the first one last."""
        return [name for name in reversed(path.split("/")) if name not in {"", "."}]

    def _restart(self) -> None:
        """Begin at "/", as a link says."""
        if self.status.st_uid not in self._trusted:
            raise UnsafePathError(f"a symbolic link leads out of {self.path}, a folder of uid {self.status.st_uid}'s")
        self._go(os.open("/", _FOLDER), "/")

    def _step(self, name: str) -> list[str]:
        """Enter a folder; or what a link of that name stands for, still to be walked."""
        try:
            child = self._open(name)
        except NotADirectoryError:
            if (link := self._link(name)) is None:
                raise
            return link
        self._go(child, name)
        return []

    def _open(self, name: str) -> int:
        try:
            return os.open(name, _FOLDER, dir_fd=self.folder)
        except FileNotFoundError:
            if self._make is None or self.status.st_uid not in self._trusted:
                raise
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, self._make, dir_fd=self.folder)
        return os.open(name, _FOLDER, dir_fd=self.folder)

    def _go(self, child: int, name: str) -> None:
        """Be in another folder from here on, once the step is judged; takes the descriptor."""
        try:
            status = os.fstat(child)
            self.judge(name, status)
        except BaseException:
            os.close(child)
            raise
        self._note_others(status)
        os.close(self.folder)
        self.folder, self.status = child, status
        self.path = os.path.dirname(self.path) if name == ".." else self._at(name)  # noqa: PTH120 - a Path for each

    def _note_others(self, child: os.stat_result) -> None:
        """Who could put something else in the place of a folder or link; a sticky folder keeps that to its owner."""
        mode, owners = self.status.st_mode, {self.status.st_uid}
        if mode & _WRITABLE_BY_OTHERS:
            owners.add(child.st_uid if mode & stat.S_ISVTX else ANYONE)
        self.others |= owners - self._trusted

    def _link(self, name: str) -> list[str] | None:
        """What a link stands for, to be walked from its folder; None where there is no link."""
        try:
            link = os.open(name, _ANYTHING, dir_fd=self.folder)
        except FileNotFoundError:
            return None
        try:
            status = os.fstat(link)
            if not stat.S_ISLNK(status.st_mode):
                return None
            self._judge_link(name, status)
            target = os.readlink("", dir_fd=link)
        finally:
            os.close(link)
        self._note_others(status)
        if target.startswith("/"):
            self._restart()
        return self._names(target)

    def _judge_link(self, name: str, status: os.stat_result) -> None:
        self._links += 1
        if self._links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        path = self._at(name)
        if status.st_uid not in self._trusted:
            raise UnsafePathError(f"{path} is a symbolic link of uid {status.st_uid}, and only root's are followed")
        if _is_on_proc(status):
            raise UnsafePathError(f"{path} is a link that the kernel makes, which leads elsewhere than it says")


def _is_on_proc(status: os.stat_result) -> bool:
    """Whether something is on a proc file system, by its device; where that cannot be known, an OSError."""
    device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    if not device.startswith("0:"):  # a disk's
        return False
    mounts = Path("/proc/self/mountinfo").read_bytes()  # of some hosts it has thousands of lines
    found = mounts.find(f" {device} ".encode())
    return found >= 0 and b" - proc " in mounts[found : mounts.find(b"\n", found)]
