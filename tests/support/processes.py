"""Processes that something under test started."""

import contextlib
from pathlib import Path


def alive(pid: int | str) -> bool:
    """Whether a process runs; a zombie that nobody has reaped yet does not."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
