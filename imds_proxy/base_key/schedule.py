"""The daemon's part: a look at the start and at least once a day, for ever; a failure never stops anything else."""

import logging
import random
from typing import Final, Protocol

from imds_proxy.base_key import rotation
from imds_proxy.base_key.rotation import Look, Rotation
from imds_proxy.base_key.words import LABEL
from imds_proxy.config.model import Config
from imds_proxy.config.types import DAY, HOUR, MINUTE
from imds_proxy.credentials import timestamp
from imds_proxy.errors import ImdsProxyError, Invalid, SourceError, Throttled, Unreachable
from imds_proxy.host.clock import Clock
from imds_proxy.host.loop_thread import LoopThread
from imds_proxy.host.state_dir import StateDir
from imds_proxy.telemetry.log import told
from imds_proxy.telemetry.stats import BaseKeyStats

log = logging.getLogger(__name__)

_LONGEST: Final = float(DAY)
_SHORTEST: Final = float(MINUTE)
_PASSING: Final = (Throttled, Unreachable)


def make(config: Config, state: StateDir | None, region: str | None, clock: Clock, stats: BaseKeyStats) -> "Rotator":
    """What the config asks for. Its clock is its own, since it is not the daemon's loop that tells it AWS's time."""
    own_clock = Clock(clock.wall)
    return Rotator(_Beside(rotation.make(config, state, region, own_clock)), own_clock, stats)


class Work(Protocol):
    """What a rotator does when it is time."""

    async def run(self) -> Look:
        """Do all that there is to do now; raises SourceError, StateError."""


class _Beside:
    """A rotation beside the daemon's loop: between its calls to AWS it writes and syncs files."""

    def __init__(self, rotation: Rotation) -> None:
        self._rotation = rotation
        self._thread = LoopThread("base key")

    async def run(self) -> Look:
        return await self._thread.run(self._rotation.run)


class Rotator:
    """Rotates the base key when it is due.

    Args:
        work: Does it.
        clock: Wall time.
        stats: Told of every run that changed something or failed.
    """

    def __init__(self, work: Work, clock: Clock, stats: BaseKeyStats) -> None:
        self._rotation = work
        self._clock = clock
        self._stats = stats
        self._failures = 0

    async def run(self) -> None:
        """Look when it is time; ends only by being cancelled, which is as good as a crash: the next start goes on."""
        while True:
            wait = await self._look()
            await self._clock.sleep_until(self._clock.now() + wait)

    async def _look(self) -> float:
        """One run; how many seconds to wait for the next."""
        try:
            look = await self._rotation.run()
        except ImdsProxyError as error:
            return self._failed(error)
        except Exception as error:  # noqa: BLE001 - whatever a library raises, the daemon goes on
            advice = "this is a defect of imds-proxy: please report this line"
            return self._failed(Invalid(f"unexpected {told(error)}", advice))
        return self._succeeded(look)

    def _succeeded(self, look: Look) -> float:
        self._failures = 0
        self._stats.created = look.created
        if look.rotated:
            self._stats.outcomes["success"] += 1
        now = self._clock.wall() + self._clock.skew
        wait = min(max((look.next or now + _LONGEST) - now, _SHORTEST), _LONGEST)
        due = timestamp(look.next) if look.next is not None else "never"
        log.debug("base key looked at", extra={"key": f"…{look.key}", "made": timestamp(look.created), "due": due})
        return wait

    def _failed(self, error: ImdsProxyError) -> float:
        self._failures += 1
        outcome = error.outcome if isinstance(error, SourceError) else Invalid.outcome
        self._stats.outcomes[outcome] += 1
        passing = isinstance(error, _PASSING) or (isinstance(error, SourceError) and error.is_of_the_clock)
        wait = retry_wait(self._failures, random.random(), passing=passing)  # noqa: S311
        extra = {"outcome": outcome, "error": f"{LABEL}: {error.message}", "advice": error.advice}
        log.error("base key rotation failed", extra=extra | {"next": timestamp(self._clock.now() + wait)})
        return wait


def retry_wait(failures: int, chance: float, *, passing: bool) -> float:
    """Seconds: from a minute to an hour where it may pass, from an hour to a day where somebody has to do something.

    Args:
        failures: In a row, at least 1.
        chance: Uniform in [0, 1).
        passing: Whether AWS did not answer, asked for fewer calls, or refused a signature for its time.
    """
    first, longest = (MINUTE, HOUR) if passing else (HOUR, DAY)
    ceiling = min(first * 2.0 ** min(failures, 16), longest)
    return first + (ceiling - first) * chance
