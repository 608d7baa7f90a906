"""When attempts begin, where many are due (renewal/turns.py)."""

import asyncio
import time

import pytest

from imds_proxy.errors import Unreachable
from imds_proxy.host.clock import Clock
from imds_proxy.renewal.keeper import Keeper
from imds_proxy.renewal.turns import DEFAULT, EARLY, LOCAL_PAUSE, ORDINARY, PAUSE, URGENT, Turns
from imds_proxy.sources import Source
from imds_proxy.telemetry.stats import RenewalStats
from support import virtual_time


def test_the_first_does_not_wait():
    """A host with one role would start later for nothing."""

    async def first():
        await Turns().take()
        return asyncio.get_running_loop().time()

    assert virtual_time.run(first()) == 0


def test_attempts_begin_one_after_the_other_in_the_order_in_which_they_asked():
    """All at once they would hold up the loop; in any other order one might wait for ever."""

    async def ten():
        turns, begun = Turns(), []

        async def attempt(number):
            await turns.take()
            begun.append((number, asyncio.get_running_loop().time()))

        await asyncio.gather(*map(attempt, range(10)))
        return begun

    begun = virtual_time.run(ten())
    assert begun == [(number, pytest.approx(number * PAUSE)) for number in range(10)]


def test_who_gives_up_waiting_takes_no_turn():
    """A reload in an outage would leave holes in the line, or end it."""

    async def the_last_of_twenty():
        turns = Turns()
        await turns.take()
        waiting = [asyncio.create_task(turns.take()) for _ in range(20)]
        await asyncio.sleep(0)
        for task in waiting[:19]:
            task.cancel()
        await waiting[19]
        return asyncio.get_running_loop().time()

    assert virtual_time.run(the_last_of_twenty()) == pytest.approx(PAUSE)


async def test_a_loop_that_is_late_makes_the_pause_longer():
    """On a host that is slower than ours the attempts would pile up."""
    turns = Turns()
    await turns.take(pause=0.01)
    waiting = asyncio.create_task(turns.take(pause=0.01))
    await asyncio.sleep(0)
    time.sleep(0.1)  # noqa: ASYNC251 - what a busy loop is
    await waiting
    began = time.monotonic()
    await turns.take()
    assert time.monotonic() - began > 0.05


def test_after_a_quiet_time_nobody_waits():
    """A renewal that is brought forward would wait for nothing."""

    async def later():
        turns = Turns()
        await turns.take()
        await asyncio.sleep(60)
        await turns.take()
        return asyncio.get_running_loop().time()

    assert virtual_time.run(later()) == 60


async def begun_in_order(asked, pause=PAUSE):
    """In which order those begin who ask at once, each with a rank."""
    turns, begun = Turns(), []

    async def attempt(number, rank):
        await turns.take(rank, pause)
        begun.append(number)

    await turns.take()
    await asyncio.gather(*(attempt(number, rank) for number, rank in enumerate(asked)))
    return begun


def test_who_is_more_urgent_begins_first():
    """The default role would wait for a thousand others, and a request for all of them."""
    asked = [ORDINARY, ORDINARY, EARLY, DEFAULT, URGENT]
    begun = virtual_time.run(begun_in_order(asked))
    assert begun[:3] == [4, 3, 2]
    assert begun[3:] == [0, 1]


def test_no_rank_keeps_the_others_out():
    """A default role that fails every second, or clients that ask without end, would be all that is tried."""

    async def served_beside_a_flood():
        turns, served = Turns(), []

        async def flood():
            while True:
                await turns.take(URGENT)

        async def ordinary(number):
            await turns.take(ORDINARY)
            served.append(number)

        floods = [asyncio.create_task(flood()) for _ in range(3)]
        await asyncio.wait_for(asyncio.gather(*map(ordinary, range(20))), 20 * 4 * PAUSE + 1)
        for task in floods:
            task.cancel()
        return served

    assert virtual_time.run(served_beside_a_flood()) == list(range(20))


def test_at_most_twenty_in_a_second_call_out():
    """A thousand roles would be a flood of calls to STS."""

    async def in_a_second():
        turns, begun = Turns(), []

        async def attempt():
            await turns.take()
            begun.append(asyncio.get_running_loop().time())

        tasks = [asyncio.create_task(attempt()) for _ in range(100)]
        await asyncio.sleep(0.999)
        for task in tasks:
            task.cancel()
        return len(begun)

    assert virtual_time.run(in_a_second()) == 20


def test_a_thousand_files_begin_within_a_second():
    """A file that is one of a thousand changed ones would be served a minute late."""

    async def a_thousand():
        await begun_in_order([EARLY] * 1000, LOCAL_PAUSE)
        return asyncio.get_running_loop().time()

    assert virtual_time.run(a_thousand()) < 1.1


class _Fails(Source):
    async def fetch(self):
        raise Unreachable("away")


async def test_to_wait_for_a_turn_is_no_part_of_an_attempt():
    """The time of attempts would tell of an AWS that is slow, where it is this host that has many roles."""
    seconds, turns, stats = 0.3, Turns(), RenewalStats()
    keeper = Keeper("deploy", clock=Clock(), stats=stats, turns=turns)
    keeper._source = _Fails()
    await turns.take(pause=seconds)
    renewing = asyncio.create_task(keeper.renew())
    await asyncio.sleep(seconds / 2)
    assert keeper.failure is None
    await renewing
    assert keeper.failure is not None
    assert stats.durations.sum < seconds
