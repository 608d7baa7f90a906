"""Roles that are kept only while somebody asks for them (renewal/keeper.py, renewal/idle_timer.py), in virtual time."""

import asyncio

import pytest

from imds_proxy.renewal.idle_timer import Demand
from imds_proxy.renewal.keeper import Keeper
from imds_proxy.telemetry.stats import RenewalStats
from support import virtual_time
from support.on_demand import HOUR, IDLE_AFTER, Aws, in_virtual_time
from support.plane import credentials

ENOUGH = 25 * 60.0


class Role:
    """A keeper on demand that runs, and whom it asks."""

    def __init__(self, saved=None, life=HOUR):
        loop = asyncio.get_running_loop()
        self.clock = loop.clock()
        self.aws = Aws(self.clock, life)
        self.stats = RenewalStats()
        self.demand = Demand(self.clock, IDLE_AFTER)
        self.keeper = Keeper("deploy", clock=self.clock, stats=self.stats, demand=self.demand, chance=lambda: 0.0)
        if saved is not None:
            self.keeper.adopt(saved, due=False)
        self.running = asyncio.create_task(self.keeper.run(self.aws))

    async def asked_every(self, seconds, until):
        """What each request got."""
        got, end = [], self.clock.now() + until
        while self.clock.now() < end:
            got.append(self.keeper.serve())
            await asyncio.sleep(seconds)
        return got


@in_virtual_time
async def test_a_role_that_nobody_asks_for_costs_no_call():
    """Fifty configured roles would be fifty STS calls, twice an hour."""
    role = Role()
    await asyncio.sleep(24 * HOUR)
    assert role.aws.calls == []
    assert role.keeper.idle
    assert role.keeper.holding.is_set()


@in_virtual_time
async def test_the_first_request_starts_it_and_the_next_try_finds_it():
    role = Role()
    await asyncio.sleep(HOUR)
    assert role.keeper.serve() is None
    assert role.keeper.serve() is None
    await asyncio.sleep(2)
    assert role.keeper.serve().credentials.key_hint == "0001"
    assert not role.keeper.idle
    assert len(role.aws.calls) == 1


@in_virtual_time
async def test_while_somebody_asks_it_is_kept_as_any_role():
    """A client that asks each half hour would find nothing, or keys with little life left (PROTOCOL.md 18)."""
    role = Role()
    role.keeper.serve()
    await asyncio.sleep(2)
    served = await role.asked_every(1800, until=24 * HOUR)
    assert all(held.credentials.expiration - held.credentials.obtained == HOUR for held in served)
    assert len(role.aws.calls) == pytest.approx(48, abs=2)


@in_virtual_time
async def test_nothing_with_little_life_is_served_whenever_somebody_asks():
    """botocore signs with dead keys then, and s3fs asks at each request (PROTOCOL.md 18)."""
    role = Role()
    for pause in range(60, int(5 * HOUR), 613):
        await asyncio.sleep(pause)
        first = role.keeper.serve()
        await asyncio.sleep(2)
        for held in (first, role.keeper.serve()):
            assert held is None or held.credentials.expiration - role.clock.now() >= ENOUGH
        assert held is not None


@in_virtual_time
async def test_it_is_let_go_when_nobody_asks_any_more():
    role = Role()
    role.keeper.serve()
    await asyncio.sleep(24 * HOUR)
    assert role.keeper.idle
    assert role.aws.calls[-1] - role.aws.calls[0] < IDLE_AFTER
    assert len(role.aws.calls) == 4


@in_virtual_time
async def test_who_asks_again_gets_new_credentials_at_the_next_try():
    role = Role()
    role.keeper.serve()
    await asyncio.sleep(5 * HOUR)
    calls = len(role.aws.calls)
    assert role.keeper.serve() is None
    await asyncio.sleep(2)
    assert role.keeper.serve().credentials.obtained > role.clock.now() - 5
    assert len(role.aws.calls) == calls + 1


@in_virtual_time
async def test_with_aws_away_the_last_good_credentials_are_served_while_they_live():
    """An outage of AWS would become one of this host."""
    role = Role(life=12 * HOUR)
    role.keeper.serve()
    await asyncio.sleep(8 * HOUR)
    assert role.keeper.idle
    role.aws.is_away = True
    assert role.keeper.serve() is None
    await asyncio.sleep(2)
    assert role.keeper.serve().credentials.key_hint == "0001"
    assert role.keeper.failure.outcome == "unreachable"
    await asyncio.sleep(4 * HOUR)
    assert role.keeper.serve() is None


@in_virtual_time
async def test_it_is_tried_again_only_while_somebody_waits_for_it():
    """A role that AWS refuses would be asked for every five minutes, for ever, because of one request."""
    role = Role()
    role.aws.is_away = True
    role.keeper.serve()
    await asyncio.sleep(HOUR)
    assert role.keeper.failure is not None
    assert not role.keeper.idle
    await asyncio.sleep(2 * HOUR)
    calls = len(role.aws.calls)
    await asyncio.sleep(20 * HOUR)
    assert len(role.aws.calls) == calls
    assert role.keeper.idle
    assert role.keeper.failure is None
    role.aws.is_away = False
    role.keeper.serve()
    await asyncio.sleep(2)
    assert role.keeper.serve()


@in_virtual_time
async def test_after_a_restart_what_was_saved_is_served_until_it_would_have_been_renewed():
    saved = credentials(now=virtual_time.EPOCH, key="SAVE")
    role = Role(saved)
    await asyncio.sleep(29 * 60)
    assert role.keeper.serve().credentials.key_hint == "SAVE"
    other = Role(saved)
    await asyncio.sleep(120)
    assert other.keeper.idle
    assert other.keeper.serve() is None
    assert other.aws.calls == []


@in_virtual_time
async def test_after_a_restart_what_nobody_asks_for_is_not_renewed():
    role = Role(credentials(now=virtual_time.EPOCH))
    await asyncio.sleep(10 * HOUR)
    assert role.aws.calls == []


@in_virtual_time
async def test_the_last_request_before_a_reload_counts_after_it():
    """A reload would take the role away from a client that is served, until its next try."""
    role = Role()
    role.keeper.serve()
    await asyncio.sleep(2)
    after = Demand(role.clock, IDLE_AFTER, role.demand.asked)
    assert not after.has_ended
    assert Demand(role.clock, IDLE_AFTER).has_ended


@in_virtual_time
async def test_many_requests_at_once_are_one_call():
    role = Role()
    await asyncio.sleep(1)
    assert {role.keeper.serve() for _ in range(1000)} == {None}
    await asyncio.sleep(2)
    assert len(role.aws.calls) == 1


@in_virtual_time
async def test_what_its_source_says_is_new_is_not_fetched_while_nobody_asks():
    role = Role()
    role.aws.changed = lambda: asyncio.sleep(HOUR)
    role.keeper.serve()
    await asyncio.sleep(10 * HOUR)
    assert len(role.aws.calls) <= 4
    assert role.keeper.idle


def test_a_role_that_is_always_kept_pays_nothing_for_a_request():
    async def main():
        clock = asyncio.get_running_loop().clock()
        keeper = Keeper("deploy", clock=clock, stats=RenewalStats())
        assert (keeper.idle, keeper.holding.is_set(), keeper.serve()) == (False, False, None)
        keeper.adopt(credentials(now=clock.now()), due=False)
        assert keeper.serve() is keeper.live()

    virtual_time.run(main())
