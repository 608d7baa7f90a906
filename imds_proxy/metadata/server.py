"""The data plane's listeners, and the limits that all their connections share."""

import asyncio
import ipaddress
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from email.utils import formatdate
from typing import Any

from imds_proxy.callers.caller import ip_address
from imds_proxy.callers.identify import Callers
from imds_proxy.clock import Clock
from imds_proxy.errors import ListenError
from imds_proxy.metadata.http import HttpProtocol
from imds_proxy.metadata.message import Request, Response
from imds_proxy.sockets import open_listener
from imds_proxy.telemetry.stats import RequestStats

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 1024
_SWEEP_EVERY = 1.0
_DRAIN_TIME = 2.0


class Server:
    """Every listener of the data plane. Set `answer` before `listen`.

    Args:
        stats: Counts what was answered.
        clock: Wall time, for the Date header.
        callers: Tells who connected.
    """

    def __init__(self, stats: RequestStats, clock: Clock, callers: Callers) -> None:
        self.answer: Callable[[Request], Response]
        """The data plane; a reload sets another one, which holds for the next request of every connection."""
        self.stats = stats
        self.callers = callers
        self.draining = False
        self.hop_limit = 1
        self._clock = clock
        self._listeners: dict[str, Listener] = {}
        self._connections: set[HttpProtocol] = set()
        self._sweeping = False
        self._date = (0, "")

    @property
    def addresses(self) -> list[str]:
        """`ADDRESS:PORT` of every open listener, as bound."""
        return [listener.address for listener in self._listeners.values()]

    async def listen(self, wanted: Iterable[str], hop_limit: int, passed: Mapping[str, socket.socket]) -> None:
        """Open listeners that are missing, close those no longer wanted, leave the others and their connections alone.

        A listener that cannot be opened is one line in the log; the others serve.

        Raises:
            ListenError: None is open.
        """
        wanted = list(dict.fromkeys(wanted))
        before = list(self._listeners)
        # Removed ones go first: the new one may be the same port on another address.
        for name in set(before) - set(wanted):
            self._listeners.pop(name).close()
        await self._open_missing(wanted, passed)
        opened = bool(self._listeners)
        if not opened:
            await self._open_missing(before, passed)
        self.hop_limit = hop_limit
        if not opened:
            raise ListenError("no listener could be opened", "" if before else "there is nothing to serve on")

    async def _open_missing(self, names: Iterable[str], passed: Mapping[str, socket.socket]) -> None:
        for name in names:
            if name not in self._listeners:
                await self._open(name, passed)

    async def _open(self, name: str, passed: Mapping[str, socket.socket]) -> None:
        try:
            listener = Listener(self, name, open_listener(name, passed))
        except ListenError as error:
            log.error("cannot listen", extra={"error": error.message, "advice": error.advice})  # noqa: TRY400 - one line
            return
        await listener.start()
        self._listeners[name] = listener
        log.info("listening", extra={"address": listener.address})

    async def close(self) -> None:
        """Stop accepting, let requests that have begun end, close everything."""
        self.draining = True
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()
        deadline = time.monotonic() + _DRAIN_TIME
        for connection in [c for c in self._connections if not c.busy]:
            connection.close()
        while self._connections and time.monotonic() < deadline:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.01)
        for connection in list(self._connections):
            connection.abort()

    def http_date(self) -> str:
        """The Date header's value, made once a second (async-aws corrects the expiry by it)."""
        second = int(self._clock.wall())
        if second != self._date[0]:
            self._date = second, formatdate(second, usegmt=True)
        return self._date[1]

    def opened(self, connection: HttpProtocol) -> None:
        """Admit a connection; over the cap another one makes room, or it goes itself."""
        if len(self._connections) >= MAX_CONNECTIONS:
            victim = self._victim(connection)
            self._connections.discard(victim)
            victim.abort()
            if victim is connection:
                return
        self._connections.add(connection)
        self.stats.connections = len(self._connections)
        if not self._sweeping:
            self._sweeping = True
            asyncio.get_running_loop().call_later(_SWEEP_EVERY, self._sweep)

    def _victim(self, newcomer: HttpProtocol) -> HttpProtocol:
        """The one that was idle longest; else one of the caller who has most: nobody can shut the others out."""
        idle = [other for other in self._connections if not other.busy]
        if idle:
            return min(idle, key=lambda other: other.active)
        [(principal, _)] = Counter(other.principal for other in self._connections).most_common(1)
        if principal == newcomer.principal:
            return newcomer
        return min((o for o in self._connections if o.principal == principal), key=lambda other: other.deadline)

    def closed(self, connection: HttpProtocol) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        self.stats.connections = len(self._connections)

    def _sweep(self) -> None:
        """Close what is past its deadline: one timer for all, because one each would cost more than the requests."""
        now = time.monotonic()
        for connection in [c for c in self._connections if c.deadline < now]:
            connection.expire()
        self._sweeping = bool(self._connections)
        if self._sweeping:
            asyncio.get_running_loop().call_later(_SWEEP_EVERY, self._sweep)


class Listener:
    """One listening socket and what its connections need to know of it."""

    def __init__(self, server: Server, name: str, listening: socket.socket) -> None:
        host, port = listening.getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.stats = server.stats
        self.opened = server.opened
        self.closed = server.closed
        self.http_date = server.http_date
        self._server = server
        self._socket = listening
        self._place = server.callers.place(listening, name)
        self._accepting: asyncio.AbstractServer | None = None

    @property
    def draining(self) -> bool:
        """Whether the next answer on each connection is its last."""
        return self._server.draining

    def answer(self, request: Request) -> Response:
        """The data plane's answer."""
        return self._server.answer(request)

    def identify(self, connection: HttpProtocol, transport: Any) -> None:
        """Find out who is at the other end of a connection, unless that is gone already."""
        try:
            self._server.callers.identify(transport, self._place, connection.identified)
        except OSError:
            connection.abort()

    def limit_hops(self, transport: Any) -> None:
        """Rule 12: on a link-local address a token answer travels `hop_limit` hops, 1 unless told otherwise."""
        if not is_link_local(transport.get_extra_info("sockname")[0]):
            return
        limit = self._server.hop_limit
        with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as connection:
            connection.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, limit)  # for IPv4 peers of an IPv6 socket too
            if connection.family == socket.AF_INET6:
                connection.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, limit)

    async def start(self) -> None:
        """Begin to accept."""
        loop = asyncio.get_running_loop()
        self._accepting = await loop.create_server(lambda: HttpProtocol(self), sock=self._socket)

    def close(self) -> None:
        """Stop accepting; connections go on."""
        if self._accepting is not None:
            self._accepting.close()


# The EC2 metadata addresses, and fd00:ec2::/32 where AWS keeps their IPv6 forms.
_EC2_IPV6 = ipaddress.ip_network("fd00:ec2::/32")


def is_link_local(host: str) -> bool:
    """Whether an address of this host is one of those that SDKs find by themselves."""
    address = ip_address(host)
    return address.is_link_local or (address.version == 6 and address in _EC2_IPV6)  # noqa: PLR2004 - of IP
