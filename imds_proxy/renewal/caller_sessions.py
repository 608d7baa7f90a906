"""A role of which each service account and pod has a session of its own, with its name and pod in the session tags.

So AWS's policies and CloudTrail tell one pod from another. Sessions are obtained on demand and kept in memory alone.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from imds_proxy.callers.caller import ServiceAccount
from imds_proxy.config.roles import AssumeRoleConfig
from imds_proxy.credentials import Credentials
from imds_proxy.renewal.attempt import Failure, Held
from imds_proxy.renewal.keeper import Keeper
from imds_proxy.sources import Source
from imds_proxy.telemetry.stats import SessionTimes

log = logging.getLogger(__name__)

MOST_SESSIONS: Final = 1000
YOUNGEST_TO_GO: Final = 60.0
"""Seconds since it was asked for. Where more pods than there is room for ask at once, all would push each other out."""
_AT_ONCE: Final = 50
"""Sessions of a role that are being obtained. A cluster that starts all its pods would be a flood of calls to STS."""

MakeKeeper = Callable[[], Keeper]
"""A keeper on demand, of the role."""
MakeTaggedSource = Callable[[AssumeRoleConfig], Source]
"""The source of the role, with settings that have the tags."""


class _InTurn(Source):
    """A source that waits for its turn among others, each of which ends within its own time limit."""

    def __init__(self, source: Source, turns: asyncio.Semaphore) -> None:
        self._source = source
        self._turns = turns

    async def fetch(self) -> Credentials:
        """What the source obtains."""
        async with self._turns:
            return await self._source.fetch()


@dataclass(frozen=True, slots=True)
class _Session:
    keeper: Keeper
    keeping: asyncio.Task[None]


class TaggedSessions:
    """The sessions of one role.

    Args:
        role: The name it has in the config.
        settings: Its settings, without the tags.
        make_keeper: Makes the keeper of one session.
    """

    def __init__(self, role: str, settings: AssumeRoleConfig, make_keeper: MakeKeeper) -> None:
        self._role = role
        self._settings = settings
        self._make_keeper = make_keeper
        self._make_source: asyncio.Future[MakeTaggedSource] = asyncio.get_running_loop().create_future()
        """There once the daemon has found out what sources need; who asks before waits for it."""
        self._sessions: dict[ServiceAccount, _Session] = {}
        """The one that was asked for last is the last."""
        self._keeping: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._is_full = self._is_closed = False

    def __len__(self) -> int:
        return len(self._sessions)

    def start(self, make_source: MakeTaggedSource) -> None:
        """Obtain sessions from now on; a second time changes nothing."""
        if not self._make_source.done():
            self._make_source.set_result(make_source)

    def serve(self, account: ServiceAccount) -> Held | None:
        """What may be served to a service account; its first request starts to obtain it, for the client's next try."""
        session = self._sessions.pop(account, None) or self._begin(account)
        if session is None:
            return None
        self._sessions[account] = session
        return session.keeper.serve()

    def keepers(self) -> list[Keeper]:
        """Those of every session."""
        return [session.keeper for session in self._sessions.values()]

    def held(self) -> list[Credentials | None]:
        """The last credentials of every session."""
        return [session.keeper.last for session in self._sessions.values()]

    def times(self) -> list[SessionTimes]:
        """Those of every session."""
        return [session.keeper.times for session in self._sessions.values()]

    def failure(self) -> tuple[ServiceAccount, Failure] | None:
        """The first session that could not be renewed."""
        failures = ((account, session.keeper.failure) for account, session in self._sessions.items())
        return next(((account, failure) for account, failure in failures if failure), None)

    async def close(self) -> None:
        """End and forget every session."""
        self._make_source.cancel()
        self._is_closed = True
        self._sessions.clear()
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)

    def _begin(self, account: ServiceAccount) -> _Session | None:
        """A new session, if there is room for one."""
        if self._is_closed or not self._has_room():
            return None
        keeper = self._make_keeper()
        keeper.context |= {"service_account": str(account), "pod": account.pod or "not said"}
        task = asyncio.create_task(self._keep(account, keeper), name=f"keep {self._role} {account}")
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)
        return _Session(keeper, task)

    async def _keep(self, account: ServiceAccount, keeper: Keeper) -> None:
        """Renew until nobody asks any more."""
        try:
            make_source = await asyncio.shield(self._make_source)
            source = _InTurn(make_source(self._settings.with_tags(account.tags())), self._turns)
            await keeper.run_while_asked(source)
            log.info("a session is let go: nobody asks for it", extra=keeper.context)
        finally:
            session = self._sessions.get(account)
            if session is not None and session.keeper is keeper:
                del self._sessions[account]
            await keeper.close()

    def _has_room(self) -> bool:
        """Whether there is room for one more, after the one that was idle longest has made some."""
        if len(self._sessions) < MOST_SESSIONS:
            self._is_full = False
            return True
        account, oldest = next(iter(self._sessions.items()))
        if (demand := oldest.keeper.demand) is not None and demand.idle_for < YOUNGEST_TO_GO:
            if not self._is_full:
                log.warning("too many service accounts ask at once", extra={"role": self._role, "most": MOST_SESSIONS})
            self._is_full = True
            return False
        oldest.keeping.cancel()
        del self._sessions[account]
        return True
