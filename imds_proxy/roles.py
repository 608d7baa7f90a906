"""The configured roles and their keepers, across reloads."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from imds_proxy.clock import Clock
from imds_proxy.config import Config
from imds_proxy.config_roles import RoleConfig
from imds_proxy.credentials import Credentials
from imds_proxy.renewal import saved
from imds_proxy.renewal.keeper import Keeper
from imds_proxy.renewal.schedule import LEFT_IN_A_FILE
from imds_proxy.sources import Source
from imds_proxy.state import StateDir, StateError
from imds_proxy.telemetry.stats import CertificateStats, RenewalStats

log = logging.getLogger(__name__)

Parent = Callable[[], Credentials | None]
"""The live credentials of the role that another is obtained with."""
MakeSource = Callable[[str, RoleConfig, Parent], Source]


@dataclass(slots=True)
class Role:
    """One role as it is configured now, and who keeps it."""

    settings: RoleConfig
    fingerprint: str
    keeper: Keeper
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
        self._roles: dict[str, Role] = {}
        self._state: StateDir | None = None
        self.default: str | None = None
        """The role that the list shows."""

    def __getitem__(self, name: str) -> Role:
        return self._roles[name]

    def items(self) -> list[tuple[str, Role]]:
        """Name and role, in the order of the config file."""
        return list(self._roles.items())

    def served(self) -> Mapping[str, Keeper]:
        """The keepers of the roles that are handed out."""
        return {name: role.keeper for name, role in self._roles.items() if role.settings.serve}

    def held(self) -> Mapping[str, Credentials | None]:
        """The last credentials of every role."""
        return {name: role.keeper.last for name, role in self._roles.items()}

    def certificates(self) -> Mapping[str, CertificateStats]:
        """The certificates of the roles that have one."""
        found = {name: role.keeper.certificate for name, role in self._roles.items()}
        return {name: certificate for name, certificate in found.items() if certificate}

    async def update(self, config: Config, state: StateDir | None) -> None:
        """Take the roles of `config`: what is unchanged goes on untouched, and no live credentials are dropped."""
        self._state, self.default = state, config.default_role
        before, self._roles = self._roles, {}
        in_files = {file.role for file in config.files}
        for name, settings in config.roles.items():
            old, least = before.get(name), LEFT_IN_A_FILE if name in in_files else 0.0
            fingerprint = f"{config.fingerprint(name)}/{config.renewal.max_age}"
            if old is not None and (old.fingerprint, old.keeper.least) == (fingerprint, least):
                self._roles[name] = Role(settings, fingerprint, old.keeper, old.renewing, old.retry)
                continue
            keeper = self._keeper(name, config.renewal.max_age, least, fingerprint, old)
            self._roles[name] = Role(settings, fingerprint, keeper)
        kept = {role.keeper for role in self._roles.values()}
        for role in before.values():
            if role.keeper not in kept:
                await _stop(role)

    def start(self, make_source: MakeSource) -> None:
        """Begin to renew every role that is not being renewed yet; try those that failed again at once."""
        for name, role in self._roles.items():
            if role.renewing is None:
                source = make_source(name, role.settings, partial(self.live, role.settings.parent))
                role.renewing = asyncio.create_task(role.keeper.run(source), name=f"keep {name}")
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
        """Whether a role has neither had credentials nor failed to obtain any."""
        role = self._roles.get(name)
        return role is not None and role.keeper.last is None and role.keeper.failure is None

    def _keeper(self, name: str, max_age: int | None, least: float, fingerprint: str, old: Role | None) -> Keeper:
        keeper = Keeper(name, clock=self._clock, stats=self._stats, max_age=max_age, least=least)
        keeper.on_attempt = lambda credentials: self._attempted(name, fingerprint, credentials)
        if old is not None and (held := old.keeper.live()):
            keeper.adopt(held.credentials, due=old.fingerprint != fingerprint)
        elif credentials := self._saved(name, fingerprint):
            keeper.adopt(credentials, due=False)
        return keeper

    def _saved(self, name: str, fingerprint: str) -> Credentials | None:
        if self._state is None:
            return None
        try:
            credentials = saved.load(self._state, name, fingerprint)
        except StateError as error:
            log.warning("saved credentials are left alone", extra={"role": name, "error": error.message})
            return None
        return credentials if credentials and credentials.expiration > self._clock.now() else None

    def _attempted(self, name: str, fingerprint: str, credentials: Credentials | None) -> None:
        if credentials is not None and self._state is not None:
            try:
                saved.save(self._state, name, fingerprint, credentials)
            except StateError as error:
                log.warning("a restart will need AWS", extra={"role": name, "error": error.message})
        self._on_attempt()


async def _stop(role: Role) -> None:
    if role.renewing is not None:
        role.renewing.cancel()
        await asyncio.gather(role.renewing, return_exceptions=True)
    await role.keeper.close()
