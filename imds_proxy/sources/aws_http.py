"""How botocore asks over HTTP here: never in the clear, never redirected, never more than a megabyte of answer.

The environment and an AWS profile may name any endpoint, a plain one too: every host on the way to it would read the
credentials in its answer, and could put others in their place. A redirect would carry the token in a request's body, or
a signed request, to wherever it points; an answer without end would fill the memory before the time limit passes.
"""

import os
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from yarl import URL

from imds_proxy.config_http import is_private_channel, is_this_host

_LARGEST: Final = 1 << 20  # bytes; what STS and IAM Identity Center answer is a few thousand
_PIECE: Final = 65536
_REDIRECT: Final = range(300, 400)
_ENDPOINTS: Final = "AWS_ENDPOINT_URL"  # for every service, and with _SERVICE for one


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


class _Careful:
    """An aiohttp session for botocore."""

    def __init__(self, session: Any, *, allow_http: bool) -> None:
        self._session = session
        self._allow_http = allow_http

    async def request(self, method: str, *, url: URL, **options: Any) -> _Answer:
        if not self._allow_http and not is_private_channel(str(url)):
            raise InTheClearError(url)
        if url.scheme == "http" and is_this_host(str(url)):
            options["proxy"] = None  # it would read what is for this host
        async with self._session.request(method, url=url, **options, allow_redirects=False) as response:
            if response.status in _REDIRECT:
                raise UnsafeAnswerError(f"it answered {response.status}, which sends elsewhere")
            return _Answer(str(response.url), response.status, response.raw_headers, await _read(response.content))


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

    async def _get_session(self, proxy_url: str | None) -> _Careful:
        return _Careful(await super()._get_session(proxy_url), allow_http=self.allow_http)


class PlainSession(CarefulSession):
    """The same for a client whose endpoint may be plain HTTP, because the config says so."""

    allow_http = True


def client_config() -> AioConfig:
    """The config of every client of a session, those that botocore makes by itself among them.

    One attempt each: renewal has its own backoff, and runs long before anything expires.
    """
    return AioConfig(
        connect_timeout=5,
        read_timeout=10,
        retries={"total_max_attempts": 1},
        defaults_mode="legacy",  # "auto" would ask the instance metadata for its region
        http_session_cls=CarefulSession,
    )


def allowing_http(config: AioConfig | None) -> AioConfig:
    """The config of a client that may ask over plain HTTP."""
    own = AioConfig(http_session_cls=PlainSession)
    return config.merge(own) if config is not None else own
