"""A request and its answer, as values."""

from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Final, NamedTuple

from imds_proxy.callers.caller import Caller

TEXT: Final = "text/plain"
JSON: Final = "application/json"

NO_ANSWER: Final = 0
"""The status of a response that is none: the connection is closed instead (PROTOCOL.md 16)."""


class Request(NamedTuple):  # made once per request: a frozen dataclass costs three times as much
    """One request, as it came.

    Args:
        method: In capitals.
        target: The path as sent, percent-encoded and without its query.
        headers: By lower-case name.
        caller: Who asked.
        inode: Of the client's socket, by which the audit finds its process; 0 where it is not known.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    caller: Caller
    inode: int = 0


class Response(NamedTuple):
    """One answer.

    Args:
        status: An HTTP status, or NO_ANSWER.
        body: Bytes as they go out.
        content_type: TEXT or JSON.
        headers: Further header lines, each ended by CRLF.
        protocol: `imds_v1`, `imds_v2` or `container`, for the metrics.
        document: What was asked for, for the metrics: from a small fixed set, never a client's words.
        role: The role that was asked for, in a client's words, or handed out; for the audit.
        key: The last four characters of the key id handed out, for the audit.
        caller: Who asked, where the request's token says more than its connection; for the audit.
        reason: Why it was refused, where the status leaves that open; for the audit.
        slow: Send it a second late and then close: its caller is over the rate limit.
    """

    status: int
    body: bytes = b""
    content_type: str = TEXT
    headers: str = ""
    protocol: str = "imds_v2"
    document: str = "other"
    role: str = ""
    key: str = ""
    caller: Caller | None = None
    reason: str = ""
    slow: bool = False


def head(response: Response, date: str, connection: str) -> bytes:
    """An answer's head as it goes out.

    Args:
        response: The answer.
        date: The time, as the Date header has it.
        connection: A Connection header line ended by CRLF, or nothing.
    """
    first = _first_lines(response.status, response.content_type, len(response.body))
    return f"{first}Date: {date}\r\n{response.headers}{connection}\r\n".encode()


@lru_cache(256)
def _first_lines(status: int, content_type: str, length: int) -> str:
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        f"Server: EC2ws\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n"
    )
