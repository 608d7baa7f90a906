"""cgroups of a test run's own, by the names that systemd would give them, and processes in them."""

import os
import re
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from imds_proxy.callers.cgroups import cgroup_root
from support.processes import alive

_RUN = re.compile(r"imdst(\d+)-.+")


class Cgroups:
    """Makes folders in the cgroup v2 hierarchy, and removes them again."""

    def __init__(self, root):
        self.root, self._made = root, []

    def unit(self, name: str) -> str:
        """A unit's name that is this run's alone, and no real unit's."""
        return f"imdst{os.getpid()}-{name}"

    def make(self, path: str) -> Path:
        """A folder by its path below the root, with those above it."""
        folder = self.root / path
        for each in [*reversed(folder.relative_to(self.root).parents), folder.relative_to(self.root)]:
            if not (made := self.root / each).is_dir():
                made.mkdir()
                self._made.append(made)
        return folder

    def put(self, pid: int, path: str) -> int:
        """Move a process into a folder, which is made if it is not there; the folder's inode number."""
        folder = self.make(path)
        (folder / "cgroup.procs").write_text(str(pid))
        return folder.stat().st_ino

    def end(self, path: str) -> None:
        """Remove a folder and the empty ones in it; nothing may run in it any more."""
        for each in sorted((self.root / path).rglob("*/"), reverse=True):
            each.rmdir()
        (self.root / path).rmdir()

    def leave(self, pid: int) -> None:
        """Move a process to where this one is."""
        mine = Path("/proc/self/cgroup").read_text().partition("0::/")[2].partition("\n")[0]
        with suppress(ProcessLookupError):
            (self.root / mine / "cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        for folder in reversed(self._made):
            with suppress(OSError):
                for pid in (folder / "cgroup.procs").read_text().split():
                    self.leave(int(pid))
            with suppress(OSError):  # another run's may be in there, or a process that has not been reaped yet
                folder.rmdir()


@contextmanager
def cgroups():
    """Folders for as long as this is entered; those that a killed run left are removed first."""
    root = cgroup_root()
    if root is None or not os.access(root / "cgroup.procs", os.W_OK):
        pytest.skip("this takes a cgroup v2 hierarchy that may be changed, as root has one")
    _sweep(root)
    made = Cgroups(root)
    try:
        with ExitStack() as stack:
            stack.callback(made.remove)
            try:
                made.make(f"system.slice/{made.unit('probe.service')}")
            except OSError as error:
                pytest.skip(f"no cgroup can be made in {root}: {error.strerror}")
            yield made
    finally:
        made.remove()


def _sweep(root):
    for folder in root.glob("system.slice/imdst*"):
        if (of_a_run := _RUN.fullmatch(folder.name)) and not alive(of_a_run[1]):
            for each in [*sorted(folder.rglob("*/"), reverse=True), folder]:
                with suppress(OSError):
                    each.rmdir()
