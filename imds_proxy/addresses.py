"""Addresses and names of hosts, in the one form in which they are compared."""

import ipaddress
import re
from typing import Final

SYSTEMD_PREFIX: Final = "systemd:"
DEFAULT_LISTEN: Final = "127.0.0.1:1338"
DEFAULT_ADMIN_LISTEN: Final = "127.0.0.1:9338"
_PORT: Final = re.compile(r"[0-9]{1,5}")


def canonical(name: str) -> str:
    """A name in lower case; an address literal as it is usually written (::1 for 0:0:0:0:0:0:0:1)."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name.lower()


def host_name(host: str) -> str:
    """A Host header without its port and brackets, in lower case."""
    name, colon, port = host.rpartition(":")
    if colon and port.isdecimal() and not name.endswith(":"):
        host = name
    if host.startswith("[") and host.endswith("]"):
        return canonical(host[1:-1])
    return canonical(host)


def is_literal(name: str) -> bool:
    """Whether a name is an IP address: no DNS answer can make it another host's."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def split_listen(value: str) -> tuple[str, int]:
    """`"127.0.0.1:1338"` or `"[::1]:1338"` as (IP address literal, port); raises ValueError with the form expected."""
    host, colon, port = value.rpartition(":")
    if not colon or not _PORT.fullmatch(port) or int(port) > 65535:  # noqa: PLR2004 - the largest port
        raise ValueError('expected "ADDRESS:PORT", "[IPV6]:PORT" or "systemd:NAME"')
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if (":" in bare) != (bare != host):
        raise ValueError("an IPv6 address is written in brackets, as in [::1]:1338")
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        raise ValueError(f"expected an IP address, not {bare!r}") from None
    return bare, int(port)
