"""What the control plane refuses before anything is looked at: other sites' pages, and names that are not its own.

A name in DNS can be made to point here by whoever owns it, and then the browser takes that owner's page for one of
this host. No DNS answer changes what an address literal means, so every literal is served.
"""

from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

from imds_proxy.addresses import canonical, host_name, is_literal

_OWN_SITE: Final = frozenset({"same-origin", "none"})
"""`none`: a person typed the address or opened a bookmark."""

RENEW_HEADER: Final = "X-Imds-Proxy-Renew"
_OF_BROWSERS: Final = ("Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Referer", "Cookie")


def host_refusal(hosts: list[str], allowed: Iterable[str], *, required: bool) -> str | None:
    """Why a request is refused for its Host header, or None.

    Args:
        hosts: Every Host header of it.
        allowed: Names that the operator added.
        required: Whether there has to be one: only HTTP/1.0 may leave it out.
    """
    if len(hosts) > 1 or (required and not hosts):
        return "a request has exactly one Host"
    if not hosts or _is_ours(hosts[0], allowed):
        return None
    return "this Host is not served: use an address, or add the name to [admin] allowed_hosts"


def origin_refusal(origin: str | None, site: str | None, host: str) -> str | None:
    """Why a request is refused for the page that sent it, or None.

    Args:
        origin: The Origin header; None: there is none.
        site: The Sec-Fetch-Site header.
        host: The Host header.
    """
    own = origin is None or _netloc(origin) == host.lower() != ""
    if own and (site is None or site in _OWN_SITE):
        return None
    return "pages of other sites are not served: open this one by typing its address"


def renew_refusal(headers: Mapping[str, str]) -> str | None:
    """Why a request that changes something is refused, or None: no browser sends one that is served.

    A page can send a POST, but no header of its own choice without asking first, which is never answered with leave to;
    and a browser says with each POST where it comes from.
    """
    if RENEW_HEADER in headers and not any(name in headers for name in _OF_BROWSERS):
        return None
    return f"this is for `imds-proxy renew`, which sends {RENEW_HEADER}"


def _is_ours(host: str, allowed: Iterable[str]) -> bool:
    name = host_name(host)
    return name == "localhost" or is_literal(name) or name in {canonical(each) for each in allowed}


def _netloc(origin: str) -> str:
    """Host and port of an Origin; of `null`, which is any page without one, nothing."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
