"""One role: obtains its credentials, holds the last good ones, renews them ahead of time, for ever or on demand."""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from imds_proxy.backoff import RETRY_FIRST, wait_for_next, wait_on_request
from imds_proxy.credentials import Credentials
from imds_proxy.errors import Invalid, SourceError, Throttled, Unreachable
from imds_proxy.host.clock import Clock
from imds_proxy.renewal import log_events
from imds_proxy.renewal.attempt import Failure, Held, check_life_left, check_lives_longer, is_same_session
from imds_proxy.renewal.attempts import Attempts
from imds_proxy.renewal.idle_timer import Demand
from imds_proxy.renewal.next_attempt import NextAttempt, changed
from imds_proxy.renewal.plan import plan_another, plan_renewal
from imds_proxy.renewal.turns import LOCAL_PAUSE, ORDINARY, PAUSE, Turns
from imds_proxy.sources import Source, obtain, unexpected
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
        self.rank = ORDINARY
        """In which line its attempts wait for their turn."""
        self.context = {"role": role}
        """What every line of the log says of it."""
        self.failure: Failure | None = None
        self.due = clock.now()
        """When a renewal was first to be tried; after failures the next attempt is later."""
        self.is_outdated = False
        """Whether what is held is replaced by whatever the next attempt brings, even if that lives shorter."""
        self.holding = asyncio.Event()
        """Set once there have ever been credentials, or where it would be waited for in vain: until somebody asks."""
        if demand is not None:
            self.holding.set()
        self.on_attempt: Callable[[Credentials | None], None] = lambda _: None
        """Called after every attempt, with what it brought."""
        self.on_renewed: Callable[[], None] = lambda: None
        """Called when another session than before is held: what is obtained with it can be tried again."""
        self.on_wanted: Callable[[], None] = lambda: None
        """Called by each request that finds nothing alive."""
        self._next = NextAttempt(clock)
        self._source: Source | None = None
        self._clock = clock
        self._stats = stats
        self._max_age = max_age
        self._turns = turns
        self._chance = chance
        self._held: Held | None = None
        self._failures = 0
        self._failure_log = log_events.FailureLog(self.context)
        self._attempts = Attempts(role, self._attempt)
        self._parent_renewed = False
        """Whether what it is obtained with was renewed during the attempt that is under way."""

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
    def next_attempt(self) -> float:
        """When it is tried next."""
        return self._next.at

    @next_attempt.setter
    def next_attempt(self, at: float) -> None:
        self._next.at = at

    @property
    def certificate(self) -> CertificateStats | None:
        """How the certificate of its source is, if it has one."""
        return self._source.certificate if self._source else None

    def serve(self) -> Held | None:
        """What may be served to a request, which is noted: it wakes a keeper that is idle, and one in a backoff.

        What an idle one holds is past the time of its renewal and may have little life left (PROTOCOL.md 18): it is
        served again only if AWS gives nothing better.
        """
        if self.demand is not None:
            self.demand.note()
        held = self.live() if not self.idle else None
        if held is None:
            self.want()
        return held

    def want(self) -> None:
        """A request waits for credentials, and there are none: bring the next attempt forward."""
        self._next.ask()
        self.on_wanted()

    def parent_renewed(self, spread: float) -> None:
        """Its parent has another session: try again within `spread` seconds where it fails, but was not throttled."""
        self._parent_renewed = self._attempts.is_under_way
        if self.failure is not None and self.failure.outcome != Throttled.outcome:
            self._next.bring_forward(spread * self._chance())

    def live(self) -> Held | None:
        """The last good credentials, if they are still alive: for everything that is not a request."""
        held = self._held
        if held is None or self._clock.now() >= held.until:
            return None
        if self._clock.wall() < held.updated:
            held = self._held = Held.of(held.credentials, self._clock.wall())
        return held

    def adopt(self, credentials: Credentials, *, due: bool, held: Held | None = None) -> None:
        """Hold credentials obtained earlier: saved on disk, or by the keeper that this one follows.

        What was obtained in the future is renewed at once too: a clock was set, and AWS's answer says which was right.

        Args:
            credentials: What to hold.
            due: Renew at once, because the settings that shaped them have changed.
            held: What is served of them, where another keeper has made it.
        """
        self._hold(credentials, made=held)
        self.idle = False
        self.is_outdated = due
        if due or credentials.obtained > self._clock.now():
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
            await self._next.wait(partial(changed, source, self.context), self._is_worth_another)
            if self.demand is not None and self.demand.has_ended:
                return
            await self.renew()

    async def renew(self) -> None:
        """Obtain new credentials now. However many ask, the source is asked once, and nothing is raised."""
        await self._attempts.join()

    async def renew_anew(self, *, urgent: bool) -> bool:
        """As `renew`, by an attempt that begins from now on; False while there is no source, and so no attempt yet."""
        if self._source is None:
            return False
        if self.idle and self.demand is not None:
            self.demand.note()
        self.is_outdated = True  # AWS may have been told to refuse it
        if urgent:
            self._next.ask()
        await self._attempts.anew()
        return True

    async def close(self) -> None:
        """Give up an attempt that is under way."""
        await self._attempts.close()

    async def _rest(self) -> None:
        """Keep nothing until somebody asks. That nobody could have it is no failure any more."""
        assert self.demand is not None  # noqa: S101 - else it is kept for ever
        if not self.idle:
            log.info("nobody asks for it: not renewed", extra=self.context)
        self.idle, self.failure, self._failures = True, None, 0
        await self.demand.wait()
        self.next_attempt = self.due = self._clock.now()

    def _is_worth_another(self) -> bool:
        """Whether an attempt may bring what none did before, now that the wall clock was set."""
        last = self.last
        return self.failure is not None or (last is not None and last.obtained > self._clock.now())

    async def _attempt(self) -> None:
        self._parent_renewed = False
        if self._turns is not None:
            is_local = self._source is not None and self._source.local
            take = partial(self._turns.take, pause=LOCAL_PAUSE if is_local else PAUSE)
            await self._next.turn(take, self.rank)
        self._attempts.has_begun, began = True, time.perf_counter()
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
        held, now = self._held, self._clock.now()
        if held is None:
            return credentials
        if is_same_session(held.credentials, credentials):
            check_life_left(self.role, held.credentials, now)
        elif not self.is_outdated:
            check_lives_longer(self.role, held, credentials, now, passed_on=self._source.passes_on)
        return credentials

    def _succeeded(self, credentials: Credentials) -> None:
        if self._failures:
            log_events.works_again(self.context, self._failures)
        held = self.last
        if held is not None and is_same_session(held, credentials):
            self._hold(replace(credentials, obtained=held.obtained), again=True)
            log_events.same_again(self.context, self.next_attempt)
            return
        self._hold(credentials)
        log_events.renewed(self.context, credentials, self.next_attempt)
        log_events.clock_skew(self._clock.skew)
        self.on_renewed()

    def _hold(self, credentials: Credentials, *, again: bool = False, made: Held | None = None) -> None:
        self._held = made or Held.of(credentials, self._clock.wall())
        self.failure, self._failures, self.is_outdated = None, 0, False
        given = credentials, self._clock.now(), self._chance(), self._max_age, self.least
        passed_on = again or (self._source is not None and self._source.passes_on)
        wait, self.due = plan_another(*given, again=again) if passed_on else plan_renewal(*given)
        self._next.plan(wait, wait_on_request("success", wait, self._chance()))
        self.holding.set()

    def _failed(self, error: SourceError) -> None:
        self._failures += 1
        now = self._clock.now()
        failure = self.failure = Failure(error.outcome, error.message, error.advice, now)
        # AWS's answer said what time it is: the next signature may be right.
        kind = Unreachable.outcome if error.is_of_the_clock else error.outcome
        wait = wait_for_next(kind, self._failures, self._chance(), error.retry_after)
        if self._parent_renewed and kind != Throttled.outcome:
            wait = min(wait, RETRY_FIRST)  # it may have been tried with the session before
        if self._held is not None and now < self._held.until and kind == Invalid.outcome:
            wait = min(wait, self._held.until - now)  # then what was no better than it is
        self._next.plan(wait, wait_on_request(kind, wait, self._chance()))
        self._failure_log.failed(failure, self._failures, self.live(), self.next_attempt)
