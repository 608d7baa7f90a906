"""`imds-proxy exec -- CMD`: a command with the client environment."""

import argparse
import os
from typing import Any

from imds_proxy.cli import env
from imds_proxy.cli import options as shared
from imds_proxy.errors import ImdsProxyError


def register(verbs: Any) -> None:
    """Add the verb."""
    verb = verbs.add_parser(
        "exec",
        help="run a command whose SDK finds the daemon",
        description="Run a command whose SDK finds the daemon, with nothing else before it. No secret is passed: the"
        " command fetches its credentials, and fetches them again, by itself.",
        usage="imds-proxy exec [-h] [--role ROLE] [--config FILE] [--endpoint URL] -- COMMAND …",
    )
    env.add_role(verb)
    shared.add_endpoint(verb)
    verb.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND …")
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Become the command; returns only by raising."""
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        raise ImdsProxyError("no command given", "imds-proxy exec -- aws sts get-caller-identity")
    changed = os.environ | env.client_changes(options)
    environment = {name: value for name, value in changed.items() if value is not None}
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606 - running it is the purpose
    except OSError as error:
        raise ImdsProxyError(f"{command[0]}: {error.strerror}") from None
