"""The state directory: small private files, each replaced as a whole."""

import os
from pathlib import Path

from imds_proxy import atomic_file
from imds_proxy.atomic_file import PRIVATE
from imds_proxy.errors import ImdsProxyError
from imds_proxy.host import safe_path
from imds_proxy.host.path_walk import UnsafePathError

_PRIVATE_DIR = 0o700


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
            safe_path.make_folder(path.parent, _PRIVATE_DIR)
            atomic_file.replace(path, content, PRIVATE)
        except OSError as error:
            raise StateError(f"{path} cannot be written: {error.strerror}") from None
        return path


def open_state_dir(path: Path) -> StateDir:
    """Make sure that `path` is a writable directory of this user's; it is made where it is missing.

    Raises:
        StateError: With what to do about it.
    """
    try:
        safe_path.make_folder(path, _PRIVATE_DIR)
        with safe_path.open_folder(path) as folder:
            status = folder.status
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise StateError(
                f"{path} belongs to or is writable by other users", f"chown it to this user and chmod 700 {path}"
            )
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise StateError(f"{path} is not writable", f"chmod 700 {path}")
    except UnsafePathError as error:
        raise StateError(f"{path} cannot be used: {error.strerror}", error.advice) from None
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


def _no_follow(path: str, flags: int) -> int:
    return safe_path.open_file(path, flags, follow=False)
