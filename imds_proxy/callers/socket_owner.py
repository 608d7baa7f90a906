"""Whose process is at the other end of a connection: asked of the kernel by NETLINK_SOCK_DIAG (sock_diag(7)).

One request about exactly one connection, answered within the system call, without any privilege. (/proc/net/tcp tells
the same, but has to be read as a whole, and any user can make it long.)
"""

import errno
import os
import socket
import struct
import sys
from functools import lru_cache
from typing import Any, NamedTuple

from imds_proxy.callers.sock_diag import (
    CGROUP_ID,
    CONNECTION,
    FOUND,
    HEADER,
    MAPPED,
    ONE,
    PORTS,
    SOCK_DIAG_BY_FAMILY,
    STATE,
    UID_AND_INODE,
    attribute,
    open_netlink,
    packed,
    question,
)
from imds_proxy.host.user_namespace import unmapped_uid

Address = tuple[Any, ...]
"""As the socket module has it: `(host, port)`, or `(host, port, flow, scope)` for IPv6."""

_IPV4, _IPV6 = int(socket.AF_INET), int(socket.AF_INET6)
_ADDRESSES_KEPT = 1024
_SEQUENCE_MASK = 0xFFFF_FFFF
_REPLY_SPACE = 1024
_ATTRIBUTES = HEADER.size + FOUND.size
"""Where they begin in an answer."""

_ESTABLISHED, _FIN_WAIT1, _FIN_WAIT2, _CLOSE_WAIT = 1, 4, 5, 8
_OPEN = frozenset({_ESTABLISHED, _FIN_WAIT1, _FIN_WAIT2, _CLOSE_WAIT})
"""States of a socket that is one end of a connection; its client may have sent all it had, and still read."""

_SO_NETNS_COOKIE, _COOKIE_SIZE = 71, 8
_ELSEWHERE = frozenset({errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.EHOSTUNREACH})
_DISCARD = 9
_SCOPED = 3
_PATIENCE = 1.0


class Owner(NamedTuple):  # made once per connection: a frozen dataclass costs twice as much
    """Whose a socket is.

    Args:
        uid: The user who made it.
        inode: By which /proc/PID/fd shows who has it open.
        cgroup: The id of the cgroup of the process that made it; 0 where the kernel does not tell.
    """

    uid: int
    inode: int
    cgroup: int = 0


