"""How botocore asks over HTTP here: never redirected, never more than a megabyte of answer.

A redirect would carry the token in a request's body, or a signed request, to wherever it points; an answer without end
would fill the memory before the time limit passes.
"""

from dataclasses import dataclass
from typing import Any, Final

from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession

_LARGEST: Final = 1 << 20  # bytes; what STS and IAM Identity Center answer is a few thousand
_PIECE: Final = 65536
_REDIRECT: Final = range(300, 400)


class UnsafeAnswerError(Exception):
    """An answer that was not taken. Its text holds nothing of it."""


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

    def __init__(self, session: Any) -> None:
        self._session = session

    async def request(self, method: str, **options: Any) -> _Answer:
        async with self._session.request(method, **options, allow_redirects=False) as response:
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

    async def _get_session(self, proxy_url: str | None) -> _Careful:
        return _Careful(await super()._get_session(proxy_url))


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
