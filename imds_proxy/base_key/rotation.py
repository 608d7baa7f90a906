"""One run: finish what an earlier one began, and where the key's age says so, make a new one and retire the old.

"Update access keys" of the IAM user guide. In: the settings, the shared credentials file, AWS's list of keys, the
record of earlier runs. Out: how old the key is and when to look again. Errors: Denied, Throttled, Unreachable, Invalid,
StateError; each says what to do, and whether anything was changed.
"""

import asyncio
import fcntl
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

from imds_proxy import access_key
from imds_proxy.aws.sts import fallback_region
from imds_proxy.base_key import journal
from imds_proxy.base_key.access_keys import AccessKey, KeyPair, hint
from imds_proxy.base_key.iam import Iam, UnknownKey, two_keys
from imds_proxy.base_key.journal import Attempt, Change, Record, Retired
from imds_proxy.base_key.key_location import key_in_use
from imds_proxy.base_key.recovery import end_retired, finish
from imds_proxy.base_key.rotation_context import Turn
from imds_proxy.base_key.words import LABEL, told
from imds_proxy.config.model import BaseKeyConfig, Config
from imds_proxy.credentials import timestamp
from imds_proxy.errors import Denied, ImdsProxyError, Invalid, SourceError, Throttled, Unreachable
from imds_proxy.host import safe_path
from imds_proxy.host.clock import Clock
from imds_proxy.host.state_dir import StateDir

log = logging.getLogger(__name__)

_LOCK: Final = "base-key.lock"
_NOTHING: Final = "nothing was changed"
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient to be with AWS, which takes some seconds until all of its servers know a new key.

    "Changes that I make are not always immediately visible" of the IAM user guide. All in seconds but `proofs`.
    """

    within: float = 60.0
    first: float = 1.0
    longest: float = 8.0
    proofs: int = 3
    """How often in a row AWS has to accept a new key, because one server that knows it is not all."""
    between_proofs: float = 3.0


@dataclass(frozen=True, slots=True)
class Look:
    """What a run found and did. Times are seconds since the epoch, by AWS's clock.

    Args:
        key: The last four characters of the key in use.
        created: When it was made.
        next: When there is something to do, unless somebody changes something; None: never.
        rotated: Whether a rotation came to its end.
    """

    key: str
    created: float
    next: float | None
    rotated: bool


def make(config: Config, state: StateDir | None, region: str | None, clock: Clock) -> "Rotation":
    """The rotation of a config; without a region, STS is asked where the roles' partition has it first."""
    arn = next((role.role_arn for role in config.roles.values() if role.role_arn), None)
    return Rotation(config.base_key or BaseKeyConfig(), state, region or fallback_region(LABEL, arn), clock)