class SocketOwners:
    """Asks who owns a client's socket, in the network namespace in which this was made; never waits.

    A client is not found when it is on another machine or in another network namespace, when it has closed its socket,
    and when it has bound it to a device.
    """

    def __init__(self) -> None:
        self._netlink = _netlink_if_any()
        self._sequence = 0
        self._unmapped_uid = unmapped_uid()

    def close(self) -> None:
        """Find nobody from here on."""
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    def works(self) -> bool:
        """Whether the kernel knows who has a connection that this process makes to itself.

        It does not tell without tcp_diag, behind a seccomp filter (RestrictAddressFamilies without AF_NETLINK), and
        where something else plays the kernel (gVisor).
        """
        return self.own_cgroup() is not None

    def own_cgroup(self) -> int | None:
        """The cgroup of a socket of this process; 0 where the kernel tells its user alone, None where not even that."""
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            if (itself := self._finds_itself(family, host)) is not None:
                return itself.cgroup
        return None

    def shares_namespace(self, listening: socket.socket) -> bool:
        """Whether a socket passed to this process is of the network namespace in which owners are looked up.

        In another one the same two addresses may be another user's connection. Linux before 5.14 does not tell, which
        is False too. What this process has bound itself needs no such question.
        """
        if self._netlink is None:
            return False
        try:
            return _namespace(listening) == _namespace(self._netlink)
        except OSError:
            return False

    def owner(self, peer: Address, local: Address) -> Owner | None:
        """Who owns the socket at `peer` that is connected to `local`, both as the server has them.

        A client that resets its connection frees its address for the next client, while its request is still to be
        read: the answer holds only if the server's connection is still there after it.
        """
        ports, (family, ends, mapped_ends) = PORTS.pack(peer[1], local[1]), _ends(peer[0], local[0])
        try:
            found = self._ask(
                question(ONE, self._next(), family, ports, ends=ends, scope=_scope(peer) or _scope(local))
            )
            uid, inode = UID_AND_INODE.unpack_from(found)
        except (OSError, struct.error):
            return None
        if found[CONNECTION] not in {ports + ends, ports + mapped_ends}:
            return None  # with no such connection the kernel tells of a listener on the client's port
        if found[STATE] not in _OPEN or not inode or uid == self._unmapped_uid:
            return None  # closed: no inode, and it reads as root's
        return Owner(uid, inode, int.from_bytes(attribute(found, _ATTRIBUTES, CGROUP_ID), sys.byteorder))

    def _next(self) -> int:
        """The number of the next question."""
        self._sequence = (self._sequence + 1) & _SEQUENCE_MASK
        return self._sequence

    def _ask(self, message: bytes) -> bytes:
        """The kernel's answer, empty when there is no such socket; raises OSError or struct.error."""
        if self._netlink is None:
            return b""
        self._netlink.send(message)
        while True:  # until the answer, or BlockingIOError; what an earlier request left is passed over
            reply = self._netlink.recv(_REPLY_SPACE)
            _, kind, _, answered, _ = HEADER.unpack_from(reply)
            if answered == self._sequence:
                return reply if kind == SOCK_DIAG_BY_FAMILY else b""

    def _finds_itself(self, family: socket.AddressFamily, host: str) -> Owner | None:
        try:
            with socket.socket(family) as listening, socket.socket(family) as client:
                listening.bind((host, 0))
                listening.listen(1)
                client.settimeout(_PATIENCE)
                client.connect(listening.getsockname())
                itself = os.geteuid(), os.fstat(client.fileno()).st_ino
                found = self.owner(client.getsockname(), client.getpeername())
                return found if found is not None and (found.uid, found.inode) == itself else None
        except OSError:
            return None


@lru_cache(_ADDRESSES_KEPT)
def _ends(peer: str, local: str) -> tuple[int, bytes, bytes]:
    """The family to ask for, both addresses as it has them, and as a socket of the other family has them."""
    source, destination = packed(peer), packed(local)
    mapped = source + destination
    if not (source.startswith(MAPPED) and destination.startswith(MAPPED)):
        return _IPV6, mapped, mapped
    plain = (address[len(MAPPED) :].ljust(len(address), b"\0") for address in (source, destination))
    return _IPV4, b"".join(plain), mapped


def is_own_address(host: str, scope: int = 0) -> bool:
    """Whether an address is one of this host's, in this thread's network namespace.

    A local process that has bound its socket to a device is not found, and must not pass for a container by connecting
    from the address of the host's end of a bridge.

    Args:
        host: An IP address.
        scope: The interface of a link-local IPv6 address.

    Raises:
        OSError: That cannot be told.
    """
    address = packed(host)
    mapped = address.startswith(MAPPED)
    try:
        with socket.socket(socket.AF_INET if mapped else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            if not mapped:  # the kernel prefers the destination as the source, if it can be
                probe.connect((host, _DISCARD, 0, scope))
                return packed(probe.getsockname()[0]) == address
            # To bind is not enough: with ip_nonlocal_bind, which failover setups turn on, it always succeeds.
            text = socket.inet_ntoa(address[len(MAPPED) :])
            probe.bind((text, 0))
            probe.connect((text, _DISCARD))
    except OSError as error:
        if error.errno not in _ELSEWHERE:
            raise
        return False
    return True


def _netlink_if_any() -> socket.socket | None:
    try:
        return open_netlink()
    except OSError:
        return None


def _namespace(of: socket.socket) -> bytes:
    return of.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, _COOKIE_SIZE)


def _scope(address: Address) -> int:
    """The interface of a link-local address, without which it is not found; 0 for any other."""
    return int(address[3]) if len(address) > _SCOPED else 0
