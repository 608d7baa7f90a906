"""The attempts of the last day to obtain one role's credentials, in memory of a fixed size."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

DAY: Final = 24 * 3600.0
"""Seconds that an attempt is remembered."""
MOST_SPANS: Final = 96
"""Of a role; with more, the oldest go. A session of an hour makes one every 25 to 30 minutes."""
_JOINED_WITHIN: Final = 10 * 60.0
"""Seconds: attempts that end alike, no further apart than this, are one span."""


@dataclass(slots=True)
class Span:
    """Attempts that ended alike, one after the other.

    Args:
        first: When the first ended, in seconds since the epoch.
        last: When the last one did.
        outcome: One of the metrics'.
        count: How many.
    """

    first: float
    last: float
    outcome: str
    count: int = 1


class History:
    """What became of the attempts of one role since this daemon started, or within a day."""

    def __init__(self) -> None:
        self._spans: deque[Span] = deque(maxlen=MOST_SPANS)

    def add(self, at: float, outcome: str) -> None:
        """Note an attempt that has ended."""
        last = self._spans[-1] if self._spans else None
        if last is not None and last.outcome == outcome and 0 <= at - last.last <= _JOINED_WITHIN:
            last.last, last.count = at, last.count + 1
        else:
            self._spans.append(Span(at, at, outcome))
        while self._spans[0].last < at - DAY:
            self._spans.popleft()

    def since(self, when: float) -> Iterator[Span]:
        """The spans that reach past a time, oldest first."""
        return (span for span in self._spans if span.last >= when)
