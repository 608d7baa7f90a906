"""What a keeper does when clocks are set, and which of two sessions it keeps (renewal/keeper.py, outcome.py)."""

import asyncio
import itertools
from dataclasses import replace

import pytest

from imds_proxy.errors import Denied, Unreachable
from imds_proxy.host.clock import Clock
from imds_proxy.renewal.keeper import Keeper
from imds_proxy.sources import Source
from imds_proxy.telemetry.stats import RenewalStats
from support.on_demand import HOUR, in_virtual_time
from support.plane import credentials
from support.virtual_time import EPOCH


class Aws(Source):
    """Gives sessions of a life by true time, or says why not."""

    def __init__(self, host):
        self._host = host
        self.calls, self.trouble, self.life = [], None, HOUR

    async def fetch(self):
        self.calls.append(self._host.true())
        await asyncio.sleep(1)
        if self.trouble is not None:
            raise self.trouble
        made = credentials(now=self._host.true(), life=self.life, key=f"{len(self.calls):04}")
        return replace(made, obtained=self._host.clock.now() - 1)


class Host:
    """A keeper, and a wall clock that can be set."""

    def __init__(self, *, passes_on=False):
        loop = asyncio.get_running_loop()
        self.off, self.true = 0.0, lambda: EPOCH + loop.time()
        self.clock = Clock(lambda: self.true() + self.off, loop.time)
        self.aws = Aws(self)
        self.aws.passes_on = passes_on
        self.keeper = Keeper("deploy", clock=self.clock, stats=RenewalStats(), chance=lambda: 0.5)

    def start(self):
        self.running = asyncio.create_task(self.keeper.run(self.aws))
        return self

    def saved(self, *, ago, life=HOUR):
        self.keeper.adopt(credentials(now=self.true() - ago, life=life, key="OLD1"), due=False)

    @property
    def key(self):
        held = self.keeper.live()
        return held and held.credentials.access_key_id[-4:]


# Clocks


@in_virtual_time
async def test_a_saved_session_that_was_obtained_in_the_future_is_renewed_at_once():
    """After a restart with a clock that was set back, AWS would not be asked for half a life."""
    host = Host()
    host.off = -600.0
    host.saved(ago=60)
    host.start()
    await asyncio.sleep(2)
    assert host.key == "0001"


@in_virtual_time
async def test_one_of_the_past_is_not():
    """A restart of a thousand hosts would be a thousand calls."""
    host = Host()
    host.saved(ago=60)
    host.start()
    await asyncio.sleep(600)
    assert host.aws.calls == []


@pytest.mark.parametrize("trouble", [Unreachable("no route"), Denied("no"), Denied.of_the_clock("too old", "set it")])
@in_virtual_time
async def test_a_clock_that_is_set_retries_what_waits_for_its_backoff(trouble):
    """An operator who sets it right would wait for up to five minutes, and think that it was not that."""
    host = Host()
    host.off = -2 * HOUR
    host.aws.trouble = trouble
    host.start()
    await asyncio.sleep(2 * HOUR)
    while host.keeper.next_attempt < host.clock.now() + 20:
        await asyncio.sleep(1)
    host.off, host.aws.trouble = 0.0, None
    await asyncio.sleep(8)
    assert host.key is not None


@in_virtual_time
async def test_a_refused_signature_is_retried_soon_and_a_denial_at_leisure():
    """The refusal says what time it is; the next signature may be right."""
    waits = {}
    for trouble in (Denied("no"), Denied.of_the_clock("too old", "set it")):
        host = Host()
        host.aws.trouble = trouble
        host.start()
        await asyncio.sleep(HOUR)
        host.running.cancel()
        waits[trouble.message] = [later - earlier for earlier, later in itertools.pairwise(host.aws.calls)]
    assert waits["too old"][0] < 5
    assert max(waits["too old"]) < 62
    assert min(waits["no"]) > 30


@in_virtual_time
async def test_a_clock_that_is_set_does_not_renew_what_is_well():
    """When a site's time server is mended, all its hosts would call AWS at once."""
    host = Host().start()
    await asyncio.sleep(60)
    host.clock.observe(host.true())
    for off in (-HOUR, 0.0, 600.0, 0.0):
        host.off = off
        await asyncio.sleep(60)
    assert len(host.aws.calls) == 1


@pytest.mark.parametrize("off", [-86400.0, -HOUR, -240.0, 240.0])
@in_virtual_time
async def test_the_schedule_is_kept_whatever_is_done_to_the_clock(off):
    """A clock set back would put the renewal off past the session's end, and one set now and again for ever."""
    host = Host().start()
    for minute in range(3 * 60):
        if minute % 7 == 0:
            host.off = off - host.off
        await asyncio.sleep(60)
    gaps = [later - earlier for earlier, later in itertools.pairwise(host.aws.calls)]
    assert max(gaps) <= HOUR / 2 + 10
    assert len(host.aws.calls) < 30


# Which of two sessions


@in_virtual_time
async def test_a_session_that_ends_earlier_replaces_none():
    """Clients would be without credentials seconds later, and good ones thrown away."""
    host = Host()
    host.aws.life = 20.0
    host.keeper._source = host.aws
    await host.keeper.renew()
    host.aws.life = 2.5
    await host.keeper.renew()
    assert host.key == "0001"
    assert host.keeper.failure.outcome == "invalid"
    assert "before the one that is held" in host.keeper.failure.message
    host.aws.life = 60.0
    await host.keeper.renew()
    assert (host.key, host.keeper.failure) == ("0003", None)


@in_virtual_time
async def test_once_the_longer_one_is_dead_the_other_is_taken_at_once():
    """Nothing would be served for as long as the backoff lasts, with a live session at hand."""
    host = Host()
    host.saved(ago=0, life=600.0)
    host.aws.life = 100.0
    host.keeper.next_attempt = host.clock.now()
    host.start()
    gaps = 0
    for _ in range(900):
        await asyncio.sleep(1)
        gaps += host.key is None
    assert gaps <= 3
    assert host.keeper.failure is None


@in_virtual_time
async def test_other_settings_of_a_role_give_a_shorter_session():
    """An operator who cuts the duration from 12 hours to one would have it in 11 hours."""
    host = Host()
    host.keeper.adopt(credentials(now=host.true(), life=12 * HOUR, key="OLD1"), due=True)
    host.start()
    await asyncio.sleep(2)
    assert (host.key, host.keeper.failure) == ("0001", None)


@pytest.mark.parametrize(("life", "key"), [(HOUR, "0001"), (600.0, "OLD1")])
@in_virtual_time
async def test_what_is_passed_on_may_end_earlier_if_there_is_enough_of_it(life, key):
    """Somebody who pushes another session does so on purpose; one of minutes is no use to any client."""
    host = Host(passes_on=True)
    host.saved(ago=0, life=3 * HOUR)
    host.aws.life = life
    host.start()
    await asyncio.sleep(2)
    assert host.key == key
    assert (host.keeper.failure is None) == (key == "0001")


@in_virtual_time
async def test_last_updated_is_not_in_the_future_of_a_clock_that_is_behind():
    host = Host()
    host.clock.observe(host.true())
    host.off = -HOUR
    host.keeper._source = host.aws
    await host.keeper.renew()
    assert host.keeper.live().updated <= host.clock.wall()
    assert host.keeper.last.obtained > host.clock.wall()
    assert host.keeper.next_attempt == pytest.approx(host.clock.now() + HOUR / 2 * 11 / 12, abs=5)
