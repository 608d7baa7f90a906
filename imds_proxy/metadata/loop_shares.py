"""Shares of the event loop: a caller that asks for more than its share waits, and nobody else does.

A turn is one round of the loop: whatever the sockets have brought, then what waited. In each turn a caller may have a
millisecond; what it asks beyond that waits for its next turn, between which the loop looks at the sockets again. So a
request of another caller waits for some milliseconds at most, however much one caller asks. A caller that is alone
loses nothing: its next turn comes at once.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

SHARE: Final = 0.001
"""Seconds of the loop for each caller and turn."""
_MOST_DEBT: Final = 0.05
"""Seconds that a caller can be behind: what it has caused beyond that is forgiven."""


class LoopShares:
    """What each caller has had of the loop in this turn, and what waits for its next one."""

    def __init__(self) -> None:
        self._callers: dict[bytes, Share] = {}
        self._ends_turn = False

    def run(self, principal: bytes, work: Callable[[], None], price: float = 0.0) -> bool:
        """Do `work` for a caller: now, or in order once it has a share again.

        Args:
            principal: Of the caller.
            work: Takes at most about a millisecond and raises nothing.
            price: Seconds that it causes later, which count too.

        Returns:
            Whether it is done.
        """
        return self.of(principal).run(work, price)

    def of(self, principal: bytes) -> "Share":
        """The share of a caller in this turn."""
        share = self._callers.get(principal)
        if share is None:
            share = self._callers[principal] = Share()
        if not self._ends_turn:
            self._ends_turn = True
            asyncio.get_running_loop().call_soon(self._end_turn)
        return share

    def _end_turn(self) -> None:
        """Give each caller its next share; forget those that have nothing to wait for."""
        self._ends_turn = False
        try:
            for principal, share in list(self._callers.items()):
                share.used -= SHARE
                while share.waiting and share.used < SHARE:
                    share.do(*share.waiting.popleft())
                if share.used <= 0 and not share.waiting:
                    del self._callers[principal]
        finally:  # a defect in one piece of work costs nobody else's
            if self._callers and not self._ends_turn:
                self._ends_turn = True
                asyncio.get_running_loop().call_soon(self._end_turn)


class Share:
    """What one caller has had in this turn."""

    __slots__ = ("used", "waiting")

    def __init__(self) -> None:
        self.used = 0.0
        """Seconds of the loop."""
        self.waiting: deque[tuple[Callable[[], None], float]] = deque()

    def run(self, work: Callable[[], None], price: float) -> bool:
        """As `LoopShares.run`."""
        if self.used >= SHARE or self.waiting:
            self.waiting.append((work, price))
            return False
        self.do(work, price)
        return True

    def do(self, work: Callable[[], None], price: float) -> None:
        """Do what waited, now."""
        began = time.perf_counter()
        try:
            work()
        finally:
            self.charge(time.perf_counter() - began + price)

    def charge(self, seconds: float) -> None:
        """Count time that the caller has cost."""
        self.used = min(self.used + seconds, _MOST_DEBT)
