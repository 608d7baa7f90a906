"""What a status document says of now: which roles are in trouble, and whether anything will expire. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, Final, Self

from imds_proxy.cli.status import duration

DAY: Final = 24 * 3600.0
_LATE: Final = 60.0
"""Seconds that a renewal may take before it is called late."""
_HARMFUL_SKEW: Final = 60.0
_RANKS: Final = ("success", "throttled", "unreachable", "invalid", "denied")
"""Outcomes, the worst last: it is what is shown of a stretch of time."""


class Level(IntEnum):
    """How much something asks for attention."""

    WELL = 0
    ATTENTION = 1
    TROUBLE = 2


@dataclass(frozen=True, slots=True)
class RoleNow:
    """A role at a moment after its document was made.

    Args:
        told: The document's part, complete.
        state: The document's, but for what has ended since.
        level: How it is.
        left: Seconds of life; None: it holds nothing that has one.
        life: Seconds from when it was obtained to its end.
        next_in: Seconds until the next renewal; negative: it is late; None: none is planned.
    """

    told: dict[str, Any]
    state: str
    level: Level
    left: float | None
    life: float
    next_in: float | None

    @classmethod
    def of(cls, told: dict[str, Any], now: float, elapsed: float) -> Self:
        """Of the document's part, `elapsed` seconds after it was made, when the daemon's clock shows `now`."""
        left = max(told["seconds_left"] - elapsed, 0.0) if told["key"] else None
        state = "expired" if left == 0 and told["state"] in {"ok", "failing"} else str(told["state"])
        obtained, expires, planned = moment(told["obtained"]), moment(told["expires"]), moment(told["next_attempt"])
        life = expires - obtained if obtained and expires else 0.0
        next_in = planned - now if planned else None
        late = next_in is not None and next_in < -_LATE
        return cls(told, state, _level(told, state, late=late), left, life, next_in)

    @property
    def name(self) -> str:
        """What SDKs see."""
        return str(self.told["role"])

    @property
    def is_late(self) -> bool:
        """Whether its renewal has been due for longer than one takes."""
        return self.next_in is not None and self.next_in < -_LATE

    @property
    def dead(self) -> bool:
        """Whether somebody needs it and it holds nothing that lives."""
        return self.state in {"expired", "pending"}


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether anything will expire before somebody is back.

    Args:
        level: How bad it is.
        text: One sentence.
        more: What else there is to say of it; may be empty.
    """

    level: Level
    text: str
    more: str = ""


def moment(text: str | None) -> float | None:
    """A document's time, in seconds since the epoch; None where it is not one."""
    try:
        return datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return None


def daemon_time(document: dict[str, Any], elapsed: float) -> float:
    """What the daemon goes by: the later of its host's clock and AWS's."""
    behind: float = max(document["clock_skew_seconds"], 0)
    return (moment(document["time"]) or 0.0) + behind + elapsed


def clock_time(at: float) -> str:
    """`14:03:22 UTC`."""
    return f"{datetime.fromtimestamp(at, UTC):%H:%M:%S} UTC"


def roles_now(document: dict[str, Any], elapsed: float) -> list[RoleNow]:
    """Every role, the troubled ones first, and of these the one with the least life."""
    now = daemon_time(document, elapsed)
    roles = [RoleNow.of(told, now, elapsed) for told in document["roles"]]
    return sorted(roles, key=lambda role: (-role.level, (role.left or 0.0) if role.level else 0.0))


def answer(document: dict[str, Any], roles: Sequence[RoleNow], elapsed: float) -> Answer:
    """Will anything expire before I am back?"""
    failing = [role for role in roles if role.state == "failing"]
    if dead := [role for role in roles if role.dead]:
        said = _of_dead(dead)
        also = _of_failing(failing).text if failing else ""
        return replace(said, more=" ".join(filter(None, (said.more, also))))
    if failing:
        return _of_failing(failing)
    if late := [role for role in roles if role.is_late]:
        return Answer(Level.ATTENTION, f"The renewal of {_names(late)} is late; nothing has failed yet.")
    return _of_the_host(document, elapsed) or _all_well(document, roles)


def certificates(document: dict[str, Any], elapsed: float) -> list[tuple[Level, str, float]]:
    """How each certificate is, the role that it is for, and the seconds until it ends; the first to end first."""
    now, found = daemon_time(document, elapsed), []
    for role in document["roles"]:
        if end := moment(role["certificate_expires"]):
            left = end - now
            level = Level.TROUBLE if left <= 0 else Level.ATTENTION if role["certificate_late"] else Level.WELL
            found.append((level, str(role["role"]), left))
    return sorted(found, key=lambda each: each[2])


def clock_off(document: dict[str, Any]) -> str:
    """By how much this host's clock is off, where that is enough to harm; else nothing."""
    skew = document["clock_skew_seconds"]
    if abs(skew) < _HARMFUL_SKEW:
        return ""
    return f"{duration(abs(int(skew)))} {'behind' if skew > 0 else 'ahead of'} AWS's"


