"""An event loop on which a day passes in a moment: whenever nothing is ready, its time moves to the next timer."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any

from imds_proxy.host.clock import Clock

EPOCH = 1_800_000_000.0


class _NeverWaits(selectors.DefaultSelector):
    """Moves the loop's time on instead of waiting."""

    loop: "VirtualTimeLoop"

    def select(self, timeout=None):
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise RuntimeError("nothing is scheduled: this would wait for ever")
        self.loop.advance(timeout)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Without sockets or threads, whose events come from outside of the virtual time."""

    def __init__(self):
        selector = _NeverWaits()
        selector.loop = self
        self._virtual_now = 0.0
        super().__init__(selector)

    def time(self) -> float:
        return self._virtual_now

    def advance(self, seconds: float) -> None:
        self._virtual_now += seconds

    def clock(self) -> Clock:
        """Wall time that passes as the loop's does."""
        return Clock(wall=lambda: EPOCH + self._virtual_now, boot=self.time)


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """As `asyncio.run`, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
