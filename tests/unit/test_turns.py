"""When attempts begin, where many are due (renewal/turns.py)."""

import asyncio
import time

import pytest

from imds_proxy.clock import Clock
from imds_proxy.errors import Unreachable
from imds_proxy.renewal.keeper import Keeper
from imds_proxy.renewal.turns import PAUSE, Turns
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
    await turns.take()
    waiting = asyncio.create_task(turns.take())
    await asyncio.sleep(0)
    time.sleep(0.1)  # noqa: ASYNC251 - what a busy loop is
    await waiting
    began = time.monotonic()
    await turns.take()
    assert time.monotonic() - began > 3 * PAUSE


class _Fails(Source):
    async def fetch(self):
        raise Unreachable("away")


async def test_to_wait_for_a_turn_is_no_part_of_an_attempt():
    """The time of attempts would tell of an AWS that is slow, where it is this host that has many roles."""
    seconds, turns, stats = 0.3, Turns(), RenewalStats()
    keeper = Keeper("deploy", clock=Clock(), stats=stats, turns=turns)
    keeper._source = _Fails()
    await turns._line.acquire()
    renewing = asyncio.create_task(keeper.renew())
    await asyncio.sleep(seconds)
    assert keeper.failure is None
    turns._line.release()
    await renewing
    assert keeper.failure is not None
    assert stats.durations.sum < seconds
