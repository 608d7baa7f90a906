"""Files that something else keeps fresh: read beside the event loop, and told of when they change.

The server of a file may hang. Whoever reads the file then waits, with a limit; nobody else does, and of all tries one
thread is left that waits with it.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, TypeVar, TypeVarTuple

from imds_proxy.errors import Unreachable
from imds_proxy.host.file_errors import HANGS
from imds_proxy.host.file_watcher import FileWatcher
from imds_proxy.host.file_way import Signature, signature
from imds_proxy.host.threads import OneByOne

__all__ = ["READ_WITHIN", "FileWatcher", "Signature", "WatchedFiles", "signature", "unanswered"]

READ_WITHIN: Final = 10.0  # seconds
_NO_THREAD: Final = 1.0  # until one is tried again

_Given = TypeVarTuple("_Given")
_Result = TypeVar("_Result")


class WatchedFiles:
    """Files that are read together.

    Args:
        paths: They need not be there yet.
        watcher: The daemon's; None: one of its own.
    """

    def __init__(self, *paths: str, watcher: FileWatcher | None = None) -> None:
        self._paths = paths
        self._watcher = watcher or FileWatcher()
        self._seen: list[Signature | None] | None = None
        """What they were like when they were last read."""
        self._reading = OneByOne(self._watcher.readers)

    async def read(self, work: Callable[[*_Given], _Result], *given: *_Given, within: float = READ_WITHIN) -> _Result:
        """What `work(*given)`, which reads the files, returns or raises; what changes from its beginning on is news.

        Raises:
            TimeoutError: A file did not answer within that many seconds, or has not since an earlier call.
        """
        return await self._reading.do(self._noted, work, *given, within=within)

    async def changed(self) -> None:
        """Return within a second after the files have become others and have been left alone for a moment."""
        first: list[list[Signature | None]] = []

        def is_news(now: list[Signature | None]) -> bool:
            if not first:
                first.append(now)
            return now != (first[0] if self._seen is None else self._seen)

        while True:
            with contextlib.suppress(RuntimeError, OSError):  # no thread can be started at this time
                await self._watcher.changed(self._paths, is_news)
                return
            await asyncio.sleep(_NO_THREAD)

    def _noted(self, work: Callable[[*_Given], _Result], *given: *_Given) -> _Result:
        self._seen = self._signatures()
        return work(*given)

    def _signatures(self) -> list[Signature | None]:
        return [signature(path) for path in self._paths]


def unanswered(role: str, what: str) -> Unreachable:
    """For a source, in place of the TimeoutError."""
    return Unreachable(f'role "{role}": {what} could not be read within {READ_WITHIN:g} s', HANGS)
