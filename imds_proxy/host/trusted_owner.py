"""Whose files this program takes as said by the operator: root's, this user's, and those of the daemon's user."""

import os
import stat
from pathlib import Path
from typing import Final

from imds_proxy.host import access_advice
from imds_proxy.host.access_advice import Place
from imds_proxy.host.path_walk import Folder, UnsafePathError

SYSTEM_STATE_DIR: Final = Path("/var/lib/imds-proxy")
_ROOT: Final = 0
_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH  # the group's bit is set too where an ACL names a user


def distrust(path: Path, descriptor: int, folder: Folder) -> tuple[str, str] | None:
    """Why another user may have written an open file or folder, and what to do; None where only trusted ones can.

    In a container nobody can where the file system is mounted read-only: the files of a ConfigMap are in a folder of
    mode 0777, and those of the host belong to some user of it. On a host that says nothing: a unit's ProtectSystem=
    makes the file system read-only for this process, and for no other.

    Args:
        path: Of the file or folder, as it is told.
        descriptor: Of the same.
        folder: The folder that a file was found in, with who else can change the way there; a folder itself.
    """
    status, trusted = os.fstat(descriptor), _trusted()
    if access_advice.place() is not Place.HOST and os.fstatvfs(descriptor).f_flag & os.ST_RDONLY:
        return None
    if status.st_uid not in trusted:
        return f"belongs to uid {status.st_uid}, who is neither root nor the daemon's user", _advice(path, status)
    if status.st_mode & _WRITABLE_BY_OTHERS:
        return "can be written by others than its owner", _advice(path, status)
    if folder.others - trusted:
        return "is in a folder, or below one, that others than its owner can change", UnsafePathError.advice
    return None


def _advice(path: Path, status: os.stat_result) -> str:
    mounted = ", or mount it read-only" if access_advice.place() is Place.CONTAINER else ""
    return access_advice.unchangeable(str(path), 755 if stat.S_ISDIR(status.st_mode) else 644) + mounted


def _trusted() -> set[int]:
    """Root, this user, and whom the system's state directory belongs to, for verbs that another user runs."""
    try:
        return {_ROOT, os.geteuid(), SYSTEM_STATE_DIR.stat().st_uid}
    except OSError:
        return {_ROOT, os.geteuid()}
