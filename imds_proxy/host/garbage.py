"""What stays for good is kept out of the garbage collector's sight.

To look through all objects of a daemon with a thousand roles takes the loop from everybody for 100 ms, and Python does
that whenever there are a quarter more of them than at the last time: again and again while roles are made.
"""

import asyncio
import gc
from collections.abc import Callable
from typing import Final

_EVERY: Final = 0.1  # seconds: so little is made meanwhile that to look through it takes a few milliseconds
_AFTER: Final = 2.0  # seconds: what has begun ends
_AT_MOST: Final = 10.0
"""Seconds: a thousand roles are made by then, and what their attempts add is little. In an outage there is always one
in line, and an attempt that fails leaves reference cycles: 0.7 MB a second that would never be freed."""
MANY: Final = 50
"""Roles that a reload has made anew, from which on it is worth it. Reference cycles that are garbage by then are never
freed, so that it is not done by each of many reloads that change little."""


def leave_out() -> None:
    """Leave out what there is now. What is dropped later is freed all the same, unless it holds itself."""
    gc.freeze()


async def leave_out_while(goes_on: Callable[[], bool]) -> None:
    """Leave out what there is, and what is made while something goes on, for some seconds; costs next to nothing."""
    loop = asyncio.get_running_loop()
    began = last = loop.time()
    while loop.time() < min(last + _AFTER, began + _AT_MOST):
        leave_out()
        await asyncio.sleep(_EVERY)
        if goes_on():
            last = loop.time()
