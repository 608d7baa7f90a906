"""The token files that grants name: read, made where they are missing, and read again when they change.

In: paths, and what a client sent. Out: whose token it is. A file that cannot be used lets nobody in, and is told of
once. It is mounted into a container of any user's, so any user may own it, but not all may read it; and where the
daemon or root owns it, a group may read it, and no more: it would put a token of its own there.
"""

import asyncio
import contextlib
import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeVar

from imds_proxy.errors import FileError
from imds_proxy.host import atomic_file, safe_path, utf8
from imds_proxy.host.atomic_file import PRIVATE
from imds_proxy.host.file_errors import HANGS, judge_folder
from imds_proxy.host.open_files import exhausted
from imds_proxy.host.path_walk import UnsafePathError
from imds_proxy.host.utf8 import NotUtf8Error
from imds_proxy.host.watched_files import READ_WITHIN, FileWatcher, WatchedFiles
from imds_proxy.telemetry.log import told

log = logging.getLogger(__name__)

T = TypeVar("T")

_TOKEN_BYTES: Final = 32
_USABLE: Final = re.compile(rb"[!-~]{16,4096}")  # what a header can carry, and nobody guesses
_LARGEST: Final = 8192  # bytes
_OTHERS: Final = 0o007
_GROUP_WRITE: Final = 0o020
_PATIENCE: Final = 5.0  # seconds for all files at the start; a file server may hang
_GRACE: Final = 60.0  # seconds that a token holds after `imds-proxy rotate-tokens` has replaced it
_RETRY: Final = 10.0  # seconds until a file that could not be used is tried again, should nothing have changed


class TokenFiles:
    """The token files of one daemon.

    Args:
        watcher: Tells when they change; None: one of its own.
    """

    def __init__(self, watcher: FileWatcher | None = None) -> None:
        self._watcher = watcher or FileWatcher()
        self._files: dict[str, _TokenFile] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._followed = False

    @property
    def ready(self) -> bool:
        """Whether each was tried, so that a token that none holds is a wrong one."""
        return self._followed and all(file.tried.is_set() for file in self._files.values())

    def match(self, sent: bytes) -> str | None:
        """The file that holds what was sent, the first of the config if several do; takes the same time for each."""
        digest, found = hashlib.sha256(sent).digest(), None
        for path, file in self._files.items():
            fits = [hmac.compare_digest(digest, each) for each in (file.digest, file.following, file.replaced)]
            if any(fits) and found is None:
                found = path
        return found

    async def follow(self, paths: Iterable[str]) -> None:
        """Keep these files and no others; returns once each new one was tried."""
        wanted, self._followed = list(dict.fromkeys(paths)), True
        for path in self._files.keys() - set(wanted):
            await self._drop(path)
        self._files = {path: self._files.get(path) or _TokenFile(path, self._watcher) for path in wanted}
        for path in self._files.keys() - self._tasks.keys():
            self._tasks[path] = asyncio.create_task(self._files[path].run(), name=f"keep {path}")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                for file in self._files.values():
                    await file.tried.wait()

    async def close(self) -> None:
        """Look at none of them any more."""
        for path in list(self._tasks):
            await self._drop(path)

    async def _drop(self, path: str) -> None:
        task = self._tasks.pop(path)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class _TokenFile:
    """One file. Its token is kept as a digest alone, and so is the one that follows or was replaced."""

    def __init__(self, path: str, watcher: FileWatcher) -> None:
        self.digest, self.following, self.replaced = _no_ones(), _no_ones(), _no_ones()
        self.tried = asyncio.Event()
        self._path = path
        self._file = WatchedFiles(path, str(announcement(Path(path))), watcher=watcher)
        self._told = ""

    async def run(self) -> None:
        """Keep it, for ever."""
        while True:
            await self._load()
            self.tried.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RETRY if self._told else None):
                    await self._file.changed()

    async def _load(self) -> None:
        try:
            following, token = await self._file.read(_read_both, Path(self._path))
        except FileError as error:
            self._refuse(error)
        except TimeoutError:
            self._refuse(FileError(f"{self._path} could not be read within {READ_WITHIN:g} s", HANGS))
        except Exception as error:  # noqa: BLE001 - whatever it is, the other files go on
            self._refuse(
                FileError(f"unexpected {told(error)}", "this is a defect of imds-proxy: please report this line")
            )
        else:
            self._take(token, following)

    def _take(self, token: bytes, following: bytes | None) -> None:
        digest = hashlib.sha256(token).digest()
        if digest != self.digest:
            log.info("token file read", extra={"path": self._path})
            self._keep_replaced(self.digest if digest == self.following else _no_ones())
        self.digest, self.following, self._told = digest, following or _no_ones(), ""

    def _keep_replaced(self, digest: bytes) -> None:
        """For a minute, after an announced rotation. A token that was replaced without one may be a stolen one."""
        self.replaced = digest
        asyncio.get_running_loop().call_later(_GRACE, self._forget_replaced, digest)

    def _forget_replaced(self, digest: bytes) -> None:
        if self.replaced == digest:
            self.replaced = _no_ones()

    def _refuse(self, error: FileError) -> None:
        self.digest, self.following, self.replaced = _no_ones(), _no_ones(), _no_ones()
        if error.message != self._told:
            extra = {"path": self._path, "error": error.message, "advice": error.advice}
            log.error("token file cannot be used; it lets nobody in", extra=extra)
        self._told = error.message


