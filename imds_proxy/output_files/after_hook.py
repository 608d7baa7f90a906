"""What the operator wants to run after a change of a file: never two at a time, and never in the way of anything."""

import asyncio
import logging
from typing import Final

from imds_proxy.errors import SourceError
from imds_proxy.host.run_command import run_command
from imds_proxy.host.threads import OneByOne
from imds_proxy.telemetry.log import told

log = logging.getLogger(__name__)

Run = tuple[str, tuple[str, ...]]
"""A role, for the message, and a command."""

_TIME_LIMIT: Final = 60.0  # seconds


class After:
    """The commands of one file.

    Args:
        path: Of the file.
    """

    def __init__(self, path: str) -> None:
        self.failure: str | None = None
        """Why the last run failed, if it did."""
        self._path = path
        self._starts = OneByOne()
        self._wanted: tuple[Run, ...] = ()
        self._task: asyncio.Task[None] | None = None

    def run(self, runs: tuple[Run, ...]) -> None:
        """Run these soon; if some are running, once more when they have ended."""
        self._wanted = runs
        if runs and self._task is None:
            self._task = asyncio.create_task(self._run_wanted(), name=f"after {self._path}")

    async def close(self) -> None:
        """Kill what is running."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run_wanted(self) -> None:
        try:
            while self._wanted:
                runs, self._wanted = self._wanted, ()
                self.failure = None
                for role, command in runs:
                    await self._run_one(role, command)
        finally:
            self._task = None

    async def _run_one(self, role: str, command: tuple[str, ...]) -> None:
        extra = {"path": self._path, "command": command[0]}
        try:
            what, starts = "after a change", self._starts
            await run_command(role, command, timeout=_TIME_LIMIT, what=what, silent=True, starts=starts)
        except SourceError as error:
            self.failure = error.message
            log.warning(
                "the command after a change failed", extra=extra | {"error": error.message, "advice": error.advice}
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, the file is as it should be
            self.failure = f"unexpected {told(error)}"
            log.error("the command after a change failed", extra=extra | {"error": self.failure})  # noqa: TRY400
        else:
            log.info("the command after a change ran", extra=extra)
