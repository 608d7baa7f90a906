"""Who is at the other end of a connection."""

import ipaddress
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Caller:
    """What is known of a client, once per connection.

    Args:
        address: Its IP address, without the IPv6 mapping that Java puts around IPv4.
        principal: What its session tokens are bound to. All local callers are one: a client may reach the same
            daemon as 127.0.0.1, ::1 and 169.254.169.254 in turn.
    """

    address: str
    principal: bytes


LOCAL = b"local"


@lru_cache(1024)  # an address is parsed once, not at every connection
def caller_at(address: str, listener: str) -> Caller:
    """The caller for a peer address, on a listener with the address `listener`."""
    peer = ip_address(address)
    # Who connects from this host to one of its addresses comes from that same address.
    local = peer.is_loopback or peer == ip_address(listener)
    return Caller(str(peer), LOCAL if local else peer.packed)


def ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """A socket's address, without its scope and without the IPv6 mapping that Java puts around IPv4."""
    address = ipaddress.ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address
