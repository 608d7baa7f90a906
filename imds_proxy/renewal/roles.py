"""The configured roles and their keepers, across reloads."""

import asyncio
import logging
import math
import socket
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from imds_proxy.config.keep_mode import Need
from imds_proxy.config.model import Config
from imds_proxy.config.role_base import RoleConfig
from imds_proxy.config.roles import AssumeRoleConfig
from imds_proxy.credentials import Credentials
from imds_proxy.host.clock import Clock
from imds_proxy.host.threads import cancel_and_wait
from imds_proxy.renewal.caller_sessions import TaggedSessions
from imds_proxy.renewal.chains import Chains
from imds_proxy.renewal.idle_timer import Demand
from imds_proxy.renewal.keeper import Keeper
from imds_proxy.renewal.plans import Plan, Plans, plans
from imds_proxy.renewal.save_queue import MakeShape, SaveQueue
from imds_proxy.renewal.session_shape import SessionShape, session_shape
from imds_proxy.renewal.turns import Turns
from imds_proxy.sources import Source
from imds_proxy.telemetry.stats import RenewalStats, RoleFigures, SessionTimes

log = logging.getLogger(__name__)

_SAVED: Final = frozenset({Need.ALWAYS, Need.ON_DEMAND})
"""Sessions for service accounts are in memory alone."""

_STARTED_AT_ONCE: Final = 10
"""Roles; each takes a tenth of a millisecond."""

Parent = Callable[[], Credentials | None]
"""The live credentials of the role that another is obtained with."""
MakeSource = Callable[[str, RoleConfig, Parent], Source]


@dataclass(slots=True)
class Role:
    """One role as it is configured now, and who keeps it.

    A role that nobody needs has a keeper that does nothing, and so has one with sessions for service accounts.
    """

    settings: RoleConfig
    plan: Plan
    keeper: Keeper
    sessions: TaggedSessions | None = None
    renewing: asyncio.Task[None] | None = None
    retry: asyncio.Task[None] | None = None


