"""What `/status.json` and `/readyz` say, as values."""

from collections.abc import Iterable
from typing import Any

from imds_proxy import __version__
from imds_proxy.clock import Clock
from imds_proxy.credentials import timestamp
from imds_proxy.renewal.keeper import Keeper


def role_status(
    keeper: Keeper, clock: Clock, *, role_arn: str, source: str, served: bool, default: bool
) -> dict[str, Any]:
    """One role: what it holds, until when, and what is wrong, if anything.

    `state` is `ok`, `failing` (live credentials, last renewal failed), `expired`, or `pending` (never had any).
    """
    held, failure = keeper.live(), keeper.failure
    credentials = keeper.last
    state = ("failing" if failure else "ok") if held else ("expired" if credentials else "pending")
    return {
        "role": keeper.role,
        "state": state,
        "source": source,
        "role_arn": role_arn,
        "served": served,
        "default": default,
        "session_arn": credentials.session_arn if credentials else None,
        "key": f"…{credentials.key_hint}" if credentials else None,
        "obtained": timestamp(credentials.obtained) if credentials else None,
        "expires": timestamp(credentials.expiration) if credentials else None,
        "seconds_left": max(0, int(credentials.expiration - clock.now())) if credentials else 0,
        "next_attempt": timestamp(keeper.next_attempt),
        "failure": {
            "outcome": failure.outcome,
            "message": failure.message,
            "advice": failure.advice,
            "at": timestamp(failure.at),
        }
        if failure
        else None,
    }


def not_ready(keepers: Iterable[Keeper]) -> dict[str, str]:
    """Why each role without live credentials has none, by its name."""
    return {
        keeper.role: keeper.failure.message if keeper.failure else "the first credentials are being obtained"
        for keeper in keepers
        if keeper.live() is None
    }


def daemon_status(
    *, started: float, clock: Clock, listeners: list[str], requests: int, connections: int, roles: list[dict[str, Any]]
) -> dict[str, Any]:
    """The whole of `/status.json`."""
    return {
        "version": __version__,
        "started": timestamp(started),
        "time": timestamp(clock.wall()),
        "clock_skew_seconds": round(clock.skew),
        "listeners": listeners,
        "requests": requests,
        "connections": connections,
        "roles": roles,
    }
