"""When a role is tried next: planned by each attempt, brought forward by requests and by what it is obtained with."""

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine
from typing import Any

from imds_proxy.host.clock import Clock
from imds_proxy.renewal.turns import URGENT
from imds_proxy.sources import Source
from imds_proxy.telemetry.log import told

log = logging.getLogger(__name__)


class NextAttempt:
    """The next attempt of one role.

    Args:
        clock: Wall time.
    """

    def __init__(self, clock: Clock) -> None:
        self._alarm = clock.alarm(clock.now())
        self._jumps = clock.jumps()
        """Of the wall clock, that were looked at."""
        self._soonest = -math.inf
        """When a request may have it made, by the loop's time: no wall clock that is set moves that."""
        self._clock = clock
        self._moved = asyncio.Event()
        self._asked = asyncio.Event()
        """Set while a request waits for it."""

    @property
    def at(self) -> float:
        """Seconds since the epoch."""
        return self._alarm.when

    @at.setter
    def at(self, at: float) -> None:
        self._alarm = self._clock.alarm(at)

    def plan(self, wait: float, on_request: float) -> None:
        """After an attempt: in how many seconds the next one is made, and in how many where a request waits for it."""
        self.at = self._clock.now() + wait
        self._soonest = asyncio.get_running_loop().time() + on_request
        self._asked.clear()
        self._moved.set()

    def bring_forward(self, wait: float) -> None:
        """Make it in `wait` seconds, if it was to be later."""
        if wait < self._clock.left(self._alarm) or wait <= 0:
            self.at = min(self.at, self._clock.now() + wait)
            self._moved.set()

    def ask(self) -> None:
        """A request waits for it: make it as soon as the last attempt allows. Costs next to nothing."""
        if not self._asked.is_set():
            self._asked.set()
            self.bring_forward(max(self._soonest - asyncio.get_running_loop().time(), 0.0))

    async def wait(self, changed: Callable[[], Coroutine[Any, Any, None]], worth_it: Callable[[], bool]) -> None:
        """Return when it is to be made, however often that is moved meanwhile.

        Args:
            changed: Returns when it is to be made at once.
            worth_it: Whether it is, after the wall clock was set.
        """
        while not await self._wait_unless_moved(changed, worth_it):
            pass

    async def turn(self, take: Callable[[int], Coroutine[Any, Any, None]], rank: int) -> None:
        """Wait for its turn by `take(rank)`; as an urgent one from when a request waits for it."""
        if not self._asked.is_set():
            has_turn, _ = await _first(take(rank), self._asked.wait())
            if has_turn:
                return
        await take(URGENT)

    async def _wait_unless_moved(
        self, changed: Callable[[], Coroutine[Any, Any, None]], worth_it: Callable[[], bool]
    ) -> bool:
        self._moved.clear()
        sleeping = self._clock.sleep(self._alarm, self._jumps)
        _, is_changed, is_moved = await _first(sleeping, changed(), self._moved.wait())
        if is_changed or is_moved:
            return is_changed
        before, self._jumps = self._jumps, self._clock.jumps()
        return (self._jumps != before and worth_it()) or self._clock.left(self._alarm) <= 0


async def changed(source: Source, context: dict[str, str]) -> None:
    """Return when the source says that there is something new; never if it cannot."""
    try:
        await source.changed()
    except Exception as error:  # noqa: BLE001 - then the schedule alone decides, until the source is made anew
        log.error("changes are not seen", extra=context | {"error": told(error)})  # noqa: TRY400
        await asyncio.get_running_loop().create_future()


async def _first(*work: Coroutine[Any, Any, Any]) -> list[bool]:
    """Run all until one ends, and give up the others; which have ended."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return [task.done() for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
