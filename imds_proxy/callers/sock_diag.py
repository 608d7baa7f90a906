"""Questions to the kernel about TCP sockets, and its answers, as bytes: NETLINK_SOCK_DIAG (sock_diag(7)).

In `struct nlmsghdr`, `inet_diag_req_v2` and `inet_diag_msg` of <linux/inet_diag.h>; ports and addresses are in network
order.
"""

import socket
import struct
from functools import lru_cache
from typing import Final

SOCK_DIAG_BY_FAMILY: Final = 20
ONE: Final = 0x001
"""NLM_F_REQUEST: about one socket, which the question names in full."""
EACH: Final = 0x301
"""NLM_F_REQUEST | NLM_F_DUMP: about each socket that the question fits; a port of 0 is any."""
ALL_STATES: Final = 0xFFFF_FFFF

HEADER: Final = struct.Struct("=IHHII")
FOUND: Final = struct.Struct("=BBxx 4s16s16s12x 12xII")
"""Behind the header: family, state, ports, source, destination, uid, inode. Attributes may follow."""
STATE: Final = HEADER.size + 1
CONNECTION: Final = slice(HEADER.size + 4, HEADER.size + 40)
"""Ports, source and destination, in an answer with its header."""
UID_AND_INODE: Final = struct.Struct(f"={HEADER.size + FOUND.size - 8}xII")
"""At the beginning of an answer with its header."""
IPV6_ONLY: Final = 11  # INET_DIAG_SKV6ONLY
CGROUP_ID: Final = 21  # INET_DIAG_CGROUP_ID, since Linux 5.9
PORTS: Final = struct.Struct("!HH")
MAPPED: Final = b"\0" * 10 + b"\xff\xff"

_QUESTION: Final = struct.Struct("=IHHII BBxxI 4s32sI8s")
_ATTRIBUTE: Final = struct.Struct("=HH")
_ALIGNED: Final = 4
_ADDRESSES_KEPT: Final = 1024
_NO_COOKIE: Final = b"\xff" * 8  # INET_DIAG_NOCOOKIE
_NETLINK_SOCK_DIAG: Final = 4
_KERNEL: Final = (0, 0)
_TCP: Final = int(socket.IPPROTO_TCP)


def question(
    kind: int,
    sequence: int,
    family: int,
    ports: bytes,
    *,
    states: int = ALL_STATES,
    ends: bytes = b"",
    scope: int = 0,
) -> bytes:
    """A whole message.

    Args:
        kind: ONE or EACH.
        sequence: Of its own; the answer repeats it.
        family: AF_INET or AF_INET6.
        ports: Those of `PORTS`: the socket's own, then its peer's.
        states: A bit for each state of a socket that is asked about.
        ends: The socket's address and its peer's, 16 bytes each, for ONE.
        scope: The interface of a link-local address, for ONE.
    """
    header = _QUESTION.size, SOCK_DIAG_BY_FAMILY, kind, sequence, 0
    return _QUESTION.pack(*header, family, _TCP, states, ports, ends, scope, _NO_COOKIE)


def open_netlink() -> socket.socket:
    """A non-blocking socket to the kernel, which answers about its network namespace.

    Raises:
        OSError: There is none to be had here.
    """
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
    netlink.setblocking(False)  # noqa: FBT003 - the socket API's own
    try:
        netlink.connect(_KERNEL)  # from here on nobody else's messages come in
    except OSError:
        netlink.close()
        raise
    return netlink


@lru_cache(_ADDRESSES_KEPT)
def packed(host: str) -> bytes:
    """16 bytes, IPv4 mapped into IPv6: a client's socket may be of the one family and the server's of the other."""
    if ":" in host:
        return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return MAPPED + socket.inet_aton(host)


def as_mapped(family: int, address: bytes) -> bytes:
    """An address of `FOUND` in the form that `packed` has."""
    return MAPPED + address[:4] if family == socket.AF_INET else address


def attribute(answer: bytes, offset: int, kind: int) -> bytes:
    """An attribute's value; empty where there is none.

    Args:
        answer: One message.
        offset: Where its attributes begin.
        kind: One of those above.
    """
    end = len(answer)
    while offset + _ATTRIBUTE.size <= end:
        length, found = _ATTRIBUTE.unpack_from(answer, offset)
        if length < _ATTRIBUTE.size:
            break
        if found == kind:
            return answer[offset + _ATTRIBUTE.size : offset + length]
        offset += aligned(length)
    return b""


def aligned(length: int) -> int:
    """How far it is to what follows a part of this length."""
    return (length + _ALIGNED - 1) & -_ALIGNED
