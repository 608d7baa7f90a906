"""The text of `/metrics`: made at most once a second for each view, in pieces, and by one that asks for all that do."""

import asyncio
from collections.abc import Collection
from typing import Final

from imds_proxy.telemetry.metrics import Metrics, rendered

_FRESH: Final = 1.0
"""Seconds."""
_MOST_VIEWS: Final = 16

_View = tuple[frozenset[str] | None, str]


class Exposition:
    """The texts of one daemon.

    Args:
        metrics: What is told.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._made: dict[_View, tuple[float, asyncio.Future[bytes]]] = {}
        self._turn = asyncio.Lock()

    async def text(self, roles: frozenset[str] | None, remark: str = "") -> bytes:
        """The exposition, as it was within the last second.

        Args:
            roles: Those that are seen; None: everything.
            remark: A comment before the first line.
        """
        view = (roles, remark)
        now = asyncio.get_running_loop().time()
        made = self._made.get(view)
        if made is None or (made[1].done() and now - made[0] >= _FRESH):
            self._forget(now)
            made = self._made[view] = now, asyncio.ensure_future(self._make(roles, remark))
        try:
            return await asyncio.shield(made[1])
        except Exception:
            self._made.pop(view, None)
            raise

    def _forget(self, now: float) -> None:
        """Keep none that is old, and not too many."""
        for view, (began, text) in list(self._made.items()):
            if text.done() and (now - began >= _FRESH or len(self._made) >= _MOST_VIEWS):
                del self._made[view]

    async def _make(self, roles: Collection[str] | None, remark: str) -> bytes:
        """One after the other: whoever makes others ask too does not get more of the loop."""
        async with self._turn:
            pieces = [f"# {remark}\n".encode()] if remark else []
            for text in rendered(self._metrics.pieces(roles)):
                pieces.append(text)
                await asyncio.sleep(0)
            return b"".join(pieces)
