"""The control plane's connections: how many there may be, of whom, and for how long.

aiohttp reads and answers the requests. It has no cap, and a client that connects and says nothing, or asks and reads
nothing, would keep its connection for an hour.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

from imds_proxy.admin.tls import Tls
from imds_proxy.callers.caller import Caller
from imds_proxy.callers.identify import Callers, Place
from imds_proxy.metadata.limits import CallerLimits

log = logging.getLogger(__name__)

REQUEST_TIME: Final = 10.0
"""Seconds from connecting, or from the first byte of a request, to its last."""
ANSWER_TIME: Final = 15.0
"""Seconds from the request to when the client has taken the answer."""
IDLE_TIME: Final = 30.0
"""Seconds that a connection is kept between requests."""
CALLER_TIME: Final = 60.0
"""Seconds that a connection is its caller's: then the next answer is its last, because a user may have left a group."""
REFUSED_TIME: Final = 1.0
"""Seconds that a connection over the rate limit is left without an answer: closed at once it would come again."""
RATE: Final = 100.0
"""Requests, and connections, a second for each caller."""
HANDSHAKE_RATE: Final = 25.0
"""TLS connections a second for each caller: a handshake takes the loop for up to some milliseconds."""

_LARGEST_REQUEST: Final = 1 << 16  # bytes
_MOST_IN_ONE_READ: Final = 8  # requests: to parse more takes the loop from the others
_MOST_UNREAD: Final = 1 << 16  # bytes of an answer that wait for the client before no more is made
_SWEEP_EVERY: Final = 1.0
_LOGGED_EVERY: Final = 60.0


class Connections:
    """Every connection of one control plane.

    Args:
        callers: Tells who connected.
        place: Where they connect to.
        most: Connections at a time; one caller may have half of them.
        sees_everything: Whether a caller does: its connections are not closed to make room for others'.
        make_handler: Makes the protocol that reads requests and answers them.
        tls: What it proves itself with, if it speaks TLS.
    """

    def __init__(
        self,
        callers: Callers,
        place: Place,
        most: int,
        sees_everything: Callable[[Caller], bool],
        make_handler: Callable[[], Any],
        tls: Tls,
    ) -> None:
        self.make_handler = make_handler
        self.tls = tls
        self.loop = asyncio.get_running_loop()
        self._callers, self._place, self._most = callers, place, most
        self._sees_everything = sees_everything
        self._limits, self._handshakes = CallerLimits(RATE), CallerLimits(HANDSHAKE_RATE)
        self._all: set[Connection] = set()
        self._by_handler: dict[Any, Connection] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._logged: float | None = None

    def __len__(self) -> int:
        return len(self._all)

    def of(self, handler: Any) -> "Connection | None":
        """The connection that a handler answers on; None if that is gone."""
        return self._by_handler.get(handler)

    def take(self, accepted: socket.socket) -> None:
        """Find out who connected, and serve it within the limits."""
        if self.tls.files is not None and self.tls.in_use is None:  # said in the log
            accepted.close()
            return
        connection = Connection(self, accepted)
        self._all.add(connection)
        if self._sweeping is None:
            self._sweeping = self.loop.call_later(_SWEEP_EVERY, self._sweep)
        try:
            shown: Any = connection  # it has what is asked of a transport
            self._callers.identify(shown, self._place, connection.identified)
        except OSError:
            connection.abort()
            return
        if connection.caller is None:
            self._make_room(connection)

    def admit(self, connection: "Connection", caller: Caller) -> None:
        """It is known who connected: begin to serve it, or make it wait for nothing."""
        if connection.is_gone:
            return
        connection.is_trusted = self._sees_everything(caller)
        self._make_room(connection)
        if connection not in self._all:
            return
        limits = self._limits if self.tls.files is None else self._handshakes
        if not limits.allows(b"connects " + caller.principal, self.loop.time()):
            connection.deadline = self.loop.time() + REFUSED_TIME
            return
        connection.opening = self.loop.create_task(self._open(connection), name="open a control-plane connection")
        connection.opening.add_done_callback(connection.opened)

    def allows(self, caller: Caller) -> bool:
        """Whether a caller may ask once more now."""
        return self._limits.allows(caller.principal, self.loop.time())

    def begun(self, connection: "Connection", handler: Any) -> None:
        """A handler serves a connection."""
        self._by_handler[handler] = connection

    def forget(self, connection: "Connection", handler: Any) -> None:
        """A connection is gone."""
        self._all.discard(connection)
        self._by_handler.pop(handler, None)

    def close(self) -> None:
        """Cut off every connection."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        for connection in list(self._all):
            connection.abort()

    async def _open(self, connection: "Connection") -> None:
        """Make a transport of a socket, and shake hands on it."""
        connection.client_ca = self.tls.client_ca
        try:
            options = self.tls.options(handshake_within=REQUEST_TIME)
            await self.loop.connect_accepted_socket(lambda: connection, connection.accepted, **options)
        except ssl.SSLCertVerificationError as error:
            self.tls.tell_of_refused(connection.caller, error)
        except OSError:  # gone; or no handshake that succeeds
            return

    def _make_room(self, newcomer: "Connection") -> None:
        """Keep to the limits: nobody can shut out others, and a caller over its own limit loses its own connections."""
        mine = [other for other in self._all if other.principal == newcomer.principal]
        if len(mine) > self._most // 2:
            self._drop(mine, newcomer.principal)
        if len(self._all) > self._most:
            victims = [other for other in self._all if not other.is_trusted] or list(self._all)
            [(principal, _)] = Counter(other.principal for other in victims).most_common(1)
            self._drop([other for other in victims if other.principal == principal], principal)

    def _drop(self, candidates: "list[Connection]", principal: bytes) -> None:
        """Cut off the one that has been idle longest."""
        min(candidates, key=lambda other: (other.busy, other.active)).abort()
        now = self.loop.time()
        if principal and (self._logged is None or now - self._logged >= _LOGGED_EVERY):
            self._logged = now
            advice = "see what it is that holds so many: ss -tnp"
            caller = principal.decode(errors="replace")
            log.warning("too many connections to the control plane", extra={"caller": caller, "advice": advice})

    def _sweep(self) -> None:
        """Cut off what is past its time: one timer for all."""
        now = self.loop.time()
        for connection in [each for each in self._all if each.is_over(now)]:
            connection.abort()
        self._sweeping = self.loop.call_later(_SWEEP_EVERY, self._sweep) if self._all else None


class Connection(asyncio.Protocol):
    """One client, between the socket and aiohttp's protocol.

    Args:
        connections: All of them.
        accepted: Its socket, until there is a transport.
    """

    def __init__(self, connections: Connections, accepted: socket.socket) -> None:
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
