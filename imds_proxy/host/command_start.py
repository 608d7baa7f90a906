"""Starts a program beside the event loop: the file system that it is on may hang."""

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import threading
from collections.abc import Mapping
from functools import partial
from typing import Final

from imds_proxy.errors import Invalid, Unreachable
from imds_proxy.host.open_files import exhausted
from imds_proxy.host.shell_mistake import shell_mistake
from imds_proxy.host.threads import OneByOne

_LONGEST_FIRST_LINE: Final = 256  # bytes, as Linux reads them

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
        raise _missing(subject, command) from None
    except PermissionError:
        raise _forbidden(subject, command[0]) from None
    except (OSError, ValueError) as error:
        if (shortage := exhausted(error)) is not None:
            raise Unreachable(f"{subject} cannot be started: {shortage[0]}", shortage[1]) from None
        reason = getattr(error, "strerror", None) or "an argument holds a null character"
        advice = "correct it: a program for this machine, or a script whose first line names its interpreter"
        raise Invalid(f"{subject} cannot be started: {reason}", advice) from None


def judge(command: tuple[str, ...], subject: str) -> None:
    """Raise Invalid where a program could not be started, without starting it.

    Args:
        command: The program, as a path or a name that is looked for in PATH, and its arguments.
        subject: For a message.
    """
    program = command[0]
    found = program if "/" in program else shutil.which(program)
    try:
        if found is None or not _has_interpreter(found):
            raise _missing(subject, command)
        if not stat.S_ISREG(os.stat(found).st_mode) or not os.access(found, os.X_OK):  # noqa: PTH116 - as written
            raise _forbidden(subject, program)
    except PermissionError:
        raise _forbidden(subject, program) from None
    except OSError:
        raise _missing(subject, command) from None


def _has_interpreter(program: str) -> bool:
    """Whether the program is there that the first line of a script names; true of what is no script."""
    try:
        with open(program, "rb") as file:  # noqa: PTH123 - a path as it is written
            first = file.readline(_LONGEST_FIRST_LINE)
    except OSError:  # one that may be run need not be one that may be read
        return True
    words = first.removeprefix(b"#!").split()
    return not first.startswith(b"#!") or not words or os.path.exists(words[0])  # noqa: PTH110 - no error of a path


def _missing(subject: str, command: tuple[str, ...]) -> Invalid:
    if mistake := shell_mistake(command):  # of an AWS profile: those of the config are found when it is read
        advice = mistake
    elif " " in command[0]:
        advice = "write an array with the program first, and each argument as an element of its own"
    else:
        advice = "install it or correct its path; of a script, the interpreter in the first line may be what is missing"
    return Invalid(f"{subject} is not there", advice)


def _forbidden(subject: str, program: str) -> Invalid:
    advice = f"chmod +x {program}, and see that the daemon's user may enter its folders and run files there"
    return Invalid(f"{subject} may not be run by this user", advice)


def helper_environment(base: Mapping[str, str]) -> dict[str, str]:
    """The daemon's environment without what is for the daemon alone, and with no way back to it."""
    kept = {name: value for name, value in base.items() if name not in _OF_THE_DAEMON | _TO_THE_DAEMON}
    return kept | {"AWS_EC2_METADATA_DISABLED": "true"}
