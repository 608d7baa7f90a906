"""The webhook's connections: how many there may be, and for how long without a question.

aiohttp reads and answers. It has no cap, and would keep a client that connects and says nothing.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any, Final

from imds_proxy.admin.tls import Tls

log = logging.getLogger(__name__)

MOST: Final = 512
"""Connections at a time; of those beyond, the one goes that has been idle for longest."""
SILENT: Final = 10.0
"""Seconds until the first question."""
IDLE: Final = 150.0
"""Seconds between questions: longer than the API server (90) keeps one, or it would lose questions on closed ones."""
_SWEEP_EVERY: Final = 1.0
_TOLD_EVERY: Final = 60.0  # seconds


class _Connection:
    def __init__(self, now: float) -> None:
        self.deadline, self.is_busy = now + SILENT, False
        self.opening: asyncio.Task[None] | None = None
        self.transport: asyncio.BaseTransport | None = None

    def cut(self) -> None:
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()
        elif self.transport is not None:
            self.transport.close()
        elif self.opening is not None:
            self.opening.cancel()


class Connections:
    """Every connection, from `take` until it is gone.

    Args:
        make_handler: Makes the protocol that reads and answers.
        tls: What the server proves itself with.
    """

    def __init__(self, make_handler: Callable[[], Any], tls: Tls) -> None:
        self._make_handler, self._tls = make_handler, tls
        self._loop = asyncio.get_running_loop()
        self._all: dict[Any, _Connection] = {}
        self._told: float | None = None
        self._sweeping = self._loop.call_later(_SWEEP_EVERY, self._sweep)

    def take(self, accepted: socket.socket) -> None:
        """Shake hands, and serve."""
        self._make_room()
        handler, connection = self._make_handler(), _Connection(self._loop.time())
        self._all[handler] = connection
        work = self._open(accepted, handler, connection)
        connection.opening = self._loop.create_task(work, name="open a connection of the webhook")

    @contextlib.contextmanager
    def answering(self, handler: Any) -> Iterator[None]:
        """A question of this handler's connection is being answered."""
        connection = self._all.get(handler)
        if connection is None:  # cut off meanwhile
            yield
            return
        connection.is_busy = True
        try:
            yield
        finally:
            connection.is_busy, connection.deadline = False, self._loop.time() + IDLE

    def close(self) -> None:
        """Cut off every connection."""
        self._sweeping.cancel()
        for connection in self._all.values():
            connection.cut()

    async def _open(self, accepted: socket.socket, handler: Any, connection: _Connection) -> None:
        try:
            options = self._tls.options(handshake_within=SILENT)
            connection.transport, _ = await self._loop.connect_accepted_socket(lambda: handler, accepted, **options)
        except ssl.SSLCertVerificationError as error:
            self._tell_of_refused(error)
        except OSError:  # gone, no handshake that succeeds, or no certificate yet: said in the log
            pass
        finally:
            if connection.transport is None:
                self._all.pop(handler, None)
                accepted.close()

    def _tell_of_refused(self, error: ssl.SSLCertVerificationError) -> None:
        """Say now and then why a certificate is not accepted: its client sees only that the connection ends."""
        now = self._loop.time()
        if self._told is None or now - self._told >= _TOLD_EVERY:
            self._told = now
            extra = {"reason": error.verify_message, "advice": "have it issued by a CA in --client-ca"}
            log.warning("a client's certificate is not accepted", extra=extra)

    def _make_room(self) -> None:
        if len(self._all) >= MOST:
            handler = min(self._all, key=lambda each: (self._all[each].is_busy, self._all[each].deadline))
            self._all.pop(handler).cut()

    def _sweep(self) -> None:
        now = self._loop.time()
        for handler, connection in list(self._all.items()):
            transport = connection.transport
            if transport is not None and transport.is_closing():
                del self._all[handler]
            elif transport is not None and not connection.is_busy and now > connection.deadline:
                self._all.pop(handler).cut()
        self._sweeping = self._loop.call_later(_SWEEP_EVERY, self._sweep)
