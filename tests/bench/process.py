"""What the kernel knows of a process: CPU time and memory."""

import os
from dataclasses import dataclass
from pathlib import Path

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_MB = 1e6


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory in MB (10^6 bytes): now, and the most there ever was."""

    now: float
    peak: float


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its children, living and waited for."""
    # The name is in brackets and may hold anything; utime, stime, cutime and cstime are the 14th to 17th field.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = sum(int(field) for field in fields[11:15]) * _TICK
    return own + sum(cpu_seconds(child) for child in _children(pid))


def _children(pid: int) -> list[int]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in lists for child in path.read_text().split()]


def descendants(pid: int) -> list[int]:
    """Every process below one."""
    return [found for child in _children(pid) for found in (child, *descendants(child))]


def memory(pid: int) -> Memory:
    """Memory of a process without its children."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines)
    return Memory(_megabytes(values["VmRSS"]), _megabytes(values["VmHWM"]))


def _megabytes(text: str) -> float:
    return int(text.removesuffix("kB")) * 1024 / _MB
