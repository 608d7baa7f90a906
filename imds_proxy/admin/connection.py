"""One client of the control plane: the protocol between its socket and aiohttp's, which reads and answers requests."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from imds_proxy.callers.caller import Caller

if TYPE_CHECKING:
    from imds_proxy.admin.connections import Connections

REQUEST_TIME: Final = 10.0
"""Seconds from connecting, or from the first byte of a request, to its last."""
ANSWER_TIME: Final = 15.0
"""Seconds from the request to when the client has taken the answer."""
IDLE_TIME: Final = 30.0
"""Seconds that a connection is kept between requests."""
CALLER_TIME: Final = 60.0
"""Seconds that a connection is its caller's: then the next answer is its last, because a user may have left a group."""

_LARGEST_REQUEST: Final = 1 << 16  # bytes
_MOST_IN_ONE_READ: Final = 8  # requests: to parse more takes the loop from the others
_MOST_UNREAD: Final = 1 << 16  # bytes of an answer that wait for the client before no more is made


class Connection(asyncio.Protocol):
    """One client, between the socket and aiohttp's protocol.

    Args:
        connections: All of them.
        accepted: Its socket, until there is a transport.
    """

    def __init__(self, connections: "Connections", accepted: socket.socket) -> None:
        self.accepted = accepted
        self.opening: asyncio.Task[None] | None = None
        """Makes the transport."""
        self.client_ca: str | None = None
        """What its certificate is verified by, if it shows one."""
        self.caller: Caller | None = None
        self.is_trusted = False
        """Whether its caller saw everything when it connected: it is not closed to make room for others."""
        self._has_certificate = False
        self.is_gone = False
        self.busy = False
        """Whether a request is being answered."""
        self.active = connections.loop.time()
        """When the last answer was made, or the client connected."""
        self.deadline = self.active + REQUEST_TIME
        self._opened = self.active
        self._connections = connections
        self._transport: Any = None
        self._handler: Any = None
        self._reading = True
        """Whether a request may be on its way: its time runs from its first byte."""
        self._received = 0

    @property
    def principal(self) -> bytes:
        """Its caller's; nothing while that is not known."""
        return self.caller.principal if self.caller is not None else b""

    @property
    def is_last(self) -> bool:
        """Whether the next answer is the last one: who has connected is known no longer."""
        return self._connections.loop.time() - self._opened > CALLER_TIME

    @property
    def is_certified(self) -> bool:
        """Whether its client has shown a certificate of a CA that counts now."""
        return (
            self._has_certificate and self.client_ca is not None and self.client_ca == self._connections.tls.client_ca
        )

    def get_extra_info(self, name: str) -> Any:
        """What `Callers.identify` asks of a transport, while there is none."""
        if name == "peername":
            return self.accepted.getpeername()
        return self.accepted.getsockname() if name == "sockname" else self.accepted

    def identified(self, caller: Caller, _: int) -> None:
        """It is known who connected."""
        self.caller = caller
        self._connections.admit(self, caller)

    def is_over(self, now: float) -> bool:
        """Whether its time has passed. Once an answer has been taken, that of the next request has not begun."""
        if not self.busy and not self._reading and not self._unread():
            self.deadline = max(self.deadline, self.active + IDLE_TIME)
        return self.deadline < now

    def abort(self) -> None:
        """Cut it off."""
        self.is_gone = True
        self._connections.forget(self, self._handler)
        if self._transport is not None:
            self._transport.abort()
        elif self.opening is not None:
            self.opening.cancel()
        else:
            self.accepted.close()

    def opened(self, _: asyncio.Task[None]) -> None:
        """There is a transport, or there will be none."""
        if self._transport is None:
            self.is_gone = True
            self._connections.forget(self, None)
            self.accepted.close()

    def extend(self, seconds: float) -> None:
        """Let the answer that is being made take so long."""
        self.deadline = max(self.deadline, self._connections.loop.time() + seconds)

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """For as long as an answer is being made."""
        now = self._connections.loop.time()
        self.busy, self._reading, self._received = True, False, 0
        self.deadline = now + ANSWER_TIME
        try:
            yield
        finally:
            self.busy, self.active = False, self._connections.loop.time()
            self.deadline = self.active + ANSWER_TIME

    def _unread(self) -> bool:
        return self._transport is not None and self._transport.get_write_buffer_size() > 0

    # The socket

    def connection_made(self, transport: Any) -> None:
        """The transport is there."""
        self._transport = transport
        if self.is_gone:
            transport.abort()
            return
        transport.set_write_buffer_limits(high=_MOST_UNREAD)
        self._has_certificate = bool(transport.get_extra_info("peercert"))
        self.is_trusted = self.is_trusted or self.is_certified
        self._handler = self._connections.make_handler()
        self._connections.begun(self, self._handler)
        self._handler.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self.is_gone:
            return
        self._received += len(data)
        if self._received > _LARGEST_REQUEST or data.count(b"\n\r\n") > _MOST_IN_ONE_READ:
            self.abort()
            return
        if not self.busy and not self._reading and not self._unread():
            self._reading = True
            self.deadline = self._connections.loop.time() + REQUEST_TIME
        self._handler.data_received(data)

    def eof_received(self) -> None:
        """The client will send no more."""
        if self._handler is not None:
            self._handler.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self.is_gone = True
        self._connections.forget(self, self._handler)
        if self._handler is not None:
            self._handler.connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read."""
        if self._handler is not None:
            self._handler.pause_writing()

    def resume_writing(self) -> None:
        """The client reads again."""
        if self._handler is not None:
            self._handler.resume_writing()
