"""The file that an entry names: read, replaced as a whole, and known again.

Everything is done inside its folder, found on a safe way and held open, and no symbolic link is followed out of it
(CODEDEPLOY.md). What is there already is the owner's or the daemon's, or it is refused: never read, merged, replaced or
given away. In: a path, bytes, and who may read them. Out: the file. Errors: FileError, whose message goes on after the
path, and OSError; the old file is whole then.
"""

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from imds_proxy.errors import FileError
from imds_proxy.host import atomic_file, safe_path
from imds_proxy.host.atomic_file import Access
from imds_proxy.host.path_walk import Folder
from imds_proxy.host.user_namespace import unmapped_uid
from imds_proxy.output_files.named_access import NamedAccess

_LARGEST: Final = 1 << 20  # bytes
_MOST_LINKS: Final = 8
_ROOT: Final = 0


@dataclass(frozen=True, slots=True)
class Signature:
    """By what a file is known again: which one it is, who may do what with it, and what was written last."""

    file: tuple[int, int]
    access: Access
    content: tuple[int, int]


def signature(path: Path) -> Signature | None:
    """The signature of what is there now, None where there is nothing, or nothing on a safe way."""
    try:
        with safe_path.open_folder(path.parent) as folder:
            status = _status(folder, _file_name(folder, path.name, os.geteuid()))
    except (FileError, OSError):
        return None
    return None if status is None else _signature(status)


@contextlib.contextmanager
def opened(
    path: Path, access: NamedAccess, written: Signature | None = None, *, user: int | None = None
) -> Iterator["OpenTarget"]:
    """The place of a file, its folder held open, with what is there judged.

    Args:
        path: Of the file.
        access: What it is to have.
        written: The signature of what was written last.
        user: The daemon's; left out: this process's.

    Raises:
        FileError, OSError: It is not safe to write there.
    """
    user = os.geteuid() if user is None else user
    wanted = access.numbers()
    with safe_path.open_folder(path.parent, user=user) as folder:
        name = _file_name(folder, path.name, user)
        target = OpenTarget(folder, name, wanted, user, written, _status(folder, name))
        target.judge()
        yield target


