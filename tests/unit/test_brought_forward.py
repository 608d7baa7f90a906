"""A request that finds nothing alive brings the next attempt forward (renewal/next_attempt.py), in virtual time."""

import asyncio
import itertools
import logging
import random

import pytest

from imds_proxy.backoff import AGAIN, LONGEST_RETRY_AFTER, REFUSED_AGAIN, SPREAD
from imds_proxy.errors import Denied, Invalid, Throttled, Unreachable
from imds_proxy.renewal.attempts import Attempts
from imds_proxy.renewal.idle_timer import Demand
from imds_proxy.renewal.keeper import Keeper
from imds_proxy.renewal.turns import ORDINARY, URGENT, Turns
from imds_proxy.sources import Source
from imds_proxy.telemetry.stats import RenewalStats
from support.on_demand import HOUR, IDLE_AFTER, in_virtual_time
from support.plane import credentials


class Aws(Source):
    """Gives sessions of an hour, or says why not."""

    def __init__(self, clock, trouble=None):
        self.clock, self.trouble = clock, trouble
        self.calls = []

    async def fetch(self):
        self.calls.append(self.clock.now())
        await asyncio.sleep(0.1)
        if self.trouble is not None:
            raise self.trouble
        return credentials(now=self.clock.now(), life=HOUR)

    @property
    def gaps(self):
        """Seconds between each call and the next."""
        return [later - earlier for earlier, later in itertools.pairwise(self.calls)]

    def least_between(self, skipped=0):
        """Seconds between the two calls that were closest to each other."""
        return min(self.gaps[skipped:])


class Host:
    """A keeper that runs, and clients that ask."""

    def __init__(self, trouble=None, *, turns=None, demand=None, chance=None):
        self.clock = asyncio.get_running_loop().clock()
        self.aws = Aws(self.clock, trouble)
        chance = chance or random.Random(1).random
        self.keeper = Keeper(
            "deploy", clock=self.clock, stats=RenewalStats(), turns=turns, demand=demand, chance=chance
        )
        self.running = asyncio.create_task(self.keeper.run(self.aws))

    async def polled(self, seconds, every=1.0, clients=1):
        """Seconds until a client was served; None: none was."""
        began = self.clock.now()
        while self.clock.now() < began + seconds:
            held = [self.keeper.serve() for _ in range(clients)]
            if held[-1]:
                return self.clock.now() - began
            await asyncio.sleep(every)
        return None


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
@in_virtual_time
async def test_after_an_outage_past_expiry_clients_are_served_within_seconds(chance):
    """They would be refused for up to a minute more, though AWS is back."""
    host = Host(chance=lambda: chance)
    await asyncio.sleep(1)
    host.aws.trouble = Unreachable("no route")
    await asyncio.sleep(2 * HOUR)
    assert await host.polled(600) is None
    host.aws.trouble = None
    assert await host.polled(60) <= AGAIN * (1 + SPREAD) + 1.2


@in_virtual_time
async def test_while_nobody_asks_the_backoff_is_what_it_was():
    """An outage of a night would be thousands of calls for nobody."""
    host = Host(Unreachable("no route"), chance=lambda: 0.999)
    await asyncio.sleep(600)
    assert len(host.aws.calls) < 20


@pytest.mark.parametrize("clients", [1, 100])
@pytest.mark.parametrize(
    ("trouble", "seconds"),
    [(Unreachable("no route"), AGAIN), (Denied("no"), REFUSED_AGAIN), (Invalid("what?"), REFUSED_AGAIN)],
)
@in_virtual_time
async def test_however_many_ask_attempts_are_so_far_apart(clients, trouble, seconds):
    """A crowd of clients would be a crowd of calls, and AWS would throttle the account."""
    host = Host(trouble, chance=lambda: 0.5)
    await host.polled(300, clients=clients)  # the backoff itself is shorter at first
    before = len(host.aws.calls)
    await host.polled(20 * seconds, every=0.2, clients=clients)
    assert host.aws.least_between(before) >= seconds
    assert 20 / (1 + SPREAD) - 2 <= len(host.aws.calls) - before <= 20


@in_virtual_time
async def test_hosts_that_lost_aws_together_do_not_come_back_together():
    """A site's clients all ask each second: AWS would see the whole site at the same moment, again and again."""
    hosts = [Host(Unreachable("no route"), chance=random.Random(seed).random) for seed in range(20)]
    await asyncio.gather(*(host.polled(60) for host in hosts))
    last = sorted(host.aws.calls[-1] for host in hosts)
    assert last[-1] - last[0] > 1


