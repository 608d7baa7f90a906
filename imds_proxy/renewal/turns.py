"""When attempts begin: one at a time, with a pause in between, however many are due.

An attempt costs the event loop a few milliseconds of work, and then it waits for the network: that costs nothing. So
the work is what is bounded, and not how many attempts are under way: among a hundred roles whose service hangs, each
for its 20 seconds, a bound of those would leave the roles next in line without a renewal, and fill up again before they
are through.
"""

import asyncio
from collections import deque
from typing import Final, NamedTuple

URGENT: Final = 0
"""A request waits for it."""
DEFAULT: Final = 1
"""The default role, and those that it is assumed from."""
EARLY: Final = 2
"""Roles in files, and roles that come from one."""
ORDINARY: Final = 3

PAUSE: Final = 0.05
"""Seconds after the beginning of an attempt that calls a service or a program: 20 a second, of all roles together. It
costs about a tenth of the loop, and many hosts that start at once do not exhaust what an account may call."""
LOCAL_PAUSE: Final = 0.001
"""Seconds after that of one which reads a small file: it costs half a millisecond, and asks nobody for anything. When a
thousand files are written at once, each is served about a second later."""
_LONGEST: Final = 0.1
"""Seconds: the longest pause, however late the loop is; a thousand roles have begun within two minutes on any host."""
_FAIR: Final = 4
"""Of that many turns one goes to who has waited longest: a rank whose line never ends does not keep others out."""


class _Asked(NamedTuple):
    number: int
    pause: float
    turn: asyncio.Future[None]


class Turns:
    """The order of attempts: by rank, and in a rank who asks first begins first.

    What waits here has not begun: nothing of it counts as the attempt's time, or as its failure.
    """

    def __init__(self) -> None:
        self._lines: dict[int, deque[_Asked]] = {rank: deque() for rank in (URGENT, DEFAULT, EARLY, ORDINARY)}
        self._next = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._asked = self._given = 0

    @property
    def are_waited_for(self) -> bool:
        """Whether anybody is in line."""
        return any(self._lines.values())

    async def take(self, rank: int = ORDINARY, pause: float = PAUSE) -> None:
        """Return when an attempt may begin.

        Args:
            rank: The lower, the earlier.
            pause: Seconds from its beginning to that of the next one; as long as the loop was late, where that is more.
        """
        loop = asyncio.get_running_loop()
        if self._timer is None and loop.time() >= self._next:
            self._next = loop.time() + pause
            return
        turn = loop.create_future()
        self._asked += 1
        self._lines[rank].append(_Asked(self._asked, pause, turn))
        if self._timer is None:
            self._timer = loop.call_at(self._next, self._give)
        await turn

    def _give(self) -> None:
        """Give the next turn, and come again while there is anybody in line."""
        self._timer = None
        if (asked := self._first()) is None:
            return
        loop = asyncio.get_running_loop()
        late = loop.time() - self._next
        self._next = loop.time() + min(max(asked.pause, late), _LONGEST)
        self._timer = loop.call_at(self._next, self._give)
        self._given += 1
        asked.turn.set_result(None)

    def _first(self) -> _Asked | None:
        for line in self._lines.values():
            while line and line[0].turn.done():  # who asked has given up
                line.popleft()
        lines = [line for line in self._lines.values() if line]
        if not lines:
            return None
        is_by_age = self._given % _FAIR == _FAIR - 1
        return (min(lines, key=lambda line: line[0].number) if is_by_age else lines[0]).popleft()
