"""Addresses and names of hosts, in the one form in which they are compared."""

import ipaddress


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
