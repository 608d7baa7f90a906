"""One HTTP request of a source's: bounded in time and size, through the environment's proxy, never redirected.

AWS's STS is called by botocore; this is for Roles Anywhere and for services that are not AWS's.
"""

import asyncio
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from imds_proxy.errors import Invalid, SourceError, Unreachable

_LARGEST: Final = 1 << 20  # bytes
_PIECE: Final = 65536
_REDIRECT: Final = 300, 399


@dataclass(frozen=True, slots=True)
class WebRequest:
    """What is sent. Headers may hold secrets: they are not in the `repr`."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. The body may hold secrets."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    """By lower-case name."""
    body: bytes = field(repr=False)


async def ask(role: str, request: WebRequest, *, tls: ssl.SSLContext, timeout: float) -> Answer:  # noqa: ASYNC109
    """The answer to one request, whatever its status, as long as it is no redirect.

    Args:
        role: For the message.
        request: What to send.
        tls: For https.
        timeout: Seconds, from the connection to the last byte of the answer.

    Raises:
        Unreachable: No answer in time, no connection, no trust in the other end, a proxy that refuses.
        Invalid: A redirect, more than 1 MB, or no HTTP.
    """
    proxy, authorization = _proxy(request.url)
    place = f"{request.url.partition('?')[0]}{f' through proxy {proxy}' if proxy else ''}"
    try:
        async with asyncio.timeout(timeout):
            connector = aiohttp.TCPConnector(ssl=tls, force_close=True)
            async with (
                aiohttp.ClientSession(connector=connector, auto_decompress=False) as session,
                session.request(
                    request.method,
                    URL(request.url, encoded=True),  # what was signed is what is sent
                    headers={"Accept-Encoding": "identity", **request.headers},
                    data=request.body or None,
                    proxy=proxy,
                    proxy_auth=authorization,
                    allow_redirects=False,
                ) as response,
            ):
                headers = {name.lower(): value for name, value in response.headers.items()}
                if _REDIRECT[0] <= response.status <= _REDIRECT[1]:
                    raise Invalid(
                        f'role "{role}": {place} answered {response.status}, which sends elsewhere',
                        "configure the address it is really at; redirects are not followed with credentials",
                    )
                return Answer(response.status, headers, await _read(response.content, role, place))
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        raise _translate(error, role, place, timeout) from None  # its text may hold what the other end said


async def _read(content: aiohttp.StreamReader, role: str, place: str) -> bytes:
    body = b""
    async for piece in content.iter_chunked(_PIECE):
        body += piece
        if len(body) > _LARGEST:
            raise Invalid(f'role "{role}": {place} answered more than 1 MB', "this is not a credential service")
    return body


def tls_context(
    role: str, ca_bundle: str | None = None, certificate: str | None = None, key: str | None = None
) -> ssl.SSLContext:
    """TLS that trusts a bundle's CAs, or those of AWS_CA_BUNDLE, or the system's, and shows a certificate if asked to.

    Raises:
        Invalid: A file is missing, may not be read, or is not PEM.
    """
    ca_bundle = ca_bundle or os.environ.get("AWS_CA_BUNDLE")
    try:
        context = ssl.create_default_context(cafile=ca_bundle)
    except OSError as error:  # ssl.SSLError is one
        raise Invalid(
            f'role "{role}": CA bundle {ca_bundle} cannot be used: {error.strerror or "not PEM"}',
            "correct ca_bundle, or AWS_CA_BUNDLE in the daemon's environment",
        ) from None
    if certificate is not None:
        try:
            context.load_cert_chain(certificate, key, password=_no_passphrase)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "no PEM pair of certificate and key"
            raise Invalid(
                f'role "{role}": client certificate {certificate} cannot be used: {reason}',
                "check that the key belongs to the certificate and is not encrypted",
            ) from None
    return context


def _no_passphrase() -> str:
    """An encrypted key is refused; without this, OpenSSL would ask on the terminal."""
    raise ValueError("encrypted")


def _proxy(url: str) -> tuple[URL | None, aiohttp.BasicAuth | None]:
    """The environment's proxy for a URL, without its password, and the password.

    Not aiohttp's own reading of the environment, which would also send what `~/.netrc` has for the host.
    """
    target = URL(url)
    if target.host is None or proxy_bypass(f"{target.host}:{target.port}"):
        return None, None
    found = getproxies().get(target.scheme)
    if not found:
        return None, None
    proxy = URL(found if "://" in found else f"http://{found}")
    authorization = aiohttp.BasicAuth(proxy.user, proxy.password or "") if proxy.user else None
    return proxy.with_user(None), authorization


def _translate(error: Exception, role: str, place: str, timeout: float) -> SourceError:
    def unreachable(what: str, advice: str) -> SourceError:
        return Unreachable(f'role "{role}": {place}: {what}', advice)

    network = "check DNS, route, firewall and HTTPS_PROXY towards it; it is retried"
    if isinstance(error, aiohttp.ClientProxyConnectionError | aiohttp.ClientHttpProxyError):
        status = f" ({error.status})" if isinstance(error, aiohttp.ClientHttpProxyError) else ""
        return unreachable(f"the proxy does not answer or refuses{status}", "check HTTPS_PROXY and NO_PROXY")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = getattr(error.certificate_error, "verify_message", "") or "not trusted"
        return unreachable(
            f"its certificate is not accepted: {reason}", "set ca_bundle or AWS_CA_BUNDLE to the CA your network uses"
        )
    if isinstance(error, aiohttp.ClientSSLError):
        return unreachable("TLS failed", "does it want a client certificate, or another version of TLS?")
    if isinstance(error, aiohttp.ClientConnectorError):
        return unreachable(f"no connection: {error.os_error.strerror or 'name not found'}", network)
    if isinstance(error, TimeoutError):
        return unreachable(f"no complete answer within {timeout:g} s", network)
    if isinstance(
        error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError | aiohttp.ClientOSError | OSError
    ):
        return unreachable("the connection was closed before the answer was complete", network)
    return Invalid(f'role "{role}": {place}: what it answered is not HTTP', "correct the URL")