class Roles:
    """Every configured role.

    Args:
        clock: Wall time.
        stats: Told of every attempt.
        on_attempt: Called after every attempt of any role.
    """

    def __init__(self, clock: Clock, stats: RenewalStats, on_attempt: Callable[[], None]) -> None:
        self._clock = clock
        self._stats = stats
        self._on_attempt = on_attempt
        self._turns = Turns()
        self._chains = Chains(self.keepers_of)
        self._roles: dict[str, Role] = {}
        self._ranks: dict[str, int] = {}
        """Of each role, first those that are obtained first."""
        self._starting: asyncio.Task[None] | None = None
        self._given: frozenset[str] = frozenset()
        self._saved: SaveQueue | None = None
        self._unread: dict[str, MakeShape] = {}
        """The roles of which nothing is held, and whose saved sessions have not been looked for."""
        self._restoring: asyncio.Task[None] | None = None
        self.default: str | None = None
        """The role that the list shows."""

    def __getitem__(self, name: str) -> Role:
        return self._roles[name]

    def items(self) -> list[tuple[str, Role]]:
        """Name and role, in the order of the config file."""
        return list(self._roles.items())

    def served(self) -> Mapping[str, Keeper]:
        """The keepers of the roles that are handed out to somebody."""
        roles = self._roles.items()
        return {name: role.keeper for name, role in roles if name in self._given and role.sessions is None}

    def tagged(self) -> Mapping[str, TaggedSessions]:
        """The roles of which each service account has a session of its own."""
        return {name: role.sessions for name, role in self._roles.items() if role.sessions is not None}

    def keepers_of(self, name: str) -> Sequence[Keeper]:
        """One, or one for each service account; none of a role that is gone."""
        if (role := self._roles.get(name)) is None:
            return ()
        return (role.keeper,) if role.sessions is None else role.sessions.keepers()

    def parents_first(self, names: Iterable[str]) -> list[list[str]]:
        """Names of roles, in groups that are renewed one after the other."""
        return self._chains.parents_first(names)

    def drop_saved(self, names: Collection[str]) -> None:
        """Remove what is saved of these roles: no restart serves it."""
        if self._saved is not None:
            self._saved.drop(names)

    def is_given(self, name: str) -> bool:
        """Whether somebody may be handed a role."""
        return name in self._given

    def is_ready(self) -> bool:
        """Whether every role that is handed out has live credentials, unless nobody asks for it."""
        return all(keeper.idle or keeper.live() is not None for keeper in self.served().values())

    def figures(self) -> Mapping[str, RoleFigures]:
        """Of each role that somebody needs."""
        return {name: _figures(role) for name, role in self._roles.items() if role.plan.need is not Need.NONE}

    def update(self, config: Config, saved: SaveQueue | None, planned: Plans | None = None) -> list[Role]:
        """Take the roles of `config`: what is unchanged goes on untouched, and no live credentials are dropped.

        Args:
            config: The config.
            saved: Where sessions are kept across restarts.
            planned: What `plans(config)` gives, where that was asked for before, beside the loop.

        Returns:
            The roles that are not kept any more, to be stopped.
        """
        planned = planned or plans(config)
        self._saved, self.default, self._ranks = saved, planned.default, planned.ranks
        before, self._roles = self._roles, {}
        self._unread = {name: make_shape for name, make_shape in self._unread.items() if name in config.roles}
        self._given = planned.given
        self._chains.follow({name: settings.parent for name, settings in config.roles.items()})
        for name, settings in config.roles.items():
            old, plan = before.get(name), planned.of[name]
            if old is not None and old.plan == plan:
                self._roles[name] = replace(old, settings=settings)
            else:
                self._roles[name] = self._role(name, config, plan, old)
        for name, role in self._roles.items():
            role.keeper.rank = self._ranks[name]
        if saved is not None:
            saved.keep_only({name for name, role in self._roles.items() if role.plan.need in _SAVED})
        kept = {role.keeper for role in self._roles.values()}
        return [role for role in before.values() if role.keeper not in kept]

    async def restore(self, within: float) -> bool:
        """Give the roles that hold nothing the sessions that are saved of them; whether it is done.

        Args:
            within: Seconds to wait for the disk. What is read later is held if AWS has not given a session by then.
        """
        if self._saved is None:
            return True
        if self._restoring is not None:
            await cancel_and_wait(self._restoring)
        self._restoring = asyncio.create_task(self._restore(self._saved), name="restore sessions")
        return bool((await asyncio.wait({self._restoring}, timeout=within))[0])

    async def _restore(self, saved: SaveQueue) -> None:
        unread = dict(self._unread)
        found = await saved.load(unread, self._clock.now)
        for name, make_shape in unread.items():
            if self._unread.get(name) is not make_shape:  # a reload has changed the role meanwhile
                continue
            del self._unread[name]
            role = self._roles[name]
            waits_for_demand = role.renewing is not None and role.keeper.demand is not None
            if name in found and role.keeper.live() is None and not waits_for_demand:
                role.keeper.adopt(found[name], due=False)

    @staticmethod
    async def stop(roles: Iterable[Role]) -> None:
        """Renew these no more."""
        for role in roles:
            await _stop(role)

    def are_in_line(self) -> bool:
        """Whether attempts wait for their turn, or will soon."""
        return self._turns.are_waited_for or (self._starting is not None and not self._starting.done())

    def start(self, make_source: MakeSource) -> None:
        """Begin to renew every role that is not being renewed yet; try those that failed again at once.

        The earliest rank first, and where there are many, requests have their turn in between.
        """
        if self._starting is not None:
            self._starting.cancel()
        names = list(self._ranks)
        self._start_some(make_source, names[:_STARTED_AT_ONCE])
        self._starting = asyncio.create_task(self._start_rest(make_source, names), name="start roles")

    async def _start_rest(self, make_source: MakeSource, names: list[str]) -> None:
        for first in range(_STARTED_AT_ONCE, len(names), _STARTED_AT_ONCE):
            await asyncio.sleep(0)
            self._start_some(make_source, names[first : first + _STARTED_AT_ONCE])

    def _start_some(self, make_source: MakeSource, names: Iterable[str]) -> None:
        for name in names:
            role = self._roles.get(name)  # a reload may have taken it away meanwhile
            if role is not None and role.plan.need is not Need.NONE:
                self._start(name, role, partial(self._make, make_source, name))

    def _start(self, name: str, role: Role, make: Callable[[RoleConfig], Source]) -> None:
        if role.sessions is not None:
            role.sessions.start(make)
        elif role.renewing is None:
            role.renewing = asyncio.create_task(role.keeper.run(make(role.settings)), name=f"keep {name}")
        elif role.keeper.failure is not None:  # a reload often is somebody's way to say that it is mended
            role.retry = asyncio.create_task(role.keeper.renew(), name=f"retry {name}")

    async def close(self) -> None:
        """Stop renewing."""
        if self._restoring is not None:
            await cancel_and_wait(self._restoring)
        if self._starting is not None:
            self._starting.cancel()
        for role in self._roles.values():
            await _stop(role)

    def live(self, name: str | None) -> Credentials | None:
        """The live credentials of a role, which a reload may have given another keeper since the last call."""
        role = self._roles.get(name) if name is not None else None
        held = role.keeper.live() if role is not None else None
        return held.credentials if held is not None else None

    def is_pending(self, name: str) -> bool:
        """Whether a role has neither had credentials nor failed to obtain any, and somebody waits for it."""
        keeper = self._roles[name].keeper if name in self._roles else None
        return keeper is not None and keeper.last is None and keeper.failure is None and not keeper.idle

    def _make(self, make_source: MakeSource, name: str, settings: RoleConfig) -> Source:
        return make_source(name, settings, partial(self.live, settings.parent))

    def _role(self, name: str, config: Config, plan: Plan, old: Role | None) -> Role:
        settings = config.roles[name]
        asked = old.keeper.demand.asked if old is not None and old.keeper.demand is not None else -math.inf
        keeper = self._keeper(name, plan, asked)
        self._unread.pop(name, None)
        if plan.need is Need.PER_SERVICE_ACCOUNT and isinstance(settings, AssumeRoleConfig):
            return Role(
                settings, plan, keeper, TaggedSessions(name, settings, partial(self._session_keeper, name, plan))
            )
        if plan.need is Need.NONE:
            return Role(settings, plan, keeper)
        make_shape = partial(session_shape, config, name, plan.fingerprint)
        keeper.on_attempt = partial(self._attempted, keeper, make_shape)
        if old is not None and (held := old.keeper.live()):
            keeper.adopt(held.credentials, due=old.plan.fingerprint != plan.fingerprint, held=held)
        else:
            self._unread[name] = partial(make_shape, socket.gethostname())
        return Role(settings, plan, keeper)

    def _keeper(self, name: str, plan: Plan, asked: float = -math.inf) -> Keeper:
        demand = Demand(self._clock, plan.idle_after, asked) if plan.idle_after is not None else None
        keeper = Keeper(
            name,
            clock=self._clock,
            stats=self._stats,
            max_age=plan.max_age,
            least=plan.least,
            demand=demand,
            turns=self._turns,
        )
        keeper.on_wanted = partial(self._chains.wanted, name)
        keeper.on_renewed = partial(self._chains.renewed, name)
        return keeper

    def _session_keeper(self, name: str, plan: Plan) -> Keeper:
        """Of one service account: nothing of it goes to disk."""
        keeper = self._keeper(name, plan)
        keeper.on_attempt = lambda _: self._on_attempt()
        return keeper

    def _attempted(
        self, keeper: Keeper, make_shape: Callable[[str], SessionShape], credentials: Credentials | None
    ) -> None:
        """Save what an attempt brought: with what this host is called now, and unless a reload replaced the keeper."""
        name = keeper.role
        role = self._roles.get(name)
        if credentials is not None and self._saved is not None and role is not None and role.keeper is keeper:
            self._saved.save(name, partial(make_shape, socket.gethostname()), credentials)
        self._on_attempt()


def _figures(role: Role) -> RoleFigures:
    return RoleFigures(role.settings.source, role.settings.role_arn or "", _times(role), role.keeper.certificate)


def _times(role: Role) -> Sequence[SessionTimes]:
    if role.sessions is not None:
        return role.sessions.times()
    return () if role.keeper.idle else (role.keeper.times,)


async def _stop(role: Role) -> None:
    if role.sessions is not None:
        await role.sessions.close()
    if role.renewing is not None:
        role.renewing.cancel()
        await asyncio.gather(role.renewing, return_exceptions=True)
    await role.keeper.close()
    role.keeper.on_attempt = lambda _: None  # which has the keeper, and would keep it until the next full collection
