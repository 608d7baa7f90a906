"""What a daemon says of a role over hours, made by its own schedule: alerts are held against what it really does."""

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from imds_proxy.backoff import wait_after_failure
from imds_proxy.renewal.schedule import renewal_age

PREFIX = "imds_proxy_"
_ATTEMPT = 1.0  # seconds that AWS takes


@dataclass(frozen=True)
class Figures:
    """One role's, from a time on."""

    at: float
    due: float
    end: float = 0.0
    renewed: float = 0.0
    succeeded: int = 0
    denied: int = 0
    failed: int = 0


@dataclass(frozen=True)
class Away:
    """When a role cannot be renewed, in seconds, and whether because AWS says no."""

    begin: float = math.inf
    end: float = math.inf
    denied: bool = False


def lived(life: float, until: float, away: Away, seed: int = 0) -> list[Figures]:
    """A role from its first attempt on, at the time 0."""
    return list(itertools.takewhile(lambda figures: figures.at < until, _lived(life, away, random.Random(seed).random)))


def _lived(life: float, away: Away, chance) -> Iterator[Figures]:
    now = Figures(0.0, 0.0)
    yield now
    at, failures = 0.0, 0
    while True:
        if away.begin <= at < away.end:
            failures += 1
            now = replace(now, denied=now.denied + away.denied, failed=now.failed + (not away.denied), at=at + _ATTEMPT)
            at = now.at + wait_after_failure(failures, chance(), denied=away.denied)
        else:
            obtained, failures = at + _ATTEMPT, 0
            at = obtained + renewal_age(life, chance())
            now = replace(now, at=obtained, due=at, end=obtained + life, renewed=obtained, succeeded=now.succeeded + 1)
        yield now


def scraped(figures: list[Figures], until: float, *, step: float = 30.0, labels: str) -> dict[str, list[float]]:
    """Its series; `labels` without braces."""
    seen = [max((each for each in figures if each.at <= at), key=lambda each: each.at) for at in _times(until, step)]
    outcomes = {"success": "succeeded", "denied": "denied", "unreachable": "failed"}
    gauges = {"expiration": "end", "renewal_due": "due", "renewed": "renewed"}
    return {
        f"{PREFIX}credential_{name}_timestamp_seconds{{{labels}}}": [getattr(each, field) for each in seen]
        for name, field in gauges.items()
    } | {
        f'{PREFIX}renewals_total{{{labels},outcome="{name}"}}': [getattr(each, field) for each in seen]
        for name, field in outcomes.items()
    }


def _times(until: float, step: float) -> list[float]:
    return [step * count for count in range(int(until / step) + 1)]
