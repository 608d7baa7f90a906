"""What an earlier run left: a new key to bring into use, a lost one to remove, an old one to end."""

import logging
from typing import Final

from imds_proxy.base_key.access_keys import AccessKey, hint
from imds_proxy.base_key.journal import Change, Record, Retired
from imds_proxy.base_key.rotation_context import Turn

log = logging.getLogger(__name__)

# AWS's list of keys may be older than its last answer was; so much later it is not.
_SETTLED: Final = 600.0


async def finish(turn: Turn, delete_after: float) -> bool:
    """Do what is left to do; whether that brought a rotation to its end.

    Args:
        turn: Its record and keys are brought up to date.
        delete_after: Seconds that a retired key stays.

    Raises:
        SourceError, StateError: Not all of it can be done now.
    """
    _take_up_what_is_written(turn)
    if turn.record.change is not None:
        await _remove_lost_keys(turn, turn.record.change)
    retired = turn.record.retired
    return retired is not None and await end_retired(turn, retired, delete_after)


def _take_up_what_is_written(turn: Turn) -> None:
    """A key of ours is in the file: the one that was there before is retired."""
    change = turn.record.change
    if change is not None and turn.key.id in change.made:
        turn.note(Record(retired=Retired(id=change.old, at=turn.now)))
        log.info("a base key that was written before is in use", extra={"key": hint(turn.key.id)})


async def _remove_lost_keys(turn: Turn, change: Change) -> None:
    for key_id in [key_id for key_id in turn.keys if key_id not in {turn.key.id, change.old}]:
        if await _is_ours(turn, change, key_id):
            await turn.delete(key_id)
            log.info("a new base key whose secret was lost is deleted", extra={"key": hint(key_id)})
    if turn.key.id != change.old:  # somebody has put another key into the file meanwhile
        turn.note(turn.record.model_copy(update={"change": None}))


async def _is_ours(turn: Turn, change: Change, key_id: str) -> bool:
    if key_id in change.made:
        return True
    may_be = any(attempt.may_have_made(turn.keys[key_id]) for attempt in change.attempts)
    return may_be and await turn.caller.last_used(turn.user, key_id) is None


async def end_retired(turn: Turn, retired: Retired, delete_after: float) -> bool:
    """Deactivate the key that was in use before, and delete it when its time has come; whether it became inactive."""
    key = turn.keys.get(retired.id)
    if key is None or retired.id == turn.key.id:  # somebody was faster, or has put it back into the file
        _forget(turn)
    elif not retired.done:
        await _deactivate(turn, key)
        return True
    elif not key.active and turn.now >= retired.at + delete_after:
        await turn.delete(key.id)
        _forget(turn)
        log.info("the old base key is deleted", extra={"key": hint(key.id)})
    elif key.active and turn.now >= retired.at + _SETTLED:
        _forget(turn)
        log.warning("somebody activated the old base key again: it is left alone", extra={"key": hint(key.id)})
    return False


async def _deactivate(turn: Turn, key: AccessKey) -> None:
    if key.active:
        await turn.deactivate(key.id)
    turn.note(turn.record.model_copy(update={"retired": Retired(id=key.id, at=turn.now, done=True)}))
    log.info("the old base key is deactivated", extra={"key": hint(key.id), "in_use": hint(turn.key.id)})


def _forget(turn: Turn) -> None:
    turn.note(turn.record.model_copy(update={"retired": None}))
