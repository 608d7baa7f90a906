"""The data plane's listeners, and the limits that all their connections share."""

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from email.utils import formatdate
from functools import partial
from typing import TYPE_CHECKING

from imds_proxy.addresses import SYSTEMD_PREFIX
from imds_proxy.callers.peer import Callers
from imds_proxy.errors import ListenError
from imds_proxy.host.clock import Clock
from imds_proxy.host.listening_sockets import NoIpv6Error, open_listener
from imds_proxy.metadata.connections import Connections
from imds_proxy.metadata.listener import Listener
from imds_proxy.metadata.listener_retry import ListenerRetry
from imds_proxy.metadata.loop_shares import LoopShares
from imds_proxy.telemetry.stats import RequestStats

if TYPE_CHECKING:
    from imds_proxy.metadata.messages import Request, Response

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
        self._without_ipv6: set[str] = set()
        """Listeners that this host has no IPv6 for."""
        self._retry = ListenerRetry()
        self._sweeping = False
        self._date = (0, "")

    @property
    def listeners(self) -> dict[str, str | None]:
        """Each listener of the config, by its entry there: `ADDRESS:PORT` as bound, None where it is not open."""
        opened = {name: listener.address for name, listener in self._listeners.items()}
        return {name: opened.get(name) for name in [*self._wanted, *(set(opened) - set(self._wanted))]}

    def not_open(self) -> list[str]:
        """The listeners of the config that are not open, without those of IPv6 on a host that has none."""
        missing = [name for name, address in self.listeners.items() if address is None]
        return [name for name in missing if name not in self._without_ipv6]

    async def listen(self, wanted: Iterable[str], hop_limit: int, passed: Mapping[str, socket.socket]) -> None:
        """Open listeners that are missing, close those no longer wanted, leave the others and their connections alone.

        A listener that cannot be opened is one line in the log, and is tried again until it is open; the others serve.

        Raises:
            ListenError: None of those that are wanted is open; if others were, they are open again.
        """
        await self._retry.stop()
        wanted = self._wanted = list(dict.fromkeys(wanted))
        before = list(self._listeners)
        # Removed ones go first: the new one may be the same port on another address.
        for name in set(before) - set(wanted):
            self._listeners.pop(name).close()
        failed = self._open_missing(wanted, passed)
        opened = bool(self._listeners)
        if not opened:
            failed |= self._open_missing(before, passed)
        self.hop_limit = hop_limit
        for name, error in failed.items():
            # What systemd has to pass it passes before this process starts: nothing changes that.
            if name not in wanted or name.startswith(SYSTEMD_PREFIX) or not (opened or before):
                log.error("cannot listen", extra={"error": error.message, "advice": error.advice})
            else:
                self._retry.begin(partial(self._open_again, name, passed), "cannot listen", error)
        if not opened:
            raise ListenError("no listener could be opened", "" if before else "there is nothing to serve on")

    def _open_missing(self, names: Iterable[str], passed: Mapping[str, socket.socket]) -> dict[str, ListenError]:
        """Open what is not open; why those that could not be were not."""
        failed = {}
        for name in names:
            if name not in self._listeners:
                try:
                    self._open(name, passed)
                except ListenError as error:
                    failed[name] = error
        return failed

    async def _open_again(self, name: str, passed: Mapping[str, socket.socket]) -> None:
        """Open a listener that could not be opened before; then those that only stood in for it are closed."""
        self._open(name, passed)
        for other in set(self._listeners) - set(self._wanted):
            self._listeners.pop(other).close()

    def _open(self, name: str, passed: Mapping[str, socket.socket]) -> None:
        """Raises ListenError."""
        self._without_ipv6.discard(name)
        try:
            listener = Listener(self, name, open_listener(name, passed))
        except NoIpv6Error:
            self._without_ipv6.add(name)
            raise
        listener.start()
        self._listeners[name] = listener
        log.info("listening", extra={"address": listener.address})

    async def close(self) -> None:
        """Stop accepting, let requests that have begun end, close everything."""
        self.draining = True
        await self._retry.stop()
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
