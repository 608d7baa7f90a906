"""Whether AWS can be reached from here: TCP and TLS to an endpoint, through the proxy if there is one.

In: a service, a region, the environment, the agent's own settings. Out: nothing, or why not. Errors: Unreachable.
"Prerequisites for configuring an on-premises instance" of the CodeDeploy user guide; "Using an HTTP proxy" of the AWS
CLI user guide.
"""

import base64
import http.client
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from imds_proxy.errors import Unreachable
from imds_proxy.partitions import of_region

SERVICES: Final = ("sts", "codedeploy", "codedeploy-commands", "s3")
_TIME_LIMIT: Final = 5.0
_PORTS: Final = {"https": 443, "http": 80}
# The agent's own names for where to go instead, and for its proxy.
_SETTINGS: Final = {"codedeploy-commands": "deploy_control_endpoint", "s3": "s3_endpoint_override"}
_PROXY_SETTING: Final = "proxy_uri"
_CONFIG: Final = Config(defaults_mode="legacy")  # "auto" would ask the instance metadata for its region
_NO_KEY: Final = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}  # nor is any looked up: none is used


@dataclass(frozen=True, slots=True)
class Way:
    """How a service is reached."""

    endpoint: SplitResult
    proxy: SplitResult | None

    def __str__(self) -> str:
        through = f" through proxy {_place(self.proxy)}" if self.proxy else ""
        return f"{_place(self.endpoint)}{through}"


def way(service: str, region: str, settings: Mapping[str, str]) -> Way:
    """The endpoint of a service in a region, as the agent or the daemon would find it, and the proxy on the way.

    Raises:
        Unreachable: An address in the environment or the settings is none; it is not repeated: it may hold a password.
    """
    variable = f"AWS_ENDPOINT_URL_{service.replace('-', '_').upper()}"
    named = settings.get(_SETTINGS.get(service, "")) or os.environ.get(variable) or os.environ.get("AWS_ENDPOINT_URL")
    endpoint = _split(named or _public(service, region), f"{variable} or the agent's config")
    own = settings.get(_PROXY_SETTING) if service in _SETTINGS else None
    found = own or _environments_proxy(endpoint)
    return Way(endpoint, _split(found if "://" in found else f"http://{found}", "the proxy") if found else None)


def _public(service: str, region: str) -> str:
    """What the daemon and `register` call is where botocore says: FIPS and dual-stack endpoints, where they are set."""
    usual = f"https://{service}.{region}.{of_region(region).dns_suffix}"
    if service in _SETTINGS:  # the agent does not ask botocore
        return usual
    try:
        client = botocore.session.Session().create_client(service, region, config=_CONFIG, **_NO_KEY)
    except (BotoCoreError, ValueError, OSError):  # of a profile or its files: the daemon's own roles say so
        return usual
    return str(client.meta.endpoint_url)


def reach(way: Way) -> None:
    """Connect, and shake hands over TLS; nothing is asked. Raises Unreachable."""
    try:
        connection = _connection(way)
        try:
            connection.connect()
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unreachable(*_reason(error, way)) from None  # its text may hold what a proxy said


def _connection(way: Way) -> http.client.HTTPConnection:
    to = way.proxy or way.endpoint
    place = (to.hostname or "", _port(to))
    if way.endpoint.scheme == "http":
        return http.client.HTTPConnection(*place, timeout=_TIME_LIMIT)
    context = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE") or None)
    connection = http.client.HTTPSConnection(*place, timeout=_TIME_LIMIT, context=context)
    if way.proxy:
        connection.set_tunnel(way.endpoint.hostname or "", _port(way.endpoint), _login(way.proxy))
    return connection


def _login(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def _environments_proxy(endpoint: SplitResult) -> str | None:
    if proxy_bypass(f"{endpoint.hostname}:{_port(endpoint)}"):
        return None
    return getproxies().get(endpoint.scheme)


def _split(url: str, what: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if parts.scheme in _PORTS and parts.hostname and parts.port != 0:
            return parts
    except ValueError:
        pass
    raise Unreachable(f"{what} is not the URL of an HTTP server", "correct it, as in https://host or http://proxy:3128")


def _place(url: SplitResult) -> str:
    """Without what may be a password."""
    return f"{url.hostname}:{_port(url)}"


def _port(url: SplitResult) -> int:
    return url.port or _PORTS[url.scheme]


def _reason(error: Exception, way: Way) -> tuple[str, str]:
    network = "check DNS, route, firewall and HTTPS_PROXY towards it"
    if isinstance(error, ssl.SSLCertVerificationError):
        advice = "set AWS_CA_BUNDLE to the CA that your network uses; the agent has its own: SSL_CERT_FILE"
        return f"{way}: its certificate is not accepted: {error.verify_message}", advice
    if isinstance(error, ssl.SSLError):
        return f"{way}: TLS failed: {(error.reason or 'no reason given').replace('_', ' ').lower()}", network
    if isinstance(error, FileNotFoundError | PermissionError):
        return f"{way}: AWS_CA_BUNDLE cannot be read: {error.strerror}", "correct AWS_CA_BUNDLE"
    if isinstance(error, TimeoutError):
        return f"{way}: no answer within {_TIME_LIMIT:g} s", network
    if refused := re.match(r"Tunnel connection failed: (\d{3})", str(error)):
        return f"{way}: the proxy refuses ({refused[1]})", "let the proxy allow it, or name the host in NO_PROXY"
    return f"{way}: no connection: {getattr(error, 'strerror', None) or 'it was closed'}", network
