"""`imds-proxy status`: what the running daemon holds."""

import argparse
import json
import os
import sys
import time
from datetime import UTC, datetime
from typing import Any

from imds_proxy.cli import options as shared
from imds_proxy.cli import terminal
from imds_proxy.cli.status_document import complete
from imds_proxy.errors import ConfigError, DaemonUnreachableError
from imds_proxy.printable import escaped

_ASKED_EVERY = 2.0
_GOOD = {"ok", "failing", "idle"}
_LIMITED = """This is what this user may see; root, the daemon's user and those in [admin] allowed_users see everything,
among it why a renewal failed."""
_LONG = 48
"""Hours from which days are easier to read."""
_HEADINGS = ("ROLE", "STATE", "KEY", "LEFT", "NEXT", "SESSION")


def register(verbs: Any) -> None:
    """Add the verb."""
    verb = verbs.add_parser(
        "status", help="show what the daemon holds", description="Show what the running daemon holds."
    )
    shared.add_config(verb)
    verb.add_argument(
        "--check",
        action="store_true",
        help="for health checks: exit 0 and print nothing when every served role has live credentials, else exit 1",
    )
    verb.add_argument("--json", action="store_true", help="the document itself; with --watch one in each line")
    verb.add_argument(
        "--watch", action="store_true", help="a live view until Ctrl-C; not on a terminal: again every two seconds"
    )
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print once or for ever; 1 when a served role that somebody asks for has no live credentials."""
    if options.check:
        if options.json or options.watch:
            raise ConfigError("status --check prints nothing: --json and --watch do not go with it")
        from imds_proxy.cli.status_check import check

        check(options.config)
        return 0
    from imds_proxy.cli import daemon_client

    target = shared.target(options)
    if options.watch and not options.json and _has_screen():
        from imds_proxy.cli.status_watch import watch

        return watch(lambda: daemon_client.status(target), target.admin)
    while options.watch:
        _print_next(target, as_json=options.json)
        time.sleep(_ASKED_EVERY)
    status = daemon_client.status(target)
    print(render(status, as_json=options.json))
    return int(any(role["served"] and role["state"] not in _GOOD for role in complete(status)["roles"]))


def _has_screen() -> bool:
    """Whether standard output is a terminal that can be painted on: no escape code ever goes anywhere else."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in {"dumb", "unknown"}


def _print_next(target: shared.Target, *, as_json: bool) -> None:
    """One line of JSON, or the time and a table; a daemon that is away does not end the watching."""
    from imds_proxy.cli import daemon_client

    try:
        status = daemon_client.status(target)
    except DaemonUnreachableError as error:
        if as_json:  # its reader takes every line for a document
            print(f"imds-proxy: {error}", file=sys.stderr, flush=True)
            return
        text = str(error)
    else:
        text = _json(status) if as_json else render(status, as_json=False)
    print(text if as_json else f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n{text}\n", flush=True)


def render(status: dict[str, Any], *, as_json: bool) -> str:
    """The document, or a table with every failure under it."""
    if as_json:
        return _json(status, indent=2)
    status = complete(status)
    rows = [_HEADINGS, *(_row(role) for role in status["roles"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for role in status["roles"]:
        if failure := role["failure"]:
            whose = f" for {failure['service_account']}" if "service_account" in failure else ""
            message = f": {failure['message']}" if failure["message"] else ""
            lines += ["", f"{role['role']}{whose}: {failure['outcome']} at {failure['at']}{message}"]
            lines += [f"  → {failure['advice']}"] if failure["advice"] else []
    for file in status["files"]:
        lines += _troubles(file)
    for entry in status["listeners_down"]:
        lines += ["", f"nothing listens on {entry}: the log says why; it is tried again"]
    if error := status["config"]["error"]:
        lines += ["", f"the last reload of the config changed nothing: {error}"]
    if status["limited"]:
        lines += ["", _LIMITED]
    served = f"{status['requests']} requests, {status['connections']} connections on {', '.join(status['listeners'])}"
    return "\n".join([*lines, "", f"imds-proxy {status['version']}, up since {status['started']}: {served}"])


def _json(status: dict[str, Any], indent: int | None = None) -> str:
    return escaped(json.dumps(status, indent=indent, ensure_ascii=terminal.only_ascii()))


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
    key, next_attempt = role["key"] or "-", role["next_attempt"][11:19] if role["next_attempt"] else "-"
    return tuple(map(terminal.in_this_locale, (name, role["state"], key, left, next_attempt, _session(role))))


def _session(role: dict[str, Any]) -> str:
    """Whose session it is, or how many there are of a role with one for each service account."""
    if (sessions := role.get("sessions")) is not None:
        return f"{sessions} session(s) of service accounts"
    return str(role["session_arn"] or role["role_arn"] or "-")


def duration(seconds: int) -> str:
    """`3d04h`, `1h02m`, `29m30s` or `45s`."""
    minutes, rest = divmod(max(seconds, 0), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= _LONG:
        return f"{hours // 24}d{hours % 24:02}h"
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
