"""What a request to the control plane has to pass, and what every answer has."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import HttpVersion11, web

from imds_proxy.admin.connection import Connection
from imds_proxy.admin.connections import Connections
from imds_proxy.admin.request_check import host_refusal, origin_refusal
from imds_proxy.admin.viewer import EVERYTHING, View, Viewers
from imds_proxy.callers.caller import Caller
from imds_proxy.config.model import Config
from imds_proxy.metadata.rate_limit import CallerLimits

VIEW: Final = web.RequestKey("view", View)
"""What the request's caller sees."""

CONNECTION: Final = web.RequestKey("connection", Connection)
"""What the request came by; it is known who is at its other end."""

LAST: Final = web.RequestKey("last", bool)
"""Whether the connection ends with the answer."""

COSTLY_RATE: Final = 25.0
"""Requests a second of each caller for what takes long to make."""
_COSTLY: Final = frozenset({"/metrics", "/status.json"})
_SLOW_TIME: Final = 1.0
"""Seconds that a refusal for the rate limit waits: sent at once it would not stop a loop."""
_HEALTH: Final = ("/healthz", "/livez", "/readyz")
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "imds-proxy",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_POLICY: Final = "default-src 'none'; frame-ancestors 'none'"
"""Of every answer but the status page, which has one of its own."""


class Gate:
    """The middleware of the control plane.

    Args:
        config: The present one.
        viewers: Say what a caller sees.
    """

    connections: Connections
    """Set before the first request."""

    def __init__(self, config: Callable[[], Config], viewers: Viewers) -> None:
        self._config = config
        self._viewers = viewers
        self._costly = CallerLimits(COSTLY_RATE)

    @web.middleware
    async def let_through(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """The answer, or why there is none."""
        connection = self.connections.of(request.protocol)
        if connection is None or connection.caller is None:  # gone, and nobody reads this
            return web.Response(status=503)
        with connection.answering():
            if not self._allows(request, connection.caller):
                await asyncio.sleep(_SLOW_TIME)
                return _refusal(429, "too many requests: this caller is over its limit", headers={"Retry-After": "1"})
            view = EVERYTHING if connection.is_certified else self._viewers.view(connection.caller)
            if (refused := self._refusal(request, view)) is not None:
                return refused
            request[VIEW], request[LAST], request[CONNECTION] = view, connection.is_last, connection
            try:
                response = await handler(request)
            except web.HTTPException as error:
                response = web.Response(status=error.status, text=f"{error.status} {error.reason}\n")
                if "Allow" in error.headers:
                    response.headers["Allow"] = error.headers["Allow"]
            if request[LAST] and not response.prepared:
                response.force_close()
            return response

    def _allows(self, request: web.Request, caller: Caller) -> bool:
        now = asyncio.get_running_loop().time()
        costly = request.path in _COSTLY and not self._costly.allows(caller.principal, now)
        return self.connections.allows(caller) and not costly

    def _refusal(self, request: web.Request, view: View) -> web.Response | None:
        hosts = request.headers.getall("Host", [])
        required = request.version >= HttpVersion11
        allowed = self._config().admin.allowed_hosts
        reason = host_refusal(hosts, allowed, required=required)
        if reason is None:
            origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
            reason = origin_refusal(origin, site, "".join(hosts))
        if reason is not None:
            return _refusal(403, reason)
        if not view.documents and request.path not in _HEALTH:
            return _refusal(403, f"other hosts see {', '.join(_HEALTH)}: see [admin] allowed_addresses and client_ca")
        return None


async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Before a response begins."""
    response.headers.update(_HEADERS)
    response.headers.setdefault("Content-Security-Policy", _POLICY)


def _refusal(status: int, reason: str, headers: dict[str, str] | None = None) -> web.Response:
    response = web.Response(status=status, text=f"{reason}\n", headers=headers)
    response.force_close()
    return response
