"""A request and its answer, as values."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from imds_proxy.callers import Caller

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
    """

    method: str
    target: str
    headers: Mapping[str, str]
    caller: Caller


class Response(NamedTuple):
    """One answer.

    Args:
        status: An HTTP status, or NO_ANSWER.
        body: Bytes as they go out.
        content_type: TEXT or JSON.
        headers: Further header lines, each ended by CRLF.
        protocol: `imds_v1`, `imds_v2` or `container`, for the metrics.
        document: What was asked for, for the metrics: from a small fixed set, never a client's words.
    """

    status: int
    body: bytes = b""
    content_type: str = TEXT
    headers: str = ""
    protocol: str = "imds_v2"
    document: str = "other"