def timeline(history: Sequence[dict[str, Any]], now: float, began: float | None, columns: int) -> list[str | None]:
    """The last day in so many columns: the worst outcome of each, "" where nothing was tried, None before the start."""
    width, first = DAY / columns, now - DAY
    ends = (first + (at + 1) * width for at in range(columns))
    cells: list[str | None] = ["" if began is None or end > began else None for end in ends]
    for span in history:
        begin, end = moment(span.get("from")), moment(span.get("to"))
        if begin is None or end is None or end < first:
            continue
        for at in range(_column(begin - first, width, columns), _column(end - first, width, columns) + 1):
            cells[at] = max(cells[at] or "", str(span.get("outcome")), key=_rank)
    return cells


def _column(seconds: float, width: float, columns: int) -> int:
    return min(max(int(seconds / width), 0), columns - 1)


def _rank(outcome: str) -> int:
    if not outcome:
        return -1
    return _RANKS.index(outcome) if outcome in _RANKS else len(_RANKS)


def _level(told: dict[str, Any], state: str, *, late: bool) -> Level:
    if state == "expired" or (state == "pending" and told["failure"]):
        return Level.TROUBLE
    return Level.WELL if state in {"ok", "idle", "unused"} and not late else Level.ATTENTION


def _of_dead(roles: Sequence[RoleNow]) -> Answer:
    has = "has" if len(roles) == 1 else "have"
    if all(role.level < Level.TROUBLE for role in roles):
        return Answer(Level.ATTENTION, f"{_names(roles)} {has} no credentials yet: the first are being obtained.")
    expired = "has expired" if len(roles) == 1 else "have expired"
    what = expired if all(role.state == "expired" for role in roles) else f"{has} no credentials"
    return Answer(Level.TROUBLE, f"{_names(roles)} {what}: {_last_attempt(roles[0])}.", _next_attempt(roles))


def _of_failing(roles: Sequence[RoleNow]) -> Answer:
    first, last = roles[0], _last_attempt(roles[0])
    if first.left is None:  # the sessions of service accounts
        return Answer(Level.ATTENTION, f"A session of {first.name} is not renewed: {last}.", _next_attempt(roles))
    others = f" (and {len(roles) - 1} more after it)" if len(roles) > 1 else ""
    text = f"{first.name} will expire in {duration(int(first.left))}{others} unless a renewal succeeds: {last}."
    return Answer(Level.ATTENTION, text, _next_attempt(roles))


def _of_the_host(document: dict[str, Any], elapsed: float) -> Answer | None:
    """What is wrong where every role is well."""
    failed = [file["path"] for file in document["files"] if file["failure"]]
    if failed:
        return Answer(Level.TROUBLE, f"Every role is well, but {_of_many(failed)} is not kept fresh.")
    if down := document["listeners_down"]:
        return Answer(Level.TROUBLE, f"Nothing will expire, but nobody is served on {_of_many(down)}: it is not open.")
    for level, role, left in certificates(document, elapsed):
        if level:
            when = f"ends in {duration(int(left))}" if left > 0 else "has ended"
            return Answer(level, f"The certificate of {role} {when}: {role} cannot be renewed after that.")
    if clock := clock_off(document):
        return Answer(Level.ATTENTION, f"Nothing will expire, but this host's clock is {clock}.")
    if document["config"]["error"]:
        return Answer(Level.ATTENTION, "Nothing will expire, but the last reload of the config changed nothing.")
    return None


def _all_well(document: dict[str, Any], roles: Sequence[RoleNow]) -> Answer:
    whose = "this user may have" if document["limited"] else "is kept"
    if not roles:
        return Answer(Level.ATTENTION, f"There is no role that {whose}.")
    held = [role for role in roles if role.left is not None]
    sessions = sum(role.told["sessions"] or 0 for role in roles)
    if not held and not sessions:
        return Answer(Level.WELL, "Nothing can expire: no role is asked for at this time.")
    text = f"Nothing will expire: each role that {whose} is renewed ahead of time."
    if not held:
        return Answer(Level.WELL, text)
    first = min(held, key=lambda role: role.left or 0.0)
    more = f"If AWS stopped answering now, {first.name} would expire first, in {duration(int(first.left or 0))}."
    return Answer(Level.WELL, text, more)


def _next_attempt(roles: Sequence[RoleNow]) -> str:
    planned = [role.next_in for role in roles if role.next_in is not None]
    if not planned:
        return ""
    return f"The next attempt is in {duration(int(min(planned)))}." if min(planned) >= 1 else "It is tried again now."


def _names(roles: Sequence[RoleNow]) -> str:
    if len(roles) == 1:
        return roles[0].name
    if len(roles) <= 3:  # noqa: PLR2004 - more would not be one sentence
        return f"{', '.join(role.name for role in roles[:-1])} and {roles[-1].name}"
    return f"{roles[0].name} and {len(roles) - 1} more roles"


def _of_many(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} (and {len(names) - 1} more)"


def _last_attempt(role: RoleNow) -> str:
    outcome = role.told["failure"]["outcome"] if role.told["failure"] else ""
    words = {
        "": "its last renewal has not brought another session",
        "denied": "the last attempt was denied",
        "throttled": "the last attempt was throttled",
        "unreachable": "the last attempt had no answer",
        "invalid": "the last attempt brought nothing that can be used",
    }
    return words.get(outcome, f"the last attempt failed ({outcome})")
