"""Reads the bodies of reviews within limits of size, time and memory."""

import asyncio
from typing import Final

from aiohttp import web

from imds_proxy.webhook.pod import MalformedError

LARGEST: Final = 4 << 20
"""Bytes: the API server takes objects of up to 3 MB."""
WITHIN: Final = 5.0
"""Seconds until the last byte."""
_SMALL: Final = 64 << 10
"""Bytes that hardly any pod exceeds."""
_LARGE_AT_ONCE: Final = 2
"""As JSON that has been read, one takes several times its size."""
_LARGE_WAITING: Final = 16
"""With these: each that waits has its body in the buffers of its connection, whatever is read of it."""


class Bodies:
    """Reads any number of small bodies at a time, and few large ones: some of these wait, and others are refused."""

    def __init__(self) -> None:
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)
        self._waiting = 0

    async def read(self, request: web.Request) -> bytearray:
        """The body.

        Raises:
            MalformedError: It is too large, or too late.
            HTTPServiceUnavailable: There are too many large ones.
        """
        length = request.content_length
        if length is not None and length > LARGEST:
            raise MalformedError(f"the body has more than {LARGEST} bytes")
        try:
            async with asyncio.timeout(WITHIN):
                if length is not None and length <= _SMALL:
                    return await _read(request)
                return await self._read_large(request)
        except TimeoutError:
            raise MalformedError(f"the body was not there within {WITHIN:g} s") from None

    async def _read_large(self, request: web.Request) -> bytearray:
        if self._waiting >= _LARGE_WAITING:
            raise web.HTTPServiceUnavailable
        self._waiting += 1
        try:
            async with self._large:
                return await _read(request)
        finally:
            self._waiting -= 1


async def _read(request: web.Request) -> bytearray:
    body = bytearray()
    async for piece in request.content.iter_any():
        body += piece
        if len(body) > LARGEST:
            raise MalformedError(f"the body has more than {LARGEST} bytes")
    return body
