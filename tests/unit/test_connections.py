"""Which connection goes where there are too many (metadata/connections.py): plain values."""

from dataclasses import dataclass, field
from itertools import count

import pytest

from imds_proxy.metadata import connections as room
from imds_proxy.metadata.connections import Connections

A, B, C = b"uid 1", b"uid 2", b"uid 3"
_time = count(1.0)


@dataclass(eq=False)
class Conn:
    principal: bytes
    busy: bool = False
    active: float = field(default_factory=lambda: next(_time))
    deadline: float = field(default_factory=lambda: next(_time))
    aborted: bool = False

    def close(self):
        """Not called here."""

    def expire(self):
        """Not called here."""

    def abort(self):
        self.aborted = True


def full(most, *callers, busy=False):
    """A full house: each caller with its number of connections."""
    made = Connections(most)
    opened = [Conn(caller, busy) for caller, number in callers for _ in range(number)]
    assert all(made.admit(connection) for connection in opened)
    return made, opened


def aborted(opened):
    return [number for number, connection in enumerate(opened) if connection.aborted]


def test_the_caller_that_has_most_loses_its_own():
    """Whoever keeps connections for nothing would push out the one that has a single one in use."""
    made, opened = full(6, (B, 1), (A, 4), (C, 1))
    assert made.admit(Conn(C))
    assert aborted(opened) == [1]
    assert len(made) == 6


def test_of_equals_the_newcomer_loses_its_own():
    made, opened = full(6, (A, 3), (B, 3))
    assert made.admit(Conn(B))
    assert aborted(opened) == [3]


def test_a_caller_below_its_share_is_never_touched():
    """Under attack by one user another one's connections stay open, whatever it does."""
    made, opened = full(10, (B, 2), (A, 8))
    for _ in range(100):
        made.admit(Conn(A))
    assert aborted(opened[:2]) == []
    for _ in range(3):
        assert made.admit(Conn(B))
    assert aborted(opened[:2]) == []
    assert len(made) == 10


def test_a_throttled_connection_is_the_first_to_go():
    made, opened = full(4, (A, 4))
    opened[2].active = 0.0
    assert made.admit(Conn(A))
    assert aborted(opened) == [2]


def test_where_all_of_the_heaviest_are_busy_its_newcomer_finds_no_room():
    made, opened = full(4, (A, 4), busy=True)
    assert not made.admit(Conn(A))
    assert aborted(opened) == []


def test_where_all_of_the_heaviest_are_busy_another_caller_finds_room():
    """One user's thousand begun requests would be all that there is room for."""
    made, opened = full(4, (A, 4), busy=True)
    assert made.admit(Conn(B, busy=True))
    assert aborted(opened) == [0]
    assert len(made) == 4


def test_a_flood_is_not_looked_through_for_each_of_its_connections(monkeypatch):
    """To look at a thousand connections for each new one would cost more than to serve them."""
    monkeypatch.setattr(room.time, "monotonic", lambda: 1000.0)
    made, opened = full(4, (A, 4), busy=True)
    assert not made.admit(Conn(A))
    opened[3].busy = False
    assert not made.admit(Conn(A))
    monkeypatch.setattr(room.time, "monotonic", lambda: 1000.0 + room._LOOK_EVERY)
    assert made.admit(Conn(A))
    assert aborted(opened) == [3]


def test_of_many_some_go_at_once():
    made, opened = full(160, (A, 160))
    assert made.admit(Conn(A))
    assert aborted(opened) == list(range(10))
    assert len(made) == 151


@pytest.mark.parametrize("caller", [A, B])
def test_a_connection_is_removed_once(caller):
    """A count that is wrong would shut everybody out in the end."""
    made, opened = full(4, (A, 2), (B, 2))
    for _ in range(2):
        made.remove(opened[0] if caller == A else opened[3])
    assert len(made) == 3 == len(list(made))


def test_one_takes_the_place_of_another():
    made, opened = full(2, (A, 1), (B, 1))
    successor = Conn(A)
    made.replace(opened[0], successor)
    assert set(made) == {successor, opened[1]}
    assert len(made) == 2
