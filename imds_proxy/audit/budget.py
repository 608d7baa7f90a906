"""How many lines of the audit all callers together may cause, and what is counted of the answers beyond that. Pure."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

_RESERVE: Final = 0.2
"""For callers that have no line at this time: one that causes many hides nobody else's first."""
_MOST_COUNTED: Final = 1000
"""Callers, and roles or statuses, that are told apart."""


class LineBudget:
    """A token bucket of lines.

    Args:
        rate: Lines a second in the long run.
        most: Lines at once.
    """

    def __init__(self, rate: float, most: int) -> None:
        self._rate, self._most, self._left = rate, most, float(most)
        self._at = 0.0

    def take(self, now: float, own: int) -> bool:
        """Whether there may be one more line.

        Args:
            now: Seconds of a clock that is never set back.
            own: The lines of this caller that have begun and not ended.
        """
        self._left = min(self._left + max(now - self._at, 0.0) * self._rate, self._most)
        self._at = now
        if self._left < 1 + (self._most * _RESERVE if own else 0):
            return False
        self._left -= 1
        return True


@dataclass(slots=True)
class Folded:
    """The answers that have no line of their own.

    Args:
        since: When the first was given, seconds since the epoch.
        count: How many there were.
        callers: How many for each caller, in words; the first thousand callers.
        kinds: How many for each role handed out, or for each status of a refusal.
    """

    since: float
    count: int = 0
    callers: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)

    def add(self, caller: str, kind: str) -> None:
        """Count one answer."""
        self.count += 1
        for counter, name in ((self.callers, caller), (self.kinds, kind)):
            if name in counter or len(counter) < _MOST_COUNTED:
                counter[name] += 1
