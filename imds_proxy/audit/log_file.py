"""A file that lines are added to while it is rotated, by size here or by others. It may block: it is for a thread.

In: lines. Out: whole lines in the file, never a part of one. Errors: FileError and OSError, whose lines are kept by who
called.
"""

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Final

from imds_proxy.audit.rotation import Rotation, rotate
from imds_proxy.errors import FileError
from imds_proxy.host import safe_path
from imds_proxy.host.file_errors import judge_folder

_MODE: Final = 0o640  # the group is for who reads logs
_RETRY_AFTER: Final = 1 << 20
"""Bytes by which a file that cannot be rotated grows before that is tried again."""


class AuditFile:
    """One file, open from the first call on.

    Args:
        path: Of the file itself; its folder has to be there.
        rotation: By size; None: others rotate it, or nobody does.
    """

    def __init__(self, path: str, rotation: Rotation | None = None) -> None:
        self.path = path
        self.rotation_error: OSError | None = None
        """Why it could not be rotated when it was last tried. It grows on: no line is lost for that."""
        self._rotation = rotation
        self._descriptor: int | None = None
        self._grown = 0
        """Bytes at which a file that could not be rotated is tried again."""

    def append(self, lines: Sequence[bytes]) -> int:
        """Add lines, each ended by LF, to what is at the path now.

        Returns:
            How many are in the file: fewer than all where there was room for no more before the next rotation.

        Raises:
            FileError: What is there is not to be written to.
            OSError: None could be added.
        """
        descriptor, before = self._with_room_for(lines)
        lines = self._fitting(lines, before)
        data, written = b"".join(lines), 0
        try:
            while written < len(data):
                written += os.write(descriptor, memoryview(data)[written:])
        except OSError:
            whole = data.rfind(b"\n", 0, written) + 1
            # A file that something else has shortened meanwhile would get a hole.
            if os.fstat(descriptor).st_size == before + written:
                os.ftruncate(descriptor, before + whole)
            self.close()
            if not whole:
                raise
            return data.count(b"\n", 0, whole)
        return len(lines)

    def close(self) -> None:
        """The next call opens it again."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _with_room_for(self, lines: Sequence[bytes]) -> tuple[int, int]:
        """The file, rotated if the first line would be too much for it, and its size."""
        descriptor = self._opened()
        status = os.fstat(descriptor)
        if self._rotation is None or not lines or not status.st_size:
            return descriptor, status.st_size
        if status.st_size + len(lines[0]) <= max(self._rotation.max_size, self._grown):
            return descriptor, status.st_size
        try:
            rotate(self.path, descriptor, self._rotation.keep)
        except OSError as error:
            self.rotation_error, self._grown = error, status.st_size + _RETRY_AFTER
            return descriptor, status.st_size
        self.rotation_error, self._grown = None, 0
        descriptor = self._opened(status)
        return descriptor, os.fstat(descriptor).st_size

    def _fitting(self, lines: Sequence[bytes], size: int) -> Sequence[bytes]:
        """As many of the lines as there is room for, one at least."""
        if self._rotation is None:
            return lines
        ends = accumulate(map(len, lines), initial=size)
        most = max(self._rotation.max_size, self._grown)
        return lines[: max(sum(end <= most for end in ends) - 1, 1)]

    def _opened(self, like: os.stat_result | None = None) -> int:
        """The file that is at the path: another one, as accessible as `like`, after it was renamed or removed."""
        if self._descriptor is None or not _is_at(self.path, self._descriptor):
            self.close()
            self._descriptor = _open(self.path, like)
        return self._descriptor


def _is_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(Path(path).lstat(), os.fstat(descriptor))
    except OSError:
        return False


def _open(path: str, like: os.stat_result | None = None) -> int:
    # Neither a link nor a pipe that somebody has put there is followed or waited for.
    flags = os.O_RDWR | os.O_APPEND | os.O_NONBLOCK
    try:
        descriptor, made = safe_path.open_file(path, flags, follow=False), False
    except FileNotFoundError:
        descriptor, made = safe_path.open_file(path, flags | os.O_CREAT | os.O_EXCL, _MODE, follow=False), True
    try:
        if made:
            _give_access(descriptor, like)
        else:
            _refuse_what_others_write(os.fstat(descriptor))
            _end_last_line(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def judge(path: str) -> None:
    """Raise FileError or OSError where no line could be added at a path; nothing is made or written."""
    try:
        descriptor = safe_path.open_file(path, os.O_RDWR | os.O_APPEND | os.O_NONBLOCK, follow=False)
    except FileNotFoundError:
        safe_path.judge_path(path, made=True)
    else:
        try:
            _refuse_what_others_write(os.fstat(descriptor))
        finally:
            os.close(descriptor)
    judge_folder(Path(path).parent)  # for a new file, or to rotate this one


def _give_access(descriptor: int, like: os.stat_result | None) -> None:
    """Let those read a new file who may read the one before it; whatever the umask is."""
    if like is not None and like.st_gid != os.fstat(descriptor).st_gid:
        with suppress(OSError):  # a group that this process is not in
            os.fchown(descriptor, -1, like.st_gid)
    os.fchmod(descriptor, _MODE if like is None else stat.S_IMODE(like.st_mode))


def _refuse_what_others_write(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise FileError("is not a regular file", "correct the path, or remove it")
    if status.st_nlink > 1:
        raise FileError("has hard links: it may be another file under this name", "remove them")
    if status.st_uid not in {0, os.geteuid()} or status.st_mode & stat.S_IWOTH:
        advice = "chown it to the user the daemon runs as and chmod 640 it, after a look at what is in it"
        raise FileError("belongs to or is writable by other users, who could change what it tells", advice)


def _end_last_line(descriptor: int) -> None:
    """A line that was cut off by a crash stays a line of its own."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        os.write(descriptor, b"\n")
