"""What the kernel is asked to tell of: inotify(7) watches of the folders on the ways to files.

A folder is watched and not the file in it: a file that does not exist yet has none of its own, and one that is renamed
into place is another one.
"""

import contextlib
import errno
import os
from typing import Final

from inotify_simple import INotify, flags

from imds_proxy.host.file_way import Way

_OF_NAMES: Final = flags.CREATE | flags.MOVED_FROM | flags.MOVED_TO | flags.DELETE
_OF_ITSELF: Final = flags.ATTRIB | flags.DELETE_SELF | flags.MOVE_SELF
_OF_CONTENT: Final = flags.MODIFY | flags.CLOSE_WRITE
_FOLDER: Final = _OF_NAMES | _OF_ITSELF | flags.ONLYDIR
"""On the way: what is written into the files there is no concern, and a busy folder has much of it."""
_LAST_FOLDER: Final = _FOLDER | _OF_CONTENT
_FILE: Final = _OF_ITSELF | _OF_CONTENT
_GONE: Final = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


class InotifyWatches:
    """The watches of one inotify instance, each used for every way that leads through its folder.

    Raises:
        OSError: The kernel gives no instance.
    """

    def __init__(self) -> None:
        self._inotify = INotify(nonblocking=True)
        self._known: dict[int, set[tuple[str, int]]] = {}
        """By watch descriptor: the paths that it was asked for by, and what of."""
        self._fresh: dict[tuple[str, int], int] = {}
        """Those that need not be asked for again, until something has happened: a path may be another folder then."""

    def fileno(self) -> int:
        """What can be read once something has happened."""
        return int(self._inotify.fileno())

    def add(self, way: Way) -> bool:
        """Watch each folder on a way; whether anything was not watched before.

        Raises:
            OSError: The kernel gives no more watches, or not to this user.
        """
        last = len(way.steps) - 1
        asked = [(folder, _LAST_FOLDER if step == last else _FOLDER) for step, (folder, _) in enumerate(way.steps)]
        return any([self._add(folder, mask) for folder, mask in asked])  # noqa: C419 - each of them

    def add_file(self, path: str) -> bool:
        """Watch a file itself, and not the name it has in its folder. As `add`."""
        return self._add(path, _FILE)

    def happened(self) -> tuple[set[str], bool]:
        """The paths at which something has happened, and whether the kernel has lost count of them."""
        paths: set[str] = set()
        lost = False
        for descriptor, mask, _, name in self._inotify.read(timeout=0):
            lost |= bool(mask & flags.Q_OVERFLOW)
            known = {path for path, _ in self._known.get(descriptor, ())}
            paths.update({f"{path.rstrip('/')}/{name}" for path in known} if name else known)
            if mask & flags.IGNORED:
                self._known.pop(descriptor, None)
        if paths or lost:
            self.forget_fresh()
        return paths, lost

    def forget_fresh(self) -> None:
        """Ask the kernel again for each watch that is added from here on."""
        self._fresh.clear()

    def sweep(self) -> None:
        """Remove the watches that were not added since `forget_fresh`."""
        for descriptor in self._known.keys() - self._fresh.values():
            del self._known[descriptor]
            with contextlib.suppress(OSError):  # the folder is gone, and the watch with it
                self._inotify.rm_watch(descriptor)

    def close(self) -> None:
        """Give the instance back."""
        self._inotify.close()

    def _add(self, path: str, mask: int) -> bool:
        if (path, mask) in self._fresh:
            return False
        try:
            descriptor = self._inotify.add_watch(path, mask | flags.MASK_ADD)
        except OSError as error:
            if error.errno in _GONE:  # since the way was found: it is another one now
                return True
            raise
        self._fresh[path, mask] = descriptor
        known = self._known.setdefault(descriptor, set())
        is_new = (path, mask) not in known
        known.add((path, mask))
        return is_new


def advice(error: OSError) -> str:
    """What to do about a kernel that gives no more."""
    limit = "max_user_instances" if error.errno == errno.EMFILE else "max_user_watches"
    return f"raise fs.inotify.{limit} (sysctl)"


def is_shortage(error: OSError) -> bool:
    """Whether there are no more watches, or instances, for anybody of this user."""
    return error.errno in {errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def reason(error: OSError) -> str:
    """In the system's words."""
    return os.strerror(error.errno or 0)
