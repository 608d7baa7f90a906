"""The text of `/metrics`: made at most once a second for each view, in pieces, and by one that asks for all that do."""

import asyncio
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from imds_proxy.telemetry.metrics import Metrics, rendered

_FRESH: Final = 1.0
"""Seconds."""
_MOST_VIEWS: Final = 16
_COMPRESSED_AT_ONCE: Final = 1 << 15  # bytes: half a millisecond
_GZIP: Final = 16 + zlib.MAX_WBITS
_LEVEL: Final = 6

_View = tuple[frozenset[str] | None, str]


@dataclass(slots=True)
class _Made:
    """One exposition, or the making of it.

    Args:
        began: When it was asked for.
        plain: The text.
        gzipped: The same compressed, once somebody has asked for that.
    """

    began: float
    plain: asyncio.Future[bytes]
    gzipped: asyncio.Future[bytes] | None = None


class Exposition:
    """The texts of one daemon.

    Args:
        metrics: What is told.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._made: dict[_View, _Made] = {}
        self._turn = asyncio.Lock()

    async def text(self, roles: frozenset[str] | None, remark: str = "", *, gzip: bool = False) -> bytes:
        """The exposition, as it was within the last second.

        Args:
            roles: Those that are seen; None: everything.
            remark: A comment before the first line.
            gzip: Whether compressed.
        """
        view = (roles, remark)
        made = self._fresh(view)
        if gzip and made.gzipped is None:
            made.gzipped = asyncio.ensure_future(self._compress(made.plain))
        try:
            return await asyncio.shield(made.gzipped if gzip and made.gzipped is not None else made.plain)
        except Exception:
            if self._made.get(view) is made:
                del self._made[view]
            raise

    def _fresh(self, view: _View) -> _Made:
        now = asyncio.get_running_loop().time()
        made = self._made.get(view)
        if made is None or (made.plain.done() and now - made.began >= _FRESH):
            self._forget(now)
            made = self._made[view] = _Made(now, asyncio.ensure_future(self._make(*view)))
        return made

    def _forget(self, now: float) -> None:
        """Keep none that is old, and not too many."""
        for view, made in list(self._made.items()):
            if made.plain.done() and (now - made.began >= _FRESH or len(self._made) >= _MOST_VIEWS):
                del self._made[view]

    async def _make(self, roles: Collection[str] | None, remark: str) -> bytes:
        """One after the other: whoever makes others ask too does not get more of the loop."""
        async with self._turn:
            pieces = [f"# {remark}\n".encode()] if remark else []
            return await _joined(pieces, rendered(self._metrics.pieces(roles)))

    async def _compress(self, plain: asyncio.Future[bytes]) -> bytes:
        text = await asyncio.shield(plain)
        async with self._turn:
            return await _joined([], compressed(text))


def compressed(text: bytes) -> Iterator[bytes]:
    """The pieces of a text's gzip form, each made in less than a millisecond or two."""
    gzip = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    for start in range(0, len(text), _COMPRESSED_AT_ONCE):
        yield gzip.compress(text[start : start + _COMPRESSED_AT_ONCE])
    yield gzip.flush()


async def _joined(pieces: list[bytes], more: Iterator[bytes]) -> bytes:
    """All pieces in one, with everything else having its turn between two of them."""
    for piece in more:
        pieces.append(piece)
        await asyncio.sleep(0)
    return b"".join(pieces)
