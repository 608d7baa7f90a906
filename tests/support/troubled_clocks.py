"""Hosts whose clocks are set, drift and sleep while AWS comes and goes: days of it in a moment, and what clients got.

Real are Clock, Keeper, schedule, the source and what is saved; `troubled_machine.py` has the doubles.
"""

import asyncio
import collections
import logging
import random
from dataclasses import dataclass, field
from functools import partial

from imds_proxy.aws.sts_caller import FromRole
from imds_proxy.config.roles import AssumeRoleConfig
from imds_proxy.host.aws_time import EXPECTED
from imds_proxy.host.clock import Clock
from imds_proxy.renewal.keeper import Keeper
from imds_proxy.sources.assume_role import AssumeRole
from imds_proxy.telemetry.stats import RenewalStats
from support.plane import credentials
from support.saved import saved_sessions, shape
from support.troubled_machine import DAY, Aws, Machine, Sts
from support.virtual_time import EPOCH, VirtualTimeLoop

MINUTE, HOUR = 60.0, 3600.0
LIVES = (15 * MINUTE, HOUR, 90 * MINUTE, 2 * HOUR, 12 * HOUR)
ROLES = {"deploy": "https://sts.eu-west-1.amazonaws.com", "other": "https://sts.eu-central-1.amazonaws.com"}
SLACK = 10.0
"""Seconds that clocks may be off, and an answer may take, without its being a fault."""


@dataclass
class Seen:
    """What went wrong for clients, as episodes; `faults` and `days` say of how much."""

    faults: collections.Counter = field(default_factory=collections.Counter)
    days: float = 0.0
    attempts: int = 0
    dead_served: list = field(default_factory=list)
    live_dropped: list = field(default_factory=list)
    late: list = field(default_factory=list)
    """Seconds from a correction of the wall clock to the next attempt, where one was wanted."""
    without: list = field(default_factory=list)
    """Minutes in which AWS answered a host with a right clock, and it had nothing to serve."""
    busiest: int = 0
    """Attempts of one role in ten minutes."""
    errors: list = field(default_factory=list)
    """What nothing caught."""


