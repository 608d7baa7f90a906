"""The data plane's listeners, and the limits that all their connections share."""

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from email.utils import formatdate
from typing import TYPE_CHECKING

from imds_proxy.callers.identify import Callers
from imds_proxy.clock import Clock
from imds_proxy.errors import ListenError
from imds_proxy.metadata.connections import Connections
from imds_proxy.metadata.listener import Listener
from imds_proxy.metadata.loop_shares import LoopShares
from imds_proxy.sockets import open_listener
from imds_proxy.telemetry.stats import RequestStats

if TYPE_CHECKING:
    from imds_proxy.metadata.message import Request, Response

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 1024
"""Where nobody says how many descriptors there are."""
_SWEEP_EVERY = 1.0
_SWEPT_AT_ONCE = 32  # each takes the loop for 40 µs, and a flood ends within a second
_SWEEP_ON = 0.01
_DRAIN_TIME = 2.0


class Server:
    """Every listener of the data plane. Set `answer` before `listen`.

    Args:
        stats: Counts what was answered.
        clock: Wall time, for the Date header.
        callers: Tells who connected.
        most: How many connections there may be.
    """

    def __init__(self, stats: RequestStats, clock: Clock, callers: Callers, most: int | None = None) -> None:
        self.answer: Callable[[Request], Response]
        """The data plane; a reload sets another one, which holds for the next request of every connection."""
        self.stats = stats
        self.callers = callers
        self.shares = LoopShares()
        self.connections = Connections(MAX_CONNECTIONS if most is None else most)
        self.draining = False
        self.hop_limit = 1
        self._clock = clock
        self._listeners: dict[str, Listener] = {}
        self._wanted: list[str] = []
        self._sweeping = False
        self._date = (0, "")

    @property
    def listeners(self) -> dict[str, str | None]:
        """Each listener of the config, by its entry there: `ADDRESS:PORT` as bound, None where it is not open."""
        opened = {name: listener.address for name, listener in self._listeners.items()}
        return {name: opened.get(name) for name in [*self._wanted, *(set(opened) - set(self._wanted))]}

    async def listen(self, wanted: Iterable[str], hop_limit: int, passed: Mapping[str, socket.socket]) -> None:
        """Open listeners that are missing, close those no longer wanted, leave the others and their connections alone.

        A listener that cannot be opened is one line in the log; the others serve.

        Raises:
            ListenError: None is open.
        """
        wanted = self._wanted = list(dict.fromkeys(wanted))
        before = list(self._listeners)
        # Removed ones go first: the new one may be the same port on another address.
        for name in set(before) - set(wanted):
            self._listeners.pop(name).close()
        await self._open_missing(wanted, passed)
        opened = bool(self._listeners)
        if not opened:
            await self._open_missing(before, passed)
        self.hop_limit = hop_limit
        if not opened:
            raise ListenError("no listener could be opened", "" if before else "there is nothing to serve on")

    async def _open_missing(self, names: Iterable[str], passed: Mapping[str, socket.socket]) -> None:
        for name in names:
            if name not in self._listeners:
                await self._open(name, passed)

    async def _open(self, name: str, passed: Mapping[str, socket.socket]) -> None:
        try:
            listener = Listener(self, name, open_listener(name, passed))
        except ListenError as error:
            log.error("cannot listen", extra={"error": error.message, "advice": error.advice})  # noqa: TRY400 - one line
            return
        listener.start()
        self._listeners[name] = listener
        log.info("listening", extra={"address": listener.address})

    async def close(self) -> None:
        """Stop accepting, let requests that have begun end, close everything."""
        self.draining = True
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()
        deadline = time.monotonic() + _DRAIN_TIME
        for connection in [c for c in self.connections if not c.busy]:
            connection.close()
        while self.connections and time.monotonic() < deadline:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.01)
        for connection in self.connections:
            connection.abort()

    def http_date(self) -> str:
        """The Date header's value, made once a second (async-aws corrects the expiry by it)."""
        second = int(self._clock.wall())
        if second != self._date[0]:
            self._date = second, formatdate(second, usegmt=True)
        return self._date[1]

    def counted(self) -> None:
        """There are more connections than before, or fewer."""
        self.stats.connections = len(self.connections)
        if not self._sweeping:
            self._sweeping = True
            asyncio.get_running_loop().call_later(_SWEEP_EVERY, self._sweep)

    def _sweep(self) -> None:
        """Close what is past its deadline: one timer for all, because one each would cost more than the requests."""
        now = time.monotonic()
        over = [connection for connection in self.connections if connection.deadline < now]
        for connection in over[:_SWEPT_AT_ONCE]:
            connection.expire()
        self._sweeping = bool(self.connections)
        if self._sweeping:
            wait = _SWEEP_ON if len(over) > _SWEPT_AT_ONCE else _SWEEP_EVERY
            asyncio.get_running_loop().call_later(wait, self._sweep)
