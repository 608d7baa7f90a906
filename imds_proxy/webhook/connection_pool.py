"""Connections to the API server that are kept, and can be cut off at once.

Closed as TLS is, a connection to what does not answer any more would stay for half a minute, and past the end of the
process's work.
"""

import asyncio
import contextlib
import socket
import weakref
from collections.abc import Mapping
from typing import Any, Final

import aiohttp

_CONNECTIONS: Final = 32
_KEPT: Final = 60.0  # seconds without a request
_TURN: Final = 0.01  # seconds until the loop has seen that its sockets are at their end


class ConnectionPool:
    """A session whose connections `close` ends.

    Args:
        headers: Of each request.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=_CONNECTIONS, keepalive_timeout=_KEPT, socket_factory=self._make_socket
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=headers,
            timeout=aiohttp.ClientTimeout(),
        )

    async def close(self) -> None:
        """Cut off every connection; requests that are on their way fail."""
        for each in list(self._sockets):
            with contextlib.suppress(OSError):  # not connected, or closed
                each.shutdown(socket.SHUT_RDWR)
        await self.session.close()
        await asyncio.sleep(_TURN)

    def _make_socket(self, address: Any) -> socket.socket:
        made = socket.socket(*address[:3])
        self._sockets.add(made)
        return made
