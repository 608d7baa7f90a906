"""Whose listeners are on a port of this host, and whose process is at the server's end of a connection.

Asked of the kernel for all sockets of a port at once, in the network namespace of this process: a socket that is bound
to a device, or has an address of another form, is found as well. Takes milliseconds: for the command line.
"""

import socket
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from imds_proxy.callers.sock_diag import (
    ALL_STATES,
    EACH,
    FOUND,
    HEADER,
    IPV6_ONLY,
    MAPPED,
    PORTS,
    SOCK_DIAG_BY_FAMILY,
    aligned,
    as_mapped,
    attribute,
    open_netlink,
    packed,
    question,
)
from imds_proxy.callers.socket_owner import Address, is_own_address

_LISTEN: Final = 10
_ANY_PORT: Final = 0
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REPLY_SPACE: Final = 1 << 16
_PATIENCE: Final = 5.0
_ANY_ADDRESS: Final = (packed("0.0.0.0"), packed("::"))


class TcpSocket(NamedTuple):
    """One of the table.

    Args:
        family: AF_INET or AF_INET6.
        ports: Its own and its peer's.
        address: Its own, 16 bytes.
        peer: Its peer's.
        uid: The user who made it.
        inode: 0 where no process has it: it waits to be accepted, or was closed.
        ipv6_only: A listener at `::` that takes no IPv4.
    """

    family: int
    ports: bytes
    address: bytes
    peer: bytes
    uid: int
    inode: int
    ipv6_only: bool


def listener_uids(host: str, port: int) -> set[int]:
    """The users of every listener that `listeners` finds."""
    return {each.uid for each in listeners(host, port)}


def listeners(host: str, port: int) -> list[TcpSocket]:
    """Every listener on this host that a connection to an address could reach.

    Args:
        host: An IP address; an unspecified one means each address of its family.
        port: Of TCP.

    Raises:
        OSError: The kernel does not tell.
    """
    wanted = packed(host)
    found = list(_dump(PORTS.pack(port, _ANY_PORT), 1 << _LISTEN))
    # A listener at a wildcard takes what comes to this host, and nothing that goes to another.
    here = wanted in _ANY_ADDRESS or any(each.address == wanted for each in found) or _is_here(host)
    return [each for each in found if here and _reaches(wanted, each)]


def accepted_by(client: Address, server: Address) -> int | None:
    """The user whose process has accepted a connection.

    None: no process has, it waits to be accepted; or the server's end is on another host or in another namespace.

    Args:
        client: The client's address.
        server: The server's, as the client has it.

    Raises:
        OSError: The kernel does not tell.
    """
    ends = packed(server[0]), packed(client[0])
    for each in _dump(PORTS.pack(server[1], client[1]), ALL_STATES & ~(1 << _LISTEN)):
        if (each.address, each.peer) == ends and each.inode:
            return each.uid
    return None


def _is_here(host: str) -> bool:
    try:
        return is_own_address(host)
    except OSError:
        return True


def _reaches(wanted: bytes, listener: TcpSocket) -> bool:
    """Whether a connection to `wanted` may end at a listener."""
    if wanted.startswith(MAPPED):
        if listener.family == socket.AF_INET6 and listener.address == packed("::"):
            return not listener.ipv6_only
        in_family = listener.address.startswith(MAPPED)
    else:
        in_family = not listener.address.startswith(MAPPED)
    return in_family and (wanted == listener.address or wanted in _ANY_ADDRESS or listener.address in _ANY_ADDRESS)


def _dump(ports: bytes, states: int) -> Iterator[TcpSocket]:
    """Every socket with these ports, 0 being any, in one of these states; raises OSError."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with open_netlink() as netlink:
            netlink.settimeout(_PATIENCE)
            netlink.send(question(EACH, 1, family, ports, states=states))
            yield from _read(netlink, family)


def _read(netlink: socket.socket, family: int) -> Iterator[TcpSocket]:
    while True:
        reply, offset = netlink.recv(_REPLY_SPACE), 0
        while offset < len(reply):
            length, kind, *_ = HEADER.unpack_from(reply, offset)
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                raise OSError(-struct.unpack_from("=i", reply, offset + HEADER.size)[0], "no answer about sockets")
            if kind == SOCK_DIAG_BY_FAMILY:
                yield _found(reply[offset + HEADER.size : offset + length], family)
            offset += aligned(length)


def _found(message: bytes, family: int) -> TcpSocket:
    _, _, ports, source, destination, uid, inode = FOUND.unpack_from(message)
    ends = as_mapped(family, source), as_mapped(family, destination)
    return TcpSocket(family, ports, *ends, uid, inode, attribute(message, FOUND.size, IPV6_ONLY) > b"\0")
