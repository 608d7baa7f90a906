"""What AWS's time is, from what its endpoints said. Pure; in seconds.

One answer may be wrong: a proxy, a clock that is off at the other end. Held to be AWS's, a time hours ahead would end
every session at once. So a time that nothing else agrees with is a claim, until more speaks for it.
"""

from dataclasses import dataclass
from typing import Final

EXPECTED: Final = 900.0
"""No service of AWS takes a signature that is off by more: within this, an accepted request and its answer agree."""
_CONFIRMED_AFTER: Final = 30.0
"""One endpoint has to say it twice, with at least this in between."""
_AGREE: Final = 60.0
"""Two answers that say the same: a `Date` has whole seconds, and took up to 20 s to get here."""
_FORGOTTEN_AFTER: Final = 86400.0
"""Longer than it takes from one renewal to the next, whatever a session lives."""
_MOST: Final = 32
"""Endpoints of which it is kept what they said."""


@dataclass(frozen=True, slots=True)
class _Said:
    """What one endpoint says.

    Args:
        ahead: AWS's time less boot time.
        first: Boot time when it began to say this.
        last: Boot time when it said so last.
    """

    ahead: float
    first: float
    last: float


class AwsTime:
    """AWS's time, anchored to boot time, which goes on while the machine is suspended and cannot be set."""

    def __init__(self) -> None:
        self._ahead: float | None = None
        self._said: dict[str, _Said] = {}
        """By endpoint; the one that spoke last is the last."""

    def at(self, boot: float) -> float | None:
        """AWS's time at a boot time; None before any is known."""
        return None if self._ahead is None else boot + self._ahead

    def believe(self, time: float, boot: float) -> None:
        """It is `time` at AWS."""
        self._ahead = time - boot
        self._said.clear()

    def hear(self, endpoint: str, time: float, *, boot: float, wall: float, refused: bool) -> None:
        """Note what an answer says; believed if it was expected, or is confirmed.

        Args:
            endpoint: Where the answer is from.
            time: What it says.
            boot: Boot time now.
            wall: This host's time now.
            refused: Whether a signature was refused for its time: that is why AWS's may be far from what was expected.
        """
        ahead = time - boot
        known = (wall - boot,) if self._ahead is None else (wall - boot, self._ahead)
        mine = self._note(endpoint, ahead, boot)
        if any(abs(ahead - each) <= EXPECTED for each in known):
            self._ahead = ahead
        elif refused or self._is_confirmed(endpoint, mine):
            self.believe(time, boot)

    def _note(self, endpoint: str, ahead: float, boot: float) -> _Said:
        before = self._said.pop(endpoint, None)
        first = before.first if before is not None and _agree(before.ahead, ahead) else boot
        self._said = {name: said for name, said in self._said.items() if boot - said.last < _FORGOTTEN_AFTER}
        if len(self._said) >= _MOST:
            del self._said[next(iter(self._said))]
        self._said[endpoint] = said = _Said(ahead, first, boot)
        return said

    def _is_confirmed(self, endpoint: str, mine: _Said) -> bool:
        """By another endpoint; or by itself, unless another has said otherwise since."""
        others = [said for name, said in self._said.items() if name != endpoint]
        if any(_agree(said.ahead, mine.ahead) for said in others):
            return True
        return mine.last - mine.first >= _CONFIRMED_AFTER and not any(said.last > mine.first for said in others)


def _agree(one: float, other: float) -> bool:
    return abs(one - other) <= _AGREE
