"""When to try again after an attempt that brought nothing: pure functions of outcome, chance and seconds.

There are two waits. The ordinary one grows with the failures in a row. The shorter one holds as soon as a request finds
no live credentials: then a client needs them now, and AWS may have been back for a while.
"""

from typing import Final

RETRY_FIRST, RETRY_LONGEST = 1.0, 60.0
# Somebody has to change something at AWS before a denial goes away.
DENIED_FIRST, DENIED_LONGEST = 30.0, 300.0

AGAIN: Final = 2.0
"""Seconds between attempts that requests bring forward, all requests for a role together."""
REFUSED_AGAIN: Final = 30.0
"""The same after a refusal, or an answer without sense: somebody has to change something first."""
SPREAD: Final = 1 / 4
"""Part of a wait by which chance makes it longer: hosts that lost AWS together do not come back together."""
LONGEST_RETRY_AFTER: Final = 300.0
"""Seconds that a service may ask us to wait, whatever its Retry-After says."""

_REFUSED: Final = frozenset({"denied", "invalid"})


def wait_after_failure(failures: int, chance: float, *, denied: bool) -> float:
    """Exponential backoff with jitter over its whole width, from 1 to 60 s; after a denial from 30 s to 5 min.

    Args:
        failures: In a row, at least 1.
        chance: Uniform in [0, 1).
        denied: Whether AWS said no, and somebody has to change something before it says yes.
    """
    first, longest = (DENIED_FIRST, DENIED_LONGEST) if denied else (RETRY_FIRST, RETRY_LONGEST)
    ceiling = min(first * 2.0 ** min(failures, 16), longest)
    return first + (ceiling - first) * chance


def wait_for_next(outcome: str, failures: int, chance: float, retry_after: float = 0.0) -> float:
    """Seconds until the next attempt, where no request waits for it.

    Args:
        outcome: Of the failed attempt, as in `renewals_total`.
        failures: In a row, at least 1.
        chance: Uniform in [0, 1).
        retry_after: Seconds that the service asked for; 0: it did not say.
    """
    backoff = wait_after_failure(failures, chance, denied=outcome == "denied")
    return max(backoff, _spread(min(retry_after, LONGEST_RETRY_AFTER), chance))


def wait_on_request(outcome: str, wait: float, chance: float) -> float:
    """Seconds until the next attempt, where a request waits for it: never more than `wait`.

    Args:
        outcome: Of the last attempt, "success" included: a session may be dead a moment later.
        wait: What `wait_for_next` gave. After throttling it stays: requests must not make more calls then.
        chance: Uniform in [0, 1).
    """
    if outcome == "throttled":
        return wait
    return min(wait, _spread(REFUSED_AGAIN if outcome in _REFUSED else AGAIN, chance))


def _spread(seconds: float, chance: float) -> float:
    return seconds * (1 + SPREAD * chance)
