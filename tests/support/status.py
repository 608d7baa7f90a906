"""Status documents as the daemon makes them, for tests of what shows them."""

from datetime import UTC, datetime, timedelta
from typing import Any

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


def at(seconds: float) -> str:
    """So many seconds from the document's own time."""
    return f"{NOW + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"


def role(name: str = "deploy", **changes: Any) -> dict[str, Any]:
    """A role that is well: obtained 20 minutes ago for an hour, and renewed in 10 minutes."""
    return {
        "role": name,
        "state": "ok",
        "source": "assume-role",
        "from": None,
        "role_arn": f"arn:aws:iam::123456789012:role/{name}",
        "served": True,
        "on_demand": False,
        "sessions": None,
        "default": False,
        "certificate_expires": None,
        "certificate_late": False,
        "session_arn": f"arn:aws:sts::123456789012:assumed-role/{name}/web-1",
        "key": "…ABCD",
        "obtained": at(-1200),
        "expires": at(2400),
        "due": at(600),
        "seconds_left": 2400,
        "next_attempt": at(600),
        "failure": None,
        "grants": ["user codedeploy"],
        "history": [],
    } | changes


def failure(outcome: str = "denied", **changes: Any) -> dict[str, Any]:
    """Of two minutes ago."""
    return {"outcome": outcome, "message": f"AWS said {outcome}", "advice": "mend it", "at": at(-120)} | changes


def failing(name: str = "deploy", left: int = 600, **changes: Any) -> dict[str, Any]:
    """A role whose last renewal was denied."""
    changes = {"state": "failing", "seconds_left": left, "failure": failure(), "next_attempt": at(30)} | changes
    return role(name, expires=at(left), obtained=at(left - 3600), **changes)


def span(begin: float, end: float, outcome: str = "success") -> dict[str, Any]:
    """Attempts of a role, in seconds from the document's own time."""
    return {"from": at(begin), "to": at(end), "outcome": outcome, "attempts": 1}


def document(*roles: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Of a daemon that runs for two days and is well."""
    return {
        "limited": False,
        "version": "1.2.3",
        "started": at(-200_000),
        "time": at(0),
        "ready": True,
        "clock_skew_seconds": 0,
        "listeners": ["127.0.0.1:1338"],
        "listeners_down": [],
        "requests": 1234,
        "answers": [
            {"protocol": "imds_v2", "document": "token", "status": 200, "count": 600},
            {"protocol": "imds_v2", "document": "credentials", "status": 200, "count": 630},
            {"protocol": "container", "document": "credentials", "status": 0, "count": 4},
        ],
        "limited_requests": 0,
        "connections": 7,
        "config": {"loaded": at(-7200), "error": None},
        "roles": list(roles) or [role()],
        "files": [],
        "base_key": None,
        "audit_write_failures": 0,
    } | changes
