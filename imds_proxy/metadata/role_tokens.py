"""The token of each role in the state directory, which opens `/roles/NAME`: made, read and rotated.

In: the state directory, the roles, the time. Out: whether what a client has sent is a role's token. In memory a token
is a digest alone. Where the config has grants, a token is replaced every day, and the one before holds for another day.
"""

import asyncio
import hashlib
import hmac
import logging
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from imds_proxy.host.clock import Clock
from imds_proxy.host.few_threads import FewThreads
from imds_proxy.host.state_dir import StateDir, StateError
from imds_proxy.host.threads import OneByOne
from imds_proxy.telemetry.log import told

log = logging.getLogger(__name__)

TOKEN_FOLDER: Final = "tokens"  # noqa: S105 - a folder's name
PREVIOUS_FOLDER: Final = "previous-tokens"
ROTATE_EVERY: Final = 86400.0
"""Seconds from one token of a role to the next, and for how long the one before holds besides."""

_TOKEN_BYTES: Final = 32
_USABLE_TOKEN: Final = re.compile(rb"[!-~]{16,}")  # what a header can carry, and nobody guesses
_RETRY: Final = 60.0  # seconds until a rotation that failed is tried again
_PATIENCE: Final = 5.0  # seconds that a start or a reload waits for the disk
_RESOLUTION: Final = 1.0  # seconds; of times that file systems keep


def unmatchable_digest() -> bytes:
    """A digest that is no token's."""
    return secrets.token_bytes(hashlib.sha256().digest_size)


@dataclass(frozen=True, slots=True)
class RoleToken:
    """The tokens that open one role, as digests; times in seconds since the epoch.

    Args:
        current: Of the token in its file.
        made: When that was made.
        previous: Of the one before.
        previous_until: When that stops to hold.
        following: Of the one that is being written: a client may read the file before this process knows it is there.
    """

    current: bytes = field(default_factory=unmatchable_digest, repr=False)
    made: float = 0.0
    previous: bytes = field(default_factory=unmatchable_digest, repr=False)
    previous_until: float = 0.0
    following: bytes = field(default_factory=unmatchable_digest, repr=False)

    def accepts(self, sent: bytes, now: float) -> bool:
        """Whether `sent` is one of them; takes the same time whether it is or not."""
        digest = _digest(sent)
        fits = [hmac.compare_digest(digest, each) for each in (self.current, self.following, self.previous)]
        # A clock that was set back does not make the previous one hold for longer.
        holds = now < self.previous_until <= now + ROTATE_EVERY + _RESOLUTION
        return fits[0] or fits[1] or (fits[2] and holds)

    def due(self, now: float) -> float:
        """When it has to be rotated; at once if it was made in the future, by a clock that was set back since."""
        return self.made + ROTATE_EVERY if self.made <= now + _RESOLUTION else now


_NO_TOKEN: Final = RoleToken()
"""What is sent for an unknown role is compared with it, so that it takes the time a wrong token takes."""


class RoleTokens:
    """The role tokens of one daemon.

    Args:
        clock: Wall time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tokens: Mapping[str, RoleToken] = {}
        self._disk = OneByOne(FewThreads())
        self._loaded = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether the files were read, so that a token that none holds is a wrong one."""
        return self._loaded.is_set()

    def accepts(self, role: str, sent: bytes) -> bool:
        """Whether `sent` opens the role; takes the same time for each, and for one that does not exist."""
        return self._tokens.get(role, _NO_TOKEN).accepts(sent, self._clock.wall())

    async def follow(self, state: StateDir | None, roles: Iterable[str], *, rotate: bool) -> None:
        """Take the tokens of these roles and no others; returns once they are read, or after 5 seconds.

        Args:
            state: Where they are kept; None: there are none.
            roles: Those that are served.
            rotate: Whether they are for this host alone. Containers have them mounted otherwise.
        """
        self._loaded.clear()
        await self._stop()
        wanted = tuple(roles)
        self._tokens = {role: token for role, token in self._tokens.items() if role in wanted}
        self._keeping = asyncio.create_task(self._keep(state, wanted, rotate=rotate), name="keep role tokens")
        loaded = asyncio.create_task(self._loaded.wait())
        if not (await asyncio.wait({loaded}, timeout=_PATIENCE))[0]:
            loaded.cancel()
            advice = "see whether the disk of the state directory works; they count as soon as they are read"
            log.warning("the role tokens could not be read yet", extra={"advice": advice})

    async def close(self) -> None:
        """Rotate none any more."""
        await self._stop()

    async def _stop(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)

    async def _keep(self, state: StateDir | None, roles: tuple[str, ...], *, rotate: bool) -> None:
        self._tokens = await self._read(state, roles) if state else {}
        self._loaded.set()
        while state and rotate and self._tokens:
            await self._rotate_due(state)
            now = self._clock.wall()
            wait = min(token.due(now) for token in self._tokens.values()) - now
            await self._clock.sleep_until(self._clock.now() + max(wait, _RETRY))

    async def _read(self, state: StateDir, roles: tuple[str, ...]) -> dict[str, RoleToken]:
        while True:
            try:
                return await self._disk.do(_load, state, roles, self._clock.wall(), within=None)
            except Exception as error:  # noqa: BLE001 - whatever it is, the daemon goes on
                advice = "this is a defect of imds-proxy: please report this line"
                log.error("the role tokens could not be read", extra={"error": told(error), "advice": advice})  # noqa: TRY400
            await asyncio.sleep(_RETRY)

    async def _rotate_due(self, state: StateDir) -> None:
        for role, token in self._tokens.items():
            now = self._clock.wall()
            if token.due(now) > now:
                continue
            following = secrets.token_urlsafe(_TOKEN_BYTES).encode()
            self._tokens = {**self._tokens, role: replace(token, following=_digest(following))}
            try:
                await self._disk.do(_write_following, state, role, following, now, within=None)
            except Exception as error:  # noqa: BLE001 - whatever it is, the token of before goes on
                _complain(role, error)
                continue
            rotated = RoleToken(_digest(following), now, token.current, now + ROTATE_EVERY)
            self._tokens = {**self._tokens, role: rotated}
            log.info("role token rotated", extra={"role": role})