@pytest.mark.parametrize(("asked_for", "kept"), [(0, 0), (20, 20), (120, 120), (86400, LONGEST_RETRY_AFTER)])
@in_virtual_time
async def test_after_throttling_requests_change_nothing(asked_for, kept):
    """Whoever is throttled and calls again at once is throttled for longer."""
    host = Host(Throttled("slower", "", asked_for))
    ordinary = Host(Throttled("slower", "", asked_for))
    await host.polled(3 * HOUR)
    assert len(host.aws.calls) == pytest.approx(len(ordinary.aws.calls), abs=1)
    assert host.aws.least_between() >= max(kept, 1)
    assert max(host.aws.gaps) <= max(60, kept * (1 + SPREAD)) + 1


@in_virtual_time
async def test_live_credentials_bring_nothing_forward():
    """Every request would be a call, once a renewal has failed."""
    host = Host(chance=lambda: 0.999)
    await asyncio.sleep(1)
    host.aws.trouble = Denied("no")
    await host.keeper.renew()
    planned = host.keeper.next_attempt
    assert planned - host.clock.now() > REFUSED_AGAIN
    assert host.keeper.serve()
    await asyncio.sleep(1)
    assert host.keeper.next_attempt == planned
    assert len(host.aws.calls) == 2


@in_virtual_time
async def test_a_request_during_an_attempt_is_not_one_more_attempt():
    host = Host(chance=lambda: 0.0)
    for _ in range(5):
        host.keeper.serve()
        await asyncio.sleep(0.01)
    await asyncio.sleep(60)
    assert len(host.aws.calls) == 1


@in_virtual_time
async def test_a_clock_set_back_makes_no_request_wait_longer():
    """The moment before which nothing may be tried would be an hour away."""
    host = Host(Unreachable("no route"))
    host.clock.wall, wall = lambda: wall() + ahead, host.clock.wall
    ahead = HOUR
    await host.polled(30)
    ahead = 0.0
    calls = len(host.aws.calls)
    await host.polled(10)
    assert len(host.aws.calls) >= calls + 3


class Ranks(Turns):
    """Turns that note who asked, and give none before `open` is set."""

    def __init__(self):
        super().__init__()
        self.ranks, self.open = [], asyncio.Event()

    async def take(self, rank=ORDINARY, **_):
        self.ranks.append(rank)
        if rank != URGENT:
            await self.open.wait()


@in_virtual_time
async def test_an_attempt_that_waits_in_line_comes_first_once_somebody_waits_for_it():
    """In an outage a thousand others are in line: the one that a client needs would be a minute late."""
    turns = Ranks()
    host = Host(turns=turns)
    await asyncio.sleep(60)
    assert (turns.ranks, host.aws.calls) == ([ORDINARY], [])
    assert await host.polled(2, every=0.2) <= 0.4
    assert turns.ranks == [ORDINARY, URGENT]
    turns.open.set()
    await asyncio.sleep(HOUR)
    assert turns.ranks[2:] == [ORDINARY] * (len(host.aws.calls) - 1)


@in_virtual_time
async def test_a_role_on_demand_is_urgent_at_its_first_request():
    turns = Ranks()
    host = Host(turns=turns, demand=Demand(asyncio.get_running_loop().clock(), IDLE_AFTER))
    await asyncio.sleep(60)
    assert await host.polled(2, every=0.2) <= 0.4
    assert turns.ranks == [URGENT]


@in_virtual_time
async def test_a_failure_like_the_last_is_said_twice_a_minute(caplog):
    """Clients that wait would fill the disk with one line, a line each two seconds."""
    host = Host(Unreachable("no route"))
    await host.polled(300)
    failed = [record for record in caplog.records if record.message == "renewal failed"]
    loud = [record for record in failed if record.levelno >= logging.WARNING]
    assert len(failed) == len(host.aws.calls) > 100
    assert 8 <= len(loud) <= 11
    host.aws.trouble = Denied("no")
    await host.polled(40)
    assert [record for record in caplog.records if record.message == "renewal failed"][-1].levelno == logging.ERROR


@in_virtual_time
async def test_an_attempt_that_has_just_ended_is_joined_by_nobody():
    """Who asks for a new session then would be told of the one before as new."""
    attempts = []

    async def attempt():
        attempts.append(len(attempts))

    one = Attempts("deploy", attempt)
    for number in range(1, 6):
        await one.join()
        await one.anew()
        assert len(attempts) == 2 * number
