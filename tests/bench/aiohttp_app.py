"""The least aiohttp application, on the daemon's event loop, answering with a file's bytes: `… PORT PATH BODY_FILE`."""

import sys
from pathlib import Path

import uvloop
from aiohttp import web


def application(path: str, body: bytes) -> web.Application:
    """One GET handler."""

    async def document(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="text/plain")

    app = web.Application()
    app.router.add_get(path, document)
    return app


if __name__ == "__main__":
    port, path, file = sys.argv[1:]
    served = application(path, Path(file).read_bytes())
    web.run_app(served, host="127.0.0.1", port=int(port), access_log=None, print=None, loop=uvloop.new_event_loop())
