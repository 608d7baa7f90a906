"""The control plane's connections: how many there may be, of whom, and for how long.

aiohttp reads and answers the requests. It has no cap, and a client that connects and says nothing, or asks and reads
nothing, would keep its connection for an hour.
"""

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from imds_proxy.admin.connection import REQUEST_TIME, Connection
from imds_proxy.admin.tls import Tls
from imds_proxy.callers.caller import Caller
from imds_proxy.callers.peer import Callers, Place
from imds_proxy.metadata.rate_limit import CallerLimits

log = logging.getLogger(__name__)

REFUSED_TIME: Final = 1.0
"""Seconds that a connection over the rate limit is left without an answer: closed at once it would come again."""
RATE: Final = 100.0
"""Requests, and connections, a second for each caller."""
HANDSHAKE_RATE: Final = 25.0
"""TLS connections a second for each caller: a handshake takes the loop for up to some milliseconds."""

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

    def of(self, handler: Any) -> Connection | None:
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

    def admit(self, connection: Connection, caller: Caller) -> None:
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

    def begun(self, connection: Connection, handler: Any) -> None:
        """A handler serves a connection."""
        self._by_handler[handler] = connection

    def forget(self, connection: Connection, handler: Any) -> None:
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

    async def _open(self, connection: Connection) -> None:
        """Make a transport of a socket, and shake hands on it."""
        connection.client_ca = self.tls.client_ca
        try:
            options = self.tls.options(handshake_within=REQUEST_TIME)
            await self.loop.connect_accepted_socket(lambda: connection, connection.accepted, **options)
        except ssl.SSLCertVerificationError as error:
            self.tls.tell_of_refused(connection.caller, error)
        except OSError:  # gone; or no handshake that succeeds
            return

    def _make_room(self, newcomer: Connection) -> None:
        """Keep to the limits: nobody can shut out others, and a caller over its own limit loses its own connections."""
        mine = [other for other in self._all if other.principal == newcomer.principal]
        if len(mine) > self._most // 2:
            self._drop(mine, newcomer.principal)
        if len(self._all) > self._most:
            victims = [other for other in self._all if not other.is_trusted] or list(self._all)
            [(principal, _)] = Counter(other.principal for other in victims).most_common(1)
            self._drop([other for other in victims if other.principal == principal], principal)

    def _drop(self, candidates: list[Connection], principal: bytes) -> None:
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
