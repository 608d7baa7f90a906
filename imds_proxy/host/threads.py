"""Work that may block for good: a file server, a user database, a token that hangs."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar, TypeVarTuple

from imds_proxy.host.few_threads import FewThreads, answering

_Given = TypeVarTuple("_Given")
_Result = TypeVar("_Result")


def in_thread(work: Callable[[*_Given], _Result], *given: *_Given) -> asyncio.Future[_Result]:
    """What `work(*given)` returns or raises, in a thread of its own.

    Not in an executor's: what hangs there takes the thread from everything else, and the process waits for it at the
    end.
    """
    answer, run = answering(work, *given)
    threading.Thread(target=run, name=getattr(work, "__name__", "work"), daemon=True).start()
    return answer


async def cancel_and_wait(task: asyncio.Future[Any]) -> None:
    """Cancel a task, and return once it has ended, however it did. If the caller is cancelled meanwhile, it is.

    To await the task itself and ignore the CancelledError would ignore the caller's own cancellation too.
    """
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # else the loop would report it as never retrieved


class OneByOne:
    """Work of one kind, in threads: the next piece begins when the one before has ended, however long that hangs.

    Args:
        threads: Those that do it; None: one of its own for each piece.
    """

    def __init__(self, threads: FewThreads | None = None) -> None:
        self._begin = in_thread if threads is None else threads.do
        self._last: asyncio.Future[Any] | None = None

    async def do(self, work: Callable[[*_Given], _Result], *given: *_Given, within: float | None) -> _Result:
        """What `work(*given)` returns or raises.

        Raises:
            TimeoutError: It has not ended within that many seconds, or what was begun before it has not.
        """
        async with asyncio.timeout(within):
            await self.ended()
            self._last = last = self._begin(work, *given)
            last.add_done_callback(self._forget)
            return await asyncio.shield(last)

    async def ended(self) -> None:
        """Return once nothing goes on any more, however it has ended."""
        while self._last is not None:  # who waited too may have begun something
            await asyncio.wait({self._last})

    def _forget(self, last: asyncio.Future[Any]) -> None:
        """Keep nothing of it: it may be a secret, or an error that nobody waits for any more."""
        if not last.cancelled():
            last.exception()
        self._last = None
