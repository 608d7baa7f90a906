"""The state directory of one daemon: opened beside the loop, before it listens, unless its disk hangs."""

import asyncio
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imds_proxy.host.file_errors import HANGS
from imds_proxy.host.state_dir import StateDir, StateError, default_state_dir, open_state_dir
from imds_proxy.host.threads import in_thread
from imds_proxy.metadata.session_tokens import SessionTokens, load_or_make_key
from imds_proxy.renewal.disk_cache import SavedSessions
from imds_proxy.renewal.save_queue import SaveQueue
from imds_proxy.renewal.saved_key import open_saved_sessions
from imds_proxy.telemetry.log import told

log = logging.getLogger(__name__)

OPENED_WITHIN: Final = 3.0
"""Seconds that a start waits for the directory and what is saved in it. Clients are not answered meanwhile, but to
answer them without the key of the session tokens would cost some of them hours (PROTOCOL.md 9)."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """What was found.

    Args:
        directory: None: there is none, or it cannot be used.
        token_key: Of the session tokens; None: it cannot be kept.
        saved: The sessions of a process before.
    """

    directory: StateDir | None = None
    token_key: bytes | None = None
    saved: SavedSessions | None = None

    def __repr__(self) -> str:
        return f"_Opened({self.directory})"


class DaemonState:
    """What is kept in the state directory, and what stands in for it until it is open."""

    def __init__(self) -> None:
        self.directory: StateDir | None = None
        """None where there is none, and until it is open."""
        self.is_open = False
        self.session_tokens = SessionTokens()
        self.sessions: SaveQueue | None = None
        """What is saved of the roles; from `begin` on."""
        self._opening: asyncio.Task[SavedSessions | None] | None = None

    def begin(self, setting: str | None) -> None:
        """Begin to open the directory that the config says; None: the default one, "": none."""
        self._opening = asyncio.create_task(self._open(setting), name="open the state directory")
        self.sessions = SaveQueue(self._opening)

    async def opened(self) -> None:
        """Return once it is open, or known to be unusable: never while its disk hangs."""
        assert self._opening is not None  # noqa: S101 - since `begin`
        await asyncio.shield(self._opening)

    def report_hanging(self) -> None:
        """Log that the start does not wait for it any longer."""
        if self.is_open:
            what = "saved sessions could not be read yet"
        else:
            what = "the state directory does not answer: session and role tokens of before hold as soon as it does"
        log.warning(what, extra={"advice": HANGS})

    async def close(self) -> None:
        """Write what waits, for some seconds."""
        if self.sessions is not None:
            await self.sessions.close()
        if self._opening is not None:
            self._opening.cancel()

    async def _open(self, setting: str | None) -> SavedSessions | None:
        """Never raises: without state the daemon serves all the same."""
        late = asyncio.get_running_loop().time() + OPENED_WITHIN
        try:
            found = await in_thread(_open, setting, os.environ)
        except Exception as error:  # noqa: BLE001 - whatever it is, the daemon goes on
            advice = "this is a defect of imds-proxy: please report this line"
            extra = {"error": f"unexpected {told(error)}", "advice": advice}
            log.error("running without a state directory", extra=extra)  # noqa: TRY400
            found = _Opened()
        self.directory, self.is_open = found.directory, True
        if found.token_key is not None:
            self.session_tokens.use_key(found.token_key)
        if asyncio.get_running_loop().time() > late:
            log.info("the state directory is open now")
        return found.saved


def _open(setting: str | None, environment: Mapping[str, str]) -> _Opened:
    directory = _open_directory(setting)
    return _Opened(directory, load_or_make_key(directory), open_saved_sessions(directory, environment))


def _open_directory(setting: str | None) -> StateDir | None:
    if setting == "":
        return None
    try:
        state = open_state_dir(Path(setting) if setting else default_state_dir())
    except StateError as error:
        extra = {"error": error.message, "advice": error.advice}
        log.warning("running without a state directory: a restart will need AWS, and no container tokens", extra=extra)
        return None
    if state.others:
        extra = {"path": str(state.path)}
        log.info("others can move the state directory away, but neither read nor replace it", extra=extra)
    return state
