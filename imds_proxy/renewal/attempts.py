"""The attempts to renew one role: one at a time, however many ask."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from imds_proxy.host.threads import cancel_and_wait


class Attempts:
    """One after the other.

    Args:
        role: For the task's name.
        attempt: Makes one; raises nothing.
    """

    def __init__(self, role: str, attempt: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._role = role
        self._attempt = attempt
        self._task: asyncio.Task[None] | None = None
        self.has_begun = False
        """Whether the one under way has had its turn; set by it."""

    @property
    def is_under_way(self) -> bool:
        """Whether there is one."""
        return self._task is not None and not self._task.done()

    async def join(self) -> None:
        """Return at the end of the one that is under way, or of one that begins now."""
        if self._task is None or self._task.done():  # it may have ended in this turn of the loop
            self.has_begun = False
            self._task = asyncio.create_task(self._attempt(), name=f"renew {self._role}")
            self._task.add_done_callback(self._ended)
        await asyncio.shield(self._task)

    async def anew(self) -> None:
        """Return at the end of one that has its turn from now on."""
        if self._task is not None and self.has_begun:
            await asyncio.wait({self._task})  # at once, where it has ended
        await self.join()

    async def close(self) -> None:
        """Give up the one that is under way."""
        if self._task is not None:
            await cancel_and_wait(self._task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._task is task:
            self._task, self.has_begun = None, False
