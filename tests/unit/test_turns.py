"""When attempts begin, where many are due (renewal/turns.py)."""

import asyncio
import itertools
import time

from imds_proxy.clock import Clock
from imds_proxy.errors import Unreachable
from imds_proxy.renewal.keeper import Keeper
from imds_proxy.renewal.turns import PAUSE, Turns
from imds_proxy.sources import Source
from imds_proxy.telemetry.stats import RenewalStats


async def test_the_first_does_not_wait():
    """A host with one role would start later for nothing."""
    began = time.monotonic()
    await Turns().take()
    assert time.monotonic() - began < PAUSE


async def test_attempts_begin_one_after_the_other_in_the_order_in_which_they_asked():
    """All at once they would hold up the loop; in any other order one might wait for ever."""
    turns, begun = Turns(), []

    async def attempt(number):
        await turns.take()
        begun.append((number, time.monotonic()))

    await asyncio.gather(*map(attempt, range(10)))
    assert [number for number, _ in begun] == list(range(10))
    times = [moment for _, moment in begun]
    assert all(later - earlier > PAUSE / 2 for earlier, later in itertools.pairwise(times))


async def test_who_gives_up_waiting_takes_no_turn():
    """A reload in an outage would leave holes in the line, or end it."""
    turns = Turns()
    await turns.take()
    waiting = [asyncio.create_task(turns.take()) for _ in range(20)]
    await asyncio.sleep(0)
    for task in waiting[:19]:
        task.cancel()
    await asyncio.wait_for(waiting[19], 5 * PAUSE)


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
