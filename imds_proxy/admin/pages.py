"""What the control plane answers: to each caller what it may see."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeVar

from aiohttp import web

from imds_proxy.admin import status_page
from imds_proxy.admin.gate import LAST, VIEW
from imds_proxy.admin.status import Status
from imds_proxy.admin.viewer import LIMITED
from imds_proxy.config.model import Config
from imds_proxy.renewal.renew_now import RenewNow
from imds_proxy.telemetry.exposition import Exposition
from imds_proxy.telemetry.metrics import Metrics

_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_JSON_TYPE: Final = "application/json; charset=utf-8"
_NEVER: Final = re.compile(r"q=0(\.0{0,3})?")
"""The weight of what is not acceptable."""
_BYTES_AT_ONCE: Final = 1 << 16
_ROLES_AT_ONCE: Final = 2
"""Each has up to two hundred times of its history to be written."""
_PIECES_OF_JSON_AT_ONCE: Final = 1000
_END: Final = b"\n  ]\n}\n"
_INDEX: Final = """imds-proxy: the control plane

/              in a browser: how every role is, and what to do
/metrics       for Prometheus
/healthz       the loop turns; /livez is the same
/readyz        whether every served role has live credentials, and every listener is open; /readyz/ROLE of one role
/status.json   what imds-proxy status shows
/renew         for imds-proxy renew alone
"""

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Documents:
    """What the control plane shows.

    Args:
        status: Of the running daemon.
        metrics: The same in numbers.
        config: The present one.
        renew_now: What an operator may have renewed.
    """

    status: Status
    metrics: Metrics
    config: Callable[[], Config]
    renew_now: RenewNow


class Pages:
    """The answers.

    Args:
        documents: What there is to be seen.
    """

    def __init__(self, documents: Documents) -> None:
        self._status = documents.status
        self._exposition = Exposition(documents.metrics)
        self._turn = asyncio.Lock()
        """Of the status: one after the other, so that those who ask at once do not have the loop to themselves."""

    async def index(self, request: web.Request) -> web.Response:
        """The status page; for a program what there is."""
        if status_page.is_wanted(request):
            return status_page.page()
        return web.Response(text=_INDEX, headers={"Vary": "Accept"})

    async def healthz(self, _: web.Request) -> web.Response:
        """Whether the event loop turns: it does."""
        return web.Response(text="the loop turns\n")

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """The exposition for Prometheus."""
        view = request[VIEW]
        gzip = accepts_gzip(request.headers.getall("Accept-Encoding", []))
        text = await self._exposition.text(view.only, "" if view.everything else LIMITED, gzip=gzip)
        encoding = {"Vary": "Accept-Encoding"} | ({"Content-Encoding": "gzip"} if gzip else {})
        return await _sent(request, [text], _METRICS_TYPE, encoding)

    async def readyz(self, request: web.Request) -> web.Response:
        """Whether every served role has live credentials, and every listener is open."""
        ready, body = self._status.readiness(request[VIEW])
        return web.json_response(body, status=200 if ready else 503, dumps=_indented)

    async def readyz_of_a_role(self, request: web.Request) -> web.Response:
        """Whether one role has."""
        view, name = request[VIEW], request.match_info["role"]
        if not view.shows(name) or not self._status.is_served(name):
            raise web.HTTPNotFound
        why = self._status.missing(view).get(name)
        body = {"role": name, "ready": why is None} | ({"why": why} if why is not None else {})
        return web.json_response(body, status=200 if why is None else 503, dumps=_indented)

    async def status(self, request: web.Request) -> web.StreamResponse:
        """What `imds-proxy status` shows."""
        view = request[VIEW]
        async with self._turn:
            # A role to a line: an indented one, with its history, takes several times as long to encode.
            line = json.JSONEncoder(ensure_ascii=False).encode
            roles = [line(role).encode() async for role in _in_turns(self._status.roles(view), _ROLES_AT_ONCE)]
            document = self._status.document(view, roles=[])
            del document["roles"]
            encoder = json.JSONEncoder(indent=2, ensure_ascii=False)
            pieces = [piece async for piece in _in_turns(encoder.iterencode(document), _PIECES_OF_JSON_AT_ONCE)]
        head = "".join(pieces).removesuffix("\n}") + ',\n  "roles": [\n    '
        body = [head.encode(), *(b",\n    " + role if number else role for number, role in enumerate(roles)), _END]
        return await _sent(request, body, _JSON_TYPE)


def accepts_gzip(headers: Iterable[str]) -> bool:
    """Whether a client that sent these Accept-Encoding headers takes gzip (RFC 9110, 12.5.3); `*` alone is no wish."""
    for coding in ",".join(headers).split(","):
        name, *parameters = (part.strip().lower() for part in coding.split(";"))
        if name in {"gzip", "x-gzip"}:
            return not any(_NEVER.fullmatch(parameter) for parameter in parameters)
    return False


async def _sent(
    request: web.Request, body: Sequence[bytes], content_type: str, encoding: Mapping[str, str] = MappingProxyType({})
) -> web.StreamResponse:
    """A response whose body is sent in parts: many megabytes at once would hold up the loop, and fill the memory."""
    length = {"Content-Type": content_type, "Content-Length": str(sum(map(len, body)))}
    response = web.StreamResponse(headers={**length, **encoding})
    if request[LAST]:
        response.force_close()
    await response.prepare(request)
    if request.method != "HEAD":
        for part in _parts(body):
            await response.write(part)
            await asyncio.sleep(0)
    await response.write_eof()
    return response


def _parts(body: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces of a body, joined and cut to about as much as is sent at once."""
    part = bytearray()
    for piece in body:
        for start in range(0, len(piece), _BYTES_AT_ONCE):
            part += piece[start : start + _BYTES_AT_ONCE]
            if len(part) >= _BYTES_AT_ONCE:
                yield bytes(part)
                part.clear()
    yield bytes(part)


async def _in_turns(items: Iterable[_Item], at_once: int) -> AsyncIterator[_Item]:
    """The items, with everything else having its turn after some."""
    for number, item in enumerate(items, 1):
        yield item
        if number % at_once == 0:
            await asyncio.sleep(0)


def _indented(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
