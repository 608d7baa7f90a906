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
    peer = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped:
        peer = peer.ipv4_mapped
    # Who connects from this host to one of its addresses comes from that same address.
    local = peer.is_loopback or str(peer) == listener
    return Caller(str(peer), LOCAL if local else peer.packed)
