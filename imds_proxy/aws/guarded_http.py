"""How botocore asks over HTTP here: never in the clear, never redirected, never more than a megabyte of answer.

The environment and an AWS profile may name any endpoint, a plain one too: every host on the way to it would read the
credentials in its answer, and could put others in their place. A redirect would carry the token in a request's body, or
a signed request, to wherever it points; an answer without end would fill the memory before the time limit passes.

All clients share one `Network`, which holds what costs much to make, and no open connection.
"""

import asyncio
import math
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from botocore.httpsession import get_cert_path
from yarl import URL

from imds_proxy.aws.setting_error import SettingError
from imds_proxy.config.http_role import is_private_channel, is_this_host
from imds_proxy.errors import Invalid
from imds_proxy.host.open_files import exhausted
from imds_proxy.host.proxy import proxy_url, variable
from imds_proxy.host.threads import OneByOne
from imds_proxy.host.tls import KeptContexts, bundle_error

_LARGEST: Final = 1 << 20  # bytes; what STS and IAM Identity Center answer is a few thousand
_PIECE: Final = 65536
_SERVER_ERROR: Final = 500
_REDIRECT: Final = range(300, 400)
_ENDPOINTS: Final = "AWS_ENDPOINT_URL"  # for every service, and with _SERVICE for one

LOOKED_AT_EVERY: Final = 1.0
"""Seconds that a context is used without a look whether its CA bundle is another by now: each look is a thread, and an
outage of many roles is twenty attempts a second."""


class UnsafeAnswerError(Exception):
    """An answer that was not taken. Its text holds nothing of it."""


class InTheClearError(Exception):
    """A request that was not sent.

    Its text says where it would have gone, without path and login, and what named that.
    """

    def __init__(self, url: URL) -> None:
        place = str(url.origin())
        named = [name for name, value in os.environ.items() if name.startswith(_ENDPOINTS) and value.startswith(place)]
        where = " and ".join(sorted(named)) or "endpoint_url of the AWS profile"
        super().__init__(f"{place} ({where}) would be asked in the clear")


@dataclass(frozen=True, slots=True)
class _Answer:
    """As much of aiohttp's response as botocore looks at, its body read already."""

    url: str
    status: int
    raw_headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    async def read(self) -> bytes:
        return self.body


class Network:
    """What the requests of all clients share: TLS contexts, and names that were looked up within the last seconds.

    Each request has a connection of its own, closed with it: renewals are minutes apart, and STS would have closed one
    that was kept by then. So nothing is open between them, and there is nothing to be closed.
    """

    def __init__(self) -> None:
        self._contexts = KeptContexts()
        self._making: dict[str, OneByOne] = {}
        self._latest: dict[str, tuple[float, ssl.SSLContext]] = {}
        """When the file of each was last looked at, by the loop's time, and the context."""
        self._connector: aiohttp.TCPConnector | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def tls(self, session: AIOHTTPSession, verify: object) -> ssl.SSLContext:
        """The context for a client's CA bundle as it is now."""
        path, now = str(get_cert_path(verify)), asyncio.get_running_loop().time()
        looked_at, context = self._latest.get(path, (-math.inf, None))
        if context is None or now - looked_at >= LOOKED_AT_EVERY:
            beside = self._making.setdefault(path, OneByOne())
            make = partial(_trusting, session, path)
            context = await beside.do(self._contexts.get, (path,), make, within=None)
            self._latest[path] = now, context
        return context

    def connector(self) -> aiohttp.TCPConnector:
        """Opens connections, as many as are asked for: how many requests there are is not for it to bound."""
        loop = asyncio.get_running_loop()
        if self._connector is None or self._loop is not loop:
            self._loop, self._connector = loop, aiohttp.TCPConnector(limit=0, force_close=True)
        return self._connector


def _trusting(session: AIOHTTPSession, path: str) -> ssl.SSLContext:
    try:
        return session._build_verify_context()  # type: ignore[no-any-return]  # noqa: SLF001 - its only way
    except OSError as error:  # ssl.SSLError is one
        if exhausted(error) is not None:
            raise
        raise SettingError(bundle_error(path, error)) from None


