"""`imds-proxy renew`: new sessions now, from the running daemon."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any, Final

from imds_proxy.admin.request_check import RENEW_HEADER
from imds_proxy.cli import daemon_client
from imds_proxy.cli import options as shared
from imds_proxy.cli.status_document import printable_texts
from imds_proxy.errors import ConfigError, DaemonUnreachableError

_ANSWERED_WITHIN: Final = 150.0
"""Seconds; the daemon answers sooner, whatever AWS does."""
_OK, _NOT_FOUND = 200, 404
_WITH_WORDS: Final = 400, 403, 429
_ROLE: Final = {"role": "?", "service_account": "", "outcome": "?", "message": "", "advice": "", "same": False}


def register(verbs: Any) -> None:
    """Add the verb."""
    verb = verbs.add_parser(
        "renew",
        help="obtain new sessions now",
        description='Have the running daemon obtain new sessions now, as after AWS\'s "Revoke active sessions". What it'
        " has saved of them is dropped, so that no restart serves it; what is held is served on where there is no new"
        " one. Run it as root or as the user the daemon runs as.",
    )
    shared.add_config(verb)
    verb.add_argument("roles", nargs="*", metavar="ROLE", help="(default: all that are kept at this time)")
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print a line for each session; 1 if one could not be renewed."""
    failed, renewed = 0, renew(shared.target(options), options.roles)
    if not renewed:
        print("nothing is kept at this time that could be renewed")
    for role in renewed:
        if role["outcome"] == "success":
            print(f"{_name(role)}: {'the same session as before' if role['same'] else 'renewed'}: {_held(role)}")
            continue
        failed = 1
        print(f"{_name(role)}: {_why(role)}; served: {_held(role)}; saved: nothing", file=sys.stderr)
        if role["advice"]:
            print(f"  → {role['advice']}", file=sys.stderr)
    return failed


def renew(target: shared.Target, roles: Sequence[str]) -> list[dict[str, Any]]:
    """How the renewal of each session of these roles ended; of all that are kept, where they are none.

    Raises:
        ConfigError: The daemon keeps no such role.
        DaemonUnreachableError: It did not do it.
    """
    url, headers = f"{target.admin}/renew", {"Content-Type": "application/json", RENEW_HEADER: "1"}
    body = json.dumps({"roles": list(roles)}).encode()
    code, said = daemon_client.ask(url, headers, "POST", target.admin_certificate, body=body, within=_ANSWERED_WITHIN)
    document = _document(said)
    if code == _NOT_FOUND and "unknown" in document:
        unknown, known = (", ".join(document.get(key, ())) for key in ("unknown", "roles"))
        raise ConfigError(f"the daemon keeps no role {unknown}; there are: {known or 'none'}")
    if code != _OK or "roles" not in document:
        answer = said.decode(errors="replace").strip()
        words = answer if code in _WITH_WORDS else "is it an older imds-proxy?"
        raise DaemonUnreachableError(f"{url} answered {code}: {words}")
    return [_ROLE | role for role in document["roles"]]


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return printable_texts(document) if isinstance(document, dict) else {}


def _name(role: dict[str, Any]) -> str:
    return f"{role['role']} for {role['service_account']}" if role["service_account"] else str(role["role"])


def _why(role: dict[str, Any]) -> str:
    if role["outcome"] == "pending":
        return "not renewed yet: it goes on, see imds-proxy status"
    message = role["message"].removeprefix(f'role "{role["role"]}": ')
    return f"not renewed ({role['outcome']}): {message}"


def _held(role: dict[str, Any]) -> str:
    return f"{role['key']} until {role['expires']}" if role.get("key") else "nothing"
