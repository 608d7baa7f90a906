"""One HTTP request of a source's: bounded in time and size, through the environment's proxy, never redirected.

In: a request, TLS files. Out: the answer, whatever its status. Errors: Unreachable, Invalid; a message has the address
asked, the proxy without its password, and nothing of the answer.

AWS's STS is called by botocore; this is for Roles Anywhere and for services that are not AWS's.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import chain
from typing import Final

import aiohttp
from yarl import URL

from imds_proxy import __version__
from imds_proxy.errors import Invalid, SourceError, Unreachable
from imds_proxy.host.open_files import exhausted
from imds_proxy.host.proxy import environment_proxy
from imds_proxy.host.redaction import hidden, secrets_of_header
from imds_proxy.host.region_typo import unknown_region

_LARGEST: Final = 1 << 20  # bytes
_PIECE: Final = 65536
_SHORTEST_SECRET: Final = 8  # characters; a time to live is shorter
_REDIRECT: Final = 300, 399
_HEADERS: Final = {"Accept-Encoding": "identity", "User-Agent": f"imds-proxy/{__version__}"}
_NOT_SECRET: Final = {name.lower() for name in (*_HEADERS, "Accept", "Content-Type", "X-Amz-Date", "Host")}
_NO_OTHER_LIMIT: Final = aiohttp.ClientTimeout()


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
    place: str = ""
    """The address asked, and the proxy if there was one, for a message."""
    sent: tuple[str, ...] = field(default=(), repr=False)
    """What was secret of the request, or may have been."""

    def shown(self, text: str) -> str:
        """Something of this answer, for a message: without the secrets that were sent, and what may be another."""
        return hidden(text, self.sent)

    def repeats(self, text: str) -> bool:
        """Whether something of this answer is a secret that was sent, or holds one."""
        return any(len(value) >= _SHORTEST_SECRET and value in text for value in self.sent)


async def ask(
    role: str,
    request: WebRequest,
    *,
    tls: ssl.SSLContext | None = None,
    timeout: float,  # noqa: ASYNC109 - of the whole exchange, and for the message
    direct: bool = False,
) -> Answer:
    """The answer to one request, whatever its status, as long as it is no redirect.

    Args:
        role: For the message.
        request: What to send.
        tls: For https; left out: the system's CAs.
        timeout: Seconds, from the connection to the last byte of the answer.
        direct: Go through no proxy, whatever the environment says.

    Raises:
        Unreachable: No answer in time, no connection, no trust in the other end, a proxy that refuses.
        Invalid: A redirect, more than 1 MB, or no HTTP; a proxy that cannot be one.
    """
    proxy, login = (None, {}) if direct else _proxy(role, request.url)
    headers, proxy_headers = _HEADERS | dict(request.headers), login
    if not request.url.startswith("https:"):  # no tunnel: the proxy reads the request itself
        headers, proxy_headers = headers | login, {}
    place = f"{request.url.partition('?')[0]}{f' through proxy {proxy}' if proxy else ''}"
    try:
        async with asyncio.timeout(timeout):
            connector = aiohttp.TCPConnector(ssl=tls or True, force_close=True)
            async with (
                aiohttp.ClientSession(connector=connector, auto_decompress=False, timeout=_NO_OTHER_LIMIT) as session,
                session.request(
                    request.method,
                    URL(request.url, encoded=True),  # what was signed is what is sent
                    headers=headers,
                    data=request.body or None,
                    proxy=proxy,
                    proxy_headers=proxy_headers or None,
                    allow_redirects=False,
                ) as response,
            ):
                if _REDIRECT[0] <= response.status <= _REDIRECT[1]:
                    raise Invalid(
                        f'role "{role}": {place} answered {response.status}, which sends elsewhere',
                        "configure the address it is really at; redirects are not followed with credentials",
                    )
                said = {name.lower(): value for name, value in response.headers.items()}
                body = await _read(response, role, place)
                return Answer(response.status, said, body, place, _secrets(headers | login))
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        raise _translate(error, role, place, timeout) from None  # its text may hold what the other end said


def _secrets(headers: Mapping[str, str]) -> tuple[str, ...]:
    """What every header says that is none of those which each request here has."""
    values = (value for name, value in headers.items() if name.lower() not in _NOT_SECRET)
    return tuple(chain.from_iterable(map(secrets_of_header, values)))


async def _read(response: aiohttp.ClientResponse, role: str, place: str) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_chunked(_PIECE):
        body += piece
        if len(body) > _LARGEST:
            response.close()
            raise Invalid(
                f'role "{role}": {place} answered more than 1 MB', "correct the URL: this is no credential service"
            )
    return bytes(body)


def _proxy(role: str, url: str) -> tuple[URL | None, dict[str, str]]:
    """The environment's proxy for a URL, without its password, and the header with the password.

    Not aiohttp's own reading of the environment, which would also send what `~/.netrc` has for the host.
    """
    try:
        proxy = environment_proxy(url)
    except Invalid as error:
        raise Invalid(f'role "{role}": {error.message}', error.advice) from None
    if proxy is None:
        return None, {}
    login = {"Proxy-Authorization": aiohttp.encode_basic_auth(proxy.user, proxy.password or "")} if proxy.user else {}
    return proxy.with_user(None).origin(), login


def _translate(error: Exception, role: str, place: str, timeout: float) -> SourceError:
    if (shortage := exhausted(error)) is not None:
        return Unreachable(f'role "{role}": {place}: {shortage[0]}', shortage[1])
    if (tls := _tls_reason(error)) is not None:
        return Unreachable(f'role "{role}": {place}: {tls[0]}', tls[1])
    if isinstance(error, aiohttp.ClientConnectorDNSError) and (region := unknown_region(f"https://{error.host}")):
        return Invalid(f'role "{role}": {place}: {region[0]}', region[1])
    if isinstance(error, aiohttp.InvalidURL | UnicodeError) or not isinstance(error, aiohttp.ClientError | OSError):
        return Invalid(f'role "{role}": {place}: it cannot be asked ({type(error).__name__})', _NO_URL_ADVICE)
    what, advice = _network_reason(error, timeout)
    if what is None:
        return Invalid(f'role "{role}": {place}: what it answered is not HTTP', advice)
    return Unreachable(f'role "{role}": {place}: {what}', advice)


def _tls_reason(error: Exception) -> tuple[str, str] | None:
    """What went wrong with TLS, and what to do; None where it was not TLS."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = getattr(error.certificate_error, "verify_message", "") or "not trusted"
        return f"its certificate is not accepted: {reason}", _CA_ADVICE
    causes = getattr(error, "os_error", None), error.__cause__, error
    cause = next((each for each in causes if isinstance(each, ssl.SSLError)), None)
    if cause is None:
        return None
    reason = (cause.reason or "no reason given").replace("_", " ").lower()  # OpenSSL's name of it
    return f"TLS failed: {reason}", _TLS_ADVICE


