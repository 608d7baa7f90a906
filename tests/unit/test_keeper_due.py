"""When a renewal is, or was, due (renewal/keeper.py): what an alert on missed renewals goes by, in virtual time."""

import asyncio

import pytest

from imds_proxy.errors import Denied, Unreachable
from imds_proxy.renewal.keeper import Keeper
from imds_proxy.sources import Source
from imds_proxy.telemetry.stats import RenewalStats
from support.on_demand import HOUR, in_virtual_time
from support.plane import credentials

HALF = HOUR / 2


class Aws(Source):
    """Gives sessions of an hour, or says why not."""

    def __init__(self, clock):
        self.clock = clock
        self.trouble = None
        self.calls = 0

    async def fetch(self):
        self.calls += 1
        if self.trouble is not None:
            raise self.trouble
        return credentials(now=self.clock.now(), life=HOUR, key=f"{self.calls:04}")


class Host:
    """A keeper that runs, and whom it asks."""

    def __init__(self, *, trouble=None, saved=None, chance=0.0, settings_changed=False):
        self.clock = asyncio.get_running_loop().clock()
        self.started = self.clock.now()
        self.aws = Aws(self.clock)
        self.aws.trouble = trouble
        self.keeper = Keeper("deploy", clock=self.clock, stats=RenewalStats(), chance=lambda: chance)
        if saved is not None:
            self.keeper.adopt(credentials(now=self.started - saved, life=HOUR), due=settings_changed)
        self.running = asyncio.create_task(self.keeper.run(self.aws))

    @property
    def due(self):
        """Seconds after the start."""
        assert self.keeper.times.due == self.keeper.due
        return self.keeper.due - self.started


@pytest.mark.parametrize("trouble", [Unreachable("no route"), Denied("no")])
@in_virtual_time
async def test_failures_do_not_move_it(trouble):
    """Each retry would make the renewal look as if it were on time: nobody would be told in an outage of a day."""
    host = Host(chance=0.5)
    await asyncio.sleep(1)
    due = host.due
    host.aws.trouble = trouble
    seen = set()
    while host.clock.now() < host.started + 24 * HOUR:
        await asyncio.sleep(7)
        seen.add(host.due)
        assert host.keeper.next_attempt > host.clock.now() - 1
    assert seen == {due}
    assert host.aws.calls > 100


@in_virtual_time
async def test_after_a_success_it_is_the_next_attempt():
    """An outage that has ended would go on to be alerted on."""
    host = Host(chance=0.5)
    await asyncio.sleep(1)
    assert host.keeper.due == host.keeper.next_attempt
    assert HALF * 5 / 6 <= host.due <= HALF
    host.aws.trouble = Unreachable("no route")
    await asyncio.sleep(2 * HOUR)
    host.aws.trouble = None
    await asyncio.sleep(61)
    assert host.keeper.failure is None
    assert host.keeper.due == host.keeper.next_attempt > host.clock.now()


@in_virtual_time
async def test_in_health_it_is_never_past():
    """A session that is renewed on time would raise the alert on every scrape between two renewals."""
    host = Host(chance=0.3)
    await asyncio.sleep(1)
    while host.clock.now() < host.started + 24 * HOUR:
        assert host.keeper.due >= host.clock.now() - 1
        await asyncio.sleep(1)
    assert host.aws.calls > 48


@in_virtual_time
async def test_what_was_overdue_before_a_restart_still_is():
    """A daemon that is restarted in an outage would start the alert's time anew."""
    host = Host(saved=45 * 60, trouble=Unreachable("no route"))
    assert host.due == HALF - 45 * 60
    await asyncio.sleep(10 * 60)
    assert host.aws.calls > 5
    assert host.due == HALF - 45 * 60
    host.aws.trouble = None
    await asyncio.sleep(61)
    assert host.due > 10 * 60


@pytest.mark.parametrize("chance", [0.0, 0.9])
@in_virtual_time
async def test_what_was_not_overdue_before_a_restart_is_not(chance):
    """Every restart would raise the alert."""
    host = Host(saved=10 * 60, chance=chance)
    assert 10 * 60 <= host.due <= HALF - 10 * 60
    assert host.keeper.due == host.keeper.next_attempt
    await asyncio.sleep(host.due - 1)
    assert host.aws.calls == 0


@in_virtual_time
async def test_a_session_of_changed_settings_is_due_at_once():
    """That the new settings do not work would be told of half an hour later."""
    host = Host(saved=60, trouble=Denied("no"), settings_changed=True)
    await asyncio.sleep(HOUR)
    assert host.due == 0


@in_virtual_time
async def test_a_role_that_never_had_credentials_is_due_since_it_was_first_tried():
    """A host that was installed wrongly has nothing that could expire, and would never be told of."""
    host = Host(trouble=Denied("no"))
    await asyncio.sleep(3 * HOUR)
    assert host.due == 0
    times = host.keeper.times
    assert (times.obtained, times.expiration) == (0, 0)
