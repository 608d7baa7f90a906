"""Rotation of the audit's file by its size: `audit.log` becomes `audit.log.old.000001`, and the oldest are removed.

The numbers only rise, so one rename does it: a crash leaves either state, and no name is one that logrotate uses. It is
done inside one folder that is held open. Everything here may block. Errors: OSError.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from imds_proxy.host import safe_path

_MARK: Final = ".old."


@dataclass(frozen=True, slots=True)
class Rotation:
    """When to rotate.

    Args:
        max_size: Bytes that the file may have.
        keep: How many full ones are kept beside it.
    """

    max_size: int
    keep: int


def rotate(path: str, descriptor: int, keep: int) -> None:
    """Give the file its next number, unless something else has renamed or removed it meanwhile.

    Args:
        path: Of the file.
        descriptor: The file itself.
        keep: How many rotated ones there may be then.
    """
    folder_path, name = os.path.split(path)
    with contextlib.suppress(FileNotFoundError), safe_path.open_folder(folder_path) as opened:
        folder = opened.descriptor
        if not os.path.samestat(os.stat(name, dir_fd=folder, follow_symlinks=False), os.fstat(descriptor)):
            return
        rotated = dict(_rotated(folder, name))
        files = sorted(number for number, is_file in rotated.items() if is_file)
        for number in files[: max(len(files) + 1 - keep, 0)]:  # first: it may be what makes room
            with contextlib.suppress(FileNotFoundError):
                os.unlink(_numbered(name, number), dir_fd=folder)
        new = _numbered(name, max(rotated, default=0) + 1)
        os.rename(name, new, src_dir_fd=folder, dst_dir_fd=folder)


def _numbered(name: str, number: int) -> str:
    return f"{name}{_MARK}{number:06}"


def _rotated(folder: int, name: str) -> Iterator[tuple[int, bool]]:
    """The numbers in use, and whether each is a regular file's."""
    pattern = re.compile(rf"{re.escape(name + _MARK)}([0-9]{{6,}})")
    with os.scandir(folder) as entries:
        for entry in entries:
            if (match := pattern.fullmatch(entry.name)) and entry.name == _numbered(name, int(match[1])):
                yield int(match[1]), entry.is_file(follow_symlinks=False)
