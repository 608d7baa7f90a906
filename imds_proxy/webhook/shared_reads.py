"""Many ask the same at a time: it is asked once, and nobody gets an answer from before they asked.

A Deployment makes hundreds of pods of one service account within a second. Whoever asks while a read is on its way
shares the next one, which begins when that has ended; so there is one read at a time for each key, nothing is
remembered, and a pod that is made after its account was changed never gets what the account was before.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

_Key = TypeVar("_Key")
_Found = TypeVar("_Found")


class SharedReads(Generic[_Key, _Found]):
    """Reads by key.

    Args:
        read: Finds out; bounded in time.
    """

    def __init__(self, read: Callable[[_Key], Awaitable[_Found]]) -> None:
        self._read = read
        self._running: dict[_Key, asyncio.Task[_Found]] = {}
        self._next: dict[_Key, asyncio.Task[_Found]] = {}

    async def get(self, key: _Key) -> _Found:
        """What a read finds, or raises, that begins after this call."""
        task = self._next.get(key)
        if task is None:
            task = asyncio.create_task(self._in_turn(key, self._running.get(key)), name="read for a review")
            task.add_done_callback(_retrieved)
            self._next[key] = task
        return await asyncio.shield(task)  # who goes away takes it from nobody

    async def close(self) -> None:
        """End what is on its way."""
        tasks = [*self._running.values(), *self._next.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _in_turn(self, key: _Key, before: asyncio.Task[_Found] | None) -> _Found:
        if before is not None:
            await asyncio.wait({before})
        task = self._running[key] = self._next.pop(key)
        try:
            return await self._read(key)
        finally:
            if self._running.get(key) is task:
                del self._running[key]


def _retrieved(task: "asyncio.Task[_Found]") -> None:
    """Nobody may be left who waits for it: its error is not reported as forgotten."""
    if not task.cancelled():
        task.exception()
