"""Why a file cannot be read or written, and what to do about it, in words for the operator."""

import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from imds_proxy.errors import FileError
from imds_proxy.host.mounts import read_mounts
from imds_proxy.host.open_files import exhausted
from imds_proxy.host.path_walk import UnsafePathError

HANGS: Final = "see whether the file system it is on, a network one perhaps, works; it is retried"
"""What to do about a file that does not answer."""

_ADVICE: Final = {
    errno.ENOSPC: "free space on that file system",
    errno.EDQUOT: "free space: the quota is used up",
    errno.ENOTDIR: "correct the path: a part of it is no folder",
    errno.EISDIR: "correct the path: it is a folder",
    errno.ELOOP: "configure the path of the file itself, not of a symbolic link",
}
_NOT_FOR_FILES: Final = frozenset({"bpf", "cgroup", "cgroup2", "debugfs", "devpts", "proc", "securityfs", "sysfs"})
"""File systems that show what the kernel has."""
_OTHERWISE: Final = "see what is wrong with the file system"


def judge_folder(path: Path | str) -> None:
    """Raise OSError where this process could put no file into a folder, without trying it."""
    number = 0
    if not stat.S_ISDIR(os.stat(path).st_mode):  # noqa: PTH116 - a str, or a Path
        number = errno.ENOTDIR
    elif read_mounts().of(os.path.realpath(path)).kind in _NOT_FOR_FILES:
        number = errno.EROFS  # root may write there, and yet nobody makes a file
    elif not os.access(path, os.W_OK | os.X_OK):
        number = errno.EROFS if os.statvfs(path).f_flag & os.ST_RDONLY else errno.EACCES
    if number:
        raise OSError(number, os.strerror(number))


def write_failure(path: Path | str, error: FileError | OSError, advice: Mapping[int, str]) -> FileError:
    """The same failure, with a message that names the file and with advice.

    Args:
        path: Of the file.
        error: A FileError whose message goes on after the path, or what the system said.
        advice: By the system's number of an error, where it depends on what the file is for.
    """
    if isinstance(error, FileError):
        return FileError(f"{path} {error.message}", error.advice)
    if (shortage := exhausted(error)) is not None:
        return FileError(f"{path} cannot be written: {shortage[0]}", shortage[1])
    number = error.errno or 0
    if isinstance(error, UnsafePathError):
        return FileError(f"{path} cannot be written: {error.strerror}", error.advice)
    said = advice.get(number) or _ADVICE.get(number, _OTHERWISE)
    return FileError(f"{path} cannot be written: {error.strerror}", said)
