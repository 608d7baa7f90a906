"""Replacing a file so that a reader, or a crash, sees the old one or the new one, and nobody who may not sees either.

The only way in which anything here replaces a file. All of it is done inside one folder that is held open. In: a
folder, a name, bytes, and who may read them. Out: the file. Errors: OSError; the old file is whole then, but for an
error of the sync of the folder: the new one is there, and only a power cut may bring the old one back.
"""

import contextlib
import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imds_proxy.host import safe_path

_LEFTOVER_AGE: Final = 60.0  # seconds; a write that takes longer fails at its rename
_MARK: Final = ".imds-proxy."


@dataclass(frozen=True, slots=True)
class Access:
    """Who may do what with a file; owner and group by number, -1: whoever this process is."""

    mode: int = 0o600
    owner: int = -1
    group: int = -1

    @classmethod
    def of(cls, status: os.stat_result) -> "Access":
        """That of a file."""
        return cls(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)


PRIVATE: Final = Access()
"""This process's user alone may read and write it."""


def replace(path: Path, content: bytes, access: Access) -> None:
    """Make `content` the file's; a link is replaced, not followed. Raises OSError."""
    with open_folder(path.parent) as folder:
        replace_in(folder, path.name, content, access)


@contextlib.contextmanager
def open_folder(path: Path) -> Iterator[int]:
    """A folder, found on a safe way and held open: whatever becomes of its path, it is the same one."""
    with safe_path.open_folder(path) as folder:
        yield folder.descriptor


def replace_in(
    folder: int,
    name: str,
    content: bytes,
    access: Access,
    *,
    folder_sync_required: bool = True,
    inherits: bool = True,
) -> os.stat_result:
    """Make `content` that of a file in an open folder.

    Args:
        folder: Its descriptor.
        name: A link of this name is replaced, not followed.
        content: All of it.
        access: Holds whatever the umask is, and before there is content.
        folder_sync_required: Whether a file system that cannot sync folders, as some network file systems, is an error.
        inherits: Whether an access control list that the folder gives to new files is left to them.

    Returns:
        The new file's status.
    """
    remove_leftovers(folder, name, access.owner)
    temporary = f".{name}{_MARK}{secrets.token_hex(4)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if not inherits:
                _remove_list(descriptor)
            _give(descriptor, access)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
            written = os.fstat(descriptor)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise
    _sync(folder, required=folder_sync_required)
    return written


def remove_leftovers(folder: int, name: str, owner: int, *, any_age: bool = False) -> None:
    """Remove what a crash in the middle of a write has left of a file; it may hold credentials.

    Args:
        folder: Its descriptor.
        name: The file's.
        owner: Whose they may be besides this process's; -1: nobody's.
        any_age: For a caller who knows that no other write is under way.
    """
    leftover = re.compile(rf"\.{re.escape(name)}{re.escape(_MARK)}[0-9a-f]{{8}}")
    for found in filter(leftover.fullmatch, os.listdir(folder)):
        with contextlib.suppress(OSError):
            status = os.stat(found, dir_fd=folder, follow_symlinks=False)
            ours = stat.S_ISREG(status.st_mode) and status.st_uid in {os.geteuid(), owner}
            if ours and (any_age or time.time() - status.st_mtime > _LEFTOVER_AGE):
                os.unlink(found, dir_fd=folder)


def _give(descriptor: int, access: Access) -> None:
    """Set group, mode and owner; the owner last, because CAP_CHOWN alone does not give the mode of another's file.

    Group and owner where they are others: a service may be kept from so much as asking for it.
    """
    status = os.fstat(descriptor)
    if access.group not in {-1, status.st_gid}:
        os.fchown(descriptor, -1, access.group)
    os.fchmod(descriptor, access.mode)
    if access.owner not in {-1, status.st_uid}:
        os.fchown(descriptor, access.owner, -1)


def _remove_list(descriptor: int) -> None:
    """Remove the access control list (acl(5)) that a file was born with."""
    try:
        os.removexattr(descriptor, "system.posix_acl_access")
    except OSError as error:
        if error.errno not in {errno.ENODATA, errno.ENOTSUP}:
            raise


def _sync(folder: int, *, required: bool) -> None:
    try:
        os.fsync(folder)
    except OSError as error:
        if required or error.errno != errno.EINVAL:
            raise
