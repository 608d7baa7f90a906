"""A renewal that somebody else asks for, as a reload does, moves the schedule at once (renewal/keeper.py)."""

import asyncio
import itertools

from imds_proxy.errors import Denied
from imds_proxy.renewal.keeper import Keeper
from imds_proxy.sources import Source
from imds_proxy.telemetry.stats import RenewalStats
from support.on_demand import in_virtual_time
from support.plane import credentials

LEASE = 300.0


class Broker(Source):
    """Gives leases of five minutes, unless it denies them."""

    def __init__(self, clock):
        self.clock, self.calls, self.denies = clock, [], True

    async def fetch(self):
        self.calls.append(self.clock.now())
        await asyncio.sleep(1)
        if self.denies:
            raise Denied("no", "ask")
        return credentials(now=self.clock.now(), life=LEASE, key=f"{len(self.calls):04}")


@in_virtual_time
async def test_a_role_that_a_reload_has_mended_is_renewed_in_time():
    """After a long backoff a lease of minutes would nearly end, because its keeper slept on as after the failure."""
    clock = asyncio.get_running_loop().clock()
    keeper = Keeper("deploy", clock=clock, stats=RenewalStats(), chance=lambda: 0.999)
    source = Broker(clock)
    running = asyncio.create_task(keeper.run(source))
    while len(source.calls) < 6:
        await asyncio.sleep(10)
    assert keeper.next_attempt - clock.now() > LEASE * 0.9, "a denial is retried at leisure"
    source.denies = False
    await keeper.renew()
    await asyncio.sleep(3 * LEASE)
    running.cancel()
    times = source.calls[6:]
    assert len(times) >= 6
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) <= LEASE / 2 + 2
