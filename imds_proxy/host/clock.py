"""Wall time, and how far it is from AWS's."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

from imds_proxy.host.aws_time import AwsTime
from imds_proxy.host.clock_watch import ClockWatch

# asyncio sleeps on the monotonic clock, which stands still while a machine is suspended and does not see the wall
# clock being set. Looking at the wall this often is what makes "at once" after a wake-up mean seconds.
_LONGEST_NAP = 5.0
_SHORTEST_NAP: Final = 0.001  # what is left by one clock may be too little to be a time by another

# A `Date` header has whole seconds and took a round trip to get here: less than this is not skew.
_SKEW_RESOLUTION: Final = 2.0


def _boot_time() -> float:
    """Seconds since the machine started: goes on while it is suspended, and cannot be set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Alarm:
    """A time to wait for.

    Args:
        when: By `Clock.now`.
        latest: By boot time, whatever becomes of the wall clock.
    """

    when: float
    latest: float


class Clock:
    """The only source of wall time below the daemon.

    Args:
        wall: Seconds since the epoch; replaced in tests and simulations.
        boot: Seconds since the machine started, with those in which it was suspended; replaced with the wall.
    """

    def __init__(self, wall: Callable[[], float] = time.time, boot: Callable[[], float] = _boot_time) -> None:
        self.wall = wall
        self.boot = boot
        self._aws = AwsTime()
        self._watch = ClockWatch(wall, boot)

    def now(self) -> float:
        """The later of this host's time and AWS's: what is alive by this is alive by both clocks.

        AWS's is that of the last answer that was believed, carried on by boot time: a wall clock that is set back
        changes nothing, and neither does one that was behind and is set right.
        """
        wall, aws = self.wall(), self._aws.at(self.boot())
        return wall if aws is None else max(wall, aws)

    def then(self, boot: float) -> float:
        """What `now()` was at an earlier boot time, by what is known now."""
        return self.now() - (self.boot() - boot)

    @property
    def skew(self) -> float:
        """Seconds that AWS's clock is ahead of this host's; 0 while that is not known."""
        aws = self._aws.at(self.boot())
        return _skew(self.wall() if aws is None else aws, self.wall())

    def observe(self, aws_time: float) -> None:
        """Note the time that it is at AWS."""
        self._aws.believe(aws_time, self.boot())

    def observe_date(self, header: object, endpoint: str, *, refused: bool = False) -> None:
        """Note the `Date` header of an answer of AWS's; anything else changes nothing.

        Args:
            header: Its text, or None.
            endpoint: Where the answer is from. A time far from what was expected needs more than one answer.
            refused: Whether AWS refused a signature for its time: then it needs no other.
        """
        if (said := _date(header)) is not None:
            self._aws.hear(endpoint, said, boot=self.boot(), wall=self.wall(), refused=refused)

    def skew_by(self, header: object) -> float:
        """The skew that the `Date` header of one answer says, believed or not: to explain that answer."""
        said = _date(header)
        return self.skew if said is None else _skew(said, self.wall())

    def jumps(self) -> int:
        """How often the wall clock was seen to be set so far."""
        return self._watch.jumps

    def alarm(self, when: float) -> Alarm:
        """What to wait for until `now()` has reached `when`."""
        return Alarm(when, self.boot() + when - self.now())

    def left(self, alarm: Alarm) -> float:
        """Seconds until an alarm; not above 0 once it is reached."""
        return min(alarm.when - self.now(), alarm.latest - self.boot())

    async def sleep(self, alarm: Alarm, jumps: int) -> None:
        """Return once an alarm is reached, across a suspend, or `jumps()` are not so many any more.

        A wall clock that is set back does not make it longer.
        """
        while (left := self.left(alarm)) > 0 and self._watch.jumps == jumps:
            await self._watch.nap(max(left, _SHORTEST_NAP), _LONGEST_NAP)

    async def sleep_until(self, when: float) -> None:
        """Return once `now()` has reached `when`, or the wall clock was set: then it is worth to look again."""
        await self.sleep(self.alarm(when), self.jumps())


def _date(header: object) -> float | None:
    if not isinstance(header, str):
        return None
    try:
        return parsedate_to_datetime(header).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def _skew(aws: float, wall: float) -> float:
    return aws - wall if abs(aws - wall) > _SKEW_RESOLUTION else 0.0


def skew_advice(skew: float) -> str:
    """What to do about a clock that AWS's is `skew` seconds ahead of."""
    minutes = round(abs(skew) / 60)
    if not minutes:
        return "compare this host's clock with AWS's"
    return f"this host's clock is {minutes} min {'behind' if skew > 0 else 'ahead of'} AWS's: set it (chronyc makestep)"
