"""`imds-proxy status --watch` on a terminal: a screen of its own, painted each second until a signal ends it."""

import contextlib
import os
import signal
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from rich.console import Console

from imds_proxy.cli import terminal
from imds_proxy.cli.status_document import complete
from imds_proxy.cli.status_view import Seen, View
from imds_proxy.errors import ImdsProxyError
from imds_proxy.telemetry.log import told

_ASKED_EVERY: Final = 2.0
_SHARE: Final = 10.0
"""Times as long as an answer took that the daemon is left alone at least."""
_PAINTED_EVERY: Final = 1.0
_AT_FIRST: Final = 0.1
_ENDS: Final = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}
_HANDLED: Final = {*_ENDS, signal.SIGTSTP, signal.SIGWINCH}
_KILLED: Final = 128
"""What a shell adds to a signal's number for the exit code of what it ended."""


def watch(ask: Callable[[], dict[str, Any]], where: str) -> int:
    """Paint until a signal; the exit code for it.

    Args:
        ask: A status document, or ImdsProxyError.
        where: The daemon's address, to be shown.
    """
    console = Console(file=terminal.screen(), force_terminal=True, markup=False, emoji=False, highlight=False)
    with _signals_wait():
        asking = _Asking(ask, where)
        while True:
            with _keys_are_silent(), console.screen():
                number = _paint_until_signal(console, asking)
            if number in _ENDS:
                return _KILLED + number
            os.kill(os.getpid(), signal.SIGSTOP)  # Ctrl-Z; `fg` goes on here


def _paint_until_signal(console: Console, asking: "_Asking") -> int:
    """Paint each second and at each change of the window's size; the signal that says to leave the screen."""
    while True:
        seen = asking.seen()
        console.update_screen(View(seen, plain=os.environ.get("TERM") == "linux"))
        nothing_yet = seen.document is None and not seen.error
        received = signal.sigtimedwait(_HANDLED, _AT_FIRST if nothing_yet else _PAINTED_EVERY)
        if received is not None and received.si_signo != signal.SIGWINCH:
            return received.si_signo


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Signals are taken where the screen can be left, never in the middle of a line."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _keys_are_silent() -> Iterator[None]:
    """What is typed neither spoils the screen nor is left for the shell."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    silent = list(before)
    silent[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(sys.stdin, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSAFLUSH, before)


class _Asking:
    """Asks again and again on a thread of its own: an answer that hangs does not stop the countdown."""

    def __init__(self, ask: Callable[[], dict[str, Any]], where: str) -> None:
        self._ask, self._where = ask, where
        self._document: dict[str, Any] | None = None
        self._received = 0.0
        self._error = self._advice = ""
        self._lock = threading.Lock()
        threading.Thread(target=self._run, name="ask the daemon", daemon=True).start()

    def seen(self) -> Seen:
        """What is known now."""
        with self._lock:
            elapsed = _time() - self._received if self._document else 0.0
            return Seen(self._where, self._document, elapsed, self._error, self._advice)

    def _run(self) -> None:
        while True:
            began, pause = _time(), _ASKED_EVERY
            try:
                self._answered(complete(self._ask()))
                pause = max(pause, (_time() - began) * _SHARE)  # a thousand roles are megabytes
            except ImdsProxyError as error:
                self._failed(error.message, error.advice)
            except Exception as error:  # noqa: BLE001 - a document that nobody thought of; the next may be another
                self._failed(f"its status cannot be shown: unexpected {told(error)}", "")
            time.sleep(pause)

    def _answered(self, document: dict[str, Any]) -> None:
        with self._lock:
            self._document, self._received = document, _time()
            self._error = self._advice = ""

    def _failed(self, message: str, advice: str) -> None:
        with self._lock:
            self._error, self._advice = message, advice


def _time() -> float:
    """Seconds that go on while the machine is suspended, as sessions do."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
