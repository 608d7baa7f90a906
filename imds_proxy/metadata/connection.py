"""HTTP/1 on a socket: an asyncio protocol, because the answer is always at hand.

What a client could make wait or leave unread has a limit here; what it sends has its limits in `request_parser.py`.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from imds_proxy.callers.caller import Caller
from imds_proxy.metadata.messages import NO_ANSWER, Request, Response, head
from imds_proxy.metadata.request_parser import RequestParser
from imds_proxy.telemetry.log import told
from imds_proxy.telemetry.stats import RequestStats

log = logging.getLogger(__name__)

MAX_PIPELINED = 32
"""Requests answered of one read; the last closes, so that one client cannot take the loop from the others."""
MAX_UNREAD = 128 * 1024
"""Bytes of answers that a client may leave unread before it is cut off."""

REQUEST_TIME = 10.0
"""Seconds from the first byte of a request, or from connecting, to its last."""
IDLE_TIME = 75.0
"""Seconds that a connection is kept between requests."""

CALLER_TIME = 60.0
"""Seconds that a connection is its caller's: then the next answer is its last, because a user may have left a group."""

LINGER_TIME = 2.0
"""Seconds that a client has to stop sending after an answer that it did not expect to be the last."""
SLOW_TIME = 1.0
"""Seconds that a slow answer waits: a refusal sent at once would not stop a loop."""


class Arrived(Protocol):
    """A connection that was accepted."""

    @property
    def principal(self) -> bytes:
        """Its caller's."""


class Endpoint(Protocol):
    """What the connections of one listener share (`server.py`)."""

    stats: RequestStats

    @property
    def draining(self) -> bool:
        """Whether the next answer on each connection is its last."""

    def answer(self, request: Request) -> Response:
        """The answer to a request."""

    def opened(self, connection: "HttpProtocol", arrived: Any) -> None:
        """A connection is open: find out who is at the other end, and tell the connection."""

    def closed(self, connection: "HttpProtocol") -> None:
        """A connection is gone."""

    def run(self, principal: bytes, work: Callable[[], None]) -> bool:
        """Do work for a caller: now, or when it has a share of the loop again; whether it is done."""

    def limit_hops(self, transport: Any) -> None:
        """Keep what is sent next from travelling further than configured."""

    def http_date(self) -> str:
        """The time, as the Date header has it."""


