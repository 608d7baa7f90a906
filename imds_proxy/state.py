"""The state directory: small private files, each replaced as a whole."""

import contextlib
import os
import tempfile
from pathlib import Path

from imds_proxy.errors import ImdsProxyError

_PRIVATE_DIR, _PRIVATE_FILE = 0o700, 0o600


class StateError(ImdsProxyError):
    """The state directory cannot be used; the daemon runs without it."""


class StateDir:
    """A directory that only this user may enter. Open one with `open_state_dir`."""

    def __init__(self, path: Path) -> None:
        self.path = path

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
            path.parent.mkdir(_PRIVATE_DIR, exist_ok=True)
            replace_file(path, content)
        except OSError as error:
            raise StateError(f"{path} cannot be written: {error.strerror}") from None
        return path


def open_state_dir(path: Path) -> StateDir:
    """Make sure that `path` is a writable directory of this user's; it is made where it is missing.

    Raises:
        StateError: With what to do about it.
    """
    try:
        path.mkdir(_PRIVATE_DIR, exist_ok=True, parents=True)
        status = path.stat()
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise StateError(
                f"{path} belongs to or is writable by other users", f"chown it to this user and chmod 700 {path}"
            )
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise StateError(f"{path} is not writable", f"chmod 700 {path}")
    except OSError as error:
        advice = 'set state_dir to a directory this user may write, or to "" to keep nothing on disk'
        raise StateError(f"{path} cannot be used: {error.strerror}", advice) from None
    return StateDir(path)


def default_state_dir() -> Path:
    """Where state goes when the config does not say: systemd's choice, the system's place for root, else the user's."""
    if by_systemd := os.environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(by_systemd)
    if os.geteuid() == 0:
        return Path("/var/lib/imds-proxy")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "imds-proxy"


def replace_file(path: Path, content: bytes, mode: int = _PRIVATE_FILE, owner: int = -1, group: int = -1) -> None:
    """Write so that a reader sees the old file or the new one, and a crash leaves one of the two.

    Args:
        path: Its folder has to be there.
        content: All of it.
        mode: Whatever the umask is.
        owner: A user's number; -1: this process's.
        group: A group's number; the same.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600 from the start
    try:
        with os.fdopen(descriptor, "wb") as file:
            if owner not in {-1, os.geteuid()} or group not in {-1, os.getegid()}:
                os.fchown(descriptor, owner, group)
            if mode != _PRIVATE_FILE:
                os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _no_follow(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