class _Careful:
    """An aiohttp session for botocore, of one request.

    Args:
        session: It is closed after the request.
        tls: The context, for a request or a proxy by https.
        allow_http: Whether the request may be a plain one.
    """

    def __init__(
        self, session: aiohttp.ClientSession, tls: Callable[[], Awaitable[ssl.SSLContext]], *, allow_http: bool
    ) -> None:
        self._session = session
        self._tls = tls
        self._allow_http = allow_http

    async def request(self, method: str, *, url: URL, **options: Any) -> _Answer:
        async with self._session:
            return await self._request(method, url, options)

    async def _request(self, method: str, url: URL, options: dict[str, Any]) -> _Answer:
        if not self._allow_http and not is_private_channel(str(url)):
            raise InTheClearError(url)
        if url.scheme == "http" and is_this_host(str(url)):
            options["proxy"] = None  # it would read what is for this host
        if proxy := options.get("proxy"):
            _check_proxy(url.scheme, str(proxy))
        if url.scheme == "https" or str(options.get("proxy")).startswith("https:"):
            options["ssl"] = await self._tls()
        async with self._session.request(method, url=url, **options, allow_redirects=False) as response:
            if response.status in _REDIRECT:
                raise UnsafeAnswerError(f"it answered {response.status}, which sends elsewhere")
            body = _of_aws(response.status, await _read(response.content), options["headers"])
            return _Answer(str(response.url), response.status, response.raw_headers, body)


def _of_aws(status: int, body: bytes, asked: Mapping[str, str]) -> bytes:
    """The body; none of a server error that some gateway words, which botocore would take for a bad answer of AWS's.

    Args:
        status: Of the answer.
        body: Of the answer.
        asked: The request's headers: who is asked by a form answers in XML, and in JSON who is not.
    """
    if status < _SERVER_ERROR:
        return body
    is_form = asked.get("Content-Type", "").startswith("application/x-www-form-urlencoded")
    begins, ends = (b"<", b"Response>") if is_form else (b"{", b"}")
    return body if body.strip().startswith(begins) and body.strip().endswith(ends) else b""


def _check_proxy(scheme: str, proxy: str) -> None:
    """Raise SettingError for what can be no proxy, by the environment's own words: botocore has changed them."""
    try:
        proxy_url(scheme, os.environ.get(variable(scheme)) or proxy)
    except Invalid as error:
        raise SettingError(error) from None


async def _read(content: Any) -> bytes:
    body = bytearray()
    async for piece in content.iter_chunked(_PIECE):
        body += piece
        if len(body) > _LARGEST:
            raise UnsafeAnswerError("it answered more than 1 MB")
    return bytes(body)


class CarefulSession(AIOHTTPSession):  # type: ignore[misc]  # aiobotocore publishes no types
    """What aiobotocore sends requests with."""

    allow_http: ClassVar[bool] = False
    network: ClassVar[Network]

    async def _get_session(self, proxy_url: str | None) -> _Careful:  # noqa: ARG002 - it is among the request's options
        session = aiohttp.ClientSession(
            connector=self.network.connector(),
            connector_owner=False,
            timeout=self._timeout,
            skip_auto_headers={"Content-Type"},
            auto_decompress=False,
        )
        tls = partial(self.network.tls, self, self._verify)
        return _Careful(session, tls, allow_http=self.allow_http)


def client_config(network: Network | None = None) -> AioConfig:
    """The config of every client of a session, those that botocore makes by itself among them.

    One attempt each: renewal has its own backoff, and runs long before anything expires.

    Args:
        network: Shared with other sessions; None: one of its own.
    """
    return AioConfig(
        connect_timeout=5,
        read_timeout=10,
        retries={"total_max_attempts": 1},
        defaults_mode="legacy",  # "auto" would ask the instance metadata for its region
        http_session_cls=type("Session", (CarefulSession,), {"network": network or Network()}),
    )


def allowing_http(config: AioConfig) -> AioConfig:
    """The config of a client that may ask over plain HTTP, made of one that may not."""
    plain = type("PlainSession", (config.http_session_cls,), {"allow_http": True})
    return config.merge(AioConfig(http_session_cls=plain))
