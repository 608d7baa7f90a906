"""Which process has a client's socket open: for the audit, never for a decision."""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_PATIENCE = 0.2  # seconds; who has thousands of processes does not hold up the search for others


@dataclass(frozen=True, slots=True)
class Process:
    """A process, by what may be told of it: its arguments may hold secrets."""

    pid: int
    command: str
    """Its name as ps shows it, 15 bytes at most; what a process calls itself proves nothing."""


def find_process(uid: int, inode: int) -> Process | None:
    """The process of a user's that has a socket open; blocks while it looks through /proc.

    None where that cannot be read: other users' processes take root, or CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, and
    ProtectProc= of systemd hides them.

    Args:
        uid: Its effective user.
        inode: The socket's.
    """
    with contextlib.suppress(OSError):
        deadline = time.monotonic() + _PATIENCE
        for process in _processes(uid):
            if time.monotonic() > deadline:
                break
            if _has_open(process, f"socket:[{inode}]"):
                return Process(int(process.name), _command(process))
    return None


def _processes(uid: int) -> Iterator[Path]:
    """The newest first: a command line tool is both new and soon gone."""
    for pid in sorted(map(int, filter(str.isdecimal, os.listdir(_PROC))), reverse=True):  # noqa: PTH208 - quicker
        process = _PROC / str(pid)
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if process.stat().st_uid == uid:
                yield process


def _has_open(process: Path, target: str) -> bool:
    try:
        with os.scandir(process / "fd") as descriptors:
            return any(_points_to(descriptor.path) == target for descriptor in descriptors)
    except OSError:  # gone, or not ours to read
        return False


def _points_to(link: str) -> str | None:
    try:
        return os.readlink(link)  # noqa: PTH115 - a Path for each of thousands
    except OSError:
        return None


def _command(process: Path) -> str:
    try:
        name = (process / "comm").read_text(errors="replace").removesuffix("\n")
    except OSError:
        return ""
    return "".join(character if character.isprintable() else "?" for character in name)
