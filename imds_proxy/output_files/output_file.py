"""One file: written at start, at every renewal of a role in it, and again whenever it is not what it should be."""

import asyncio
import errno
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imds_proxy.config.output_files import SHARED_CREDENTIALS_FILE, OutputFileConfig, own_credentials_files
from imds_proxy.credentials import Credentials
from imds_proxy.errors import FileError
from imds_proxy.host.clock import Clock
from imds_proxy.host.file_errors import HANGS, write_failure
from imds_proxy.host.threads import OneByOne
from imds_proxy.output_files import formats, target_path
from imds_proxy.output_files.after_hook import After
from imds_proxy.output_files.named_access import NamedAccess
from imds_proxy.renewal.schedule import LEFT_IN_A_FILE, long_enough
from imds_proxy.telemetry.log import told
from imds_proxy.telemetry.stats import FileStats

log = logging.getLogger(__name__)

_LOOK_EVERY: Final = 2.0  # seconds; a file that was removed or spoilt is put right within these
_LONGEST_RETRY: Final = 5.0  # seconds; it costs one attempt to write
_WRITTEN_WITHIN: Final = 10.0  # seconds
_CLOSED_WITHIN: Final = 5.0  # seconds; a disk that hangs is not waited for

OUTPUT_ADVICE: Final = {
    errno.EFBIG: "raise the limit on the size of files (LimitFSIZE= of the unit)",
    errno.EROFS: "configure a path that can be written, or add its folder to ReadWritePaths= of the unit",
    errno.ENOENT: "create its folder",
    errno.EACCES: "let the user the daemon runs as read and write its folder, and read the file",
    errno.EPERM: "only root gives a file to another user: run the daemon as root or with CAP_CHOWN, or leave owner and"
    " group out",
}

Live = Callable[[str], Credentials | None]
"""The live credentials of a role."""
IsPending = Callable[[str], bool]
"""Whether a role has neither had credentials nor failed to obtain any."""
Held = tuple[tuple[OutputFileConfig, Credentials], ...]
"""The entries of a file whose roles have live credentials, with these."""


@dataclass(frozen=True, slots=True)
class FileFailure:
    """Why the file could not be written the last time."""

    message: str
    advice: str
    at: float


