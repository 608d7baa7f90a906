"""The clock of a bench: this machine's, or one that is sixty times as fast, for every process that is given it."""

import threading
import time
from pathlib import Path
from typing import Self

SPEED = 60
_STEP = 0.1  # real seconds between two movements of the hand


def libfaketime() -> Path | None:
    """The library of Debian's package libfaketime."""
    return next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


class RealClock:
    """Time as it is."""

    name = "real time"

    def environment(self, *, monotonic: bool = False) -> dict[str, str]:  # noqa: ARG002 - nothing is faked
        return {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        pass


class FastClock:
    """Wall time runs 60 times as fast, in steps of 6 s; sleeping and time limits stay what they are.

    libfaketime's own rate (`x60`) would shorten every sleep and every poll as well, and with them an SDK's time limit
    of a second to 16 ms. So the hand is moved from here: an offset in a file, which every process of a bench reads.
    """

    name = f"{SPEED}x"

    def __init__(self, folder: Path, library: Path) -> None:
        self._library = library
        self._hand = folder / "clock"
        self._stopped = threading.Event()
        self._start = time.monotonic()
        self._move()

    def environment(self, *, monotonic: bool = False) -> dict[str, str]:
        """What puts a process on this clock; `monotonic`: its monotonic clock too."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._hand),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # for an old glibc; it makes a JVM's sleeps seconds long
            "NO_FAKE_STAT": "1",  # what it costs to import a package is files looked for
            "FAKETIME_DONT_FAKE_MONOTONIC": "0" if monotonic else "1",
        }

    def __enter__(self) -> Self:
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(_STEP):
            self._move()

    def _move(self) -> None:
        ahead = (time.monotonic() - self._start) * (SPEED - 1)
        new = self._hand.with_suffix(".new")
        new.write_text(f"+{ahead:.3f}\n")
        new.replace(self._hand)
