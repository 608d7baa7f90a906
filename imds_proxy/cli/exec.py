"""`imds-proxy exec -- CMD`: a command with the client environment."""

import argparse
import errno
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

from imds_proxy.cli import daemon_client, env
from imds_proxy.cli import options as shared
from imds_proxy.errors import CannotRunError, ImdsProxyError

_NOT_FOUND, _NOT_RUN = 127, 126  # as POSIX has it for `env`, `nice` and the shell
_STEP: Final = 0.25
"""Seconds between two looks at the daemon."""
_ANSWERED_WITHIN: Final = 2.0


def register(verbs: Any) -> None:
    """Add the verb."""
    verb = verbs.add_parser(
        "exec",
        help="run a command whose SDK finds the daemon",
        description="Run a command whose SDK finds the daemon, with nothing else before it. No secret is passed: the"
        " command fetches its credentials, and fetches them again, by itself. The exit code is that of the command;"
        " 127 if there is no such command, 126 if it cannot be run.",
        usage="imds-proxy exec [-h] [--role ROLE] [--wait DURATION] [--token-in-environment]\n"
        "                       [--config FILE] [--endpoint URL] -- COMMAND …",
    )
    env.add_role(verb)
    verb.add_argument(
        "--wait",
        metavar="DURATION",
        type=_duration,
        help="wait so long, as in 30s or 2m, until the role has credentials for this user; if it has none then, say why"
        " and end with 1, without running the command (default: run it at once, and warn)",
    )
    env.add_token(verb, "passes on")
    shared.add_endpoint(verb)
    verb.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND …")
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Become the command; returns only by raising."""
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        raise ImdsProxyError("no command given", "imds-proxy exec -- aws sts get-caller-identity")
    target = shared.target(options)
    if options.wait is not None:
        _wait(target, options.role, options.wait)
    changes, problem = env.client_changes(options, target)
    if problem is not None:
        env.warn(problem)
    changed = os.environ | changes
    _become(command, {name: value for name, value in changed.items() if value is not None})


def _wait(target: shared.Target, role: str | None, seconds: int) -> None:
    """Return once a program of this user gets credentials; raises ImdsProxyError with the reason why it does not."""
    deadline = time.monotonic() + seconds
    while True:
        left = deadline - time.monotonic()
        problem = daemon_client.trouble(target, role, min(_ANSWERED_WITHIN, max(left, _STEP)))
        if problem is None:
            return
        if left <= 0:
            raise ImdsProxyError(
                f"no credentials after {seconds} s, nothing was run: {problem.message}", problem.advice
            )
        time.sleep(min(_STEP, left))


def _become(command: list[str], environment: Mapping[str, str]) -> NoReturn:
    sys.stdout.flush()
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and the command would inherit that
        signal.signal(number, signal.SIG_DFL)
    try:
        if not command[0]:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        os.execvpe(command[0], command, environment)  # noqa: S606 - running it is the purpose
    except OSError as error:
        raise _cannot_run(command[0], error, environment) from None


def _cannot_run(name: str, error: OSError, environment: Mapping[str, str]) -> CannotRunError:
    searched = "/" not in name
    if searched and isinstance(error, FileNotFoundError | NotADirectoryError):
        return CannotRunError(f"{name or repr(name)}: command not found", "", _NOT_FOUND)
    found = name if not searched else shutil.which(name, path=environment.get("PATH")) or name
    if isinstance(error, FileNotFoundError):
        if os.path.lexists(found):
            return CannotRunError(f"{name}: the interpreter in its first line is not there", "", _NOT_FOUND)
        return CannotRunError(f"{name}: {error.strerror}", "", _NOT_FOUND)
    if isinstance(error, PermissionError) and Path(found).is_dir():
        return CannotRunError(f"{name}: Is a directory", "", _NOT_RUN)
    advice = "it is no program of this machine, or a script without #! in its first line: sh FILE runs a script"
    return CannotRunError(f"{name}: {error.strerror}", advice if error.errno == errno.ENOEXEC else "", _NOT_RUN)


def _duration(text: str) -> int:
    from imds_proxy.config.types import parse_duration

    try:
        seconds = parse_duration(int(text) if text.isdecimal() else text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a duration such as 30s or 2m") from None
    return int(str(seconds))
