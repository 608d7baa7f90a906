"""One role's keeper (renewal/keeper.py, outcome.py)."""

import asyncio
from dataclasses import replace

import pytest

from imds_proxy.errors import Denied, Unreachable
from imds_proxy.host.clock import Clock
from imds_proxy.renewal.keeper import Keeper
from imds_proxy.sources import Source
from imds_proxy.telemetry.stats import RenewalStats
from support.plane import credentials

NOW = 1_800_000_000.0


class Told(Source):
    """Gives or raises what it is told to, and counts."""

    def __init__(self, *results):
        self.results = list(results)
        self.calls = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def fetch(self):
        self.calls += 1
        await self.gate.wait()
        result = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        if isinstance(result, Exception):
            raise result
        return result


class Wall:
    now = NOW

    def __call__(self):
        return self.now

    def boot(self):
        return self.now - NOW


@pytest.fixture
def wall():
    return Wall()


@pytest.fixture
def keeper(wall):
    return Keeper("deploy", clock=Clock(wall, wall.boot), stats=RenewalStats(), chance=lambda: 0.0)


def outcomes(keeper):
    return {outcome: count for (_, outcome), count in keeper._stats.outcomes.items()}


async def renew(keeper, source):
    keeper._source = source
    await keeper.renew()


async def test_however_many_ask_the_source_is_asked_once(keeper):
    """aws_signing_helper makes 50 calls for 50 requests."""
    source = keeper._source = Told(credentials(now=NOW))
    source.gate.clear()
    asking = [asyncio.create_task(keeper.renew()) for _ in range(500)]
    await asyncio.sleep(0)
    source.gate.set()
    await asyncio.gather(*asking)
    assert source.calls == 1
    await keeper.renew()
    assert source.calls == 2


async def test_a_failed_renewal_leaves_the_last_good_credentials(keeper, wall):
    await renew(keeper, Told(credentials(now=NOW)))
    await renew(keeper, Told(Unreachable("no route", "look")))
    assert keeper.live().credentials.key_hint == "AAAA"
    assert keeper.failure.outcome == "unreachable"
    assert keeper.failure.advice == "look"
    assert keeper.next_attempt == wall.now + 1
    assert outcomes(keeper) == {"success": 1, "unreachable": 1}


async def test_dead_credentials_are_never_live(keeper, wall):
    await renew(keeper, Told(credentials(now=NOW, life=3600)))
    wall.now = NOW + 3599.9
    assert keeper.live()
    wall.now = NOW + 3600
    assert keeper.live() is None
    assert keeper.last is not None


async def test_a_host_that_is_behind_does_not_serve_what_is_dead_at_aws(keeper, wall):
    await renew(keeper, Told(credentials(now=NOW, life=3600)))
    keeper._clock.observe(NOW + 240)
    wall.now += 3300
    assert keeper.live()
    wall.now += 100
    assert keeper.live() is None


async def test_a_denial_is_retried_at_leisure_and_for_ever(keeper, wall):
    source = Told(Denied("no"))
    waits = []
    for _ in range(20):
        await renew(keeper, source)
        waits.append(keeper.next_attempt - wall.now)
    assert set(waits) == {30}
    assert source.calls == 20


async def test_success_forgets_the_failures(keeper, wall):
    await renew(keeper, Told(Unreachable("no")))
    await renew(keeper, Told(credentials(now=NOW)))
    assert keeper.failure is None
    assert keeper.next_attempt == wall.now + 1800


async def test_credentials_that_are_dead_on_arrival_are_a_failure_not_a_success(keeper):
    await renew(keeper, Told(credentials(now=NOW, life=-1)))
    assert keeper.live() is None
    assert "dead since" in keeper.failure.message
    assert outcomes(keeper) == {"invalid": 1}


async def test_an_exception_nobody_thought_of_does_not_end_renewal_nor_show_its_text(keeper, caplog):
    """limes stops renewing for good after one; its text may hold an answer with a secret in it."""
    await renew(keeper, Told(KeyError("SecretAccessKey=wJalrXUtnFEMI")))
    assert keeper.failure.outcome == "invalid"
    assert "KeyError at test_keeper.py" in keeper.failure.message
    assert "wJalr" not in keeper.failure.message + caplog.text


