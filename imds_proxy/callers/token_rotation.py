"""A new token in each of some token files, so that no container is refused meanwhile.

In: paths. Out: an error for each that could not be rotated. The digest of a new token is announced to the daemon first:
a container that reads the file shows the new token at once, and a refusal would send some SDKs to the host's own role.
The daemon takes the replaced token for another minute.
"""

import contextlib
import hashlib
import os
import secrets
import stat
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from imds_proxy.callers.grant_token_files import announcement
from imds_proxy.errors import FileError
from imds_proxy.host import atomic_file
from imds_proxy.host.atomic_file import Access, open_folder

_TOKEN_BYTES: Final = 32
_UNTIL_READ: Final = 2.0
"""Seconds in which the daemon has read an announcement: it looks twice in half a second."""


@dataclass(frozen=True, slots=True)
class _Announced:
    """A rotation that has begun: a file in an open folder, who may read it, and its token to be."""

    path: Path
    folder: int
    access: Access
    token: bytes = field(repr=False)

    def finish(self) -> None:
        """Put the token in its place; raises OSError."""
        try:
            atomic_file.replace_in(self.folder, self.path.name, self.token, self.access)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(announcement(self.path).name, dir_fd=self.folder)


def rotate(paths: Sequence[Path]) -> dict[Path, FileError | None]:
    """Replace the token of each file that is there; owner, group and mode stay. Takes two seconds.

    Returns:
        For each path None, or why its token is the one of before.
    """
    outcomes: dict[Path, FileError | None] = {}
    with ExitStack() as folders:
        begun: list[_Announced] = []
        for path in paths:
            try:
                begun.append(_announce(path, folders.enter_context(open_folder(path.parent))))
            except OSError as error:
                outcomes[path] = _failure(path, error)
            except FileError as error:
                outcomes[path] = error
        if begun:
            time.sleep(_UNTIL_READ)
        for each in begun:
            outcomes[each.path] = None
            try:
                each.finish()
            except OSError as error:
                outcomes[each.path] = _failure(each.path, error)
    return outcomes


def _announce(path: Path, folder: int) -> _Announced:
    """Raises OSError or FileError."""
    status = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        raise FileError(f"{path} is not a regular file", "name the file itself in token_file, and no link to it")
    access, token = Access.of(status), secrets.token_urlsafe(_TOKEN_BYTES).encode()
    digest = hashlib.sha256(token).hexdigest().encode()
    atomic_file.replace_in(folder, announcement(path).name, digest, access)
    return _Announced(path, folder, access, token)


def _failure(path: Path, error: OSError) -> FileError:
    if isinstance(error, FileNotFoundError):
        return FileError(f"{path} is not there", "the daemon makes it: has it started with this config?")
    if isinstance(error, PermissionError):
        return FileError(f"{path} cannot be replaced: {error.strerror}", "run this as root, who keeps its owner")
    return FileError(f"{path} cannot be replaced: {error.strerror}", "its token is the one of before")
