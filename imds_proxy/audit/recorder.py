"""Who was handed credentials and who was refused: a line for each, a line with a count for a burst."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass, field
from typing import Final

from imds_proxy.audit.budget import Folded, LineBudget
from imds_proxy.audit.line import (
    OK,
    ROLE_LENGTH,
    USER_AGENT_LENGTH,
    Burst,
    Process,
    Who,
    burst_record,
    caller_words,
    more_record,
    tell,
)
from imds_proxy.audit.rotation import Rotation
from imds_proxy.audit.writer import AuditWriter
from imds_proxy.config.grants import AuditConfig
from imds_proxy.host.clock import Clock
from imds_proxy.telemetry.log import JsonFormatter
from imds_proxy.telemetry.stats import RequestStats

WINDOW: Final = 1.0  # seconds
MOST_BURSTS: Final = 500  # of those handed out, and as many of those refused
HANDED_OUT_RATE: Final = 100.0  # lines a second of all callers together, once MOST_BURSTS are used up
REFUSED_RATE: Final = 50.0
MOST_NAMES: Final = 10  # of roles, of which one caller is refused in a window
OTHERS: Final = "*"  # further ones: names that somebody invents must hide nobody else's refusals, nor fill a disk
_MOST_SEARCHES: Final = 64  # each looks through the processes of a user: a few milliseconds
_SEARCHED_WITHIN: Final = 0.5  # seconds, at stop

FindProcess = Callable[[int, int], Process | None]
"""Takes a user's number and the inode of a socket; may block."""
Kind = tuple[object, ...]
"""What the answers of a burst have in common."""


@dataclass(slots=True)
class _Window:
    """The bursts that go on, and how many answers there was no room for.

    Those handed out have one of their own: role names that a client invents must not hide what somebody was given.
    """

    handed_out: bool
    budget: LineBudget
    bursts: dict[Kind, Burst] = field(default_factory=dict)
    of_caller: Counter[Who] = field(default_factory=Counter)
    """How many of the bursts are each caller's."""
    more: Folded | None = None


class Audit:
    """The audit of one daemon. Answers are recorded on the event loop; everything slow is done in threads.

    Args:
        clock: Wall time.
        find_process: Finds a client's process.
        stats: Counts lines that could not be written.
    """

    def __init__(self, clock: Clock, find_process: FindProcess, stats: RequestStats) -> None:
        self._clock = clock
        self._find_process = find_process
        self._stats = stats
        self._refused = _Window(handed_out=False, budget=LineBudget(REFUSED_RATE, MOST_BURSTS))
        self._handed_out = _Window(handed_out=True, budget=LineBudget(HANDED_OUT_RATE, MOST_BURSTS))
        # Of its own, and one alone: what looks for processes must not be in anything else's way.
        self._thread = futures.ThreadPoolExecutor(1, thread_name_prefix="audit")
        self._searches: dict[tuple[int, int], futures.Future[Process | None]] = {}
        self._formatter = JsonFormatter()
        self._writer: AuditWriter | None = None

    def record(  # noqa: PLR0913 - a line's fields, each by its name
        self,
        who: Who,
        *,
        role: str,
        document: str,
        protocol: str,
        status: int,
        key: str,
        reason: str = "",
        user_agent: str,
        inode: int,
    ) -> None:
        """Note one answer, on a running loop. Of a burst, all but the first one cost under a microsecond.

        Args:
            who: Who asked.
            role: The role that was asked for or handed out; a client's words.
            document: What was asked for.
            protocol: By which way.
            status: Of the answer; 0: the connection was closed without one.
            key: The last four characters of the key id handed out.
            reason: Why it was refused, where the status leaves that open.
            user_agent: A client's words.
            inode: Of the client's socket, 0 where it is not known.
        """
        role = role[:ROLE_LENGTH]
        window = self._handed_out if status == OK else self._refused
        account = who.service_account
        place = who.uid, who.unit, who.address, who.listener, account, who.token_file
        kind = (*place, role, reason, status, document, protocol, key)
        burst = window.bursts.get(kind)
        own = window.of_caller.get(who, 0) if burst is None else 0
        if burst is None and status != OK and own >= MOST_NAMES:
            role, reason = OTHERS, ""
            kind = (*place, role, reason, status, document, protocol, key)
            burst = window.bursts.get(kind)
        if burst is not None:
            burst.count += 1
        elif len(window.bursts) < MOST_BURSTS and window.budget.take(asyncio.get_running_loop().time(), own):
            window.of_caller[who] += 1
            words, search = user_agent[:USER_AGENT_LENGTH], self._search(who.uid, inode)
            began = self._clock.wall()
            window.bursts[kind] = Burst(began, who, role, document, protocol, status, key, reason, words, search)
            asyncio.get_running_loop().call_later(WINDOW, self._end, window, kind)
        else:
            self._count_more(window, who, role if status == OK else str(status or "closed"))

    async def follow(self, config: AuditConfig) -> None:
        """Write to where the config says: at the start, and at a reload, when a file is opened again."""
        if config.file is None:
            await self._close_writer()
            return
        rotation = Rotation(config.max_size, config.keep) if config.max_size else None
        if self._writer is None:
            self._writer = AuditWriter(config.file, self._clock, self._stats, rotation)
        else:
            self._writer.follow(config.file, rotation)

    async def close(self) -> None:
        """Tell what was not told yet, and stop. Nothing may be recorded any more."""
        if searches := list(self._searches.values()):
            await asyncio.to_thread(futures.wait, searches, _SEARCHED_WITHIN)
        self._thread.shutdown(wait=False, cancel_futures=True)
        for window in (self._handed_out, self._refused):
            for kind in list(window.bursts):
                self._end(window, kind)
            self._tell_more(window)
        await self._close_writer()

    def _search(self, uid: int | None, inode: int) -> futures.Future[Process | None] | None:
        """Begin to look for a client's process: one that asks once is gone soon."""
        if uid is None or not inode:
            return None
        asked = uid, inode
        if (search := self._searches.get(asked)) is None and len(self._searches) < _MOST_SEARCHES:
            search = self._searches[asked] = self._thread.submit(self._find_process, uid, inode)
            asyncio.get_running_loop().call_later(WINDOW, self._forget, asked)
        return search

    def _forget(self, asked: tuple[int, int]) -> None:
        """Let go of a search; of one that still goes on later, so that there are never too many."""
        if self._searches[asked].done():
            del self._searches[asked]
        else:
            asyncio.get_running_loop().call_later(WINDOW, self._forget, asked)

    def _end(self, window: _Window, kind: Kind) -> None:
        if (burst := window.bursts.pop(kind, None)) is None:  # it was told at the stop
            return
        window.of_caller[burst.who] -= 1
        if not window.of_caller[burst.who]:
            del window.of_caller[burst.who]
        self._tell(burst_record(burst), refusal=burst.status != OK)

    def _count_more(self, window: _Window, who: Who, kind: str) -> None:
        if window.more is None:
            window.more = Folded(self._clock.wall())
            asyncio.get_running_loop().call_later(WINDOW, self._tell_more, window)
        window.more.add(caller_words(who), kind)

    def _tell_more(self, window: _Window) -> None:
        more, window.more = window.more, None
        if more is not None:
            self._tell(more_record(more, handed_out=window.handed_out))

    def _tell(self, record: logging.LogRecord, *, refusal: bool = False) -> None:
        if self._writer is None:
            tell(record)
        else:
            self._writer.put(self._formatter.format(record), refusal=refusal)

    async def _close_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            await writer.close()
