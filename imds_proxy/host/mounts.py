"""Which mount a path is on, by /proc/self/mountinfo: no mount is touched for it, so none can hang.

Source: proc_pid_mountinfo(5).
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MOUNTINFO: Final = "/proc/self/mountinfo"
_TELL: Final = frozenset(
    {"bcachefs", "btrfs", "devtmpfs", "erofs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "rootfs"}
    | {"squashfs", "tmpfs", "xfs", "zfs"}
)
"""File systems on which every change is made by this kernel, which tells of it by inotify(7)."""
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount.

    Args:
        number: The kernel's, of this mount alone.
        point: The path that it is mounted at.
        kind: Of file system.
    """

    number: int
    point: str
    kind: str

    @property
    def tells(self) -> bool:
        """Whether inotify tells of every change there."""
        return self.kind in _TELL


_UNKNOWN: Final = Mount(0, "/", "unknown")


class Mounts:
    """The mounts at one time; of those at one path the last counts."""

    def __init__(self, mounts: Iterable[Mount]) -> None:
        self._by_point = {mount.point: mount for mount in mounts}

    def of(self, path: str) -> Mount:
        """The mount that an absolute path is on, if no part of it is a symbolic link."""
        while (mount := self._by_point.get(path)) is None:
            if path == "/":
                return _UNKNOWN
            path = os.path.dirname(path)  # noqa: PTH120 - a string, thousands of times
        return mount

    def is_point(self, path: str) -> bool:
        """Whether something is mounted at a path."""
        return path in self._by_point

    def changed_points(self, before: "Mounts") -> set[str]:
        """The paths where another mount is than before."""
        return {mount.point for mount in set(self._by_point.values()) ^ set(before._by_point.values())}  # noqa: SLF001


def read_mounts() -> Mounts:
    """The mounts now; of a /proc that cannot be read, none: then no path is on one that tells of changes."""
    try:
        return parse(Path(MOUNTINFO).read_text("utf-8", "surrogateescape"))
    except OSError:
        return Mounts(())


def parse(mountinfo: str) -> Mounts:
    """The mounts in a text as of /proc/self/mountinfo."""
    return Mounts(_mount(line) for line in mountinfo.splitlines() if " - " in line)


def _mount(line: str) -> Mount:
    before, _, after = line.partition(" - ")
    number, _, _, _, point, *_ = before.split(" ")
    return Mount(int(number), _unescaped(point), after.split(" ")[0])


def _unescaped(point: str) -> str:
    """A path in which space, tab, newline and backslash are written in octal."""
    if "\\" not in point:
        return point
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), point)
