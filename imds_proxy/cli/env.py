"""`imds-proxy env`: the client environment as lines for a shell."""

import argparse
import os
import shlex
import sys
import time
from typing import Any, Final

from imds_proxy.cli import daemon_client, listener_owner, sdk_environment, terminal
from imds_proxy.cli import options as shared
from imds_proxy.errors import ConfigError, DaemonUnreachableError, ImdsProxyError, NoCredentialsYetError

_ANSWERED_WITHIN: Final = 2.0
"""Seconds: a command is not held up longer by a daemon that hangs."""
_ON_DEMAND, _STEP = 1.5, 0.1  # seconds


def register(verbs: Any) -> None:
    """Add the verb."""
    verb = verbs.add_parser(
        "env",
        help="print the environment that makes SDKs find the daemon",
        description='Print the environment that makes SDKs find the daemon. In a shell: eval "$(imds-proxy env)"',
    )
    add_role(verb)
    add_token(verb, "prints")
    shared.add_endpoint(verb)
    verb.set_defaults(run=run)


def add_role(verb: argparse.ArgumentParser) -> None:
    """`--role R`."""
    verb.add_argument("--role", help="another role than the default one, by the container protocol")


def add_token(verb: argparse.ArgumentParser, does: str) -> None:
    """`--token-in-environment`."""
    verb.add_argument(
        "--token-in-environment",
        action="store_true",
        help="with --role, for clients that know AWS_CONTAINER_AUTHORIZATION_TOKEN and no file with the token (as"
        f" minio-java, cognitect aws-api and s5cmd): set that, too. It {does} a secret: whoever sees the environment"
        " of the program, or of one that it starts, may have the role",
    )


def run(options: argparse.Namespace) -> int:
    """Print export and unset lines."""
    target = shared.target(options)
    changes, problem = client_changes(options, target)
    for name, value in changes.items():
        terminal.write_exactly(f"unset {name}\n" if value is None else f"export {name}={shlex.quote(value)}\n")
    if problem is not None:
        warn(problem)
    return 0


def client_changes(
    options: argparse.Namespace, target: shared.Target
) -> tuple[dict[str, str | None], ImdsProxyError | None]:
    """The changes to this process's environment for a role, and why its credentials cannot be had now.

    Warns of a profile that would be taken instead.

    Raises:
        ForeignListenerError: Another user listens where the program would connect.
        ImdsProxyError: The role cannot be had from here.
    """
    listener_owner.check_url(target.endpoint)
    settings = _settings(options, target)
    if path := sdk_environment.shadowing_profile(os.environ):
        words = f"{path} has a [default] profile, which SDKs use before this role: remove or rename it"
        warn(ImdsProxyError(words))
    problem = _trouble(target, options.role)
    region = target.region or sdk_environment.region_of(os.environ)
    if region is None and not isinstance(problem, DaemonUnreachableError):
        region = daemon_client.region(target, _ANSWERED_WITHIN)
    return sdk_environment.changes(os.environ, settings, region), problem


def warn(problem: ImdsProxyError) -> None:
    """Say on standard error what is wrong; it keeps nobody from going on."""
    advice = f"\n  → {problem.advice}" if problem.advice else ""
    print(f"imds-proxy: warning: {problem.message}{advice}", file=sys.stderr)


def _trouble(target: shared.Target, role: str | None) -> ImdsProxyError | None:
    """Why there are no credentials. A role that is obtained on demand has been asked for by this: it has a moment."""
    deadline = time.monotonic() + _ON_DEMAND
    while isinstance(problem := daemon_client.trouble(target, role, _ANSWERED_WITHIN), NoCredentialsYetError):
        if time.monotonic() >= deadline:
            break
        time.sleep(_STEP)
    return problem


def _settings(options: argparse.Namespace, target: shared.Target) -> dict[str, str]:
    role, in_environment = options.role, options.token_in_environment
    if in_environment and not role:
        raise ConfigError("--token-in-environment goes with --role: without it no token is used")
    token = daemon_client.container_token(target, role) if role else None
    if token:
        path = daemon_client.token_path(target, role)
        return sdk_environment.container(target.endpoint, role, path, token if in_environment else None)
    if role and (in_environment or role != (target.default_role or daemon_client.default_role(target))):
        raise daemon_client.no_access(target, role)
    return sdk_environment.instance_metadata(target.endpoint)