def _no_ones() -> bytes:
    """A digest that is nobody's."""
    return secrets.token_bytes(hashlib.sha256().digest_size)


def announcement(path: Path) -> Path:
    """Where `imds-proxy rotate-tokens` puts the digest of a token before the token: for clients faster than a look."""
    return path.with_name(f".{path.name}.next")


def _read_both(path: Path) -> tuple[bytes | None, bytes]:
    """The digest of the token that follows, if there is one, and the token; in this order, or a rotation is missed."""
    try:
        following = bytes.fromhex(_read(announcement(path)).decode("ascii"))
    except (OSError, FileError, ValueError):
        following = None
    return following, _read_or_make(path)


def _read_or_make(path: Path) -> bytes:
    return _use(path, _make)


def _use(path: Path, make: Callable[[Path], T]) -> bytes | T:
    """The token, or what `make` answers where there is no file."""
    try:
        return _read(path)
    except FileNotFoundError:
        return make(path)
    except UnsafePathError as error:
        raise FileError(f"{path} is not read: {error.strerror}", error.advice) from None
    except OSError as error:
        advice = "let the user the daemon runs as read it, and enter its folders"
        what, advice = exhausted(error) or (error.strerror, advice)
        raise FileError(f"{path} cannot be read: {what}", advice) from None


def _read(path: Path) -> bytes:
    # A pipe without a writer would hold the thread up: only O_NONBLOCK opens it at once.
    with os.fdopen(safe_path.open_file(path, os.O_RDONLY | os.O_NONBLOCK, any_owner=True), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise FileError(f"{path} is not a regular file", "correct token_file")
        if status.st_mode & _OTHERS:
            advice = f"chmod o-rwx {path}, let the container's user or group own it, and have another token made: rm it"
            raise FileError(f"{path} can be read or changed by other users", advice)
        if status.st_mode & _GROUP_WRITE and status.st_uid in {0, os.geteuid()}:
            advice = f"chmod g-w {path}, and have another token made if somebody may have put one there: rm it"
            raise FileError(f"{path} can be changed by its group", advice)
        content = file.read(_LARGEST)
    try:
        token = utf8.without_mark(content).strip()
    except NotUtf8Error as error:
        raise FileError(f"{path} {error.message}", error.advice) from None
    if not _USABLE.fullmatch(token):
        raise FileError(f"{path} holds no token of 16 or more printable characters", "remove it to have one made")
    return token


def judge(path: Path) -> None:
    """Raise FileError where a token file could not be used, nor made where it is missing; nothing is made."""
    _use(path, _judge_new)


def _judge_new(path: Path) -> None:
    try:
        safe_path.judge_path(path, made=True)
        judge_folder(path.parent)
    except OSError as error:
        raise _not_made(path, error) from None


def _make(path: Path) -> bytes:
    """A new token in a file of its own; without a newline, since clients send it as it is."""
    token = secrets.token_urlsafe(_TOKEN_BYTES).encode()
    try:
        atomic_file.replace(path, token, PRIVATE)
    except OSError as error:
        raise _not_made(path, error) from None
    log.info("token file made", extra={"path": str(path)})
    return token


def _not_made(path: Path, error: OSError) -> FileError:
    advice = f"make {path.parent} and let the daemon write there (ReadWritePaths= in its unit), or put a token there"
    what, advice = exhausted(error) or (error.strerror, advice)
    return FileError(f"{path} cannot be made: {what}", advice)
