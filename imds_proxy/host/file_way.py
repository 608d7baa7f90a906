"""The way to a file: each folder in which a name is looked up, through every symbolic link."""

import errno
import os
from dataclasses import dataclass
from typing import Final

from imds_proxy.host.mounts import Mount, Mounts

Signature = tuple[int, int, int, int]
"""Inode, times of content and of inode in nanoseconds, size."""

_MOST_LINKS: Final = 40  # as the kernel's


def signature(path: str) -> Signature | None:
    """What a file is like: another one, or another content, has another. None where there is none to be seen."""
    try:
        status = os.stat(path)  # noqa: PTH116 - follows links, like the read
    except (OSError, ValueError):  # ValueError: a zero in it
        return None
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size


@dataclass(frozen=True, slots=True)
class Way:
    """How far a path leads, and where.

    Args:
        steps: Each folder on the way, and the name that is looked up in it; the last is the file, or what is missing.
        silent: The mounts on the way that do not tell of changes.
    """

    steps: tuple[tuple[str, str], ...]
    silent: frozenset[Mount]

    @property
    def target(self) -> str:
        """What the last step leads to; no part of it is a link, unless there are too many."""
        return os.path.join(*self.steps[-1]) if self.steps else "/"  # noqa: PTH118 - a string, thousands of times


def find_way(path: str, mounts: Mounts, may_enter: frozenset[Mount] = frozenset()) -> Way:
    """Follow an absolute path, but into no mount that does not tell of changes besides those it may enter.

    Such a mount may hang. Where one is on the way, it is the last of `silent`, and nothing behind it was looked at.
    """
    left, folder, links = path.split("/")[::-1], "/", 0
    steps: list[tuple[str, str]] = []
    silent: set[Mount] = set()
    while left:
        name = left.pop()
        if name in {"", "."}:
            continue
        if name == "..":
            folder = os.path.dirname(folder)  # noqa: PTH120 - no part of it is a link
            continue
        here = f"{folder.rstrip('/')}/{name}"
        steps.append((folder, name))
        mount = mounts.of(here)
        if not mount.tells:
            silent.add(mount)
            if mount not in may_enter:
                break
        try:
            link = os.readlink(here)  # noqa: PTH115 - a string, thousands of times
        except OSError as error:
            if error.errno != errno.EINVAL:
                break  # nothing there, or not for this user: the rest cannot be either
            folder = here  # no link
            continue
        except ValueError:  # a zero in it
            break
        links += 1
        if links > _MOST_LINKS:
            break
        folder = "/" if link.startswith("/") else folder
        left += link.split("/")[::-1]
    return Way(tuple(steps), frozenset(silent))
