"""The configured roles and their keepers, across reloads."""

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from imds_proxy.clock import Clock
from imds_proxy.config import Config
from imds_proxy.config_role_common import RoleConfig
from imds_proxy.config_roles import AssumeRoleConfig
from imds_proxy.credentials import Credentials
from imds_proxy.renewal.demand import Demand
from imds_proxy.renewal.keeper import Keeper
from imds_proxy.renewal.need import Need, Needed, needed
from imds_proxy.renewal.saved import SavedSessions
from imds_proxy.renewal.schedule import LEFT_IN_A_FILE
from imds_proxy.renewal.session_shape import session_shape
from imds_proxy.renewal.turns import Turns
from imds_proxy.sources import Source
from imds_proxy.state import StateError
from imds_proxy.tagged_sessions import TaggedSessions
from imds_proxy.telemetry.stats import RenewalStats, RoleFigures, SessionTimes

log = logging.getLogger(__name__)

_SAVED: Final = frozenset({Need.ALWAYS, Need.ON_DEMAND})
"""Sessions for service accounts are in memory alone."""

Parent = Callable[[], Credentials | None]
"""The live credentials of the role that another is obtained with."""
MakeSource = Callable[[str, RoleConfig, Parent], Source]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a role is kept; while two are equal, a reload changes nothing.

    Args:
        need: Whether it is, and for how long.
        fingerprint: Of everything that shapes its sessions and their renewal.
        least: Seconds of life that have to be left when it is renewed.
        max_age: Renew at least this often, in seconds.
        idle_after: Seconds without a request after which what is kept on demand is let go; else None.
    """

    need: Need
    fingerprint: str
    least: float
    max_age: float | None
    idle_after: float | None


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
        self._roles: dict[str, Role] = {}
        self._given: frozenset[str] = frozenset()
        self._saved: SavedSessions | None = None
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

    def is_given(self, name: str) -> bool:
        """Whether somebody may be handed a role."""
        return name in self._given

    def is_ready(self) -> bool:
        """Whether every role that is handed out has live credentials, unless nobody asks for it."""
        return all(keeper.idle or keeper.live() is not None for keeper in self.served().values())

    def figures(self) -> Mapping[str, RoleFigures]:
        """Of each role that somebody needs."""
        return {name: _figures(role) for name, role in self._roles.items() if role.plan.need is not Need.NONE}

    def update(self, config: Config, saved: SavedSessions | None) -> list[Role]:
        """Take the roles of `config`: what is unchanged goes on untouched, and no live credentials are dropped.

        Returns:
            The roles that are not kept any more, to be stopped.
        """
        self._saved, self.default = saved, config.default_role
        before, self._roles = self._roles, {}
        roles = needed(config)
        self._given = roles.given
        for name, settings in config.roles.items():
            old, plan = before.get(name), _plan(name, config, roles)
            if old is not None and old.plan == plan:
                self._roles[name] = replace(old, settings=settings)
            else:
                self._roles[name] = self._role(name, config, plan, old)
        self._remove_saved()
        kept = {role.keeper for role in self._roles.values()}
        return [role for role in before.values() if role.keeper not in kept]

    @staticmethod
    async def stop(roles: Iterable[Role]) -> None:
        """Renew these no more."""
        for role in roles:
            await _stop(role)

    def start(self, make_source: MakeSource) -> None:
        """Begin to renew every role that is not being renewed yet; try those that failed again at once."""
        for name, role in self._roles.items():
            make = partial(self._make, make_source, name)
            if role.plan.need is Need.NONE:
                continue
            if role.sessions is not None:
                role.sessions.start(make)
            elif role.renewing is None:
                role.renewing = asyncio.create_task(role.keeper.run(make(role.settings)), name=f"keep {name}")
            elif role.keeper.failure is not None:  # a reload often is somebody's way to say that it is mended
                role.retry = asyncio.create_task(role.keeper.renew(), name=f"retry {name}")

    async def close(self) -> None:
        """Stop renewing."""
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
        if plan.need is Need.PER_SERVICE_ACCOUNT and isinstance(settings, AssumeRoleConfig):
            return Role(
                settings, plan, keeper, TaggedSessions(name, settings, partial(self._session_keeper, name, plan))
            )
        if plan.need is Need.NONE:
            return Role(settings, plan, keeper)
        keeper.on_attempt = partial(self._attempted, keeper, config, plan.fingerprint)
        if old is not None and (held := old.keeper.live()):
            keeper.adopt(held.credentials, due=old.plan.fingerprint != plan.fingerprint)
        elif credentials := self._load(name, config, plan.fingerprint):
            keeper.adopt(credentials, due=False)
        return Role(settings, plan, keeper)

    def _keeper(self, name: str, plan: Plan, asked: float = -math.inf) -> Keeper:
        demand = Demand(self._clock, plan.idle_after, asked) if plan.idle_after is not None else None
        return Keeper(
            name,
            clock=self._clock,
            stats=self._stats,
            max_age=plan.max_age,
            least=plan.least,
            demand=demand,
            turns=self._turns,
        )

    def _session_keeper(self, name: str, plan: Plan) -> Keeper:
        """Of one service account: nothing of it goes to disk."""
        keeper = self._keeper(name, plan)
        keeper.on_attempt = lambda _: self._on_attempt()
        return keeper

    def _load(self, name: str, config: Config, fingerprint: str) -> Credentials | None:
        if self._saved is None:
            return None
        try:
            return self._saved.load(name, session_shape(config, name, fingerprint), self._clock.now())
        except StateError as error:
            log.warning("saved credentials are left alone", extra={"role": name, "error": error.message})
            return None

    def _attempted(self, keeper: Keeper, config: Config, fingerprint: str, credentials: Credentials | None) -> None:
        """Save what an attempt brought: with what this host is called now, and unless a reload replaced the keeper."""
        name = keeper.role
        role = self._roles.get(name)
        if credentials is not None and self._saved is not None and role is not None and role.keeper is keeper:
            try:
                self._saved.save(name, session_shape(config, name, fingerprint), credentials)
            except StateError as error:
                log.warning("a restart will need AWS", extra={"role": name, "error": error.message})
        self._on_attempt()

    def _remove_saved(self) -> None:
        """Of the roles of which nothing is saved."""
        if self._saved is None:
            return
        kept = {name for name, role in self._roles.items() if role.plan.need in _SAVED}
        try:
            self._saved.keep_only(kept)
        except StateError as error:
            extra = {"error": error.message, "advice": error.advice}
            log.warning("saved credentials of roles that are gone are left", extra=extra)


def _plan(name: str, config: Config, roles: Needed) -> Plan:
    need, max_age = roles.needs[name], config.renewal.max_age
    in_file = any(file.role == name for file in config.files)
    idle_after = config.renewal.idle_after if need in {Need.ON_DEMAND, Need.PER_SERVICE_ACCOUNT} else None
    fingerprint = f"{config.fingerprint(name)}/{max_age}"
    return Plan(need, fingerprint, LEFT_IN_A_FILE if in_file else 0.0, max_age, idle_after)


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
