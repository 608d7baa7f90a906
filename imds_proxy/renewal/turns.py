"""When attempts begin: one at a time, with a pause in between, however many are due.

An attempt costs the event loop a few milliseconds of work, and then it waits for the network: that costs nothing. So
the work is what is bounded, and not how many attempts are under way: among a hundred roles whose service hangs, each
for its 20 seconds, a bound of those would leave the roles next in line without a renewal, and fill up again before they
are through.
"""

import asyncio
from typing import Final

PAUSE: Final = 0.01
"""Seconds between the beginnings of two attempts: about twice the work of one, so half of the loop is left."""
_LONGEST: Final = 0.05
"""Seconds: the longest pause, however late the loop is; a thousand roles have begun within a minute on any host."""


class Turns:
    """The order of attempts: who asks first begins first.

    What waits here has not begun: nothing of it counts as the attempt's time, or as its failure.
    """

    def __init__(self) -> None:
        self._line = asyncio.Lock()
        self._next = float("-inf")

    async def take(self) -> None:
        """Return when an attempt may begin. The pause is as long as the loop was late, where that is longer."""
        loop = asyncio.get_running_loop()
        async with self._line:
            late = 0.0
            if self._next > loop.time():
                await asyncio.sleep(self._next - loop.time())
                late = loop.time() - self._next
            self._next = loop.time() + min(max(PAUSE, late), _LONGEST)