def load_or_make_tokens(state: StateDir | None, roles: Iterable[str], now: float | None = None) -> dict[str, bytes]:
    """Each role's token from its file in the state directory, made there when it is missing.

    The file is 0600 and has no newline: clients send it as it is. A role whose file cannot be used has no container
    protocol, with a word in the log. A file that is made is as old as `now` says, None: as it is.
    """
    if state is None:
        return {}
    tokens = {}
    for role in roles:
        try:
            tokens[role] = _load_or_make_token(state, role, now)
        except StateError as error:
            extra = {"role": role, "error": error.message, "advice": error.advice}
            log.warning("the container protocol is off for this role", extra=extra)
    return tokens


def _load_or_make_token(state: StateDir, role: str, now: float | None) -> bytes:
    name = f"{TOKEN_FOLDER}/{role}"
    token = state.read(name)
    if token is None:
        _forget_previous(state.path / PREVIOUS_FOLDER / role)
        token = secrets.token_urlsafe(_TOKEN_BYTES).encode()
        _write(state, name, token, now)
    token = token.strip()
    if not _USABLE_TOKEN.fullmatch(token):
        raise StateError(f"{state.path / name} holds no token", "remove it to have a new one made")
    return token


def _forget_previous(path: Path) -> None:
    """Remove it: to remove a token is how an operator takes it back, and with it goes the one before."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StateError(f"{path} cannot be removed: {error.strerror}", "remove it, then reload") from None


def _write(state: StateDir, name: str, token: bytes, now: float | None) -> None:
    path = state.write(name, token)
    if now is not None:
        os.utime(path, (now, now))


def _load(state: StateDir, roles: tuple[str, ...], now: float) -> dict[str, RoleToken]:
    tokens = load_or_make_tokens(state, roles, now)
    return {role: _from_files(state, role, token, now) for role, token in tokens.items()}


def _from_files(state: StateDir, role: str, token: bytes, now: float) -> RoleToken:
    made = _modified(state.path / TOKEN_FOLDER / role, now)
    current = RoleToken(_digest(token), made)
    try:
        previous = state.read(f"{PREVIOUS_FOLDER}/{role}")
    except StateError as error:
        log.warning("the previous role token is left alone", extra={"role": role, "error": error.message})
        return current
    if previous is None:
        return current
    until = _modified(state.path / PREVIOUS_FOLDER / role, now) + ROTATE_EVERY
    return replace(current, previous=_digest(previous), previous_until=until)


def _write_following(state: StateDir, role: str, following: bytes, now: float) -> None:
    """Keep the present token as the previous one, and put another in its place; the files say when that was."""
    present = state.read(f"{TOKEN_FOLDER}/{role}")
    if present is not None:
        _write(state, f"{PREVIOUS_FOLDER}/{role}", present.strip(), now)
    _write(state, f"{TOKEN_FOLDER}/{role}", following, now)


def _complain(role: str, error: Exception) -> None:
    message = error.message if isinstance(error, StateError) else told(error)
    advice = (error.advice if isinstance(error, StateError) else "") or "the present one goes on; it is tried again"
    log.warning("a role token could not be rotated", extra={"role": role, "error": message, "advice": advice})


def _modified(path: Path, otherwise: float) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return otherwise


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
