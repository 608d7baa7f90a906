"""Which unit of systemd's system manager each cgroup is of: read from the cgroup v2 hierarchy. All of this blocks.

The kernel tells the cgroup of a socket by an id, which is the inode number of the cgroup's folder. A cgroup cannot be
renamed, and no id is used twice: it has 64 bits. On 32-bit hosts, whose inode numbers have 32, no unit is found.

The unit is the first folder that is no slice. Slices are root's alone (systemd refuses Delegate= for them), so it is
systemd that gave that folder its name. Below it others may make folders of any name: a user's own manager, a container,
a service with Delegate=. What is below `user@1000.service` is of that unit, whatever it is called there.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from imds_proxy.config.grants import UNIT_NAME

_MOST_INSIDE: Final = 4096
"""Folders of one unit that are looked at: what a service makes inside of its own cgroup has no other limit."""
_SLICE: Final = re.compile(r"[A-Za-z0-9:_.\\-]+\.slice")
_ESCAPE: Final = "_"
"""Before a name that would be one of the kernel's own files: memory.service, cgroup.service."""
_OUT_OF_REACH: Final = frozenset({errno.EACCES, errno.EPERM, errno.ENAMETOOLONG})
_FOR_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_MOUNTS: Final = Path("/proc/self/mountinfo")
_MINE: Final = Path("/proc/self/cgroup")
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


def instances(unit: str) -> str:
    """How a grant names all instances of a unit's template: `worker@*.service`; the unit itself where it has none."""
    template, at, rest = unit.partition("@")
    return f"{template}@*.{rest.rpartition('.')[2]}" if at else unit


def read_units(named: frozenset[str]) -> dict[int, str]:
    """The unit of each cgroup that is one's own; of those that are named, of each cgroup inside too. Blocks.

    Raises:
        OSError: They cannot be read.
    """
    root = cgroup_root()
    return {} if root is None else dict(_units_below(root, named))


def _units_below(root: Path, named: frozenset[str]) -> Iterator[tuple[int, str]]:
    owner, slices = root.stat().st_uid, [str(root)]
    while slices:
        for folder in _folders(slices.pop()):
            name = folder.name.removeprefix(_ESCAPE)
            if _SLICE.fullmatch(name):
                if _is_of(folder, owner):
                    slices.append(folder.path)
            elif UNIT_NAME.fullmatch(name):
                yield folder.inode(), name
                if not named.isdisjoint((name, instances(name))):
                    yield from ((inode, name) for inode in _inside(folder.path))


def _is_of(folder: os.DirEntry[str], owner: int) -> bool:
    """Whether only the owner of the whole hierarchy can have made the folders in this one."""
    try:
        status = folder.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return status.st_uid == owner and not status.st_mode & _FOR_OTHERS


def _inside(unit: str) -> Iterator[int]:
    """The cgroups in a unit's own. Who runs the unit may close one, or nest them too deep: those are of no unit."""
    left, paths = _MOST_INSIDE, [unit]
    while paths:
        try:
            folders = _folders(paths.pop())
        except OSError as error:
            if error.errno not in _OUT_OF_REACH:
                raise
            continue
        paths += [folder.path for folder in folders]
        yield from (folder.inode() for folder in folders[:left])
        left -= len(folders)
        if left <= 0:
            return


def _folders(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:  # its unit has ended meanwhile
        return []


def cgroup_root() -> Path | None:
    """Where the whole cgroup v2 hierarchy is mounted, as far as this process may see it; None: nowhere.

    In a container, the mount may begin at a folder of another hierarchy's units: its names mean nothing here.

    Raises:
        OSError: That cannot be read.
    """
    for line in _MOUNTS.read_text().splitlines():
        mount, _, kind = line.partition(" - ")
        _, _, device, root, at, *_ = mount.split(" ")
        if kind.startswith("cgroup2 ") and root == "/":
            path = Path(_ESCAPED.sub(lambda escaped: chr(int(escaped[1], 8)), at))
            if _device(path) == device:  # else something else is mounted over it
                return path
    return None


def _device(path: Path) -> str:
    try:
        device = path.stat().st_dev
    except OSError:
        return ""
    return f"{os.major(device)}:{os.minor(device)}"


def hindrance(own_cgroup: int | None) -> str | None:
    """Why no unit can be told on this host; None: nothing is in the way.

    Args:
        own_cgroup: The id that the kernel tells for a socket of this process; 0: none, None: not even its user.

    Raises:
        OSError: That cannot be read.
    """
    if not own_cgroup:
        return "the kernel does not tell the cgroup of a socket (Linux before 5.9, or not Linux)"
    root = cgroup_root()
    if root is None:
        return "the cgroup v2 hierarchy is not mounted here as a whole"
    if not any(_SLICE.fullmatch(folder.name) for folder in _folders(str(root))):
        return f"{root} has no slice: systemd is not the init system, or this is a container with a view of its own"
    mine = _MINE.read_text().partition("0::/")[2].partition("\n")[0]
    if not mine.startswith("..") and (root / mine).stat().st_ino != own_cgroup:
        return "the kernel hides the cgroups of sockets (cgroup v1's net_cls or net_prio before Linux 5.15, or 32 bits)"
    return None
