"""Starts a program beside the event loop: the file system that it is on may hang."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from functools import partial
from typing import Final

from imds_proxy.errors import Invalid, Unreachable
from imds_proxy.host.open_files import exhausted
from imds_proxy.threads import OneByOne

# What systemd tells the daemon alone. A helper that says READY=1 or takes the sockets would be believed.
_OF_THE_DAEMON: Final = frozenset(
    {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "MAINPID"}
    | {"JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "INVOCATION_ID", "FDSTORE"}
    | {f"{kind}_DIRECTORY" for kind in ("STATE", "RUNTIME", "CACHE", "LOGS", "CONFIGURATION")}
)
# What may lead a helper's SDK to this very daemon, where it would wait for what it is run for (PROTOCOL.md 29).
_TO_THE_DAEMON: Final = frozenset(
    {"AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"}
    | {f"AWS_CONTAINER_CREDENTIALS_{kind}_URI" for kind in ("RELATIVE", "FULL")}
    | {"AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"}
)


async def start(command: tuple[str, ...], subject: str, *, silent: bool, starts: OneByOne) -> subprocess.Popen[bytes]:
    """The process. If the caller is cancelled, it is killed as soon as it has begun.

    Args:
        command: The program and its arguments.
        subject: For a message.
        silent: As for `run_command`.
        starts: Of the same program: as long as one hangs there is no other.

    Raises:
        Invalid, Unreachable: It cannot be started.
    """
    begun = _Begun(partial(_start, command, subject, silent=silent))
    try:
        return await starts.do(begun.start, within=None)
    except BaseException:
        begun.abandon()
        raise


class _Begun:
    """A process, from a thread in which it is started to a caller who may not wait for it any more."""

    def __init__(self, start: partial[subprocess.Popen[bytes]]) -> None:
        self._start = start
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._abandoned = False

    def start(self) -> subprocess.Popen[bytes]:
        process = self._start()
        with self._turn:
            self._process = process
            if self._abandoned:
                _end(process)
        return process

    def abandon(self) -> None:
        """Nobody waits for it."""
        with self._turn:
            self._abandoned = True
            if self._process is not None:
                threading.Thread(target=_end, args=(self._process,), daemon=True).start()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill it, with all that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in filter(None, (process.stdout, process.stderr)):
        pipe.close()
    process.wait()


def _touch(program: str) -> None:
    """Wait for the file system that a program is on: to start it there holds up all threads until it is loaded.

    The interpreter lets none run between vfork and exec. Reading a part of the file does not.
    """
    with contextlib.suppress(OSError):  # one that may be run need not be one that may be read
        file = os.open(program, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.read(file, 1)
        finally:
            os.close(file)


def _start(command: tuple[str, ...], subject: str, *, silent: bool) -> subprocess.Popen[bytes]:
    """Start it here and not by the event loop: uvloop gives a program sockets, and each of them twice.

    A helper could not write to /dev/stdout, and an agent it starts would keep its output open.
    """
    pipe = subprocess.PIPE
    environment = helper_environment(os.environ)
    if silent:
        environment = {name: value for name, value in environment.items() if not name.startswith("AWS_")}
    _touch(command[0])
    try:
        return subprocess.Popen(  # noqa: S603 - what to run is the operator's to say, and no shell runs it
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if silent else pipe,
            stderr=pipe,
            bufsize=0,
            env=environment,
            start_new_session=True,
        )
    except FileNotFoundError:
        advice = "install it or correct its path; of a script, the interpreter in the first line may be what is missing"
        raise Invalid(f"{subject} is not there", advice) from None
    except PermissionError:
        advice = f"chmod +x {command[0]}, and see that the daemon's user may enter its folders and run files there"
        raise Invalid(f"{subject} may not be run by this user", advice) from None
    except (OSError, ValueError) as error:
        if (shortage := exhausted(error)) is not None:
            raise Unreachable(f"{subject} cannot be started: {shortage[0]}", shortage[1]) from None
        reason = getattr(error, "strerror", None) or "an argument holds a null character"
        advice = "correct it: a program for this machine, or a script whose first line names its interpreter"
        raise Invalid(f"{subject} cannot be started: {reason}", advice) from None


def helper_environment(base: Mapping[str, str]) -> dict[str, str]:
    """The daemon's environment without what is for the daemon alone, and with no way back to it."""
    kept = {name: value for name, value in base.items() if name not in _OF_THE_DAEMON | _TO_THE_DAEMON}
    return kept | {"AWS_EC2_METADATA_DISABLED": "true"}
