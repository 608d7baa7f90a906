"""Writing a file of the operator's so that a reader, or a crash, sees the old one or the new one."""

import os
from pathlib import Path

from imds_proxy.errors import FileError
from imds_proxy.host import atomic_file, safe_path
from imds_proxy.host.atomic_file import Access
from imds_proxy.host.path_walk import UnsafePathError


def replace(path: Path, content: str, mode: int) -> None:
    """Make `content` the file's; one that is there keeps its owner, group and mode, a new one has `mode`.

    Raises:
        FileError: It cannot be written; the old one is whole.
    """
    try:
        path = path.absolute()
        safe_path.make_folder(path.parent, 0o755)
        with safe_path.open_folder_of(path) as (folder, name):  # a link to it stays one
            access = _access(folder.descriptor, name) or Access(mode)
            atomic_file.replace_in(folder.descriptor, name, content.encode(), access)
    except UnsafePathError as error:
        raise FileError(f"{path} cannot be written: {error.strerror}", error.advice) from None
    except OSError as error:
        advice = "run this as root, or as the user that the file and its folder belong to"
        raise FileError(f"{path} cannot be written: {error.strerror}", advice) from None


def _access(folder: int, name: str) -> Access | None:
    try:
        return Access.of(os.stat(name, dir_fd=folder, follow_symlinks=False))
    except FileNotFoundError:
        return None
