"""Sessions of the AWS chain that attempts in quick succession share: in an outage a thousand roles try again and again.

A session reads the environment and the AWS files once, and to make one takes two milliseconds. It is shared for as long
as those are what it read; a key that was rotated on disk is used by the next attempt. It holds the key of the shared
files, so it is not kept for longer than the attempts follow each other.
"""

import asyncio
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from aiobotocore.credentials import AioCredentials

from imds_proxy.aws import files as aws_files
from imds_proxy.aws.signing_guard import COMPONENT, SigningGuard

KEPT: Final = 1.0
"""Seconds after the last use."""
_SETTLED: Final = 3.0
"""Seconds since a file changed after which its times tell of the next change; some file systems count in seconds."""
_MOST: Final = 64
"""Profiles."""
_UNCHANGING: Final = {"env", "shared-credentials-file", "config-file"}
"""What botocore calls credentials that are in the environment or the files as they stand."""

_Shape = tuple[dict[str, str], tuple[tuple[int, ...] | None, ...]]


@dataclass(frozen=True, slots=True)
class _Kept:
    shape: _Shape = field(repr=False)
    session: Any = field(repr=False)


class KeptSessions:
    """Sessions by what they are for, until they have not been used for a while."""

    def __init__(self) -> None:
        self._kept: dict[object, _Kept] = {}
        self._timer: asyncio.TimerHandle | None = None

    def get(self, key: object, make: Callable[[], Any], *, credentials: bool) -> Any:
        """A session that was made of the same, or what `make()` returns. Reads files: call it beside the loop.

        Args:
            key: What it is for.
            make: Makes one.
            credentials: Whether its credentials are used: then they have to be such as no call or helper gives.
        """
        kept, shape = self._kept.pop(key, None), _shape()
        if kept is not None and kept.shape == shape and (not credentials or has_unchanging(kept.session)):
            self._kept[key] = kept
            return kept.session
        session = make()
        if shape is not None and len(self._kept) < _MOST:
            self._kept[key] = _Kept(shape, session)
        return session

    def used(self) -> None:
        """Keep for another while what there is. On the loop."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(KEPT, self._kept.clear)


class SharedSession:
    """A session as one attempt has it: with a guard of its own.

    Args:
        session: Shared with others.
        guard: Of this attempt.
    """

    def __init__(self, session: Any, guard: SigningGuard) -> None:
        self._session = session
        self._guard = guard

    def get_component(self, name: str) -> Any:
        """What botocore's `get_component` gives."""
        return self._guard if name == COMPONENT else self._session.get_component(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


def has_unchanging(session: Any) -> bool:
    """Whether a session has looked for credentials, and has found some that only a change of its files changes."""
    found = session._credentials  # noqa: SLF001 - botocore's way to it looks for some
    return type(found) is AioCredentials and found.method in _UNCHANGING


def _shape() -> _Shape | None:
    """What a session is made of; None where a file was changed so lately that its next change might not be seen."""
    files = tuple(_signatures())
    latest = max((max(each[1:3]) for each in files if each is not None), default=0)
    return None if time.time_ns() - latest < _SETTLED * 1e9 else (dict(os.environ), files)


def _signatures() -> Iterator[tuple[int, ...] | None]:
    """Inode, times, size and device of each of the AWS files; None where there is none."""
    for path in aws_files.paths():
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - beside the line below
                yield 0, 2**63, 0, 0, 0  # what a pipe gives next is not known, and to open it takes it
                continue
            # Opened, because the client of a file server may know an older state of a file until then.
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            yield None
            continue
        try:
            status = os.fstat(file)
        finally:
            os.close(file)
        yield status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_dev
