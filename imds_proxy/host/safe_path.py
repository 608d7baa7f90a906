"""Folders and files, found on a way that no other user can lead elsewhere: `path_walk.py` says what that is.

In: paths. Out: descriptors. Errors: UnsafePathError, and OSError of the system.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from imds_proxy.host.path_walk import Folder, Walk


@contextlib.contextmanager
def open_folder(path: Path | str, *, user: int | None = None) -> Iterator[Folder]:
    """A folder, held open.

    Args:
        path: Its path.
        user: The daemon's; left out: this process's.
    """
    with Walk(user) as walk:
        walk.enter(path)
        with walk.held_open() as folder:
            yield folder


@contextlib.contextmanager
def open_folder_of(path: Path | str) -> Iterator[tuple[Folder, str]]:
    """The folder of a file, held open, and the file's name there; where the path is a link's, those of its target."""
    with Walk(None) as walk:
        name = walk.enter_folder_of(path)
        with walk.held_open() as folder:
            yield folder, name


def make_folder(path: Path | str, mode: int) -> None:
    """Make sure that a folder is there; those that are missing are made, in folders of root's or of this user's."""
    with Walk(None, make=mode) as walk:
        walk.enter(path)


def open_file(
    path: Path | str,
    flags: int,
    mode: int = 0o600,
    *,
    follow: bool = True,
    any_owner: bool = False,
    user: int | None = None,
) -> int:
    """The descriptor of a file, opened as `os.open` does, but on a safe way.

    Args:
        path: Its path.
        flags: As of `os.open`.
        mode: Of a new file.
        follow: Whether it may be the path of a link to the file.
        any_owner: Whether the file in a user's folder may belong to another.
        user: The daemon's; left out: this process's.
    """
    with Walk(user) as walk:
        name = walk.enter_folder_of(path, follow=follow)
        if flags & os.O_CREAT and not any_owner:
            walk.judge_new(name)
        descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=walk.folder)
        try:
            if not any_owner:
                walk.judge(name, os.fstat(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def judge_path(path: Path | str, *, made: bool = False, any_owner: bool = False, user: int | None = None) -> None:
    """Raise UnsafePathError where `open_file` would, without opening or making anything.

    Args:
        path: Of a file or folder.
        made: Whether it would be made where it is missing.
        any_owner: As for `open_file`.
        user: The daemon's; left out: this process's.
    """
    with Walk(user) as walk:
        name = walk.enter_folder_of(path)
        try:
            status = os.stat(name, dir_fd=walk.folder, follow_symlinks=False)
        except FileNotFoundError:
            if made:
                walk.judge_new(name)
        else:
            if not any_owner:
                walk.judge(name, status)


def is_in_folder(folder: int, path: str, *, user: int | None = None) -> bool:
    """Whether a path, as a link in an open folder has it, leads to that very folder on a safe way."""
    try:
        with Walk(user, start=None if path.startswith("/") else folder) as walk:
            walk.enter(path)
            return os.path.samestat(walk.status, os.fstat(folder))
    except OSError:
        return False
