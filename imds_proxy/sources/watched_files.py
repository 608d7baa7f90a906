"""Files that something else keeps fresh: read beside the event loop, and told of when they change.

The server of a file may hang. Whoever reads the file then waits, with a limit; nobody else does, and of all tries one
thread is left that waits with it.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from typing import Final, TypeVar, TypeVarTuple

from imds_proxy.disk_errors import HANGS
from imds_proxy.errors import Unreachable
from imds_proxy.threads import OneByOne

READ_WITHIN: Final = 10.0  # seconds
_POLL: Final = 0.25
_NO_THREAD: Final = 1.0  # until one is tried again

_Given = TypeVarTuple("_Given")
_Result = TypeVar("_Result")
Signature = tuple[int, int, int, int]
"""Inode, times of content and of inode in nanoseconds, size."""


class WatchedFiles:
    """Files that are read together.

    Args:
        paths: They need not be there yet.
    """

    def __init__(self, *paths: str) -> None:
        self._paths = paths
        self._seen: list[Signature | None] | None = None
        """What they were like when they were last read."""
        self._reading, self._looking = OneByOne(), OneByOne()

    async def read(self, work: Callable[[*_Given], _Result], *given: *_Given, within: float = READ_WITHIN) -> _Result:
        """What `work(*given)`, which reads the files, returns or raises; what changes from its beginning on is news.

        Raises:
            TimeoutError: A file did not answer within that many seconds, or has not since an earlier call.
        """
        return await self._reading.do(self._noted, work, *given, within=within)

    async def changed(self) -> None:
        """Return within half a second after the files have become others and have been left alone for a moment.

        Looks twice in half a second instead of asking the kernel, so that it works on every file system and across the
        symbolic links that Kubernetes swaps.
        """
        enough = threading.Event()
        try:
            while True:
                with contextlib.suppress(RuntimeError):  # no thread can be started at this time
                    await self._looking.do(self._look, enough, within=None)
                    return
                await asyncio.sleep(_NO_THREAD)
        finally:
            enough.set()

    def _noted(self, work: Callable[[*_Given], _Result], *given: *_Given) -> _Result:
        self._seen = self._signatures()
        return work(*given)

    def _look(self, enough: threading.Event) -> None:
        """Return once the files are others than those read, or enough."""
        before = first = self._signatures() if self._seen is None else self._seen
        while not enough.wait(_POLL):
            now = self._signatures()
            if now == before != (first if self._seen is None else self._seen):
                return
            before = now

    def _signatures(self) -> list[Signature | None]:
        return [signature(path) for path in self._paths]


def unanswered(role: str, what: str) -> Unreachable:
    """For a source, in place of the TimeoutError."""
    return Unreachable(f'role "{role}": {what} could not be read within {READ_WITHIN:g} s', HANGS)


def signature(path: str) -> Signature | None:
    """What a file is like: another one, or another content, has another. None where there is none to be seen."""
    try:
        status = os.stat(path)  # noqa: PTH116 - follows links, like the read
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size
