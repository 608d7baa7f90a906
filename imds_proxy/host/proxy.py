"""The HTTP proxy that the environment names: which variable, and whether its value can be one.

In: a scheme, the value. Out: the proxy's URL. Errors: Invalid without a role; its text names the variable and has
nothing of the value, which may hold a password.
"""

import os
import re
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from imds_proxy.errors import Invalid

_PRINTABLE: Final = re.compile(r"[!-~]+")
_HOST: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?|\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]")
_PORT: Final = re.compile(r"[0-9]{1,5}")
_HIGHEST_PORT: Final = 65535
_ESCAPES: Final = "in its login write # as %23, / as %2F, ? as %3F and @ as %40"


def variable(scheme: str) -> str:
    """The environment variable that names the proxy for URLs of a scheme; the small one wins, as it does in Python."""
    small = f"{scheme}_proxy"
    return small if os.environ.get(small) else small.upper()


def environment_proxy(url: str) -> URL | None:
    """The proxy that the environment has for a URL; None where it goes through none. Raises Invalid as `proxy_url`."""
    target = URL(url, encoded=True)
    if target.host is None or proxy_bypass(f"{target.host}:{target.port}"):
        return None
    value = getproxies().get(target.scheme)
    return proxy_url(target.scheme, value) if value else None


def proxy_url(scheme: str, value: str) -> URL:
    """What a variable's value names; without a scheme of its own it is an http: proxy.

    Raises:
        Invalid: It can be no HTTP proxy.
    """
    url = value if "://" in value else f"http://{value.removeprefix('//')}"
    if (fault := _fault(url)) is None:
        return URL(url)
    name = variable(scheme)
    raise Invalid(f"{name} names no HTTP proxy: {fault}", f"correct {name}, as in http://proxy:3128; {_ESCAPES}")


def _fault(url: str) -> str | None:
    if not _PRINTABLE.fullmatch(url):
        return "it holds a space, an end of line or another character that no URL has"
    scheme, _, rest = url.partition("://")
    if scheme not in {"http", "https"}:
        return "it begins with neither http:// nor https://, and nothing else is spoken here"
    place, mark, _ = re.sub(r"/$", "", rest).partition("#")
    if mark:
        return "it holds a #, after which nothing belongs to the address"
    where = place.rpartition("@")[2]
    host, port = _host_and_port(where)
    if not host or not _HOST.fullmatch(host):
        return "there is no host in it" if not host else "what stands in the host's place is no host name or address"
    if port is not None and not (_PORT.fullmatch(port) and 0 < int(port) <= _HIGHEST_PORT):
        return "its port is no number from 1 to 65535"
    return None if _agrees(url, host) else "its login holds a character that has to be written in another way"


def _host_and_port(where: str) -> tuple[str, str | None]:
    host, colon, port = where.rpartition(":")
    if not colon or where.endswith("]"):
        return where, None
    return host, port


def _agrees(url: str, host: str) -> bool:
    """Whether libraries find the same host in it: a login with / or ? ends their address too early."""
    try:
        return urlsplit(url).hostname == host.strip("[]").lower() and URL(url).host is not None
    except ValueError:
        return False
