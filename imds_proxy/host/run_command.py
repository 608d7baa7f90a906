"""Runs a program that prints credentials or a token: no shell, a time limit, and nothing of it left behind."""

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from typing import IO, Final

from imds_proxy.errors import Denied, Invalid, Unreachable
from imds_proxy.host.command_start import start
from imds_proxy.host.file_errors import HANGS
from imds_proxy.host.open_files import limit_program
from imds_proxy.host.redaction import one_line, secrets_of_arguments
from imds_proxy.host.threads import OneByOne

_LARGEST: Final = 1 << 20  # bytes of standard output
_PIECE: Final = 1 << 16  # bytes at a time
_KEPT_OF_STDERR: Final = 1 << 14  # bytes, from the end
_LAST_WORDS_WITHIN: Final = 0.2  # seconds, after its end
_REAPED_WITHIN: Final = 2.0  # seconds; what is killed is gone at once, unless it hangs in the kernel


async def run_command(
    role: str,
    command: tuple[str, ...],
    *,
    timeout: float,  # noqa: ASYNC109 - its end is told in its own words
    what: str,
    silent: bool = False,
    starts: OneByOne | None = None,
) -> bytes:
    """What a program prints on its standard output, at most 1 MB.

    It runs in a process group of its own, with nothing on its standard input. When the time limit passes or the caller
    is cancelled the whole group is killed; what a helper that succeeded left running (an agent, say) is let be.

    Args:
        role: For the message.
        command: The program and its arguments, as they are: no shell sees them, and no message repeats an argument.
        timeout: Seconds, until it has ended and closed its output.
        what: For the message: "command", "token_command".
        silent: It is run for what it does: its standard output is dropped, what it leaves running may keep its output
            open, and it gets none of the daemon's AWS settings.
        starts: Shared by the runs of one program: while one cannot be started because its disk hangs, no other begins.

    Raises:
        Denied: It ended with another exit code than 0. Nearly always that is a login that has run out or a permission,
            which somebody has to mend: asking again each second would lock an account sooner than help. Its standard
            error is in the message, without anything that looks like a secret.
        Unreachable: The time limit passed, or a signal ended it.
        Invalid: It cannot be started, prints nothing, or more than 1 MB.
    """
    subject = f'role "{role}": {what} {command[0]}'
    try:
        async with asyncio.timeout(timeout):
            process = await start(command, subject, silent=silent, starts=starts or OneByOne())
    except TimeoutError:
        raise Unreachable(f"{subject}: could not be started within {timeout:g} s", HANGS) from None
    run = _Run(process, given=secrets_of_arguments(command[1:]), silent=silent)
    limit_program(run.process.pid)
    try:
        async with asyncio.timeout(timeout):
            await run.listen()
    except TimeoutError:
        reason = "ended, but what it started keeps its output open" if run.ended.is_set() else "did not end"
        raise Unreachable(
            f"{subject}: {reason} within {timeout:g} s{run.said()}",
            "run it by hand as the daemon's user: it must not wait for a terminal or a network that is not there",
        ) from None
    finally:
        await run.release()
    return _output(run, subject)


def _output(run: "_Run", subject: str) -> bytes:
    """What it printed, if it ended well."""
    by_hand = "run it by hand as the daemon's user; what it says there is what to mend"
    if run.has_said_too_much:
        raise Invalid(f"{subject} printed more than 1 MB", "have it print the credentials alone")
    code = run.process.returncode or 0
    if code < 0:
        raise Unreachable(f"{subject} was ended by {_signal_name(-code)}{run.said()}", by_hand)
    if code > 0:
        raise Denied(f"{subject} ended with exit code {code}{run.said()}", by_hand)
    if not run.silent and not run.output.data.strip():
        raise Invalid(f"{subject} printed nothing on its standard output{run.said()}", by_hand)
    return bytes(run.output.data)


def _signal_name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


class _Run:
    """One run of a program: what it prints, and its end."""

    def __init__(self, process: subprocess.Popen[bytes], *, given: tuple[str, ...], silent: bool) -> None:
        self.process = process
        self.given = given
        self.silent = silent
        self.output, self.errors = _Pipe(process.stdout), _Pipe(process.stderr, last=_KEPT_OF_STDERR)
        self.ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._wait, args=(loop,), name=f"wait for {process.pid}", daemon=True).start()

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait in a thread, which every kernel can. It is left a zombie, so that its group's number stays its own."""
        os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(self.ended.set)

    @property
    def has_said_too_much(self) -> bool:
        """More than any credentials are."""
        return len(self.output.data) > _LARGEST

    async def listen(self) -> None:
        """Return once it has ended and closed its output, or has said too much; if silent, once it has ended."""
        if self.silent:
            self.errors.open()
            await self.ended.wait()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.errors.closed.wait(), _LAST_WORDS_WITHIN)
            return
        self.output.open()
        self.errors.open()
        await self.output.closed.wait()
        if not self.has_said_too_much:
            await self.errors.closed.wait()
            await self.ended.wait()

    def said(self) -> str:
        """Its standard error, as the end of a message."""
        words = one_line(bytes(self.errors.data), bytes(self.output.data), self.given)
        return f": {words}" if words else ""

    async def release(self) -> None:
        """Reap it, and close its pipes. Kill it first, with all that it started, unless it has come to its end."""
        closed = self.silent or (self.output.closed.is_set() and self.errors.closed.is_set())
        over = self.ended.is_set() and closed
        if not over:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), _REAPED_WITHIN)
        finally:
            self.process.poll()
            self.output.close()
            self.errors.close()


class _Pipe:
    """What comes out of a pipe: the beginning, or with `last` that many bytes of its end.

    Read here and not by a transport of the event loop: uvloop's closes the descriptor, and then the file object that
    has its number, which by then may be a connection that another thread has opened.
    """

    def __init__(self, end: IO[bytes] | None, *, last: int | None = None) -> None:
        self._end = end
        self.data = bytearray()
        self.closed = asyncio.Event()
        self._last = last

    def open(self) -> None:
        """Begin to read."""
        if self._end is not None:
            os.set_blocking(self._end.fileno(), False)
            asyncio.get_running_loop().add_reader(self._end.fileno(), self._read, self._end.fileno())

    def _read(self, descriptor: int) -> None:
        try:
            data = os.read(descriptor, _PIECE)
        except BlockingIOError:
            return
        self.data += data
        if self._last is not None:
            del self.data[: -self._last]
        if not data or len(self.data) > _LARGEST:
            self.close()

    def close(self) -> None:
        """Read no more."""
        if self._end is not None and not self._end.closed:
            asyncio.get_running_loop().remove_reader(self._end.fileno())
            self._end.close()
        self.closed.set()
