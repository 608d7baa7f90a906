"""A service of somebody else's: HTTP on a loopback port, in a thread of its own."""

import http.server
import threading
from typing import Any


class HttpDouble:
    """Served from `with` to its end.

    Args:
        handler: Answers requests.
        attributes: Of the handler's class, such as the double itself.
    """

    def __init__(self, handler: type[http.server.BaseHTTPRequestHandler], **attributes: Any):
        made = type("Handler", (handler,), attributes)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), made)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