class Output:
    """One file.

    Args:
        entries: What `[[files]]` says of it; several where an INI file has several profiles.
        live: The live credentials of a role.
        is_pending: Whether they may still come soon.
        stats: Told of every write.
        clock: Wall time.
    """

    def __init__(
        self,
        entries: tuple[OutputFileConfig, ...],
        live: Live,
        is_pending: IsPending,
        stats: FileStats,
        clock: Clock,
    ) -> None:
        self.entries = entries
        self.path = Path(entries[0].path)
        self.stats = stats
        self.failure: FileFailure | None = None
        self.tried = asyncio.Event()
        """Set once it was written, or could not be, with what its roles brought at first."""
        self._live = live
        self._is_pending = is_pending
        self._clock = clock
        self._after = After(entries[0].path)
        self._news = asyncio.Event()
        self._written: Held = ()
        self._signature: target_path.Signature | None = None
        self._too_short: dict[str, float] = {}
        self._failures = 0
        self._writing = OneByOne()
        self._untold = False
        """Whether it holds something that the commands after a change have not been run for."""

    @property
    def warnings(self) -> list[str]:
        """What is not as it should be, though the file is written."""
        said = [
            f'role "{role}": its sessions live {life / 60:.0f} min, so the file does not always hold 30 min of life'
            for role, life in self._too_short.items()
        ]
        return said + ([self._after.failure] if self._after.failure else [])

    def follow(self, entries: tuple[OutputFileConfig, ...]) -> None:
        """Take what the config says of it now."""
        self.entries = entries
        self.refresh()

    def refresh(self) -> None:
        """Look at once whether it holds what it should: called after every renewal."""
        self._news.set()

    async def run(self) -> None:
        """Keep it, for ever."""
        while True:
            self._news.clear()
            pending = any(self._is_pending(entry.role) for entry in self.entries)
            await self._keep()
            if not pending:
                self.tried.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._wait()):
                    await self._news.wait()

    async def close(self) -> None:
        """Let a write that is under way end, for some seconds: nobody else may begin one meanwhile."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._writing.ended(), _CLOSED_WITHIN)
        await self._after.close()

    def _wait(self) -> float:
        return min(float(self._failures), _LONGEST_RETRY) if self._failures else _LOOK_EVERY

    async def _keep(self) -> None:
        """Write it if its roles were renewed, or if it is not what was written."""
        pairs = [(entry, self._live(entry.role)) for entry in self.entries]
        held = tuple((entry, credentials) for entry, credentials in pairs if credentials is not None)
        if not held:  # what has died is left as it is: an empty file helps nobody
            return
        if renewed := held != self._written:
            self._look_at_lives(held)
        try:
            changed = await self._writing.do(self._write, held, renewed, within=_WRITTEN_WITHIN)
        except TimeoutError as error:  # a file server's too
            self._written = ()  # it may yet be written: nobody knows what is there
            hangs = FileError(f"could not be written within {_WRITTEN_WITHIN:g} s", HANGS)
            self._failed(error if error.errno else hangs)
        except (FileError, OSError) as error:
            self._failed(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the daemon goes on
            advice = "this is a defect of imds-proxy: please report this line"
            self._failed(FileError(f"cannot be written: unexpected {told(error)}", advice))
        else:
            self._succeeded(held, changed=changed, renewed=renewed)

    def _write(self, held: Held, renewed: bool) -> bool:  # noqa: FBT001 - a thread is given no names
        """Whether its content is another now."""
        if not renewed and target_path.signature(self.path) == self._signature:
            return False
        entry = held[0][0]
        access = NamedAccess(int(entry.mode, 8), entry.owner, entry.group)
        with target_path.opened(self.path, access, self._signature) as file:
            refuse_shared(file)
            current = _current(file, entry)
            content = _content(entry.format, current, held)
            if renewed or content != current or not self._has_its_access(file):
                self._untold = self._untold or content != current
                self._signature = file.replace(content)
            else:  # somebody else changed what is somebody else's
                self._signature = file.signature
        return content != current

    def _has_its_access(self, file: target_path.OpenTarget) -> bool:
        now = file.signature
        return now is not None and self._signature is not None and now.access == self._signature.access

    def _succeeded(self, held: Held, *, changed: bool, renewed: bool) -> None:
        if renewed or changed or self._failures:
            self.stats.written = self._clock.wall()
            keys = ", ".join(f"{entry.role} …{credentials.key_hint}" for entry, credentials in held)
            event = "file written" if renewed else "file written again: something else changed or removed it"
            log.info(event, extra={"path": str(self.path), "keys": keys, "failures": self._failures})
        self._written, self._failures, self.failure = held, 0, None
        if self._untold:
            self._untold = False
            runs = tuple((entry.role, entry.after) for entry in self.entries if entry.after)
            self._after.run(tuple({command: (role, command) for role, command in runs}.values()))

    def _failed(self, error: FileError | OSError) -> None:
        self._failures += 1
        self.stats.failures += 1
        why = write_failure(self.path, error, OUTPUT_ADVICE)
        said = self.failure is not None and self.failure.message == why.message
        self.failure = FileFailure(why.message, why.advice, self._clock.wall())
        extra = {"path": str(self.path), "error": why.message, "advice": why.advice, "failures": self._failures}
        log.log(logging.DEBUG if said else logging.ERROR, "file not written; what is there is whole", extra=extra)

    def _look_at_lives(self, held: Held) -> None:
        """Tell of sessions that are too short for a file, where the config could not know."""
        lives = {entry.role: credentials.expiration - credentials.obtained for entry, credentials in held}
        too_short = {role: life for role, life in lives.items() if not long_enough(life, LEFT_IN_A_FILE)}
        for role in too_short.keys() - self._too_short.keys():
            log.warning(
                "sessions are too short for a file, which has to hold 30 minutes of life at any time",
                extra={"path": str(self.path), "role": role, "minutes": round(too_short[role] / 60)},
            )
        self._too_short = too_short


def refuse_shared(file: target_path.OpenTarget) -> None:
    """Raise FileError for a shared credentials file, by another way to write its path."""
    if file.is_one_of(own_credentials_files()):
        raise FileError(SHARED_CREDENTIALS_FILE, "configure another path")


def _current(file: target_path.OpenTarget, entry: OutputFileConfig) -> bytes:
    """What is there now; only of an INI file is any of it kept, so only there it has to be one that can be read."""
    try:
        return file.read()
    except PermissionError:
        if entry.format == "ini":
            raise
        return b""


def _content(form: str, current: bytes, held: Held) -> bytes:
    if form == "ini":
        return formats.ini(current, {entry.profile: credentials for entry, credentials in held})
    return (formats.document if form == "json" else formats.env)(held[0][1])
