"""A file that something else keeps fresh: cron, Ansible, SSM Run Command, a sidecar, a login helper.

In: the file's path and format. Out: the session in it. Errors: those of `read_file`; Invalid for what is no such
document, holds long-lived keys, or does not say when its session ends. Formats: "Sourcing credentials with an external
process" of the AWS SDKs and Tools guide, "Retrieve security credentials from instance metadata" of the EC2 user guide,
"Configuration and credential file settings" of the AWS CLI user guide.
"""

import asyncio
import os
from dataclasses import replace
from functools import partial
from typing import Final

from imds_proxy.config.roles import FileConfig
from imds_proxy.credentials import Credentials
from imds_proxy.errors import Invalid
from imds_proxy.host.clock import Clock
from imds_proxy.host.read_private import read_file
from imds_proxy.host.watched_files import FileWatcher, WatchedFiles, unanswered
from imds_proxy.sources import credential_documents
from imds_proxy.sources.ini import Profile
from imds_proxy.sources.interface import LONGEST_LIFE, Context, Source

_WHAT: Final = "credentials file"
_SHAPES: Final = {"json": "process", "imds": "imds"}

# What makes no sense so soon after a write may be half of it: it is read again until it does, or is left alone.
_STILL_BEING_WRITTEN: Final = 2.0  # seconds since the last write
_PATIENCE: Final = 10.0  # seconds with a writer that does not end
_PAUSE: Final = 0.25

_CLOCKS_DIFFER: Final = 5.0  # seconds that a file server's clock may be ahead without a word


def make(role: str, settings: FileConfig, context: Context) -> Source:
    """The source of one role."""
    return FileSource(role, settings, context.clock, context.watcher)


class FileSource(Source):
    """One role's source.

    Args:
        role: The name it has in the config.
        options: Its settings.
        clock: Wall time.
        watcher: Tells when the file changes; None: its own.
    """

    passes_on = True
    local = True

    def __init__(self, role: str, options: FileConfig, clock: Clock, watcher: FileWatcher | None = None) -> None:
        self._role = role
        self._options = options
        self._clock = clock
        self._file = WatchedFiles(options.path, watcher=watcher)
        self._first_written: tuple[str, float] = "", 0.0
        """The key of the last session that was read, and when that was first seen to be written."""

    async def changed(self) -> None:
        """Return within a second after the file has become another and has been left alone for a moment."""
        await self._file.changed()

    async def fetch(self) -> Credentials:
        """What is in the file, given a moment to become whole where it is being written."""
        deadline = asyncio.get_running_loop().time() + _PATIENCE
        while True:
            patient = asyncio.get_running_loop().time() < deadline
            try:
                if (found := await self._file.read(self._read_whole, patient)) is not None:
                    return found
            except TimeoutError:
                raise unanswered(self._role, f"{_WHAT} {self._options.path}") from None
            await asyncio.sleep(_PAUSE)

    def _read_whole(self, patient: bool) -> Credentials | None:  # noqa: FBT001 - read() passes by position
        """What is in the file; None where it may be half written, and who asks is patient."""
        try:
            return self._read()
        except Invalid:
            if patient and self._may_be_half_written():
                return None
            raise

    def _read(self) -> Credentials:
        options = self._options
        changed = _times(options.path)[0]  # looked up first: of two files, the age of the older one
        body = read_file(self._role, options.path, _WHAT, private=True)
        credentials = self._parse(body, changed)
        return replace(credentials, role_arn=options.role_arn or credentials.role_arn)

    def _parse(self, body: bytes, changed: float) -> Credentials:
        options, origin = self._options, f"{_WHAT} {self._options.path}"
        if options.format != "ini":
            shape = _SHAPES[options.format]
            began = self._began(changed)
            return credential_documents.parse(shape, body, role=self._role, origin=origin, now=began, source="file")
        place = f'role "{self._role}": {origin}, profile "{options.profile}"'
        if body.lstrip()[:1] == b"{":
            advice = 'set format = "json", or "imds" for the document of instance metadata'
            raise Invalid(f"{place}: JSON, with no [profile] above the first key", advice)
        end = partial(self._end_by_lifetime, changed, options.lifetime) if options.lifetime is not None else None
        return Profile(options.profile, place, end).read(body, self._began(changed))

    def _end_by_lifetime(self, changed: float, lifetime: int, key: str) -> float:
        """A session lives from when it was first written: writing the file again does not make it live longer."""
        if changed > self._clock.wall() + _CLOCKS_DIFFER:
            raise Invalid(
                f'role "{self._role}": {_WHAT} {self._options.path} was changed in the future, by its date, so nobody'
                " knows when its session ends",
                "set this host's clock, or have what writes the file leave its date alone",
            )
        before, first = self._first_written
        self._first_written = key, min(changed, first) if key == before else changed
        return self._first_written[1] + lifetime

    def _began(self, changed: float) -> float:
        """When the session may have begun: the file was written then, unless its date says nothing."""
        now = self._clock.wall()
        return changed if now - LONGEST_LIFE < changed <= now else now

    def _may_be_half_written(self) -> bool:
        return 0 <= self._clock.wall() - _times(self._options.path)[1] < _STILL_BEING_WRITTEN


def _times(path: str) -> tuple[float, float]:
    """When the content was changed, as its writer may have set it, and when anything was; 0 where there is no file."""
    try:
        status = os.stat(path)  # noqa: PTH116 - follows links, like the read
    except OSError:
        return 0.0, 0.0
    return status.st_mtime, status.st_ctime
