"""The webhook's HTTPS server: `/mutate`, `/healthz`, `/readyz`; from start to TERM it reads as a story here."""

import asyncio
import logging
import re
import signal
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from aiohttp import web

from imds_proxy.admin.accepting import Accepting
from imds_proxy.admin.server_log import ServerLog
from imds_proxy.admin.tls import Tls, TlsFiles
from imds_proxy.host.file_watcher import FileWatcher
from imds_proxy.host.listening_sockets import open_listener
from imds_proxy.telemetry.log import told
from imds_proxy.webhook.accounts import Accounts, Place
from imds_proxy.webhook.annotations import Defaults
from imds_proxy.webhook.bodies import Bodies
from imds_proxy.webhook.connections import IDLE, Connections
from imds_proxy.webhook.pod import MalformedError
from imds_proxy.webhook.review import answer, read_review
from imds_proxy.webhook.shared_reads import SharedReads
from imds_proxy.webhook.verdict import Judge

log = logging.getLogger(__name__)

_STOPS_WITHIN: Final = 8.0  # seconds, for answers that have begun
_LINGER_TIME: Final = 0.2  # seconds that the rest of a refused body is read, so that the client sees why
_SECONDS: Final = re.compile(r"([0-9]{1,3})s")
_USUAL_TIMEOUT: Final = 10  # seconds
_FOR_THE_REST: Final = 1.0  # seconds: body, patch and network
_SHORTEST_TIME: Final = 0.5
_TYPE: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a webhook is told.

    Args:
        listen: `"ADDRESS:PORT"`.
        tls: Certificate, key, and the CA of clients where these have to show a certificate.
        api_server: Where service accounts are read.
        defaults: What is injected where no annotation says otherwise.
        fails_open: Whether pods that cannot be injected are made without it.
    """

    listen: str
    tls: TlsFiles
    api_server: Place
    defaults: Defaults = field(default_factory=Defaults)
    fails_open: bool = True


async def serve(settings: Settings) -> None:
    """Serve until TERM or INT; answers that have begun are given. Raises ListenError."""
    listening = open_listener(settings.listen, {})
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    server = Webhook(settings)
    await server.start()
    accepting = Accepting(listening, server.connections.take, "webhook")
    log.info("webhook listening", extra={"listen": settings.listen, "api_server": settings.api_server.url})
    try:
        await stopped.wait()
    finally:
        accepting.close()
        await server.close()
        log.info("webhook stopped")


class Webhook:
    """The server, from `start` to `close`."""

    connections: Connections
    """Since `start`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        watcher = FileWatcher()
        self._accounts = Accounts(settings.api_server, watcher)
        self._reads = SharedReads(self._accounts.annotations)
        self._judge = Judge(self._reads.get, settings.defaults, fails_open=settings.fails_open)
        self._tls = Tls("webhook", "webhook:", watcher)
        self._bodies = Bodies()
        self._stops = False
        app = web.Application(middlewares=[self._let_through])
        app.router.add_post("/mutate", self._mutate)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=IDLE,
            shutdown_timeout=_STOPS_WITHIN,
            lingering_time=_LINGER_TIME,
            logger=ServerLog("webhook"),
        )

    async def start(self) -> None:
        """Read what is needed, in the background."""
        await self._runner.setup()
        assert self._runner.server is not None  # noqa: S101 - since setup
        self._tls.use(self._settings.tls)
        self._accounts.start()
        self.connections = Connections(self._runner.server, self._tls)

    async def close(self) -> None:
        """Give the answers that have begun, and end everything else."""
        self._stops = True
        await self._runner.cleanup()
        self.connections.close()
        self._tls.close()
        await self._reads.close()
        await self._accounts.close()

    @web.middleware
    async def _let_through(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """The answer, or why there is none."""
        with self.connections.answering(request.protocol):
            try:
                response = await handler(request)
            except web.HTTPException as error:
                response = _plain(error.status, error.reason)
                response.force_close()
            except MalformedError as error:
                log.warning("what was asked is no review of a pod", extra={"reason": error.message})
                response = _plain(HTTPStatus.BAD_REQUEST, error.message)
                response.force_close()
            except ConnectionError:
                raise
            except Exception as error:  # noqa: BLE001 - its text may hold what was sent
                log.error("unexpected error", extra={"where": request.path, "error": told(error)})  # noqa: TRY400
                response = _plain(HTTPStatus.INTERNAL_SERVER_ERROR, "see the log of imds-proxy webhook")
            if self._stops:
                response.force_close()
            return response

    async def _mutate(self, request: web.Request) -> web.StreamResponse:
        if self._tls.client_ca is not None and not _is_certified(request):
            return _plain(HTTPStatus.FORBIDDEN, "show a certificate of a CA in --client-ca")
        if request.content_type != _TYPE:
            return _plain(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send {_TYPE}")
        review = read_review(await self._bodies.read(request))
        verdict = await self._judge.verdict(review, _time_for_it(request))
        return web.Response(body=answer(review.uid, verdict), content_type=_TYPE)

    async def _healthz(self, _: web.Request) -> web.Response:
        return _plain(HTTPStatus.OK, "ok")

    async def _readyz(self, _: web.Request) -> web.Response:
        if self._stops or not self._accounts.is_ready:
            reason = "stopping" if self._stops else "the token for the API server could not be read: see the log"
            return _plain(HTTPStatus.SERVICE_UNAVAILABLE, reason)
        return _plain(HTTPStatus.OK, "ok")


def _time_for_it(request: web.Request) -> float:
    """Seconds: the API server says how long it waits, as in `?timeout=10s`."""
    found = _SECONDS.fullmatch(request.query.get("timeout", ""))
    return max((int(found[1]) if found else _USUAL_TIMEOUT) - _FOR_THE_REST, _SHORTEST_TIME)


def _is_certified(request: web.Request) -> bool:
    """Whether the client has proved itself: what it shows is verified in the handshake."""
    transport = request.transport
    found = None if transport is None else transport.get_extra_info("ssl_object")
    return isinstance(found, ssl.SSLObject) and found.getpeercert(binary_form=True) is not None


def _plain(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n")