@dataclass(frozen=True, slots=True)
class OpenTarget:
    """A file that can be read and replaced in one folder, whatever becomes of its path.

    Args:
        folder: Held open.
        name: Of the file, which is no link.
        wanted: The access that it is to have.
        user: The daemon's.
        written: The signature of what was written last.
        status: Of what is there; None: nothing.
    """

    folder: Folder
    name: str
    wanted: Access
    user: int
    written: Signature | None
    status: os.stat_result | None

    @property
    def signature(self) -> Signature | None:
        """Of what is there."""
        return None if self.status is None else _signature(self.status)

    @property
    def owner(self) -> int:
        """Whose it is to be."""
        return self.user if self.wanted.owner == -1 else self.wanted.owner

    def is_one_of(self, paths: Iterable[str]) -> bool:
        """Whether one of the paths is another way to write this file's."""
        return any(map(self._is, paths))

    @property
    def _is_in_strangers_folder(self) -> bool:
        return self.folder.status.st_uid not in {_ROOT, self.user, self.owner}

    def judge(self) -> None:
        """Refuse a folder or a file that belongs to neither the owner nor the daemon's user; raises FileError."""
        uid = self.folder.status.st_uid
        if self.owner != self.user and self._is_in_strangers_folder:
            advice = "configure a path in a folder of the owner's or of root's"
            raise FileError(f"is in a folder of uid {uid}'s, not of its owner's (uid {self.owner})", advice)
        if self.status is not None:
            self._judge_file(self.status)

    def read(self) -> bytes:
        """What is in the file now, b"" where there is none. Raises FileError and OSError."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(self.name, flags, dir_fd=self.folder.descriptor)
        except FileNotFoundError:
            return b""
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)  # another file by now, perhaps
            self._judge_file(status)
            content = file.read(_LARGEST + 1)
            if _owners(os.fstat(descriptor)) != _owners(status):
                raise FileError("was given to another while it was read", "nothing: it is read again")
        if len(content) > _LARGEST:
            raise FileError("is larger than 1 MB, which no file of profiles is", "correct the path")
        return content

    def replace(self, content: bytes) -> Signature:
        """Make `content` the file's. Raises OSError; the old file is whole then."""
        status = atomic_file.replace_in(
            self.folder.descriptor,
            self.name,
            content,
            self._given(),
            folder_sync_required=False,
            inherits=not self._is_in_strangers_folder,
        )
        return _signature(status)

    def _given(self) -> Access:
        """The access of a new file: its group is not left to a setgid bit that a stranger has set."""
        group = os.getegid() if self.wanted.group == -1 and self._is_in_strangers_folder else self.wanted.group
        return replace(self.wanted, group=group)

    def _is(self, path: str) -> bool:
        """By device and inode of the folder, or of the file: names may differ."""
        path = os.path.realpath(path)
        with contextlib.suppress(OSError):
            if self.status is not None and os.path.samestat(os.stat(path), self.status):  # noqa: PTH116 - of a str
                return True
        with contextlib.suppress(OSError):
            folder, name = os.path.split(path)
            return name == self.name and os.path.samestat(os.stat(folder), self.folder.status)  # noqa: PTH116
        return False

    def _judge_file(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise FileError("is not a regular file", "correct the path, or remove it")
        # In a folder of somebody else's it could be any file of root's, which would then be handed to its owner.
        if status.st_nlink > 1:
            raise FileError("has hard links, which would go on holding the old credentials", "remove them")
        if not self._is_what_was_written(status):
            self._refuse_strangers(status)

    def _is_what_was_written(self, status: os.stat_result) -> bool:
        """Whether it is the very file that was written last, for this owner, whomever root has given it to since."""
        if self.written is None or self.written.access.owner != self.owner:
            return False
        now = _signature(status)
        return (now.file, now.content) == (self.written.file, self.written.content)

    def _refuse_strangers(self, status: os.stat_result) -> None:
        uid = status.st_uid
        if uid != self.user and (uid != self.owner or uid == unmapped_uid()):
            raise FileError(
                f"belongs to uid {uid}, neither its owner (uid {self.owner}) nor the daemon's user (uid {self.user})",
                "correct owner or the path; or chown the file, if all that is in it may be the owner's; or remove it",
            )
        if not self.folder.others <= {uid} and self._opens(status):
            raise FileError(
                f"belongs to uid {uid} and may have been moved here by another user, who could read it with the owner,"
                " group and mode that are configured",
                "chown and chmod it to these, if all that is in it may be read so; or remove it",
            )

    def _opens(self, status: os.stat_result) -> bool:
        """Whether somebody else than root could read the file as it is wanted who cannot read it as it is."""
        if self.owner not in {_ROOT, status.st_uid}:
            return True
        group = self._own_group(status) if self.wanted.group == -1 else self.wanted.group
        closed = ~status.st_mode if group == status.st_gid else stat.S_IRWXG
        return bool(self.wanted.mode & stat.S_IRWXG & closed)

    def _own_group(self, status: os.stat_result) -> int:
        """The group that the daemon gives a file by leaving it out."""
        if self.folder.status.st_mode & stat.S_ISGID and not self._is_in_strangers_folder:
            return self.folder.status.st_gid
        return os.getegid() if self.user == os.geteuid() else status.st_gid


def _file_name(folder: Folder, name: str, user: int) -> str:
    """A file's name, or that of the file in the same folder that it is a link to."""
    for _ in range(_MOST_LINKS):
        if (link := _link(folder, name, user)) is None:
            return name
        head, name = os.path.split(link)
        if name in {"", ".", ".."} or (head and not safe_path.is_in_folder(folder.descriptor, head, user=user)):
            raise FileError("is a symbolic link out of its folder", "configure the path of the file itself")
    raise FileError("is a symbolic link in a circle", "remove it")


def _link(folder: Folder, name: str, user: int) -> str | None:
    """What a link says; None where there is none. Raises FileError for one of a user whose folder it is not."""
    try:
        descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder.descriptor)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISLNK(status.st_mode):
            return None
        # Whoever may only add names to a folder could have any file in it replaced.
        if status.st_uid not in {_ROOT, user, folder.status.st_uid}:
            raise FileError(f"is a symbolic link of uid {status.st_uid}, whose folder it is not", "remove it")
        return os.readlink("", dir_fd=descriptor)
    finally:
        os.close(descriptor)


def _status(folder: Folder, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder.descriptor, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _owners(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_uid, status.st_gid, status.st_mode, status.st_nlink


def _signature(status: os.stat_result) -> Signature:
    return Signature(
        (status.st_dev, status.st_ino),
        Access.of(status),
        (status.st_size, status.st_mtime_ns),
    )
