"""Sees that the wall clock was set, and that the machine was suspended, and wakes those who sleep meanwhile."""

import asyncio
import math
from collections.abc import Callable
from typing import Final

_PARTED: Final = 1.0
"""Seconds that two clocks have come to differ by, after which whoever sleeps reckons anew."""
_JUMP: Final = 5.0
"""Seconds that the wall clock moves at once when it is set; one that is slewed moves slower by far."""
_FIRST_GAP, _LONGEST_GAP = 4.0, 600.0
"""Seconds between two jumps that are told of: twice as many each time, while a clock is set again and again."""


class ClockWatch:
    """One timer for all who sleep, however many they are.

    Args:
        wall: The clock that may be set.
        boot: Seconds since the machine started, with those in which it was suspended.
    """

    def __init__(self, wall: Callable[[], float], boot: Callable[[], float]) -> None:
        self.jumps = 0
        """How often the wall clock was seen to be set."""
        self._wall = wall
        self._boot = boot
        self._offset: float | None = None
        """Of wall and boot time, when they were last looked at."""
        self._has_jumped = False
        self._last, self._gap = -math.inf, _FIRST_GAP
        """When a jump was last told of, and how long the next one has to wait."""
        self._asleep: dict[asyncio.Future[None], None] = {}
        """In the order in which they went to sleep."""
        self._loop: asyncio.AbstractEventLoop | None = None
        """The one that the timer is of, while it runs."""
        self._seen = (0.0, 0.0)
        """How the clocks differed when everybody was last awake: wall and boot time, boot and loop time."""

    async def nap(self, seconds: float, look_every: float) -> None:
        """Return after so many seconds of the loop's time, or when the clocks part; looks at them now and then."""
        loop = asyncio.get_running_loop()
        waking = loop.create_future()
        timer = loop.call_later(seconds, _wake, waking)
        self._asleep[waking] = None
        self._start(loop, look_every)
        try:
            await waking
        finally:
            timer.cancel()
            self._asleep.pop(waking, None)

    def _start(self, loop: asyncio.AbstractEventLoop, every: float) -> None:
        if self._loop is loop:
            return
        self._loop, self._seen = loop, self._differences(loop)
        self._count()
        loop.call_later(every, self._look, loop, every)

    def _look(self, loop: asyncio.AbstractEventLoop, every: float) -> None:
        if self._loop is not loop:
            return
        jumps, seen = self.jumps, self._differences(loop)
        self._count()
        if self.jumps != jumps or any(abs(one - other) > _PARTED for one, other in zip(seen, self._seen, strict=True)):
            self._seen = seen
            for waking in self._asleep:
                _wake(waking)
        if self._asleep:
            loop.call_later(every, self._look, loop, every)
        else:
            self._loop = None

    def _differences(self, loop: asyncio.AbstractEventLoop) -> tuple[float, float]:
        boot = self._boot()
        return self._wall() - boot, boot - loop.time()

    def _count(self) -> None:
        """Tell of a jump, if there was one; where they come again and again, later each time."""
        now = self._boot()
        before, self._offset = self._offset, self._wall() - now
        self._has_jumped |= before is not None and abs(self._offset - before) > _JUMP
        if not self._has_jumped or now - self._last < self._gap:
            return
        self._gap = min(self._gap * 2, _LONGEST_GAP) if now - self._last < 2 * _LONGEST_GAP else _FIRST_GAP
        self._last, self._has_jumped = now, False
        self.jumps += 1


def _wake(waking: asyncio.Future[None]) -> None:
    if not waking.done():
        waking.set_result(None)