class Rotation:
    """The base key of this host.

    Args:
        settings: How often, and whose.
        state: Where each step is noted.
        region: Of STS.
        clock: Wall time.
        pace: Replaced in tests.
    """

    def __init__(
        self, settings: BaseKeyConfig, state: StateDir | None, region: str, clock: Clock, pace: Pace | None = None
    ) -> None:
        self._settings = settings
        self._state = state
        self._region = region
        self._clock = clock
        self._pace = pace or Pace()

    async def run(self, *, at_once: bool = False) -> Look:
        """Do all that there is to do now.

        Args:
            at_once: Rotate whatever the key's age, unless an earlier rotation was ended just now.

        Raises:
            SourceError, StateError: It was not all done. The next run goes on from there.
        """
        if self._state is None:
            advice = "set state_dir to a directory that only this user may enter"
            raise Invalid(f"no state directory to note each step in; {_NOTHING}", advice)
        iam = Iam(self._region, self._clock)
        with _alone(self._state):
            with _nothing_changed():
                file = await key_in_use(self._settings.profile)
                key = file.read()
            async with iam.caller(key) as caller:
                with _nothing_changed():
                    user = await caller.user()
                    keys = await caller.keys(user)
                notes = journal.load(self._state)
                turn = Turn(file, key, caller, user, keys, notes, self._state, self._clock)
                return await self._run(turn, iam, at_once=at_once)

    async def _run(self, turn: Turn, iam: Iam, *, at_once: bool) -> Look:
        ended = await finish(turn, self._settings.delete_after)
        if turn.key.id not in turn.keys:
            raise Unreachable(
                f"AWS does not list the key in use, {hint(turn.key.id)}", "nothing: it is looked at again"
            )
        if ended or not (at_once or self._is_due(turn)):
            return self._look(turn, rotated=ended)
        if (retired := turn.record.retired) is not None and retired.id in turn.keys:
            if at_once:
                raise self._still_there(retired)
            return self._look(turn, rotated=False)
        await self._rotate(turn, iam)
        return self._look(turn, rotated=True)

    def _is_due(self, turn: Turn) -> bool:
        every = self._settings.rotate_every
        return every is not None and turn.now >= turn.keys[turn.key.id].created + every

    def _look(self, turn: Turn, *, rotated: bool) -> Look:
        created, every, retired = turn.keys[turn.key.id].created, self._settings.rotate_every, turn.record.retired
        times = [] if every is None else [created + every]
        if retired is not None:  # until it is deleted there is no room for a new one
            times = [retired.at + self._settings.delete_after]
        return Look(access_key.hint(turn.key.id), created, min(times, default=None), rotated)

    def _still_there(self, retired: Retired) -> Invalid:
        until = timestamp(retired.at + self._settings.delete_after)
        return Invalid(
            f"the key before this one, {hint(retired.id)}, stays deactivated until {until}; {_NOTHING}",
            f"rotate again after that, or delete {hint(retired.id)} before: aws iam delete-access-key",
        )

    # The steps

    async def _rotate(self, turn: Turn, iam: Iam) -> None:
        """From one key to the next. After every line of this the process may be killed."""
        with _nothing_changed():
            await self._refuse_two_keys(turn)
            await turn.caller.check_permissions(turn.user)
            turn.file.rehearse()
        old, new = turn.key, await self._make(turn)
        try:
            turn.note(Record(change=_change(turn).with_made(new.id)))
            await self._prove(turn, iam, new)
            turn.file.replace_key(old, new)
        except ImdsProxyError as error:
            await self._take_back(turn, new, error)
        turn.note(Record(retired=Retired(id=old.id, at=turn.now)))
        log.info("a new base key is in use", extra={"key": hint(new.id), "old": hint(old.id), "file": turn.file.path})
        turn.keys[new.id] = AccessKey(new.id, active=True, created=turn.now)
        async with iam.caller(new) as caller:
            turn.key, turn.caller = new, caller
            await self._retire(turn)

    async def _refuse_two_keys(self, turn: Turn) -> None:
        if len(turn.keys) > 1:
            described = [await self._described(turn, key) for key in turn.keys.values()]
            raise two_keys(f"both are there: {' and '.join(described)}")

    async def _described(self, turn: Turn, key: AccessKey) -> str:
        used = await turn.caller.last_used(turn.user, key.id)
        use = "in use here" if key.id == turn.key.id else f"last used {timestamp(used)}" if used else "never used"
        return f"{hint(key.id)} ({'active' if key.active else 'inactive'}, made {timestamp(key.created)}, {use})"

    async def _make(self, turn: Turn) -> KeyPair:
        turn.note(Record(change=_change(turn).with_attempt(Attempt(at=turn.now, known=tuple(turn.keys)))))
        try:
            return await turn.caller.create(turn.user)
        except (Denied, Throttled) as error:  # nothing was made: a key that somebody makes from now on is not ours
            turn.note(Record(change=_change(turn).without_last()))
            raise told(error, and_so=_NOTHING) from None
        except SourceError as error:
            raise told(error, and_so="if AWS made a key all the same, the next run deletes it") from None

    async def _prove(self, turn: Turn, iam: Iam, new: KeyPair) -> None:
        """AWS accepts the new key, as the same user's."""
        async with iam.caller(new) as caller:
            for proof in range(self._pace.proofs):
                await asyncio.sleep(self._pace.between_proofs if proof else 0)
                user = await self._patiently(caller.user)
                if user != turn.user:
                    raise Invalid(f"AWS says that the new key is {user.arn}'s, not {turn.user.arn}'s", "ask AWS why")

    async def _take_back(self, turn: Turn, new: KeyPair, error: ImdsProxyError) -> None:
        """Delete the new key, unless it is in the file after all, and tell of the error."""
        and_so = f"the new key {hint(new.id)} is deleted again, the old one {hint(turn.key.id)} stays"
        try:
            await turn.delete(new.id)
        except SourceError:
            and_so = f"the next run will see to the new key {hint(new.id)}"
        raise told(error if isinstance(error, SourceError) else Invalid(error.message, error.advice), and_so=and_so)

    async def _retire(self, turn: Turn) -> None:
        retired = turn.record.retired
        assert retired is not None  # noqa: S101 - it was noted a moment ago
        try:
            await self._patiently(lambda: end_retired(turn, retired, self._settings.delete_after))
        except SourceError as error:
            and_so = f"the new key {hint(turn.key.id)} is in use, the old one {hint(retired.id)} is still active"
            raise told(error, and_so=and_so) from None

    async def _patiently(self, ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """An answer, where it may take a while until AWS knows the key that asks."""
        loop = asyncio.get_running_loop()
        deadline, wait = loop.time() + self._pace.within, self._pace.first
        while True:
            try:
                return await ask()
            except (UnknownKey, Throttled, Unreachable):
                if loop.time() + wait > deadline:
                    raise
            await asyncio.sleep(wait)
            wait = min(wait * 2, self._pace.longest)


def _change(turn: Turn) -> Change:
    """The one under way, or a new one."""
    return turn.record.change or Change(old=turn.key.id)


@contextmanager
def _nothing_changed() -> Iterator[None]:
    """What is refused in here is refused before anything was done."""
    try:
        yield
    except SourceError as error:
        raise told(error, and_so=_NOTHING) from None


@contextmanager
def _alone(state: StateDir) -> Iterator[None]:
    """One process at a time: the daemon, or somebody at a terminal. A kill lets go of it."""
    try:
        descriptor = safe_path.open_file(state.path / _LOCK, os.O_RDWR | os.O_CREAT, follow=False)
    except OSError as error:
        raise Invalid(f"{state.path / _LOCK} cannot be opened: {error.strerror}", "see whose it is") from None
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Invalid(f"another process is rotating the key at this time; {_NOTHING}", "wait until it ends") from None
