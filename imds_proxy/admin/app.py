"""The control plane's HTTP server: `/metrics`, `/healthz`, `/readyz`, `/status.json`."""

import json
import socket
from typing import Any

from aiohttp import web

from imds_proxy.admin.status import Status
from imds_proxy.telemetry.metrics import Metrics

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SHUTDOWN_TIME = 1.0


def application(status: Status, metrics: Metrics) -> web.Application:
    """The control plane."""

    async def exposition(_: web.Request) -> web.Response:
        return web.Response(body=metrics.exposition(), headers={"Content-Type": _METRICS_TYPE})

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="the loop turns\n")

    async def readyz(_: web.Request) -> web.Response:
        missing = status.not_ready()
        body = {"ready": not missing, "missing": missing}
        return web.json_response(body, status=503 if missing else 200, dumps=_indented)

    async def status_json(_: web.Request) -> web.Response:
        return web.json_response(status.document(), dumps=_indented)

    app = web.Application()
    app.router.add_get("/metrics", exposition)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/status.json", status_json)
    app.on_response_prepare.append(_no_store)
    return app


async def start(status: Status, metrics: Metrics, listening: socket.socket) -> web.AppRunner:
    """Serve on a bound socket until the runner's `cleanup` is awaited."""
    runner = web.AppRunner(application(status, metrics), access_log=None, shutdown_timeout=_SHUTDOWN_TIME)
    await runner.setup()
    await web.SockSite(runner, listening).start()
    return runner


async def _no_store(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Cache-Control"] = "no-store"
    response.headers["Server"] = "imds-proxy"


def _indented(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
