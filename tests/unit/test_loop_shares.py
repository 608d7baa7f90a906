"""Who has the event loop, and for how long (metadata/loop_shares.py): on a clock that only the work itself turns."""

import asyncio
from types import SimpleNamespace

import pytest

from imds_proxy.metadata import loop_shares
from imds_proxy.metadata.loop_shares import LoopShares

A, B = b"uid 1", b"uid 2"
SHARE = 1.0  # whose parts add up exactly


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only while work is done."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(loop_shares, "SHARE", SHARE)
    monkeypatch.setattr(loop_shares, "_MOST_DEBT", 50 * SHARE)
    monkeypatch.setattr(loop_shares.time, "perf_counter", lambda: clock.now)
    return clock


@pytest.fixture
def work(clock):
    """`work(name, seconds)`: work that takes so long; `work.done` has the names in order."""

    def make(name, seconds=SHARE / 8):
        def do():
            clock.now += seconds
            make.done.append(name)

        return do

    make.done = []
    return make


async def rounds(count):
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_caller_within_its_share_does_not_wait(work):
    """Every request would take a round of the loop more."""
    shares = LoopShares()
    assert all(shares.run(A, work(number)) for number in range(8))
    assert work.done == list(range(8))


async def test_what_is_beyond_the_share_waits_for_the_next_turn(work):
    shares = LoopShares()
    assert [shares.run(A, work(number)) for number in range(20)] == [True] * 8 + [False] * 12
    assert len(shares.of(A).waiting) == 12
    await rounds(1)
    assert len(work.done) == 16
    await rounds(1)
    assert work.done == list(range(20))


async def test_one_caller_with_much_to_do_keeps_another_waiting_for_a_turn_at_most(work):
    """A process in a loop, or an attacker, would decide when the others are answered."""
    shares = LoopShares()
    for number in range(1000):
        shares.run(A, work(number))
    await rounds(3)
    done = len(work.done)
    assert done == 32
    assert shares.run(B, work("another"))
    assert len(work.done) == done + 1


async def test_every_waiting_caller_has_its_turn(work):
    shares = LoopShares()
    for caller in (A, B):
        for _ in range(1000):
            shares.run(caller, work(caller))
    await rounds(10)
    assert work.done.count(A) == work.done.count(B) == 88


async def test_work_of_a_caller_is_done_in_order(work):
    """The pieces of one connection would come after one another in the wrong order."""
    shares = LoopShares()
    for number in range(12):
        shares.run(A, work(number))
    await rounds(1)
    shares.run(A, work(12))
    await rounds(3)
    assert work.done == list(range(13))


async def test_what_was_spent_beyond_the_share_is_paid_back(work):
    """Work that takes long would give a caller more of the loop than others have."""
    shares = LoopShares()
    shares.run(A, work("long", 5 * SHARE))
    shares.run(A, work("next"))
    await rounds(4)
    assert work.done == ["long"]
    await rounds(1)
    assert work.done == ["long", "next"]


async def test_what_work_causes_later_counts_too(work):
    shares = LoopShares()
    assert shares.run(A, work("opens", 0.0), price=SHARE)
    assert not shares.run(A, work("next"))


async def test_what_was_spent_on_a_caller_elsewhere_counts_too(work):
    shares = LoopShares()
    shares.of(A).charge(SHARE)
    assert not shares.run(A, work("next"))
    assert shares.run(B, work("another"))


async def test_a_flood_is_forgiven_soon_after_its_end(work):
    """The user of a program that has gone wild could do nothing for as long as that went on."""
    shares = LoopShares()
    for _ in range(10_000):
        shares.of(A).charge(SHARE)
    shares.run(A, work("after it"))
    await rounds(51)
    assert work.done == ["after it"]


async def test_a_defect_in_one_piece_of_work_costs_no_one_elses(work):
    """What other callers wait for would never be done."""
    shares = LoopShares()
    for caller in (A, B):
        shares.of(caller).charge(SHARE)
    shares.run(A, lambda: 1 / 0)
    for name in ("a", "b"):
        shares.run(A if name == "a" else B, work(name))
    loop, errors = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: errors.append(context["exception"]))
    await rounds(4)
    assert [type(error) for error in errors] == [ZeroDivisionError]
    assert sorted(work.done) == ["a", "b"]


async def test_nothing_is_kept_of_a_caller_that_has_ended(work):
    """Somebody with many addresses could fill the memory."""
    shares = LoopShares()
    for number in range(1000):
        shares.run(b"%d" % number, work(number))
    await rounds(2)
    assert not shares._callers
