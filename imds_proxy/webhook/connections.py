"""The webhook's connections: how many there may be, and for how long without a question.

aiohttp reads and answers. It has no cap, and would keep a client that connects and says nothing.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final

from imds_proxy.admin.tls import Tls

MOST: Final = 512
"""Connections at a time; of those beyond, the one goes that has been idle for longest."""
SILENT: Final = 10.0
"""Seconds until the first question."""
IDLE: Final = 150.0
"""Seconds between questions: longer than the API server (90) keeps one, or it would lose questions on closed ones."""
_SWEEP_EVERY: Final = 1.0


class _Connection:
    def __init__(self, accepted: socket.socket, now: float) -> None:
        self.accepted, self.deadline, self.is_busy = accepted, now + SILENT, False
        self.handler: Any = None
        self.transport: asyncio.BaseTransport | None = None

    def cut(self) -> None:
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()
        elif self.transport is not None:
            self.transport.close()
        else:
            self.accepted.close()


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
        self._opening: set[asyncio.Task[None]] = set()
        self._sweeping = self._loop.call_later(_SWEEP_EVERY, self._sweep)

    def take(self, accepted: socket.socket) -> None:
        """Shake hands, and serve."""
        task = self._loop.create_task(self._open(accepted), name="open a connection of the webhook")
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

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
        for task in self._opening:
            task.cancel()
        for connection in self._all.values():
            connection.cut()

    async def _open(self, accepted: socket.socket) -> None:
        handler, connection = self._make_handler(), _Connection(accepted, self._loop.time())
        self._make_room()
        self._all[handler] = connection
        try:
            options = self._tls.options(handshake_within=SILENT)
            connection.transport, _ = await self._loop.connect_accepted_socket(lambda: handler, accepted, **options)
        except OSError:  # gone, no handshake that succeeds, or no certificate yet: said in the log
            self._all.pop(handler, None)
            accepted.close()

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
