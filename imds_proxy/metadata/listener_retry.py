"""A listener that could not be opened is tried again until it is open: the address may come, the port may be freed."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from imds_proxy.backoff import wait_after_failure
from imds_proxy.errors import ListenError

log = logging.getLogger(__name__)


class ListenerRetry:
    """The listeners of one plane that are tried again, with a wait from 1 to 60 s between two attempts.

    Args:
        chance: Uniform in [0, 1): daemons that start at once do not try again at once.
    """

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._tasks: set[asyncio.Task[None]] = set()
        self._attempting = asyncio.Lock()

    def begin(self, attempt: Callable[[], Awaitable[None]], message: str, error: ListenError) -> None:
        """Log why a listener could not be opened, and try again until it is open.

        Args:
            attempt: Opens it, and logs that it is open; raises ListenError.
            message: Of the log line.
            error: Why the first attempt failed.
        """
        _log_failure(message, error)
        task = asyncio.create_task(self._until_open(attempt, message, error.message), name="retry a listener")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Try none of them any more. An attempt that has begun ends first."""
        async with self._attempting:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _until_open(self, attempt: Callable[[], Awaitable[None]], message: str, logged: str) -> None:
        """Attempt until it succeeds; a reason is logged once, not at each attempt."""
        failures = 1
        while True:
            await asyncio.sleep(wait_after_failure(failures, self._chance(), denied=False))
            async with self._attempting:
                try:
                    await attempt()
                except ListenError as error:
                    failures += 1
                    if error.message != logged:
                        logged = error.message
                        _log_failure(message, error)
                else:
                    return


def _log_failure(message: str, error: ListenError) -> None:
    advice = "; ".join(filter(None, (error.advice, "it is tried again until it is open")))
    log.error(message, extra={"error": error.message, "advice": advice})
