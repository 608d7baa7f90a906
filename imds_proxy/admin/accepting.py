"""Accepts connections without ever holding up the event loop, and with one line where no file is left for them."""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final

from imds_proxy.host.open_files import exhausted

log = logging.getLogger(__name__)

_AT_ONCE: Final = 32
_PAUSE: Final = 0.005  # seconds after that many: whoever connects in a loop does not have the loop to itself
_PAUSE_AFTER_FAILURE: Final = 1.0
_LOGGED_EVERY: Final = 60.0


class Accepting:
    """Accepts on one socket until it is closed.

    asyncio's own server says that no file is left with a traceback for each try, and uvloop's not at all.

    Args:
        listening: Closed with this.
        take: Gets each connection, non-blocking.
        what: For the message: "control plane".
    """

    def __init__(self, listening: socket.socket, take: Callable[[socket.socket], None], what: str) -> None:
        self._listening = listening
        self._take = take
        self._what = what
        self._loop = asyncio.get_running_loop()
        self._paused: asyncio.TimerHandle | None = None
        self._logged: float | None = None
        listening.setblocking(False)  # noqa: FBT003 - the socket API's own
        self._resume()

    def close(self) -> None:
        """Accept no more."""
        if self._paused is not None:
            self._paused.cancel()
        self._loop.remove_reader(self._listening)
        self._listening.close()

    def _resume(self) -> None:
        self._paused = None
        self._loop.add_reader(self._listening, self._accept)

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listening)
        self._paused = self._loop.call_later(seconds, self._resume)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:  # the client is gone already
                continue
            except OSError as error:
                self._failed(error)
                return
            connection.setblocking(False)  # noqa: FBT003 - the socket API's own
            self._take(connection)
        self._pause(_PAUSE)

    def _failed(self, error: OSError) -> None:
        now = self._loop.time()
        if self._logged is None or now - self._logged >= _LOGGED_EVERY:
            self._logged = now
            reason, advice = exhausted(error) or (error.strerror, "it is tried again every second")
            log.error(f"the {self._what} cannot accept connections", extra={"error": reason, "advice": advice})  # noqa: G004 - one of few
        self._pause(_PAUSE_AFTER_FAILURE)
