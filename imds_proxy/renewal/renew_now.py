"""Renewals that an operator asks for: after older sessions were revoked at AWS, or something was mended there."""

import asyncio
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from imds_proxy.config.keep_mode import Need
from imds_proxy.credentials import Credentials
from imds_proxy.renewal.attempt import Failure, is_same_session
from imds_proxy.renewal.keeper import Keeper
from imds_proxy.renewal.roles import Roles

log = logging.getLogger(__name__)

LONGEST: Final = 120.0
"""Seconds: a thousand roles begin within a minute, and an attempt has its own limits of 20 to 40."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """How the renewal of one session ended.

    Args:
        role: Its name.
        of: The service account whose session it is, and its pod; "" for a role with one session.
        held: What is served now, if anything.
        same: Whether that is the session from before: the role's source has no other.
        failure: Why there is no new one; None: there is, or it is not known yet.
        pending: Whether it has not ended.
    """

    role: str
    of: str
    held: Credentials | None
    same: bool
    failure: Failure | None
    pending: bool


class RenewNow:
    """Renews roles when it is asked to.

    Args:
        roles: What is kept.
    """

    def __init__(self, roles: Roles) -> None:
        self._roles = roles

    def known(self) -> list[str]:
        """The roles that can be renewed: those that somebody may have, or that others or files need."""
        return [name for name, role in self._roles.items() if role.plan.need is not Need.NONE]

    def kept(self) -> list[str]:
        """Those of them that are kept at this time: not the ones on demand that nobody asks for."""
        return [name for name in self.known() if not self._roles[name].keeper.idle or self._roles[name].sessions]

    async def renew(self, names: Collection[str], by: str) -> list[Renewed]:
        """Renew each of these roles, parents before children; all that is saved of them is dropped first.

        So what was revoked is served by no restart, even where AWS gives nothing new. Live credentials stay.

        Args:
            names: Some of `known()`; none: all of `kept()`.
            by: Who asks, for the log.
        """
        chosen = list(names) or self.kept()
        log.info("a renewal is asked for", extra={"by": by, "roles": ", ".join(names) or "all", "count": len(chosen)})
        deadline = asyncio.get_running_loop().time() + LONGEST
        self._roles.drop_saved(chosen)
        attempts: list[_Attempt] = []
        for group in self._roles.parents_first(chosen):
            keepers = [keeper for name in group for keeper in self._roles.keepers_of(name)]
            begun = [_Attempt(keeper, urgent=bool(names)) for keeper in keepers]
            await _ended(begun, deadline)
            attempts += begun
        return [attempt.outcome() for attempt in sorted(attempts, key=lambda attempt: chosen.index(attempt.role))]


class _Attempt:
    """The renewal of one session."""

    def __init__(self, keeper: Keeper, *, urgent: bool) -> None:
        self.role = keeper.role
        self.task = asyncio.create_task(keeper.renew_anew(urgent=urgent), name=f"renew {keeper.role} now")
        self._keeper, self._before = keeper, keeper.last

    def outcome(self) -> Renewed:
        task, held = self.task, self._keeper.live()
        has_ended = task.done() and not task.cancelled() and task.result()
        credentials = held.credentials if held else None
        return Renewed(
            role=self.role,
            of=self._keeper.context.get("service_account", ""),
            held=credentials,
            same=bool(self._before and credentials and is_same_session(self._before, credentials)),
            failure=self._keeper.failure if has_ended else None,
            pending=not has_ended,
        )


async def _ended(attempts: Sequence[_Attempt], deadline: float) -> None:
    """Return when all have ended, or at the deadline; those that go on then are left to it."""
    if attempts:
        left = deadline - asyncio.get_running_loop().time()
        await asyncio.wait({attempt.task for attempt in attempts}, timeout=max(left, 0))
