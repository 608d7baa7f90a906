"""A file that lines are added to while others rotate it. Everything here may block: it is for a thread.

In: lines. Out: whole lines in the file, never a part of one. Errors: FileError and OSError, whose lines are kept by who
called.
"""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from imds_proxy.errors import FileError
from imds_proxy.host import safe_path

_MODE: Final = 0o640  # the group is for who reads logs


class AuditFile:
    """One file, open from the first call on.

    Args:
        path: Of the file itself; its folder has to be there.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor: int | None = None

    def append(self, lines: Sequence[bytes]) -> int:
        """Add lines, each ended by LF, to what is at the path now.

        Returns:
            How many are in the file: fewer than all where there was room for no more.

        Raises:
            FileError: What is there is not to be written to.
            OSError: None could be added.
        """
        descriptor = self._opened()
        data = b"".join(lines)
        before, written = os.fstat(descriptor).st_size, 0
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

    def _opened(self) -> int:
        """The file that is at the path: another one after it was renamed or removed."""
        if self._descriptor is None or not _is_at(self.path, self._descriptor):
            self.close()
            self._descriptor = _open(self.path)
        return self._descriptor


def _is_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(Path(path).lstat(), os.fstat(descriptor))
    except OSError:
        return False


def _open(path: str) -> int:
    # Neither a link nor a pipe that somebody has put there is followed or waited for.
    flags = os.O_RDWR | os.O_APPEND | os.O_NONBLOCK
    try:
        descriptor, made = safe_path.open_file(path, flags, follow=False), False
    except FileNotFoundError:
        descriptor, made = safe_path.open_file(path, flags | os.O_CREAT | os.O_EXCL, _MODE, follow=False), True
    try:
        if made:
            os.fchmod(descriptor, _MODE)  # whatever the umask is
        else:
            _refuse_what_others_write(os.fstat(descriptor))
            _end_last_line(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


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
