"""`conf.d`, the folder beside the config file: which of its files are read, and whom they have to belong to."""

import errno
import os
import stat
from pathlib import Path
from typing import Final

from imds_proxy.errors import ConfigError
from imds_proxy.host import access_advice, safe_path
from imds_proxy.host.path_walk import Folder, UnsafePathError
from imds_proxy.host.trusted_owner import distrust

NAME: Final = "conf.d"
_SUFFIX: Final = ".toml"
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class UnreadableError(ConfigError):
    """This user may not read a file or folder of the config."""


def folder_of(config: Path) -> Path:
    """The folder of further files for a config file."""
    return config.parent / NAME


def files(config: Path) -> list[Path]:
    """The files of the folder in the order they are read in, which is that of their names; none without the folder.

    A name counts if it ends in `.toml` and does not begin with a dot: editors' backups and what package managers leave
    (`.toml~`, `.toml.dpkg-old`) are none.

    Raises:
        ConfigError: The folder cannot be read, or others could change what is in it.
    """
    path = folder_of(config)
    if not os.path.lexists(path):
        return []
    try:
        with safe_path.open_folder(path) as folder:
            _refuse_if_others(path, folder.descriptor, folder)
            names = os.listdir(folder.descriptor)  # noqa: PTH208 - a Path has no descriptor
            return [path / name for name in sorted(names) if _counts(name)]
    except OSError as error:
        raise _unreadable(path, error) from None


def read(path: Path) -> bytes:
    """What is in one of the files.

    Raises:
        ConfigError: It cannot be read, or others could change it.
    """
    try:
        with safe_path.open_folder_of(path) as (folder, name):
            descriptor = os.open(name, _FILE, dir_fd=folder.descriptor)
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise ConfigError(f"{path} is no file: {_NO_FILE}")
                _refuse_if_others(path, descriptor, folder)
                return file.read()
    except OSError as error:
        raise _unreadable(path, error) from None


_NO_FILE: Final = f"every *{_SUFFIX} in {NAME} is read; give it another name, or move it away"


def _refuse_if_others(path: Path, descriptor: int, folder: Folder) -> None:
    if (doubt := distrust(path, descriptor, folder)) is not None:
        why, advice = doubt
        raise ConfigError(f"{path} {why}", (advice,))


def _counts(name: str) -> bool:
    return name.endswith(_SUFFIX) and not name.startswith(".")


def _unreadable(path: Path, error: OSError) -> ConfigError:
    if isinstance(error, UnsafePathError):
        return ConfigError(f"{path}: is not safe: {error.strerror}", (error.advice,))
    if isinstance(error, PermissionError):
        return UnreadableError(f"{path}: cannot be read: {error.strerror}", (access_advice.readable(str(path)),))
    if error.errno == errno.EISDIR:
        return ConfigError(f"{path} is no file: {_NO_FILE}")
    return ConfigError(f"{path}: cannot be read: {error.strerror}")
