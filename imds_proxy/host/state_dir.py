"""The state directory: small private files, each replaced as a whole."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from imds_proxy.errors import ImdsProxyError
from imds_proxy.host import access_advice, atomic_file, safe_path
from imds_proxy.host.atomic_file import PRIVATE
from imds_proxy.host.file_errors import judge_folder, write_failure
from imds_proxy.host.path_walk import UnsafePathError
from imds_proxy.host.trusted_owner import SYSTEM_STATE_DIR

_PRIVATE_DIR = 0o700
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH

_ADVICE = {
    errno.EFBIG: "raise the limit on the size of files (LimitFSIZE= of the unit)",
    errno.EROFS: "mount that file system so that it can be written, or set state_dir to another directory",
}
_REPLACED = "find out who writes to the folder that it is in; a restart makes another one"


class StateError(ImdsProxyError):
    """The state directory cannot be used; the daemon runs without it."""


class StateDir:
    """A directory that only this user may enter. Open one with `open_state_dir`.

    Args:
        path: Of the directory.
        others: The users besides root and this one that can move it away and put something else in its place, by uid;
            ANYONE where a group or all can.
    """

    def __init__(self, path: Path, others: frozenset[int] = frozenset()) -> None:
        self.path = path
        self.others = others

    def read(self, name: str) -> bytes | None:
        """The content of a file, None when there is none; raises StateError when other users can get at it."""
        path = self.path / name
        try:
            with open(path, "rb", opener=_no_follow) as file:
                status = os.fstat(file.fileno())
                if status.st_mode & 0o077 or status.st_uid != os.geteuid():
                    raise StateError(f"{path} is open to other users", f"chmod 600 {path}, and see who changed it")
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"{path} cannot be read: {error.strerror}") from None

    def write(self, name: str, content: bytes) -> Path:
        """Replace a file as a whole, mode 0600; raises StateError and leaves the old one when it cannot."""
        path = self.path / name
        try:
            safe_path.make_folder(path.parent, _PRIVATE_DIR)
            with safe_path.open_folder(path.parent) as folder:
                if folder.status.st_uid != os.geteuid():
                    raise StateError(f"{path.parent} was replaced by one of uid {folder.status.st_uid}", _REPLACED)
                atomic_file.replace_in(folder.descriptor, path.name, content, PRIVATE)
        except OSError as error:
            failure = write_failure(path, error, _ADVICE)
            raise StateError(failure.message, failure.advice) from None
        return path


def open_state_dir(path: Path) -> StateDir:
    """Make sure that there is a writable directory that only this user may enter: `path`, or one in it.

    Volumes are mounted as they are: root's with mode 2777 (an emptyDir with fsGroup), or with 0777 or 1777. A directory
    in such a one is as private as any other. What its neighbours can do, where the volume is not sticky, is to move it
    away: then the state is lost, and made again. They cannot put one of theirs in its place: it is refused at each read
    and write (`host/path_walk.py`). One of this user's that was there before, put back, holds older sessions, which
    `renewal/seal.py` judges by their own end.

    Raises:
        StateError: With what to do about it.
    """
    with _in_words(path):
        safe_path.make_folder(path, _PRIVATE_DIR)
        private = private_folder(path)
        if private != path:
            with contextlib.suppress(PermissionError):  # of a volume of others': said below
                safe_path.make_folder(private, _PRIVATE_DIR)
        return _opened(private)


def judge_state_dir(path: Path) -> None:
    """Raise StateError where `open_state_dir` would, without making anything."""
    private, made = private_folder(path), path
    with _in_words(path):
        if private.exists():
            _opened(private)
            return
        while not made.exists() and made != made.parent:
            made = made.parent
        with safe_path.open_folder(made) as folder:
            if folder.status.st_uid not in {0, os.geteuid()}:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        judge_folder(made)


def _opened(private: Path) -> StateDir:
    with safe_path.open_folder(private) as folder:
        _refuse_unless_private(private, folder.status)
        return StateDir(private, folder.others)


@contextlib.contextmanager
def _in_words(path: Path) -> Iterator[None]:
    """StateError with advice in place of what the system said of a state directory."""
    try:
        yield
    except UnsafePathError as error:
        raise StateError(f"{path} cannot be used: {error.strerror}", error.advice) from None
    except FileNotFoundError:
        raise StateError(
            f"{path} cannot be used: no folder can be made there", access_advice.state_folder(path)
        ) from None
    except OSError as error:
        advice = (
            access_advice.state_folder(path) + ', or set state_dir to another one, or to "" to keep nothing on disk'
        )
        raise StateError(f"{path} cannot be used: {error.strerror}", advice) from None


def private_folder(path: Path) -> Path:
    """The directory for this user's state in a `state_dir`: one in it where a group or all may write, else itself."""
    try:
        shared = path.stat().st_mode & _WRITABLE_BY_OTHERS
    except OSError:
        return path
    return path / f"uid-{os.geteuid()}" if shared else path


def _refuse_unless_private(path: Path, status: os.stat_result) -> None:
    """Raise StateError where a directory is not for this user alone, or not writable."""
    if status.st_uid != os.geteuid():
        raise StateError(f"{path} belongs to uid {status.st_uid}", access_advice.state_folder(path))
    if status.st_mode & _WRITABLE_BY_OTHERS:
        raise StateError(f"{path} is writable by other users", f"chmod 700 {path}, after a look at what is in it")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        read_only = os.statvfs(path).f_flag & os.ST_RDONLY
        advice = access_advice.state_folder(path) if read_only else f"chmod 700 {path}"
        raise StateError(f"{path} is {'on a read-only file system' if read_only else 'not writable'}", advice)


def default_state_dir() -> Path:
    """Where state goes when the config does not say: systemd's choice, the system's place for root, else the user's."""
    if by_systemd := os.environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(by_systemd)
    if os.geteuid() == 0:
        return SYSTEM_STATE_DIR
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "imds-proxy"


def _no_follow(path: str, flags: int) -> int:
    return safe_path.open_file(path, flags, follow=False)
