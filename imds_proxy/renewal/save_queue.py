"""Saves sessions beside the event loop: in one thread, the latest of each role, tried until the disk takes it.

One writer for the whole state directory, not one for each role: all is on one file system, so where that hangs every
thread would hang, and a thousand roles would leave a thousand threads. What waits is one session for each role, and
which roles are to have none; the order of the two is kept.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from imds_proxy.credentials import Credentials
from imds_proxy.host.few_threads import FewThreads
from imds_proxy.host.file_errors import HANGS
from imds_proxy.host.state_dir import StateError
from imds_proxy.host.threads import OneByOne, cancel_and_wait
from imds_proxy.renewal.disk_cache import SavedSessions
from imds_proxy.renewal.session_shape import SessionShape
from imds_proxy.telemetry.log import told

log = logging.getLogger(__name__)

_LONGEST_RETRY: Final = 5.0  # seconds; as of a file that is kept fresh
_WRITTEN_WITHIN: Final = 10.0  # seconds; a disk that takes longer is reported
_CLOSED_WITHIN: Final = 2.0  # seconds; a disk that hangs does not hold up the stop
_NOT_SAVED: Final = "a restart will need AWS"
_NOT_REMOVED: Final = "saved credentials of roles that are gone are left"

MakeShape = Callable[[], SessionShape]
"""Reads the machine id, so it is called in the thread."""


@dataclass(frozen=True, slots=True)
class _Session:
    """A session to be saved."""

    make_shape: MakeShape
    credentials: Credentials


class SaveQueue:
    """What is to be saved and removed in one state directory. Made on a running loop.

    Args:
        opening: The saved sessions of the directory, once it is open; None: nothing is saved or loaded. Never an error.
    """

    def __init__(self, opening: asyncio.Future[SavedSessions | None]) -> None:
        self._opening = opening
        self._disk = OneByOne(FewThreads())
        self._sessions: dict[str, _Session] = {}
        """The newest of each role that waits to be saved."""
        self._dropped: set[str] = set()
        """Roles whose file is to be removed; what is saved of them later waits for that."""
        self._kept: Collection[str] | None = None
        """The only roles that may have a file, until the others are removed."""
        self._loading: set[str] = set()
        self._failures = 0
        self._reported: set[str] = set()
        self._closing = False
        self._news, self._hurry = asyncio.Event(), asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="save sessions")

    def save(self, role: str, make_shape: MakeShape, credentials: Credentials) -> None:
        """Keep `credentials` for the next start, in the place of any that still wait."""
        if not self._task.done():
            self._sessions[role] = _Session(make_shape, credentials)
            self._news.set()

    def drop(self, roles: Iterable[str]) -> None:
        """Remove what is saved of these roles, and what is being saved or loaded; `save` may be called again."""
        names = set(roles)
        self._loading -= names
        self._dropped |= names
        self._forget(names)

    def keep_only(self, roles: Collection[str]) -> None:
        """Remove what is saved of all other roles, and save none of it."""
        self._kept = frozenset(roles)
        self._forget(self._sessions.keys() - self._kept)

    async def load(self, shapes: Mapping[str, MakeShape], now: Callable[[], float]) -> dict[str, Credentials]:
        """What is saved of these roles and may be served, after what is being written; waits for as long as it takes.

        Args:
            shapes: What the sessions of each role have to have been obtained with.
            now: Seconds since the epoch.
        """
        saved = await asyncio.shield(self._opening)
        if saved is None:
            return {}
        self._loading = loading = shapes.keys() - self._sessions.keys() - self._dropped
        if not loading:
            return {}
        try:
            found = await self._disk.do(_load, saved, {role: shapes[role] for role in loading}, now(), within=None)
        except Exception as error:  # noqa: BLE001 - whatever it is, the daemon goes on
            self._report(logging.WARNING, "saved credentials could not be read", _unexpected(error))
            return {}
        return {role: credentials for role, credentials in found.items() if role in loading}

    async def close(self) -> None:
        """Write what waits, for some seconds."""
        self._closing = True
        self._news.set()
        self._hurry.set()
        if self._sessions or self._removals():
            await asyncio.wait({self._task}, timeout=_CLOSED_WITHIN)
        await cancel_and_wait(self._task)
        if self._sessions:
            log.warning("the newest sessions are not saved", extra={"roles": ", ".join(sorted(self._sessions))})

    def _forget(self, roles: Collection[str]) -> None:
        for role in roles:
            self._sessions.pop(role, None)
        self._news.set()

    def _removals(self) -> bool:
        return self._kept is not None or bool(self._dropped)

    async def _run(self) -> None:
        saved = await asyncio.shield(self._opening)
        if saved is None:
            self._sessions.clear()
            return
        while True:
            await self._news.wait()
            self._news.clear()
            while not await self._is_all_done(saved):
                if self._closing:
                    return
                await self._pause()
            if self._closing:
                return

    async def _is_all_done(self, saved: SavedSessions) -> bool:
        """Do what waits, up to the first session that cannot be saved: the disk is likely to refuse the others too."""
        removed = not self._removals() or await self._remove(saved)
        while (role := next((name for name in self._sessions if name not in self._dropped), None)) is not None:
            if not await self._save(saved, role):
                return False
            removed = removed and (not self._removals() or await self._remove(saved))
        if removed and self._failures:
            log.info("sessions are saved again", extra={"failures": self._failures})
            self._failures = 0
            self._reported.clear()
        return removed

    async def _remove(self, saved: SavedSessions) -> bool:
        kept, dropped = self._kept, frozenset(self._dropped)
        if not await self._do(_NOT_REMOVED, {}, _remove, saved, kept, dropped):
            return False
        self._dropped -= dropped
        if self._kept is kept:
            self._kept = None
        return True

    async def _save(self, saved: SavedSessions, role: str) -> bool:
        session = self._sessions[role]
        is_saved = await self._do(_NOT_SAVED, {"role": role}, _save, saved, role, session)
        if self._sessions.get(role) is session:  # else there is a newer one, or it was dropped
            del self._sessions[role]
            if not is_saved:
                self._sessions[role] = session  # behind the others: it may be this one alone
        return is_saved

    async def _do(self, event: str, extra: dict[str, str], work: Callable[..., None], *given: object) -> bool:
        """Do something in the thread; whether it was done. Else it is reported, once until all is saved again."""
        try:
            await self._disk.do(work, *given, within=_WRITTEN_WITHIN)
        except TimeoutError:
            error = StateError(f"the state directory does not answer within {_WRITTEN_WITHIN:g} s", HANGS)
        except StateError as refused:
            error = refused
        except Exception as unexpected:  # noqa: BLE001 - whatever it is, the daemon goes on
            error = _unexpected(unexpected)
        else:
            return True
        self._failures += 1
        self._report(logging.DEBUG if event in self._reported else logging.WARNING, event, error, extra)
        self._reported.add(event)
        return False

    async def _pause(self) -> None:
        """Wait for the next try; the stop makes it now."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(float(self._failures), _LONGEST_RETRY)):
                await self._hurry.wait()

    @staticmethod
    def _report(level: int, event: str, error: StateError, extra: Mapping[str, str] | None = None) -> None:
        log.log(level, event, extra={"error": error.message, "advice": error.advice} | dict(extra or {}))


def _save(saved: SavedSessions, role: str, session: _Session) -> None:
    saved.save(role, session.make_shape(), session.credentials)


def _remove(saved: SavedSessions, kept: Collection[str] | None, dropped: Collection[str]) -> None:
    if kept is not None:
        saved.keep_only(kept)
    if dropped:
        saved.remove(dropped)


def _load(saved: SavedSessions, shapes: Mapping[str, MakeShape], now: float) -> dict[str, Credentials]:
    found = {}
    for role, make_shape in shapes.items():
        try:
            credentials = saved.load(role, make_shape(), now)
        except StateError as error:
            log.warning("saved credentials are left alone", extra={"role": role, "error": error.message})
            continue
        if credentials is not None:
            found[role] = credentials
    return found


def _unexpected(error: Exception) -> StateError:
    return StateError(f"unexpected {told(error)}", "this is a defect of imds-proxy: please report this line")
