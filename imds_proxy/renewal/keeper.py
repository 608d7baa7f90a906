"""One role: obtains its credentials, holds the last good ones, renews them ahead of time, for ever or on demand."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from dataclasses import replace

from imds_proxy.clock import Clock
from imds_proxy.credentials import Credentials
from imds_proxy.errors import Invalid, SourceError
from imds_proxy.renewal import log_lines
from imds_proxy.renewal.demand import Demand
from imds_proxy.renewal.outcome import Failure, Held, check_life_left, is_same_session, unexpected
from imds_proxy.renewal.schedule import renewal_age, wait_after_failure, wait_after_success, wait_for_another
from imds_proxy.renewal.turns import Turns
from imds_proxy.sources import Source, obtain
from imds_proxy.telemetry.log import told
from imds_proxy.telemetry.stats import CertificateStats, RenewalStats, SessionTimes

log = logging.getLogger(__name__)


class Keeper:
    """Keeps one role's credentials.

    Args:
        role: The name SDKs see.
        clock: Wall time.
        stats: Told of every attempt.
        max_age: Renew at least this often, in seconds.
        least: Seconds of life that have to be left when renewing, where sessions are long enough for it.
        demand: Who asks for it, where it is kept only as long as somebody does; None: it is kept for ever.
        turns: Shared with other keepers; None: every attempt begins when it is due.
        chance: Uniform in [0, 1); replaced in simulations.
    """

    def __init__(
        self,
        role: str,
        *,
        clock: Clock,
        stats: RenewalStats,
        max_age: float | None = None,
        least: float = 0.0,
        demand: Demand | None = None,
        turns: Turns | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.role = role
        self.least = least
        self.demand = demand
        self.idle = demand is not None
        """Whether it is not kept now because nobody asks; ends with the first attempt after somebody did."""
        self.context = {"role": role}
        """What every line of the log says of it."""
        self.failure: Failure | None = None
        self.next_attempt = self.due = clock.now()
        """`due` is when a renewal was first to be tried; after failures the next attempt is later."""
        self.holding = asyncio.Event()
        """Set once there have ever been credentials, or where it would be waited for in vain: until somebody asks."""
        if demand is not None:
            self.holding.set()
        self.on_attempt: Callable[[Credentials | None], None] = lambda _: None
        """Called after every attempt, with what it brought."""
        self._source: Source | None = None
        self._clock = clock
        self._stats = stats
        self._max_age = max_age
        self._turns = turns
        self._chance = chance
        self._held: Held | None = None
        self._failures = 0
        self._renewal: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()
        """Set by each attempt: what waits for the next one has to look again when that is."""

    @property
    def last(self) -> Credentials | None:
        """The last good credentials, dead or alive; never to be served."""
        return self._held.credentials if self._held else None

    @property
    def times(self) -> SessionTimes:
        """Those of the last good credentials, dead or alive."""
        if (last := self.last) is None:
            return SessionTimes(self.due)
        return SessionTimes(self.due, last.obtained, last.expiration)

    @property
    def certificate(self) -> CertificateStats | None:
        """How the certificate of its source is, if it has one."""
        return self._source.certificate if self._source else None

    def serve(self) -> Held | None:
        """What may be served to a request, which is noted: it wakes a keeper that is idle.

        What an idle one holds is past the time of its renewal and may have little life left (PROTOCOL.md 18): it is
        served again only if AWS gives nothing better.
        """
        if self.demand is not None:
            self.demand.note()
            if self.idle:
                return None
        return self.live()

    def live(self) -> Held | None:
        """The last good credentials, if they are still alive: for everything that is not a request."""
        held = self._held
        if held is None or self._clock.now() >= held.until:
            return None
        if self._clock.wall() < held.credentials.obtained:
            held = self._held = Held.of(held.credentials, self._clock.wall())
        return held

    def adopt(self, credentials: Credentials, *, due: bool) -> None:
        """Hold credentials obtained earlier: saved on disk, or by the keeper that this one follows.

        Args:
            credentials: What to hold.
            due: Renew at once, because the settings that shaped them have changed.
        """
        self._hold(credentials)
        self.idle = False
        if due:
            self.next_attempt = self.due = self._clock.now()

    async def run(self, source: Source) -> None:
        """Renew from `source`, for ever or whenever somebody asks; ends only by being cancelled."""
        while True:
            await self.run_while_asked(source)
            await self._rest()

    async def run_while_asked(self, source: Source) -> None:
        """Renew from `source` until a renewal is due that nobody wants; never returns where it is kept for ever."""
        self._source = source
        if source.passes_on:  # it may have another session since the saved one
            self.next_attempt = self._clock.now()
        while True:
            due = self.next_attempt
            changed = await self._due_or_changed(source, due)
            if not changed and self.next_attempt != due:  # somebody renewed meanwhile
                continue
            if self.demand is not None and self.demand.has_ended:
                return
            await self.renew()

    async def renew(self) -> None:
        """Obtain new credentials now. However many ask, the source is asked once, and nothing is raised."""
        if self._renewal is None:
            self._renewal = asyncio.create_task(self._attempt(), name=f"renew {self.role}")
            self._renewal.add_done_callback(self._attempt_ended)
        await asyncio.shield(self._renewal)

    async def close(self) -> None:
        """Give up an attempt that is under way."""
        if self._renewal is not None:
            self._renewal.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._renewal

    async def _rest(self) -> None:
        """Keep nothing until somebody asks. That nobody could have it is no failure any more."""
        assert self.demand is not None  # noqa: S101 - else it is kept for ever
        if not self.idle:
            log.info("nobody asks for it: not renewed", extra=self.context)
        self.idle, self.failure, self._failures = True, None, 0
        await self.demand.wait()
        self.next_attempt = self.due = self._clock.now()

    async def _due_or_changed(self, source: Source, due: float) -> bool:
        """Wait until a renewal is due, or the source says that there is something new; whether it was the latter.

        Ends too when somebody else has renewed: after a long backoff the next one may be due much sooner.
        """
        self._tried.clear()
        sleeping = asyncio.create_task(self._clock.sleep_until(due))
        changing = asyncio.create_task(self._changed(source))
        trying = asyncio.create_task(self._tried.wait())
        try:
            await asyncio.wait({sleeping, changing, trying}, return_when=asyncio.FIRST_COMPLETED)
            return changing.done()
        finally:
            for task in (sleeping, changing, trying):
                task.cancel()
            await asyncio.gather(sleeping, changing, trying, return_exceptions=True)

    async def _changed(self, source: Source) -> None:
        try:
            await source.changed()
        except Exception as error:  # noqa: BLE001 - then the schedule alone decides, until the source is made anew
            log.error("changes are not seen", extra=self.context | {"error": told(error)})  # noqa: TRY400
            await asyncio.get_running_loop().create_future()

    def _attempt_ended(self, _: asyncio.Task[None]) -> None:
        self._renewal = None
        self._tried.set()

    async def _attempt(self) -> None:
        if self._turns is not None:
            await self._turns.take()
        began = time.perf_counter()
        credentials = None
        try:
            credentials = await self._fetch()
            outcome = "success"
            self._succeeded(credentials)
        except SourceError as error:
            outcome = error.outcome
            self._failed(error)
        except Exception as error:  # noqa: BLE001 - whatever a library raises, renewal goes on (PEERS.md)
            outcome = Invalid.outcome
            self._failed(unexpected(self.role, error))
        self.idle = False
        self._stats.record(self.role, outcome, time.perf_counter() - began, self._clock.now())
        self.on_attempt(credentials)

    async def _fetch(self) -> Credentials:
        """From the source, which may hand out the session that is held already, but not until its end."""
        assert self._source is not None  # noqa: S101 - `run` set it
        credentials = await obtain(self.role, self._source, self._clock)
        held = self.last
        if held is not None and is_same_session(held, credentials):
            check_life_left(self.role, held, self._clock.now())
        return credentials

    def _succeeded(self, credentials: Credentials) -> None:
        if self._failures:
            log_lines.works_again(self.context, self._failures)
        held = self.last
        if held is not None and is_same_session(held, credentials):
            self._hold(replace(credentials, obtained=held.obtained), again=True)
            log_lines.same_again(self.context, self.next_attempt)
            return
        self._hold(credentials)
        log_lines.renewed(self.context, credentials, self.next_attempt)
        log_lines.clock_skew(self._clock.skew)

    def _hold(self, credentials: Credentials, *, again: bool = False) -> None:
        self._held = Held.of(credentials, self._clock.wall())
        self.failure, self._failures = None, 0
        now, end = self._clock.now(), credentials.expiration
        if again or (self._source and self._source.passes_on):
            wait = wait_for_another(end - now, self._chance(), self._max_age, self.least, again=again)
            self.next_attempt = self.due = now + wait
        else:
            obtained = credentials.obtained
            wait = wait_after_success(obtained, end, now, self._chance(), self._max_age, self.least)
            self.next_attempt = now + wait
            latest = obtained + renewal_age(end - obtained, 0.0, self._max_age, self.least)
            self.due = min(self.next_attempt, latest)  # earlier, if it was held before a restart and is overdue
        self.holding.set()

    def _failed(self, error: SourceError) -> None:
        self._failures += 1
        now = self._clock.now()
        failure = self.failure = Failure(error.outcome, error.message, error.advice, now)
        denied = error.outcome == "denied"
        self.next_attempt = now + wait_after_failure(self._failures, self._chance(), denied=denied)
        log_lines.failed(self.context, failure, self._failures, self.live(), self.next_attempt)
