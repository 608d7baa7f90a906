"""`imds-proxy status`: what the running daemon holds."""

import argparse
import json
import time
from typing import Any

from imds_proxy.cli import client
from imds_proxy.cli import options as shared
from imds_proxy.errors import DaemonUnreachableError

_CLEAR = "\x1b[H\x1b[J"
_GOOD = {"ok", "failing", "idle"}
_LIMITED = """This is what this user may see; root, the daemon's user and those in [admin] allowed_users see everything,
among it why a renewal failed."""
_HEADINGS = ("ROLE", "STATE", "KEY", "LEFT", "NEXT", "SESSION")


def register(verbs: Any) -> None:
    """Add the verb."""
    verb = verbs.add_parser(
        "status", help="show what the daemon holds", description="Show what the running daemon holds."
    )
    shared.add_config(verb)
    verb.add_argument("--json", action="store_true", help="the document itself")
    verb.add_argument("--watch", action="store_true", help="again every two seconds, until Ctrl-C")
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print once or for ever; 1 when a served role that somebody asks for has no live credentials."""
    target = shared.target(options)
    while options.watch:
        try:
            text = render(client.status(target), as_json=options.json)
        except DaemonUnreachableError as error:  # a restart should not end the watching
            text = str(error)
        print(f"{_CLEAR}{text}", flush=True)
        time.sleep(2)
    status = client.status(target)
    print(render(status, as_json=options.json))
    return int(any(role["served"] and role["state"] not in _GOOD for role in status["roles"]))


def render(status: dict[str, Any], *, as_json: bool) -> str:
    """The document, or a table with every failure under it."""
    if as_json:
        return json.dumps(status, indent=2, ensure_ascii=False)
    rows = [_HEADINGS, *(_row(role) for role in status["roles"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for role in status["roles"]:
        if failure := role["failure"]:
            whose = f" for {failure['service_account']}" if "service_account" in failure else ""
            message = f": {failure['message']}" if failure["message"] else ""
            lines += ["", f"{role['role']}{whose}: {failure['outcome']} at {failure['at']}{message}"]
            lines += [f"  → {failure['advice']}"] if failure["advice"] else []
    for file in status.get("files", ()):
        lines += _troubles(file)
    if status.get("limited"):
        lines += ["", _LIMITED]
    served = f"{status['requests']} requests, {status['connections']} connections on {', '.join(status['listeners'])}"
    return "\n".join([*lines, "", f"imds-proxy {status['version']}, up since {status['started']}: {served}"])


def _troubles(file: dict[str, Any]) -> list[str]:
    """What is wrong with a file that is kept fresh."""
    lines = []
    if failure := file["failure"]:
        since = f"written at {file['written']}" if file["written"] else "never written"
        lines += ["", f"{failure['message']} (at {failure['at']}; {since})", f"  → {failure['advice']}"]
    for warning in file["warnings"]:
        lines += ["", f"{file['path']}: {warning}"]
    return lines


def _row(role: dict[str, Any]) -> tuple[str, ...]:
    name = role["role"] + (" *" if role["default"] else "")
    left = duration(role["seconds_left"]) if role["key"] else "-"
    return (
        name,
        role["state"],
        role["key"] or "-",
        left,
        role["next_attempt"][11:19] if role["next_attempt"] else "-",
        _session(role),
    )


def _session(role: dict[str, Any]) -> str:
    """Whose session it is, or how many there are of a role with one for each service account."""
    if (sessions := role.get("sessions")) is not None:
        return f"{sessions} session(s) of service accounts"
    return str(role["session_arn"] or role["role_arn"] or "-")


def duration(seconds: int) -> str:
    """`1h02m`, `29m30s` or `45s`."""
    minutes, rest = divmod(max(seconds, 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