async def test_the_same_session_again_is_taken_for_what_it_is(keeper, wall):
    """A file or a service hands out one session for a while: no failure, and no request every second either."""
    source = Told(credentials(now=NOW, life=3600))
    await renew(keeper, source)
    wall.now = keeper.next_attempt
    await renew(keeper, Told(replace(credentials(now=NOW, life=3600), obtained=wall.now)))
    assert keeper.failure is None
    assert keeper.last.obtained == NOW
    assert keeper.next_attempt == wall.now + 225


async def test_what_is_passed_on_is_asked_for_at_once_after_a_restart(keeper):
    """A file that was replaced while the daemon was down would be read at the half life of the one before."""
    source = Changing(credentials(now=NOW, key="BBBB"))
    source.passes_on = True
    keeper.adopt(credentials(now=NOW), due=False)
    running = asyncio.create_task(keeper.run(source))
    async with asyncio.timeout(5):
        while keeper.last.key_hint != "BBBB":
            await asyncio.sleep(0.01)
    running.cancel()


async def test_a_session_that_its_source_does_not_renew_is_a_failure_before_it_ends(keeper, wall):
    """A cron job that has died would show in a dashboard when the credentials are dead."""
    source = Told(credentials(now=NOW, life=3600))
    await renew(keeper, source)
    wall.now = NOW + 2701
    await renew(keeper, source)
    assert keeper.failure.outcome == "unreachable"
    assert "in 15 min" in keeper.failure.message
    assert keeper.live()
    await renew(keeper, Told(credentials(now=wall.now, key="BBBB")))
    assert keeper.failure is None


class Changing(Told):
    """Says that there is something new when it is told to."""

    def __init__(self, *results):
        super().__init__(*results)
        self.news = asyncio.Queue()

    async def changed(self):
        if isinstance(said := await self.news.get(), Exception):
            raise said


async def test_what_a_source_says_is_new_is_fetched_at_once(keeper):
    """Credentials that were pushed to the host would wait for the half life of those that they replace."""
    source = Changing(credentials(now=NOW), credentials(now=NOW, key="BBBB"))
    running = asyncio.create_task(keeper.run(source))
    await asyncio.wait_for(keeper.holding.wait(), 5)
    source.news.put_nowait(None)
    async with asyncio.timeout(5):
        while keeper.last.key_hint != "BBBB":
            await asyncio.sleep(0.01)
    running.cancel()
    assert source.calls == 2


async def test_a_source_that_cannot_see_changes_is_still_renewed(keeper, caplog):
    source = Changing(credentials(now=NOW))
    source.news.put_nowait(OSError("SecretAccessKey=wJalrXUtnFEMI"))
    running = asyncio.create_task(keeper.run(source))
    await asyncio.wait_for(keeper.holding.wait(), 5)
    running.cancel()
    assert source.calls == 1
    assert "wJalr" not in caplog.text


async def test_adopted_credentials_are_planned_from_their_age(keeper, wall):
    keeper.adopt(credentials(now=NOW - 600), due=False)
    assert keeper.next_attempt == NOW + 1200
    assert keeper.holding.is_set()


async def test_credentials_of_changed_settings_are_served_and_renewed_at_once(keeper):
    keeper.adopt(credentials(now=NOW), due=True)
    assert keeper.live()
    assert keeper.next_attempt == NOW


async def test_closing_gives_up_an_attempt_under_way(keeper):
    source = Told(credentials(now=NOW))
    source.gate.clear()
    running = asyncio.create_task(keeper.run(source))
    while not source.calls:
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await keeper.close()
    assert keeper.live() is None


async def test_a_jump_of_the_wall_clock_ends_the_wait(wall, monkeypatch):
    """After a suspended host wakes, its credentials may be dead: seconds matter, not the rest of the half hour."""
    monkeypatch.setattr("imds_proxy.host.clock._LONGEST_NAP", 0.01)
    sleeping = asyncio.create_task(Clock(wall).sleep_until(NOW + 1800))
    await asyncio.sleep(0.05)
    assert not sleeping.done()
    wall.now = NOW + 7200
    await asyncio.wait_for(sleeping, 1)


async def test_a_wall_clock_set_back_does_not_make_the_wait_longer(wall, monkeypatch):
    monkeypatch.setattr("imds_proxy.host.clock._LONGEST_NAP", 0.01)
    sleeping = asyncio.create_task(Clock(wall).sleep_until(NOW + 0.1))
    await asyncio.sleep(0)
    wall.now = NOW - 86400
    await asyncio.wait_for(sleeping, 1)
