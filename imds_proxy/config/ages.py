"""`[renewal] max_age`: neither longer than the sessions, nor shorter than all roles together can be renewed."""

import contextlib
from collections.abc import Iterator
from typing import Any, Final

from imds_proxy.config.output_files import session_life
from imds_proxy.config.types import DAY, HOUR, MINUTE, parse_duration

MOST_RENEWALS: Final = 20
"""Attempts in a second, of all roles: `renewal/turns.py` has why."""


def age_mistakes(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Mistakes that span `[renewal]` and the roles, as (key path, what is wrong); in the raw data."""
    renewal, roles = data.get("renewal"), data.get("roles")
    if not isinstance(renewal, dict) or not isinstance(roles, dict) or not roles or "max_age" not in renewal:
        return
    max_age: object = None
    with contextlib.suppress(ValueError):  # told of by its own table
        max_age = parse_duration(renewal["max_age"])
    if not isinstance(max_age, int) or max_age < 1:
        return
    lives = [session_life(role) if isinstance(role, dict) else None for role in roles.values()]
    known = [life for life in lives if life is not None]
    if len(known) == len(lives) and max_age >= max(known):
        yield "renewal.max_age", _TOO_LONG.format(age=in_words(max_age), life=in_words(max(known)))
    if len(roles) > MOST_RENEWALS * max_age:
        yield "renewal.max_age", _TOO_SHORT.format(roles=len(roles), age=in_words(max_age), most=MOST_RENEWALS)


def in_words(seconds: int) -> str:
    """As the config has it: `90m`, `1h30m` as `90m`, `45s`."""
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "m")):
        if seconds and seconds % unit == 0:
            return f"{seconds // unit}{name}"
    return f"{seconds}s"


_TOO_LONG: Final = (
    "{age} is no shorter than the longest session ({life}), which is renewed before it ends in any case: take less, or"
    " leave it out"
)
_TOO_SHORT: Final = (
    "{roles} roles cannot all be renewed every {age}: at most {most} are attempted in a second, so as not to be"
    " throttled"
)
