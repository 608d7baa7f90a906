"""Files that sources read: credentials, certificates, keys, tokens. Never one that other users could have read."""

import os
import stat

from imds_proxy.errors import Denied, Invalid, Unreachable
from imds_proxy.host import access_advice, safe_path, utf8
from imds_proxy.host.open_files import exhausted
from imds_proxy.host.path_walk import UnsafePathError
from imds_proxy.host.utf8 import NotUtf8Error

_LARGEST = 1 << 20  # bytes; no credentials or certificate chain comes near
_OTHERS, _GROUP_WRITE, _GROUP, _OTHERS_WRITE = 0o007, 0o020, 0o070, 0o022


def read_file(role: str, path: str, what: str, *, private: bool, trusted: bool = False) -> bytes:
    """The content of a file, without a byte order mark.

    Args:
        role: For the message.
        path: Absolute; a symbolic link of root's or the daemon's user is followed, as those that Kubernetes mounts are.
        what: For the message: "private key", "token", ….
        private: Refuse it when other users can read it (group read is theirs to give where root owns the file).
        trusted: Refuse it when other users can change it.

    Raises:
        Invalid: It is missing, no regular file, too large, in UTF-16, open to others, or on a path that another user
            could lead elsewhere; the advice says what to run.
        Denied: This user may not read it.
        Unreachable: No file can be opened at this time.
    """
    try:
        # A pipe without a writer would hold the daemon up: only O_NONBLOCK opens it at once.
        descriptor = safe_path.open_file(path, os.O_RDONLY | os.O_NONBLOCK)
    except UnsafePathError as error:
        raise Invalid(f'role "{role}": {what} {path} is not read: {error.strerror}', error.advice) from None
    except PermissionError:
        raise Denied(
            f'role "{role}": {what} {path} may not be read by this user', access_advice.readable(path)
        ) from None
    except OSError as error:
        if (shortage := exhausted(error)) is not None:
            raise Unreachable(f'role "{role}": {what} {path} cannot be read: {shortage[0]}', shortage[1]) from None
        raise Invalid(f'role "{role}": {what} {path} cannot be read: {error.strerror}', "correct the path") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Invalid(f'role "{role}": {what} {path} is not a regular file', "correct the path")
        if private:
            _refuse_open_to_others(role, path, what, status)
        if trusted and (status.st_uid not in {0, os.geteuid()} or status.st_mode & _OTHERS_WRITE):
            advice = access_advice.unchangeable(path)
            raise Invalid(f'role "{role}": {what} {path} can be changed by other users', advice)
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:  # a disk, or a server of files
        advice = "see what is wrong with the disk or the file server"
        raise Invalid(f'role "{role}": {what} {path} cannot be read: {error.strerror}', advice) from None
    finally:
        os.close(descriptor)
    if len(content) > _LARGEST:
        raise Invalid(f'role "{role}": {what} {path} is larger than 1 MB', "correct the path")
    return _unmarked(role, path, what, content)


def _unmarked(role: str, path: str, what: str, content: bytes) -> bytes:
    try:
        return utf8.without_mark(content)
    except NotUtf8Error as error:
        raise Invalid(f'role "{role}": {what} {path} {error.message}', error.advice) from None


def _refuse_open_to_others(role: str, path: str, what: str, status: os.stat_result) -> None:
    advice = access_advice.private(path, status.st_uid)
    if status.st_uid not in {0, os.geteuid()}:
        raise Invalid(f'role "{role}": {what} {path} belongs to another user (uid {status.st_uid})', advice)
    group = _GROUP_WRITE if status.st_uid == 0 else _GROUP
    if status.st_mode & (_OTHERS | group):
        raise Invalid(f'role "{role}": {what} {path} can be read or changed by other users', advice)
