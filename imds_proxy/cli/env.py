"""`imds-proxy env`: the client environment as lines for a shell."""

import argparse
import os
import shlex
import sys
from typing import Any

from imds_proxy.cli import client, environment, listener_owner
from imds_proxy.cli import options as shared


def register(verbs: Any) -> None:
    """Add the verb."""
    verb = verbs.add_parser(
        "env",
        help="print the environment that makes SDKs find the daemon",
        description='Print the environment that makes SDKs find the daemon. In a shell: eval "$(imds-proxy env)"',
    )
    add_role(verb)
    shared.add_endpoint(verb)
    verb.set_defaults(run=run)


def add_role(verb: argparse.ArgumentParser) -> None:
    """`--role R`."""
    verb.add_argument("--role", help="another role than the default one, by the container protocol")


def run(options: argparse.Namespace) -> int:
    """Print export and unset lines."""
    for name, value in client_changes(options).items():
        print(f"unset {name}" if value is None else f"export {name}={shlex.quote(value)}")
    return 0


def client_changes(options: argparse.Namespace) -> dict[str, str | None]:
    """The changes to this process's environment for a role; warns of a profile that would be taken instead.

    Raises:
        ForeignListenerError: Another user listens where the program would connect.
    """
    target = shared.target(options)
    listener_owner.check_url(target.endpoint)
    settings = environment.instance_metadata(target.endpoint)
    if options.role and client.container_token(target, options.role):
        token_file = client.token_path(target, options.role)
        settings = environment.container(target.endpoint, options.role, token_file)
    elif options.role and options.role != (target.default_role or client.default_role(target)):
        raise client.no_access(target, options.role)
    if path := environment.shadowing_profile(os.environ):
        warning = f"{path} has a [default] profile, which SDKs use before this role: remove or rename it"
        print(f"imds-proxy: warning: {warning}", file=sys.stderr)
    return environment.changes(os.environ, settings, target.region)
