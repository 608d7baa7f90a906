"""What is refused before anything is looked at: other sites' pages, and names that are not ours."""

import ipaddress
from collections.abc import Iterable, Mapping
from functools import lru_cache

# A literal or localhost cannot be re-bound by somebody's DNS. The link-local ones are what clients ask for where the
# packets reach another listener by address translation.
_ALWAYS = (
    "localhost",
    "127.0.0.1",
    "::1",
    "169.254.169.254",
    "fd00:ec2::254",
    "169.254.170.2",
    "169.254.170.23",
    "fd00:ec2::23",
)
_HOSTS_KEPT = 64
_BROWSER_HEADERS = frozenset(
    ("origin", *(f"sec-fetch-{what}" for what in ("site", "mode", "dest", "user", "storage-access")))
)


class Guard:
    """The Host allow-list (PROTOCOL.md 6) and the refusal of browsers, for one config.

    Args:
        listeners: Address literals the data plane listens on; a wildcard admits every literal.
        allowed_hosts: Names the operator added.
    """

    def __init__(self, listeners: Iterable[str], allowed_hosts: Iterable[str]) -> None:
        literals = tuple(listeners)
        self._any_literal = any(ipaddress.ip_address(literal).is_unspecified for literal in literals)
        self._is_ours = lru_cache(_HOSTS_KEPT)(self._admits)
        self._allowed = frozenset(canonical(name) for name in (*_ALWAYS, *literals, *allowed_hosts))

    def refusal(self, headers: Mapping[str, str]) -> str | None:
        """Why a request is refused, or None."""
        if not _BROWSER_HEADERS.isdisjoint(headers):
            return "browsers are not served"
        host = headers.get("host")
        if host is None or self._is_ours(host):  # only HTTP/1.0 may leave it out, and a browser never does
            return None
        return "this Host is not served: see allowed_hosts"

    def _admits(self, host: str) -> bool:
        name = host_name(host)
        return name in self._allowed or (self._any_literal and _is_literal(name))


def host_name(host: str) -> str:
    """A Host header without its port and brackets, in lower case."""
    name, colon, port = host.rpartition(":")
    if colon and port.isdecimal() and not name.endswith(":"):
        host = name
    if host.startswith("[") and host.endswith("]"):
        return canonical(host[1:-1])
    return canonical(host)


def canonical(name: str) -> str:
    """A name in lower case; an address literal as it is usually written (::1 for 0:0:0:0:0:0:0:1)."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name.lower()


def _is_literal(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
