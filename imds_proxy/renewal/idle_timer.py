"""Whether anybody asks for what is obtained on demand."""

import asyncio
import math

from imds_proxy.host.clock import Clock


class Demand:
    """The requests for one session, as they are noted.

    Args:
        clock: Wall time.
        idle_after: Seconds without a request after which nobody wants it any more.
        asked: When it was last asked for, where that was noted elsewhere before.
    """

    def __init__(self, clock: Clock, idle_after: float, asked: float = -math.inf) -> None:
        self.idle_after = idle_after
        self.asked = asked
        """When it was last asked for."""
        self._clock = clock
        self._request = asyncio.Event()

    @property
    def idle_for(self) -> float:
        """Seconds since it was last asked for."""
        return self._clock.now() - self.asked

    @property
    def has_ended(self) -> bool:
        """Whether nobody wants it any more."""
        return self.idle_for >= self.idle_after

    def note(self) -> None:
        """It is asked for now. On the way of a request: costs next to nothing."""
        self.asked = self._clock.now()
        self._request.set()

    async def wait(self) -> None:
        """Return at the next request."""
        self._request.clear()
        await self._request.wait()