def _network_reason(error: Exception, timeout: float) -> tuple[str | None, str]:
    """What went wrong with the network, and what to do; None for what is not its fault."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        login = error.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED
        return f"the proxy refuses ({error.status}{', it wants a login' if login else ''})", _PROXY_ADVICE
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return f"the proxy cannot be reached: {_words(error.os_error)}", _PROXY_ADVICE
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"no connection: {_words(error.os_error)}", _NETWORK_ADVICE
    if isinstance(error, TimeoutError):
        return f"no complete answer within {round(timeout, 1):g} s", _NETWORK_ADVICE
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError | OSError):
        return "the connection was closed before the answer was complete", _CLOSED_ADVICE
    return None, "correct the URL: does it want https, or another port?"


def _words(error: OSError) -> str:
    """The system's words for it: asyncio puts its own in their place. A name that is not found has no such number."""
    known = not isinstance(error, socket.gaierror) and error.errno
    return os.strerror(known).lower() if known else "name not found"


_NO_URL_ADVICE: Final = "correct the URL, and whatever is sent there: header values are one line of ASCII"
_NETWORK_ADVICE: Final = "check DNS, route, firewall and HTTPS_PROXY towards it; it is retried"
_CLOSED_ADVICE: Final = (
    "see that service's log: it may want TLS or a client certificate, or a firewall cuts; it is retried"
)
_PROXY_ADVICE: Final = "let the proxy allow it, or correct HTTPS_PROXY, or name the host in NO_PROXY"
_CA_ADVICE: Final = "set ca_bundle, where the role has it, or AWS_CA_BUNDLE to the CA that your network uses"
_TLS_ADVICE: Final = (
    "is TLS spoken there, in version 1.2 or later, and does it want a client certificate that it knows?"
)
