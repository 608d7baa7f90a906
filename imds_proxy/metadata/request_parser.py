"""The requests in what a connection receives, and the refusal of what is none: around httptools, which knows HTTP/1.

Everything a client could make grow has a limit here.
"""

from typing import Protocol

import httptools

from imds_proxy.callers.caller import Caller
from imds_proxy.metadata.messages import Request, Response

MAX_TARGET = 2048
MAX_HEAD = 16 * 1024
MAX_BODY = 64 * 1024

_HEADER_OVERHEAD = 4  # ": " and CRLF


class Receiver(Protocol):
    """What a parser tells of the requests that it finds (`http.py`)."""

    def request_began(self) -> None:
        """The first byte of a request came."""

    def body_awaited(self) -> None:
        """The client sends the body once it is told to go on."""

    def request_ended(self) -> None:
        """A request is whole: until this returns, it is the parser's current one."""


class RequestParser:
    """Finds the requests of one connection, up to the first that must be refused.

    Args:
        receiver: What is told of them.
    """

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._parser = httptools.HttpRequestParser(self)
        self._refusal: Response | None = None
        # Of the current request:
        self.http_1_0 = False
        self.keep_alive = False
        """Whether its client may send another one on this connection; not known before it is whole."""
        self.upgrades_with_body = False
        """Whether httptools takes its body for another protocol: it must not be read as a request."""
        self._begin()

    def _begin(self) -> None:
        self.method = ""
        """Nothing before the head is whole."""
        self._target = b""
        self._headers: dict[str, str] = {}
        self._head_size = self._body_size = self._fed = 0
        self._head_whole = False

    def feed(self, data: bytes) -> Response | None:
        """Read on, and tell the receiver what is found.

        Returns:
            The refusal of what is no request or too large; None: there is nothing to refuse.
        """
        self._fed += len(data)
        while data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                # Java's HttpClient and curl --http2 offer h2c with an ordinary request, which was answered as one.
                data = data[upgrade.args[0] :]
                self._parser = httptools.HttpRequestParser(self)
                continue
            except httptools.HttpParserError:
                self._refuse(400, "not a request")
            break
        if self._fed > MAX_HEAD + MAX_BODY:
            self._refuse(413, "the request is too large")
        return self._refusal

    def request(self, caller: Caller, inode: int) -> Request:
        """The current request.

        Args:
            caller: Who asked.
            inode: Of the client's socket; 0 where it is not known.
        """
        return Request(self.method, self._target.decode("latin-1"), self._headers, caller, inode)

    def close(self) -> None:
        """The connection is gone: let go of what refers to this in turn.

        Else only the garbage collector would find it, and look for it for 100 ms after some thousand connections.
        """
        del self._parser, self._receiver

    # What httptools calls

    def on_message_begin(self) -> None:
        """A request begins."""
        self._receiver.request_began()

    def on_url(self, url: bytes) -> None:
        """The request target, or a piece of it."""
        self._target += url
        if len(self._target) > MAX_TARGET:
            self._refuse(414, "the path is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._head_size += len(name) + len(value) + _HEADER_OVERHEAD
        if self._head_size > MAX_HEAD:
            self._refuse(431, "the headers are too large")
            return
        key = name.decode("latin-1").lower()
        if key == "host" and key in self._headers:
            self._refuse(400, "more than one Host")
        if not self._head_whole:  # what comes after a chunked body is no header (RFC 9110, 6.5.1)
            self._headers[key] = value.decode("latin-1").strip(" \t")

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._head_whole = True
        self.method = self._parser.get_method().decode("latin-1")
        self.http_1_0 = self._parser.get_http_version() == "1.0"
        self.upgrades_with_body = "upgrade" in self._headers and self._has_body()
        if self.http_1_0:
            return
        if "host" not in self._headers:
            self._refuse(400, "no Host")
        elif self._headers.get("expect", "").lower() == "100-continue" and self._refusal is None:
            self._receiver.body_awaited()

    def on_body(self, body: bytes) -> None:
        """A piece of a body, which nothing here has a use for."""
        self._body_size += len(body)
        if self._body_size > MAX_BODY:
            self._refuse(413, "the body is too large")

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._refusal is None:
            self.keep_alive = self._parser.should_keep_alive()
            self._receiver.request_ended()
            self._begin()

    def _has_body(self) -> bool:
        return "transfer-encoding" in self._headers or self._headers.get("content-length", "0") != "0"

    def _refuse(self, status: int, words: str) -> None:
        if self._refusal is None:
            self._refusal = Response(status, words.encode(), document="malformed")
