"""The control plane's HTTP server: the status page, `/metrics`, `/healthz`, `/readyz`, `/status.json`, `/renew`."""

import socket
from typing import Final

from aiohttp import web

from imds_proxy.admin import status_page
from imds_proxy.admin.accepting import Accepting
from imds_proxy.admin.connections import Connections
from imds_proxy.admin.gate import Gate, add_headers
from imds_proxy.admin.pages import Documents, Pages
from imds_proxy.admin.renewal import RenewalPage
from imds_proxy.admin.server_log import ServerLog
from imds_proxy.admin.tls import Tls
from imds_proxy.admin.viewer import Viewers
from imds_proxy.callers.peer import Callers
from imds_proxy.config.model import AdminConfig
from imds_proxy.host.file_watcher import FileWatcher
from imds_proxy.host.open_files import limit, shares

_SHUTDOWN_TIME: Final = 1.0
_LINGER_TIME: Final = 1.0


class ControlPlane:
    """The server on one socket, from `start` to `close`."""

    def __init__(self, runner: web.AppRunner, connections: Connections, accepting: Accepting, tls: Tls) -> None:
        self._runner = runner
        self._tls = tls
        self._connections = connections
        self._accepting = accepting

    def follow(self, settings: AdminConfig) -> None:
        """Take another config, which is of the same socket."""
        if self._tls.follow(settings):
            self._connections.close()  # none goes on in plain text where TLS is said

    async def close(self) -> None:
        """Accept no more, let requests that have begun end, cut off the rest."""
        self._accepting.close()
        self._tls.close()
        await self._runner.cleanup()
        self._connections.close()


async def start(
    documents: Documents, callers: Callers, listening: socket.socket, name: str, watcher: FileWatcher | None = None
) -> ControlPlane:
    """Serve on a bound socket.

    Args:
        documents: What is shown.
        callers: Tells who connected.
        listening: The socket.
        name: Its entry in the config.
        watcher: Tells when the files of TLS change; None: one of its own.
    """
    viewers = Viewers(documents.config)
    gate = Gate(documents.config, viewers)
    runner = web.AppRunner(
        application(documents, gate, viewers),
        access_log=None,
        shutdown_timeout=_SHUTDOWN_TIME,
        lingering_time=_LINGER_TIME,
        logger=ServerLog("control plane"),
    )
    await runner.setup()
    assert runner.server is not None  # noqa: S101 - since setup
    place = callers.place(listening, name)
    most = shares(limit()).control_plane
    tls = Tls(watcher=watcher)
    tls.follow(documents.config().admin)
    connections = gate.connections = Connections(
        callers, place, most, lambda who: viewers.view(who).everything, runner.server, tls
    )
    return ControlPlane(runner, connections, Accepting(listening, connections.take, "control plane"), tls)


def application(documents: Documents, gate: Gate, viewers: Viewers) -> web.Application:
    """The control plane's routes."""
    pages = Pages(documents)
    app = web.Application(middlewares=[gate.let_through])
    app.router.add_get("/", pages.index)
    app.router.add_get("/metrics", pages.metrics)
    app.router.add_get("/healthz", pages.healthz)
    app.router.add_get("/livez", pages.healthz)
    app.router.add_get("/readyz", pages.readyz)
    app.router.add_get("/readyz/{role}", pages.readyz_of_a_role)
    app.router.add_get("/status.json", pages.status)
    app.router.add_post("/renew", RenewalPage(documents.renew_now, viewers).renew)
    status_page.add_files(app.router)
    app.on_response_prepare.append(add_headers)
    return app