class HttpProtocol(asyncio.Protocol):
    """One connection.

    Args:
        endpoint: What the connections of one listener share.
        arrived: The connection as it was accepted (`listener.py`).
    """

    def __init__(self, endpoint: Endpoint, arrived: Arrived) -> None:
        self.principal = arrived.principal
        """Its caller's, which is known before the names of its user are."""
        self._endpoint = endpoint
        self._arrived = arrived
        self._parser = RequestParser(self)
        self._transport: Any = None
        self._caller: Caller | None = None
        self._inode = 0
        self._known_until = 0.0
        self._unread = b""
        """What came before it was known from whom, or before its caller had a share of the loop again."""
        self._waits = False
        """Whether nothing is read until then."""
        self._has_sent_all = False
        """Whether the client has ended its side while what it asked waits."""
        self._out: list[bytes] = []
        self._closing = False
        self._slow = False
        self._lingers = False
        """Whether the connection ends while the client may be sending: closing at once would cost it the answer."""
        self._pipelined = 0
        self._begun = False
        self.deadline = 0.0
        self.active = time.monotonic()
        """When the last request ended, or the client connected."""

    @property
    def busy(self) -> bool:
        """Whether a request has begun and is not yet answered."""
        return self._begun or bool(self._unread)

    # The socket

    def connection_made(self, transport: Any) -> None:
        """A client connected."""
        self._transport = transport
        self.deadline = time.monotonic() + REQUEST_TIME
        self._endpoint.opened(self, self._arrived)

    def identified(self, caller: Caller, inode: int) -> None:
        """It is known who connected: answer what they have asked meanwhile."""
        self._caller, self._inode, self._known_until = caller, inode, time.monotonic() + CALLER_TIME
        if self._unread:
            self._endpoint.run(self.principal, self._read)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter
        """The connection is gone."""
        self._endpoint.closed(self)
        self._parser.close()

    def eof_received(self) -> bool:
        """The client will send no more: close, at once or when what it asked is answered."""
        self._has_sent_all = bool(self._unread)
        return self._has_sent_all

    def pause_writing(self) -> None:
        """The client does not read: neither do we."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Bytes came: answer every request that is whole, once it is known from whom and its caller has a share."""
        if self._closing:
            return
        is_first = not self._unread
        self._unread += data
        if is_first and self._caller is not None:
            self._endpoint.run(self.principal, self._read)
        else:  # enough for now
            self._waits = True
            self._transport.pause_reading()

    def _read(self) -> None:
        """Answer every request that is whole in what came."""
        if self._transport.is_closing():
            return
        if self._waits:
            self._waits = False
            self._transport.resume_reading()
        data, self._unread = self._unread, b""
        self._pipelined = 0
        refusal = self._parser.feed(data)
        if refusal is not None and not self._closing:
            self._lingers = True
            self._send(refusal, 0.0, keep_alive=False)
        self._flush()
        if self._has_sent_all and not self._slow:
            self.close()

    def _flush_late(self) -> None:
        if not self._transport.is_closing():
            self._slow = False
            self._transport.resume_reading()
            self._flush()

    def _flush(self) -> None:
        """Send what was answered, then whatever follows from it."""
        if self._slow:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(SLOW_TIME, self._flush_late)
            return
        if self._out:
            self._transport.write(b"".join(self._out))
            self._out.clear()
        if self._lingers:
            self._transport.write_eof()
            self.deadline = time.monotonic() + LINGER_TIME
        elif self._closing:
            self._transport.close()
        elif self._transport.get_write_buffer_size() > MAX_UNREAD:
            self._transport.abort()

    def close(self) -> None:
        """Close once what was answered has been sent."""
        self._closing = True
        self._transport.close()

    def abort(self) -> None:
        """Close now, whatever is on its way."""
        self._closing = True
        self._transport.abort()

    def expire(self) -> None:
        """The deadline has passed: close, and if the client does not even take what is on its way, cut it off."""
        if self._closing:
            self.abort()
        else:
            self.close()
            self.deadline = time.monotonic() + LINGER_TIME

    # What the parser tells

    def request_began(self) -> None:
        """The first byte of a request came."""
        self._begun = True
        self.deadline = time.monotonic() + REQUEST_TIME

    def body_awaited(self) -> None:
        """The client sends the body once it is told to go on."""
        if not self._closing:
            self._out.append(b"HTTP/1.1 100 Continue\r\n\r\n")

    def request_ended(self) -> None:
        """A request is whole: answer it."""
        if self._closing:
            return
        began = time.perf_counter()
        assert self._caller is not None  # noqa: S101 - nothing is parsed before
        request = self._parser.request(self._caller, self._inode)
        try:
            response = self._endpoint.answer(request)
        except Exception as error:  # noqa: BLE001 - a defect in one answer costs that answer alone
            log.error("a request could not be answered", extra={"error": told(error)})  # noqa: TRY400 - no text of it
            response = Response(500, b"internal error")
        self._pipelined += 1
        more = self._pipelined < MAX_PIPELINED and not self._endpoint.draining and not self._parser.upgrades_with_body
        self._slow = response.slow
        more = more and not self._slow and time.monotonic() < self._known_until
        self._lingers = not more
        keep_alive = more and self._parser.keep_alive
        self._send(response, time.perf_counter() - began, keep_alive=keep_alive)
        self._begun = False
        now = time.monotonic()
        self.active = 0.0 if self._slow else now  # the first to go where connections are too many
        self.deadline = now + IDLE_TIME

    # Answers

    def _send(self, response: Response, seconds: float, *, keep_alive: bool) -> None:
        self._endpoint.stats.record(response.protocol, response.document, response.status, seconds)
        if response.slow:
            self._endpoint.stats.limited[response.protocol] += 1
        self._closing = not keep_alive or response.status == NO_ANSWER
        if response.status == NO_ANSWER:
            return
        if response.document == "token":
            self._endpoint.limit_hops(self._transport)
        connection = "" if keep_alive else "Connection: close\r\n"
        if keep_alive and self._parser.http_1_0:
            connection = "Connection: keep-alive\r\n"
        self._out.append(head(response, self._endpoint.http_date(), connection))
        if self._parser.method != "HEAD":
            self._out.append(response.body)
