"""A service that refuses everything, and repeats all that it was sent, in as many writings as there is room for."""

import base64
import http.server
import json
import threading
from dataclasses import dataclass
from itertools import repeat
from urllib.parse import parse_qsl, quote, unquote
from xml.sax.saxutils import escape

_PLAIN = frozenset({"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "user-agent"})


@dataclass(frozen=True)
class Heard:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def values(self) -> list[str]:
        """What is peculiar to it, the longest last: nothing of that would be seen if it were first."""
        said = [value for name, value in self.headers.items() if name.lower() not in _PLAIN]
        said += [value for _, value in parse_qsl(self.body.decode("latin-1"))]
        return sorted(said, key=len)

    def holds(self, secret: str) -> bool:
        everything = f"{self.path} {self.headers} {unquote(self.body.decode('latin-1'))}"
        return secret in unquote(everything) or secret in everything


class Echo:
    """`writings` are asked in turn for what is repeated of each value."""

    def __init__(self):
        self.heard: list[Heard] = []
        self.writings = repeat(str)
        handler = type("Handler", (_Handler,), {"echo": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, name="echo", daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def answer(self, heard: Heard) -> tuple[int, str, dict[str, str], bytes]:
        """Status, reason, headers, body: in the form of the service that was meant."""
        repeated = " ".join(next(self.writings)(value) for value in heard.values)
        secret = heard.values[-1] if heard.values else "nothing"
        words = f"The request is refused; what came was: {repeated}"
        line = secret.encode("ascii", "replace").decode()[:1000]
        headers = {"x-amzn-errortype": line.partition(":")[0], "x-repeated": line, "Server": line, "Set-Cookie": line}
        if heard.body.startswith(b"Action="):
            code = "AccessDenied" if b"Action=AssumeRole" in heard.body else line
            error = f"<Error><Code>{escape(code)}</Code><Message>{escape(words)}</Message></Error>"
            body = f"<ErrorResponse>{error}</ErrorResponse>"
            return 403, line, {**headers, "Content-Type": "text/xml"}, body.encode()
        if heard.path.startswith("/elsewhere"):
            return 302, line, {**headers, "Location": f"https://other.example/{quote(line)}"}, words.encode()
        if heard.path.startswith(("/sessions", "/federation")) or "x-amz-target" in heard.headers:
            headers["x-amzn-errortype"] = "AccessDeniedException"
        body = {"Code": line, "code": line, "message": words, "Message": words, "errors": [words], "__type": line}
        return 403, line, {**headers, "Content-Type": "application/json"}, json.dumps(body).encode()


WRITINGS = (
    str,
    lambda value: quote(value, safe=""),
    lambda value: json.dumps(value).replace("/", "\\/").replace("+", "\\u002b"),
    lambda value: "\n".join(value[at : at + 15] for at in range(0, len(value), 15)),
    lambda value: base64.b64encode(value.encode()).decode(),
)


class _Handler(http.server.BaseHTTPRequestHandler):
    echo: Echo

    def _do(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        heard = Heard(self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        self.echo.heard.append(heard)
        status, reason, headers, content = self.echo.answer(heard)
        self.send_response_only(status, reason)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = _do  # noqa: N815 - http.server's names

    def log_message(self, *_):
        """What came is in `heard`."""
