"""Wall time, and how far it is from AWS's."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

# asyncio sleeps on the monotonic clock, which stands still while a machine is suspended and does not see the wall
# clock being set. Looking at the wall this often is what makes "at once" after a wake-up mean seconds.
_LONGEST_NAP = 5.0

# A `Date` header has whole seconds and took a round trip to get here: less than this is not skew.
_SKEW_RESOLUTION = 2.0


class Clock:
    """The only source of wall time below the daemon.

    Args:
        wall: Seconds since the epoch; replaced in tests and simulations.
    """

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self.wall = wall
        self.skew = 0.0
        """Seconds that AWS's clock is ahead of this host's."""
        self._behind = 0.0

    def now(self) -> float:
        """The later of this host's time and AWS's: what is alive by this is alive by both clocks."""
        return self.wall() + self._behind

    def observe(self, aws_time: float) -> None:
        """Note the time AWS said it is; positive skew means that this host is behind."""
        skew = aws_time - self.wall()
        self.skew = skew if abs(skew) > _SKEW_RESOLUTION else 0.0
        self._behind = max(self.skew, 0.0)

    def observe_date(self, header: object) -> None:
        """The same from the `Date` header of an answer of AWS's; anything else changes nothing."""
        with contextlib.suppress(TypeError, ValueError):
            self.observe(parsedate_to_datetime(header).timestamp())  # type: ignore[arg-type]  # None is a TypeError

    async def sleep_until(self, when: float) -> None:
        """Return once `now()` has reached `when`, across a suspend; a wall clock set back does not make it longer."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + when - self.now()
        while (left := min(when - self.now(), deadline - loop.time())) > 0:  # noqa: ASYNC110 - no event tells of the wall
            await asyncio.sleep(min(left, _LONGEST_NAP))


def skew_advice(skew: float) -> str:
    """What to do about a clock that AWS's is `skew` seconds ahead of."""
    minutes = round(abs(skew) / 60)
    if not minutes:
        return "compare this host's clock with AWS's"
    return f"this host's clock is {minutes} min {'behind' if skew > 0 else 'ahead of'} AWS's: set it (chronyc makestep)"
