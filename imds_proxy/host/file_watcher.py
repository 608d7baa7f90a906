"""The watcher of every file that something else keeps fresh; one for the whole daemon."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Sequence

from imds_proxy.host.few_threads import FewThreads
from imds_proxy.host.file_lane import FileLane, Signatures, Wait
from imds_proxy.host.mounts import Mount, Mounts, read_mounts

log = logging.getLogger(__name__)


class FileWatcher:
    """Threads that find out when files change: one, and one more for each mount that cannot tell of changes.

    None while nobody waits for a change. Whatever touches a file system is done there.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        """Held for a moment, and never while a file system is touched."""
        self.readers = FewThreads()
        """For those who read the files."""
        self._lanes: dict[frozenset[Mount], FileLane] = {}
        self._has_said_shortage = False

    async def changed(self, paths: Sequence[str], is_news: Callable[[Signatures], bool]) -> None:
        """Return once files are others than those read, and have been left alone for a moment.

        Args:
            paths: Absolute; they need not be there.
            is_news: Whether files like that are others. Called in a thread.

        Raises:
            RuntimeError: No thread can be started at this time.
            OSError: No file can be opened at this time.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[None] = loop.create_future()

        def settle(error: BaseException | None) -> None:
            if not answer.done():
                answer.set_exception(error) if error is not None else answer.set_result(None)

        def tell(error: BaseException | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(settle, error)

        wait = Wait(paths, is_news, tell)
        self.give(wait, frozenset())
        try:
            await answer
        finally:
            self._take_back(wait)

    def give(self, wait: Wait, silent: frozenset[Mount]) -> None:
        """Give a wait to the thread of some mounts, which may have to be started. As `changed` raises."""
        with self.lock:
            lane = self._lanes.get(silent)
            if lane is None:
                lane = FileLane(self, silent)
                lane.start()
                self._lanes[silent] = lane
            lane.inbox[wait] = None
            wait.lane = lane
            lane.wake()

    def end_unused(self, lane: FileLane) -> bool:
        """Whether a thread may end: nothing was given to it meanwhile."""
        with self.lock:
            if lane.inbox:
                return False
            self._forget(lane)
            return True

    def end(self, lane: FileLane, error: BaseException, waits: Iterable[Wait]) -> None:
        """A thread ends by an error, which is a defect: whoever waits for it is told, and may wait anew."""
        log.error("what looks at files has ended and begins anew", extra={"error": type(error).__name__})
        with self.lock:
            self._forget(lane)
            left = [*waits, *lane.inbox]
            lane.inbox.clear()
        for wait in left:
            wait.tell(RuntimeError("what looks at files has ended"))

    def read_mounts(self) -> Mounts:
        """The mounts now."""
        return read_mounts()

    def say_shortage(self, why: str, advice: str) -> None:
        """Say once that the kernel does not tell of all changes."""
        if not self._has_said_shortage:
            log.warning("files are looked at all the time: inotify is short", extra={"error": why, "advice": advice})
        self._has_said_shortage = True

    def _take_back(self, wait: Wait) -> None:
        with self.lock:
            wait.has_ended = True
            if wait.lane is not None and wait.lane.inbox.pop(wait, wait) is wait:  # it was taken
                wait.lane.wake()

    def _forget(self, lane: FileLane) -> None:
        self._lanes = {silent: each for silent, each in self._lanes.items() if each is not lane}
