"""`/status.json` made fit for a terminal: of any version of the daemon, without anything that a terminal obeys."""

from typing import Any, Final

from imds_proxy.printable import printable

_LONGEST: Final = 2000
"""Characters of one text."""
_DOCUMENT: Final[dict[str, Any]] = {
    "limited": False,
    "version": "?",
    "started": None,
    "time": None,
    "clock_skew_seconds": 0,
    "listeners": [],
    "listeners_down": [],
    "requests": 0,
    "answers": [],
    "limited_requests": 0,
    "connections": 0,
    "config": {},
    "roles": [],
    "files": [],
    "base_key": None,
    "audit_write_failures": 0,
}
_ROLE: Final[dict[str, Any]] = {
    "role": "?",
    "state": "?",
    "source": "?",
    "from": None,
    "role_arn": None,
    "served": False,
    "on_demand": False,
    "sessions": None,
    "default": False,
    "certificate_expires": None,
    "certificate_late": False,
    "session_arn": None,
    "key": None,
    "obtained": None,
    "expires": None,
    "seconds_left": 0,
    "next_attempt": None,
    "failure": None,
    "grants": None,
    "history": [],
}
_FAILURE: Final[dict[str, Any]] = {"outcome": "failed", "message": "", "advice": "", "at": "?"}
_FILE: Final[dict[str, Any]] = {
    "path": "?",
    "format": "?",
    "roles": [],
    "written": None,
    "failure": None,
    "warnings": [],
}
_ANSWER: Final[dict[str, Any]] = {"protocol": "?", "document": "?", "status": "?", "count": 0}


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """The document with every key that is read of it but those of histories, and its texts as they may be printed."""
    whole = _filled(_DOCUMENT, printable_texts(document))
    whole["config"] = _filled({"loaded": None, "error": None}, whole["config"])
    whole["answers"] = [_filled(_ANSWER, answer) for answer in whole["answers"]]
    whole["roles"] = [_filled(_ROLE, role) for role in whole["roles"]]
    whole["files"] = [_filled(_FILE, file) for file in whole["files"]]
    for each in (*whole["roles"], *whole["files"]):
        each["failure"] = each["failure"] and _filled(_FAILURE, each["failure"])
    return whole


def printable_texts(value: Any) -> Any:
    """A document with every text in it on one line, as it may be printed."""
    if isinstance(value, str):
        return printable(value, _LONGEST)
    if isinstance(value, list):
        return [printable_texts(each) for each in value]
    if isinstance(value, dict):
        return {printable_texts(key): printable_texts(each) for key, each in value.items()}
    return value


def _filled(defaults: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    return defaults | {key: value for key, value in given.items() if value is not None}