class Host:
    """One host with its daemon."""

    def __init__(self, seed, folder, seen):
        self.seed, self.seen, self.chance = seed, seen, random.Random(seed)
        self.machine = Machine(asyncio.get_running_loop(), self.chance)
        self.aws = Aws(self.machine, self.chance, self.chance.choice(LIVES))
        self.aws.answered = self._answered
        self._saved = saved_sessions(folder / str(seed))
        (folder / str(seed)).mkdir()
        self._shape = shape(longest_life=int(self.aws.life), name="host")
        self._latest, self.keepers, self._running = {}, {}, []
        self._wrong, self._healthy_since = {}, {}
        self._began = {role: collections.deque() for role in ROLES}
        self._corrected = {}
        self._has_heard = False

    # The daemon

    def start(self):
        self._has_heard = False
        clock = Clock(self.machine.wall, self.machine.boot)
        for role, endpoint in ROLES.items():
            keeper = Keeper(role, clock=clock, stats=RenewalStats(), chance=self.chance.random)
            keeper.on_attempt = partial(self._attempted, role)
            if saved := self._saved.load(role, self._shape, clock.now()):
                keeper.adopt(saved, due=False)
            base = FromRole("base", lambda: credentials(now=0))
            options = AssumeRoleConfig.model_validate(
                {"role_arn": "arn:aws:iam::123456789012:role/x", "session_name": "host", "duration": int(self.aws.life)}
            )
            source = AssumeRole(role, options, base, Sts(self.aws, endpoint), "eu-west-1", clock)
            source.fetch = self._noted(role, source.fetch)
            self.keepers[role] = keeper
            self._running.append(asyncio.create_task(keeper.run(source)))

    async def stop(self):
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        for role, keeper in self.keepers.items():
            await keeper.close()
            if role in self._latest:
                self._saved.save(role, self._shape, self._latest[role])
        self._running, self.keepers = [], {}

    def _attempted(self, role, made):
        if made is not None:
            self._latest[role] = made

    def _noted(self, role, fetch):
        async def noted():
            now, began = self.machine.true(), self._began[role]
            self.seen.attempts += 1
            began.append(now)
            while began[0] < now - 10 * MINUTE:
                began.popleft()
            self.seen.busiest = max(self.seen.busiest, len(began))
            if (corrected := self._corrected.pop(role, None)) is not None:
                self.seen.late.append(now - corrected)
            return await fetch()

        return noted

    def _answered(self):
        self._has_heard = True

    # What clients get

    def look(self):
        for role, keeper in self.keepers.items():
            held, last, true = keeper.live(), keeper.last, self.machine.true()
            knows = self._has_heard or abs(self.machine.wall() - true) < SLACK
            is_dead = held is not None and held.credentials.expiration < true - SLACK and knows
            is_dropped = held is None and last is not None and last.expiration > true + SLACK and self.machine.is_right
            self._episode("dead_served", role, true, is_dead)
            self._episode("live_dropped", role, true, is_dropped)
            is_well = self.machine.is_right and not (self.aws.is_away or self.aws.throttles)
            since = self._healthy_since.setdefault(role, true) if is_well else self._healthy_since.pop(role, None)
            self._episode("without", role, true, is_well and held is None and true - since > 2 * MINUTE)

    def _episode(self, kind, role, at, is_wrong):
        if is_wrong and not self._wrong.get((kind, role)):
            getattr(self.seen, kind).append((self.seed, role, round(at - EPOCH)))
        self._wrong[kind, role] = is_wrong

    async def watch(self):
        while True:
            self.look()
            ends = [
                keeper.last.expiration - self.machine.true() + SLACK + 1
                for keeper in self.keepers.values()
                if keeper.last
            ]
            await asyncio.sleep(min([MINUTE, *(max(end, 1.0) for end in ends)]))

    # Faults

    async def suffer(self, until, every):
        """Faults of all kinds, one on top of the other, until a loop time."""
        faults = (
            self.wall_is_set,
            self.wall_drifts,
            self.away,
            self.throttled,
            self.suspended,
            self.restarted,
            self.rebooted,
            self.wrong_date,
        )
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            await asyncio.sleep(self.chance.expovariate(1 / every))
            fault = self.chance.choice(faults)
            self.seen.faults[fault.__name__] += 1
            self.look()
            await fault()
            self._corrected.clear()
            self._healthy_since.clear()
            self.look()

    def _long(self, shortest, longest):
        return shortest * (longest / shortest) ** self.chance.random()

    def _later(self, seconds, undo):
        def run():
            self.look()
            undo()
            self.look()

        asyncio.get_running_loop().call_later(seconds, run)

    async def wall_is_set(self):
        self.machine.set(self.chance.choice((-1, 1)) * self._long(5, 3 * DAY))
        self._later(self._long(3, 2 * HOUR), self._set_right)

    async def wall_drifts(self):
        self.machine.set(0.0, self.chance.choice((-1, 1)) * self._long(1e-4, 5e-2))
        self._later(self._long(HOUR, 8 * HOUR), self._set_right)

    def _set_right(self):
        was_right = self.machine.is_right
        self.machine.set(self.chance.uniform(-0.5, 0.5))
        self._healthy_since.clear()
        if was_right or self.aws.is_away or self.aws.throttles:
            return
        for role, keeper in self.keepers.items():
            if keeper.failure is not None and not keeper._attempts.is_under_way:
                self._corrected[role] = self.machine.true()

    async def away(self):
        self.aws.is_away = True
        self._later(self._long(MINUTE, 5 * HOUR), lambda: setattr(self.aws, "is_away", False))

    async def throttled(self):
        self.aws.throttles = True
        self._later(self._long(MINUTE, HOUR), lambda: setattr(self.aws, "throttles", False))

    async def suspended(self):
        self.machine.suspend(self._long(MINUTE, 10 * HOUR))

    async def wrong_date(self):
        off = self.chance.choice((-1, 1)) * self._long(2 * EXPECTED, 3 * DAY)
        self.aws.wrong_dates[self.chance.choice(list(ROLES.values()))] = off, 1

    async def restarted(self):
        await self.stop()
        await asyncio.sleep(self._long(1, MINUTE))
        self.start()

    async def rebooted(self):
        await self.stop()
        await asyncio.sleep(self._long(20, HOUR))
        self.machine.reboot()
        if self.chance.random() < 0.5:
            self.machine.set(self.chance.choice((-1, 1)) * self._long(5, DAY))
            self._later(self._long(3, 20 * MINUTE), self._set_right)
        self.start()


async def _live(seed, folder, seen, days, every):
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.errors.append(context))
    host = Host(seed, folder, seen)
    host.start()
    watching = asyncio.create_task(host.watch())
    await host.suffer(asyncio.get_running_loop().time() + days * DAY, every)
    watching.cancel()
    seen.days += (host.machine.true() - EPOCH) / DAY
    await host.stop()


def simulate(seeds, folder, *, days, every):
    """Let hosts live for so many days (and those that they are suspended), with a fault every so many seconds."""
    seen = Seen()
    logging.disable(logging.CRITICAL)
    try:
        for seed in seeds:
            with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
                runner.run(_live(seed, folder, seen, days, every))
    finally:
        logging.disable(logging.NOTSET)
    return seen
