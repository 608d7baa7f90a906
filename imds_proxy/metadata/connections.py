"""The connections of the data plane by caller: where there are too many, the caller that has most loses its own."""

import heapq
import time
from collections.abc import Iterator
from operator import attrgetter
from typing import Final, Protocol

_ROOM: Final = 16
"""One of so many is freed at once, because to choose takes a look at every connection of a caller."""
_LOOK_EVERY: Final = 0.1
"""Seconds after which a caller whose connections were all busy is looked at again."""


class Connection(Protocol):
    """What is looked at to choose between connections: an open one (`http.py`) or one that waits (`listener.py`)."""

    @property
    def principal(self) -> bytes:
        """Its caller's."""

    @property
    def busy(self) -> bool:
        """Whether a request has begun and is not yet answered."""

    @property
    def active(self) -> float:
        """When the last request ended, or the client connected; 0: it is throttled."""

    @property
    def deadline(self) -> float:
        """When it is closed, whatever the client does."""

    def close(self) -> None:
        """Close once what was answered has been sent."""

    def expire(self) -> None:
        """Its deadline has passed."""

    def abort(self) -> None:
        """Close now."""


class Connections:
    """Every connection that has been accepted.

    Args:
        most: How many there may be.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_caller: dict[bytes, set[Connection]] = {}
        self._all_busy: dict[bytes, float] = {}
        """The callers whose connections were all busy, and when to look again."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Connection]:
        return iter([connection for its in self._by_caller.values() for connection in its])

    def admit(self, connection: Connection) -> bool:
        """Take a new connection; over the cap others make room, or there is none for it."""
        if self._count >= self._most and not self._make_room(connection.principal):
            return False
        self._by_caller.setdefault(connection.principal, set()).add(connection)
        self._count += 1
        return True

    def replace(self, old: Connection, new: Connection) -> None:
        """Put `new` in the place of `old`, of the same caller."""
        self.remove(old)
        self._by_caller.setdefault(new.principal, set()).add(new)
        self._count += 1

    def remove(self, connection: Connection) -> None:
        """Forget a connection; one that is not there any more changes nothing."""
        its = self._by_caller.get(connection.principal)
        if its is None or connection not in its:
            return
        its.remove(connection)
        self._count -= 1
        if not its:
            del self._by_caller[connection.principal]
            self._all_busy.pop(connection.principal, None)

    def _make_room(self, newcomer: bytes) -> bool:
        """Close connections of the caller that has most, with the new one counted: throttled and long idle ones first.

        Where all of them are busy, the new connection if it is that caller's, else the one whose time is over first:
        no caller can shut the others out.
        """
        heaviest = max(self._by_caller, key=lambda caller: self._weight(caller, newcomer))
        victims = self._idle_longest(heaviest)
        if not victims and heaviest != newcomer:
            victims = [min(self._by_caller[heaviest], key=attrgetter("deadline"))]
        for victim in victims:
            self.remove(victim)
            victim.abort()
        return bool(victims)

    def _weight(self, caller: bytes, newcomer: bytes) -> tuple[int, bool]:
        """How many a caller has; of equals the newcomer's is the heavier one."""
        own = caller == newcomer
        return len(self._by_caller[caller]) + own, own

    def _idle_longest(self, caller: bytes) -> list[Connection]:
        now = time.monotonic()
        if now < self._all_busy.get(caller, 0.0):
            return []
        idle = [connection for connection in self._by_caller[caller] if not connection.busy]
        if not idle:
            self._all_busy[caller] = now + _LOOK_EVERY
        return heapq.nsmallest(max(1, self._most // _ROOM), idle, key=attrgetter("active"))
