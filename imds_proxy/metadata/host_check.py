"""What is refused before anything is looked at: other sites' pages, and names that are not ours."""

import ipaddress
from collections.abc import Iterable, Mapping
from functools import lru_cache

from imds_proxy.addresses import canonical, host_name, is_literal

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
        return name in self._allowed or (self._any_literal and is_literal(name))
