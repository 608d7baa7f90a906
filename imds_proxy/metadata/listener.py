"""One listening socket: accepts connections, asks the kernel who connected, and opens what its caller has a share for.

The loop's own server accepts whatever has come before anything else is done, and makes a transport of it before anybody
can see who it is from: one process that connects again and again would leave nothing for the others. To accept and to
identify is the cheap part; what a caller has too many of is closed right after it.
"""

import asyncio
import ipaddress
import logging
import math
import os
import socket
import time
from functools import partial
from typing import Any, Final, Protocol

from imds_proxy.callers.caller import Caller, ip_address
from imds_proxy.callers.peer import Callers, check_still_there
from imds_proxy.callers.socket_owner import Address, Owner
from imds_proxy.host.open_files import exhausted
from imds_proxy.metadata.connection import HttpProtocol
from imds_proxy.metadata.connections import Connections
from imds_proxy.metadata.loop_shares import LoopShares, Share
from imds_proxy.metadata.messages import Request, Response
from imds_proxy.telemetry.stats import RequestStats

log = logging.getLogger(__name__)

MOST_WAITING: Final = 1024
"""Accepted connections of one caller that wait for its share of the loop; of a burst of processes all have room."""
_ACCEPTING: Final = 0.003
"""Seconds of the loop for accepting, in one turn."""
_OPENING: Final = 0.0001
"""Seconds of the loop that it takes to open a connection, after it was accepted."""
_RECEIVE_BUFFER: Final = 32 * 1024
"""Bytes that the kernel takes from a client before they are read, and so what a connection that waits can hold."""
_PAUSE: Final = 0.1
"""Seconds without accepting when there are no descriptors: they wait in the kernel meanwhile."""
_SAY_EVERY: Final = 60.0


class Server(Protocol):
    """What all listeners share (`server.py`)."""

    stats: RequestStats
    callers: Callers
    shares: LoopShares
    connections: Connections
    draining: bool
    hop_limit: int

    def answer(self, request: Request) -> Response:
        """The data plane's answer."""

    def http_date(self) -> str:
        """The time, as the Date header has it."""

    def counted(self) -> None:
        """There are more connections, or fewer."""


class Arrived:
    """A connection that was accepted and waits to be opened.

    Args:
        descriptor: Of its socket.
        local: The address of the server's end.
        principal: Of its caller.
        found: What the kernel tells of that.
    """

    __slots__ = ("active", "descriptor", "found", "is_aborted", "local", "principal")

    busy = True
    deadline = math.inf

    def __init__(self, descriptor: int, local: Address, principal: bytes, found: Owner | Caller) -> None:
        self.descriptor = descriptor
        self.local = local
        self.principal = principal
        self.found = found
        self.active = time.monotonic()
        self.is_aborted = False

    def abort(self) -> None:
        """Close it instead of opening it."""
        self.is_aborted = True

    close = expire = abort


