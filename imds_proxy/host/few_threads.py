"""Work that may block for good, in few threads: of a thousand small pieces at once, and of any that hangs."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar, TypeVarTuple

_FEW: Final = 4
_IDLE: Final = 5.0  # seconds until a thread without work ends
_STUCK: Final = 0.1  # seconds without any piece ending, after which there are twice as many threads

_Given = TypeVarTuple("_Given")
_Result = TypeVar("_Result")


def answering(
    work: Callable[[*_Given], _Result], *given: *_Given
) -> tuple[asyncio.Future[_Result], Callable[[], None]]:
    """What `work(*given)` will return or raise, and what a thread has to call for it."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[_Result] = loop.create_future()

    def settle(settle_with: Callable[[Any], None], outcome: object) -> None:
        if not answer.done():
            settle_with(outcome)

    def run() -> None:
        settled: tuple[Callable[[Any], None], object]
        try:
            settled = answer.set_result, work(*given)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            settled = answer.set_exception, error
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, *settled)

    return answer, run


class FewThreads:
    """Threads that are used again: a few while they get on, and more as long as all of them hang.

    To start a thread takes the event loop a tenth of a millisecond, and many times that while others are busy.
    """

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = self._busy = self._ended = 0
        self._looked_at = 0
        """How many pieces had ended at the last look whether all threads hang."""
        self._look: asyncio.TimerHandle | None = None

    def do(self, work: Callable[[*_Given], _Result], *given: *_Given) -> asyncio.Future[_Result]:
        """What `work(*given)` returns or raises.

        Raises:
            RuntimeError: No thread can be started.
        """
        loop = asyncio.get_running_loop()
        answer, run = answering(work, *given)
        with self._lock:
            is_short = self._threads - self._busy <= self._work.qsize()
            if is_short and self._threads < _FEW:
                self._start(must=self._threads == 0)
            self._work.put(run)
        if self._look is None:
            self._look_later(loop)
        return answer

    def _start(self, *, must: bool = True) -> None:
        try:
            threading.Thread(target=self._run, name="beside the loop", daemon=True).start()
        except RuntimeError:
            if must:
                raise
        else:
            self._threads += 1

    def _run(self) -> None:
        while True:
            try:
                work = self._work.get(timeout=_IDLE)
            except queue.Empty:
                with self._lock:
                    if self._work.empty():
                        self._threads -= 1
                        return
                continue
            with self._lock:
                self._busy += 1
            work()
            del work  # it may hold a secret
            with self._lock:
                self._busy -= 1
                self._ended += 1

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._looked_at = self._ended
        self._look = loop.call_later(_STUCK, self._see_whether_stuck, loop)

    def _see_whether_stuck(self, loop: asyncio.AbstractEventLoop) -> None:
        self._look = None
        if self._work.empty():
            return
        with self._lock:
            for _ in range(min(self._threads, self._work.qsize()) if self._ended == self._looked_at else 0):
                self._start(must=False)
        self._look_later(loop)
