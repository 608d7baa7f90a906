"""What tests of sessions on demand share: days that pass in a moment, and an AWS that counts."""

import asyncio
import functools

from imds_proxy.credentials import Credentials
from imds_proxy.errors import Unreachable
from imds_proxy.sources import Source
from support import virtual_time
from support.plane import credentials

HOUR = 3600.0
IDLE_AFTER = 2 * HOUR


class Aws(Source):
    """Gives a new session at each call, in a second, unless it is away."""

    def __init__(self, clock, life=HOUR):
        self.clock, self.life = clock, life
        self.calls = []
        self.is_away = False

    async def fetch(self) -> Credentials:
        self.calls.append(self.clock.now())
        await asyncio.sleep(1)
        if self.is_away:
            raise Unreachable("no route", "look")
        return credentials(now=self.clock.now(), life=self.life, key=f"{len(self.calls):04}")


def in_virtual_time(test):
    """Run an async test on a loop of virtual time; what it has started ends with it."""

    @functools.wraps(test)
    def run(**given):
        virtual_time.run(test(**given))

    return run