class Listener:
    """One listening socket and what its connections need to know of it."""

    def __init__(self, server: Server, name: str, listening: socket.socket) -> None:
        host, port = listening.getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.stats = server.stats
        self.http_date = server.http_date
        self.run = server.shares.run
        self._server = server
        self._socket = listening
        self._family = int(listening.family)
        self._local = None if ip_address(host).is_unspecified else listening.getsockname()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)  # its connections inherit it
        self._place = server.callers.place(listening, name)
        self._opening: set[asyncio.Task[None]] = set()
        self._said = -_SAY_EVERY

    @property
    def draining(self) -> bool:
        """Whether the next answer on each connection is its last."""
        return self._server.draining

    def answer(self, request: Request) -> Response:
        """The data plane's answer."""
        return self._server.answer(request)

    def start(self) -> None:
        """Begin to accept."""
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._accept)

    def close(self) -> None:
        """Stop accepting; connections go on."""
        if self._socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    # From the listening socket to an open connection

    def _accept(self) -> None:
        """Take what has come, for some milliseconds: the loop looks at the other sockets in between."""
        began = now = time.perf_counter()
        while now < began + _ACCEPTING:
            try:
                # What socket.accept() does besides costs as much as to ask the kernel who it is.
                descriptor, peer = self._socket._accept()  # type: ignore[attr-defined]  # noqa: SLF001
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._pause(error)
                return
            share = self._arrived(descriptor, peer)
            before, now = now, time.perf_counter()
            if share is not None:
                share.charge(now - before)

    def _arrived(self, descriptor: int, peer: Address) -> Share | None:
        """Let a connection wait for its caller's share, or close it if that caller has too many; whose share it is."""
        try:
            local = self._local or _local(self._family, descriptor)
            principal, found = self._server.callers.look_up(peer, local, self._place)
        except OSError:  # its address cannot be judged
            os.close(descriptor)
            return None
        share = self._server.shares.of(principal)
        if len(share.waiting) < MOST_WAITING:
            arrived = Arrived(descriptor, local, principal, found)
            if self._server.connections.admit(arrived):
                self._server.counted()
                share.run(partial(self._open, arrived), _OPENING)
                return share
        os.close(descriptor)
        return share

    def _open(self, arrived: Arrived) -> None:
        task = asyncio.get_running_loop().create_task(self._connect(arrived))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(self, arrived: Arrived) -> None:
        connection = socket.socket(self._family, socket.SOCK_STREAM, fileno=arrived.descriptor)
        try:
            if arrived.is_aborted or self._server.draining:
                raise ConnectionAbortedError
            check_still_there(connection)
            connection.setblocking(False)  # noqa: FBT003 - the socket API's own
            make = partial(HttpProtocol, self, arrived)
            await asyncio.get_running_loop().connect_accepted_socket(make, connection)
        except OSError:
            connection.close()
            self._server.connections.remove(arrived)
            self._server.counted()

    def _pause(self, error: OSError) -> None:
        """Accept nothing for a moment: without a descriptor for it, a connection stays where it is."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket.fileno())
        loop.call_later(_PAUSE, self._resume)
        if time.monotonic() - self._said < _SAY_EVERY:
            return
        self._said = time.monotonic()
        reason, advice = exhausted(error) or (error.strerror, "it is tried again")
        log.error("cannot accept connections", extra={"address": self.address, "error": reason, "advice": advice})

    def _resume(self) -> None:
        if self._socket.fileno() >= 0:
            self.start()

    # What its connections ask

    def opened(self, connection: HttpProtocol, arrived: Arrived) -> None:
        """A connection is open; if it has been aborted meanwhile, it ends."""
        if arrived.is_aborted:
            connection.abort()
            return
        self._server.connections.replace(arrived, connection)
        self._server.counted()
        self._server.callers.name(arrived.found, arrived.local, self._place, connection.identified)

    def closed(self, connection: HttpProtocol) -> None:
        """A connection is gone."""
        self._server.connections.remove(connection)
        self._server.counted()

    def limit_hops(self, transport: Any) -> None:
        """Rule 12: on a link-local address a token answer travels `hop_limit` hops, 1 unless told otherwise."""
        if not is_link_local(transport.get_extra_info("sockname")[0]):
            return
        limit = self._server.hop_limit
        with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as connection:
            connection.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, limit)  # for IPv4 peers of an IPv6 socket too
            if connection.family == socket.AF_INET6:
                connection.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, limit)


def _local(family: int, descriptor: int) -> Any:
    """The address of the server's end of a connection."""
    connection = socket.socket(family, socket.SOCK_STREAM, fileno=descriptor)
    try:
        return connection.getsockname()
    finally:
        connection.detach()


# The EC2 metadata addresses, and fd00:ec2::/32 where AWS keeps their IPv6 forms.
_EC2_IPV6 = ipaddress.ip_network("fd00:ec2::/32")


def is_link_local(host: str) -> bool:
    """Whether an address of this host is one of those that SDKs find by themselves."""
    address = ip_address(host)
    return address.is_link_local or (address.version == 6 and address in _EC2_IPV6)  # noqa: PLR2004 - of IP
