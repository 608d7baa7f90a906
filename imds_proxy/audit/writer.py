"""Lines on their way to the audit's file: kept while it cannot be written, written when it can."""

import asyncio
import errno
import logging
from collections import deque
from contextlib import suppress
from itertools import islice
from typing import Final

from imds_proxy.audit.line import loss_record
from imds_proxy.audit.log_file import AuditFile
from imds_proxy.audit.rotation import Rotation
from imds_proxy.errors import FileError
from imds_proxy.host.clock import Clock
from imds_proxy.host.file_errors import write_failure
from imds_proxy.host.threads import in_thread
from imds_proxy.telemetry.log import JsonFormatter, told
from imds_proxy.telemetry.stats import RequestStats

log = logging.getLogger(__name__)

MOST_LINES: Final = 10_000  # that wait; some 5 MB
_AT_ONCE: Final = 1000
_LONGEST_RETRY: Final = 5.0  # seconds
_PATIENCE: Final = 10.0  # seconds; a disk that hangs longer is told of
_CLOSED_WITHIN: Final = 5.0  # seconds; at the stop it is not waited for

AUDIT_ADVICE: Final = {
    errno.EFBIG: "rotate it, or raise the limit on the size of files (LimitFSIZE= of the unit)",
    errno.EROFS: "configure a path that can be written (LogsDirectory= or ReadWritePaths= of the unit)",
    errno.ENOENT: "create its folder (LogsDirectory= of the unit)",
    errno.EACCES: "let the user the daemon runs as read and write it, and write its folder",
}


class AuditWriter:
    """Writes lines in a thread, for as long as there are any.

    Args:
        path: Of the file.
        clock: Wall time.
        stats: Counts the times that it could not be written.
        rotation: By size; None: others rotate it, or nobody does.
    """

    def __init__(self, path: str, clock: Clock, stats: RequestStats, rotation: Rotation | None = None) -> None:
        self._file = AuditFile(path, rotation)
        self._replaced: list[AuditFile] = []
        self._clock = clock
        self._stats = stats
        self._lines: deque[bytes] = deque()
        self._lost = 0
        self._failures = 0
        self._said = self._said_of_rotation = ""
        self._closing = False
        self._news, self._hurry = asyncio.Event(), asyncio.Event()
        self._news.set()  # opened at once, so that a mistake is told of before the first line
        self._task = asyncio.create_task(self._run(), name="audit file")

    def put(self, line: str, *, refusal: bool = False) -> None:
        """Have a line written; where too many wait, what was refused makes no others be lost."""
        if len(self._lines) < (MOST_LINES // 2 if refusal else MOST_LINES):
            self._lines.append(line.encode() + b"\n")
            self._news.set()
        else:
            self._lost += 1

    def follow(self, path: str, rotation: Rotation | None = None) -> None:
        """Open it again, or another one, which gets the lines that wait."""
        self._replaced.append(self._file)
        self._file = AuditFile(path, rotation)
        self._news.set()
        self._hurry.set()

    async def close(self) -> None:
        """Write what waits, once."""
        self._closing = True
        self._news.set()
        self._hurry.set()
        await asyncio.wait({self._task}, timeout=_CLOSED_WITHIN)
        if not self._task.cancel():  # else it is being written, and the end of the process closes it
            in_thread(_close, self._file)
        if lost := len(self._lines) + self._lost:
            log.warning("audit lines lost", extra={"path": self._file.path, "count": lost})

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while not await self._write() and not self._closing:
                await self._pause()
            if self._closing:
                return

    async def _pause(self) -> None:
        """Wait for the next try; a reload or the stop makes it now."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(float(self._failures), _LONGEST_RETRY)):
                await self._hurry.wait()
        self._hurry.clear()

    async def _write(self) -> bool:
        """Whether all that waited is in the file."""
        try:
            await self._append()
            while self._lines or self._tell_of_loss():
                await self._append()
        except (FileError, OSError) as error:
            self._failed(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the daemon goes on
            advice = "this is a defect of imds-proxy: please report this line"
            self._failed(FileError(f"cannot be written: unexpected {told(error)}", advice))
        else:
            self._succeeded()
        return not self._failures

    async def _append(self) -> None:
        """Move some lines into the file; with none, see that it is there."""
        lines = list(islice(self._lines, _AT_ONCE))
        replaced, self._replaced = self._replaced, []
        writing = in_thread(_append_to, self._file, lines, replaced)
        done, _ = await asyncio.wait({writing}, timeout=_PATIENCE)
        if not done:
            self._failed(FileError("cannot be written: the disk does not answer", "see what is wrong with it"))
        for _ in range(await writing):
            self._lines.popleft()
        self._tell_of_rotation()

    def _tell_of_loss(self) -> bool:
        """A reader of the file sees where lines are missing."""
        lost, self._lost = self._lost, 0
        if lost:
            self.put(JsonFormatter().format(loss_record(lost, self._clock.wall())))
            log.warning("audit lines lost", extra={"path": self._file.path, "count": lost})
        return lost > 0

    def _tell_of_rotation(self) -> None:
        """Say once why the file is not rotated."""
        error, message = self._file.rotation_error, ""
        if error is not None:
            why = write_failure(self._file.path, error, AUDIT_ADVICE)
            message = f"{self._file.path} cannot be renamed: {error.strerror}"
            if message != self._said_of_rotation:
                log.warning("the audit file is not rotated; it grows", extra={"error": message, "advice": why.advice})
        self._said_of_rotation = message

    def _succeeded(self) -> None:
        if self._failures:
            log.info("the audit file is written again", extra={"path": self._file.path, "failures": self._failures})
        self._failures, self._said = 0, ""

    def _failed(self, error: FileError | OSError) -> None:
        self._failures += 1
        self._stats.audit_write_failures += 1
        why = write_failure(self._file.path, error, AUDIT_ADVICE)
        if why.message != self._said:
            extra = {"error": why.message, "advice": why.advice}
            log.warning("the audit file is not written; its lines wait", extra=extra)
        self._said = why.message


def _append_to(file: AuditFile, lines: list[bytes], replaced: list[AuditFile]) -> int:
    """Write to one file, after the end of those before it; how many lines it has now."""
    for other in replaced:
        _close(other)
    return file.append(lines)


def _close(file: AuditFile) -> None:
    with suppress(OSError):  # a file server may tell only now that its disk is full
        file.close()
