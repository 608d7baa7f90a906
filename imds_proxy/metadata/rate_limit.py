"""How often a caller may ask for what costs us something and brings it nothing new.

A session token is good for hours, and a refused request does not become a granted one by repeating it: a process that
asks on and on is in a loop, and must not take the processor from the others.
"""

from typing import Final

_BURST: Final = 4.0
"""Seconds' worth that may come at once."""
_CALLERS_KEPT: Final = 1024
"""One that is forgotten begins with a full measure again."""


class CallerLimits:
    """A token bucket for each caller.

    Args:
        rate: Requests a second for each caller; 0: no limit.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._buckets: dict[bytes, tuple[float, float]] = {}

    def allows(self, principal: bytes, now: float) -> bool:
        """Whether a caller may have one more now, which is taken from its measure.

        Args:
            principal: Of the caller.
            now: Seconds; setting the clock back neither gives nor takes anything.
        """
        if not self._rate:
            return True
        full = self._rate * _BURST
        left, since = self._buckets.pop(principal, (full, now))
        left = min(full, left + max(0.0, now - since) * self._rate)
        allowed = left >= 1
        if len(self._buckets) >= _CALLERS_KEPT:
            del self._buckets[next(iter(self._buckets))]  # the one that asked longest ago
        self._buckets[principal] = (left - 1 if allowed else left, now)
        return allowed
