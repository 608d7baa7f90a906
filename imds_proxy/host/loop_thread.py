"""An event loop in a thread of its own, for work that awaits and reads files by turns, as botocore's does."""

import asyncio
import contextlib
import select
import socket
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar, TypeVarTuple

_Given = TypeVarTuple("_Given")
_Result = TypeVar("_Result")

_ENDED_WITHIN: Final = 2.0  # seconds; work that is cancelled ends within these, or a file hangs


class LoopThread:
    """The loop; it begins with the first work, and ends with this object. A file that hangs stops it, and it alone.

    Args:
        name: Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, work: Callable[[*_Given], Coroutine[Any, Any, _Result]], *given: *_Given) -> _Result:
        """What `work(*given)` returns or raises; it has the caller's context, and is cancelled with the caller."""
        caller, loop = asyncio.get_running_loop(), self._started()
        answer: asyncio.Future[_Result] = caller.create_future()
        tasks: list[asyncio.Task[_Result]] = []

        def begin() -> None:
            tasks.append(loop.create_task(work(*given)))
            tasks[0].add_done_callback(ended)

        def ended(task: asyncio.Task[_Result]) -> None:
            with contextlib.suppress(RuntimeError):  # the caller's loop was closed meanwhile
                caller.call_soon_threadsafe(_settle, answer, task)

        def cancel() -> None:
            tasks[0].cancel()

        loop.call_soon_threadsafe(begin)
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            loop.call_soon_threadsafe(cancel)
            await asyncio.wait({answer}, timeout=_ENDED_WITHIN)
            raise

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = loop = _new_loop()
            threading.Thread(target=_turn, args=(loop,), name=self._name, daemon=True).start()
            weakref.finalize(self, loop.call_soon_threadsafe, loop.stop).atexit = False
        return self._loop


def _new_loop() -> asyncio.AbstractEventLoop:
    """One; raises OSError where there are not the files for it, before asyncio leaves half a loop behind."""
    ours, theirs = socket.socketpair()
    with ours, theirs, select.epoll():
        pass
    return asyncio.new_event_loop()


def _turn(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


def _settle(answer: asyncio.Future[_Result], task: asyncio.Task[_Result]) -> None:
    """Called in the loop of the answer, about a task that has ended."""
    if task.cancelled():
        answer.cancel()
    elif (error := task.exception()) is not None:
        answer.set_exception(error)
    else:
        answer.set_result(task.result())
    if not answer.cancelled():
        answer.exception()  # nobody may wait for it any more
