"""The daemon's memory through a load that no host would put on it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bad_clients import send_rubbish, slow_clients
from load import Shape, wrk
from process import memory
from servers import LIST, TOKEN, TTL_HEADER, Account, Target, running_daemon
from tools import BenchError

RENEWAL = '[renewal]\nmax_age = "2s"\n'
_SAMPLE_EVERY = 0.5
_QUIET = 3.0

_PHASES: tuple[Callable[[Target, int], object], ...] = (
    lambda target, seconds: wrk(target, Shape("keep-alive burst", 256), seconds),
    lambda target, seconds: wrk(
        target, Shape("token flood", 64), seconds, path=TOKEN, method="PUT", headers=TTL_HEADER
    ),
    lambda target, seconds: wrk(target, Shape("new connections", 64, keep_alive=False), seconds, path=LIST),
    lambda target, seconds: send_rubbish(target.port, 10 * seconds),
    lambda _, seconds: time.sleep(seconds),
)


@dataclass(frozen=True, slots=True)
class Footprint:
    """Resident memory in MB.

    Args:
        seconds: How long the load lasted.
        renewals: Sessions obtained meanwhile.
        start: With credentials, before the load.
        third: The median over the load's third quarter.
        fourth: The same over its last; more than `third` would be a leak.
        peak: The most the kernel saw (VmHWM).
        end: A few seconds after the load.
    """

    seconds: float
    renewals: int
    start: float
    third: float
    fourth: float
    peak: float
    end: float


def watch(account: Account, folder: Path, seconds: int, phase_seconds: int) -> Footprint:
    """Load a daemon for so long with everything in turns, slow clients beside it and a renewal every 2 seconds."""
    renewals = len(account.double.issued())
    with running_daemon(account, folder, RENEWAL) as target:
        start = memory(target.pid).now
        with _samples(target.pid) as samples, slow_clients(target.port):
            _load(target, seconds, phase_seconds)
        time.sleep(_QUIET)
        if target.get()[0] != 200:
            raise BenchError("the daemon does not answer after the load")
        left = memory(target.pid)
    quarter = len(samples) // 4
    return Footprint(
        seconds=seconds,
        renewals=len(account.double.issued()) - renewals,
        start=start,
        third=_median(samples[2 * quarter : 3 * quarter]),
        fourth=_median(samples[3 * quarter :]),
        peak=left.peak,
        end=left.now,
    )


def _load(target: Target, seconds: int, phase_seconds: int) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        print(f"memory, {deadline - time.monotonic():.0f} s to go: {memory(target.pid).now:.1f} MB", flush=True)
        for phase in _PHASES:
            phase(target, phase_seconds)


@contextmanager
def _samples(pid: int) -> Iterator[list[float]]:
    samples: list[float] = []
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(_SAMPLE_EVERY):
            samples.append(memory(pid).now)

    thread = threading.Thread(target=sample, name="memory-samples")
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


def _median(samples: list[float]) -> float:
    return sorted(samples)[len(samples) // 2]
