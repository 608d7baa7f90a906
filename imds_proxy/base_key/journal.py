"""What this host notes of a rotation before each step that cannot be taken back, so that the next run knows it.

AWS says which keys there are and whether they may be used, and the file which one is in use. Neither says who made a
key or why one is inactive, and somebody else's key is never touched. Hence two notes, without a secret in them:

* *A change under way*: the key it began with, each attempt to make a new one, and the ids of those that were made. Made
  and in the file: the change is done but for ending the old key. Made and not in the file: its secret is lost, so it is
  deleted. A crash between AWS making a key and its id being noted leaves a key of which only the attempt is known: one
  that was not there before, made within seconds after the attempt by AWS's own clock, and never used, is that one; no
  other is touched, and takes a person's word where it is in the way.
* *The retired key*: noted before it is deactivated, so that a crash cannot leave an inactive key that nobody deletes.
"""

import logging
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from imds_proxy.base_key.access_keys import AccessKey
from imds_proxy.host.state_dir import StateDir

log = logging.getLogger(__name__)

_NAME: Final = "base-key.json"
_KEPT: Final = 20  # attempts that ended without an answer
_BEFORE, _AFTER = 5.0, 30.0  # seconds; a call takes 15 at most, and AWS writes whole seconds


class _Note(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Attempt(_Note):
    """To make a key: when, in AWS's time, and which keys there were."""

    at: float
    known: tuple[str, ...]

    def may_have_made(self, key: AccessKey) -> bool:
        """Whether the key can be what came of it."""
        return key.id not in self.known and self.at - _BEFORE <= key.created <= self.at + _AFTER


class Change(_Note):
    """A rotation whose end was not seen."""

    old: str
    attempts: tuple[Attempt, ...] = ()
    made: tuple[str, ...] = ()

    def with_attempt(self, attempt: Attempt) -> "Change":
        """With one more."""
        return self.model_copy(update={"attempts": (*self.attempts, attempt)[-_KEPT:]})

    def without_last(self) -> "Change":
        """Without the last attempt, of which it is known that it made nothing."""
        return self.model_copy(update={"attempts": self.attempts[:-1]})

    def with_made(self, key_id: str) -> "Change":
        """With what came of the last attempt: a key that the file does not hold yet."""
        return self.model_copy(update={"attempts": self.attempts[:-1], "made": (*self.made, key_id)[-_KEPT:]})


class Retired(_Note):
    """A key that the file held until `at`, in AWS's time; `done`: AWS said that it is inactive."""

    id: str
    at: float
    done: bool = False


class Record(_Note):
    """Both notes."""

    change: Change | None = None
    retired: Retired | None = None


def load(state: StateDir) -> Record:
    """What was noted; nothing where it is rubbish: then every key is somebody else's. Raises StateError."""
    content = state.read(_NAME)
    if content is None:
        return Record()
    try:
        return Record.model_validate_json(content)
    except ValidationError:
        log.warning("the base key's record cannot be read: keys made earlier are left alone", extra={"file": _NAME})
        return Record()


def save(state: StateDir, record: Record) -> None:
    """Note it for the next run; raises StateError when the disk does not take it."""
    state.write(_NAME, record.model_dump_json().encode())
