"""What an attempt to renew brings: credentials to hold, or a failure. Pure; in seconds."""

from dataclasses import dataclass, replace
from typing import Self

from imds_proxy.credentials import Credentials, timestamp
from imds_proxy.documents import Documents, documents
from imds_proxy.errors import Invalid, Unreachable
from imds_proxy.renewal.schedule import ENOUGH

# A file, a command or a service may hand out one session for a while. With less than this part of its life left, it has
# stopped renewing it, and that has to show before it hurts.
_STALE = 1 / 4


@dataclass(frozen=True, slots=True)
class Held:
    """Credentials and what is served of them."""

    credentials: Credentials
    documents: Documents
    until: float
    """The expiration as written, in whole seconds: what is written must not have passed (PROTOCOL.md 17)."""
    updated: float
    """When they were obtained, as written."""

    @classmethod
    def of(cls, credentials: Credentials, wall: float) -> Self:
        """`LastUpdated` is never in the future (PROTOCOL.md 14), by a clock that is behind or was set back either."""
        updated = min(credentials.obtained, wall)
        written = documents(replace(credentials, obtained=updated))
        return cls(credentials, written, float(int(credentials.expiration)), updated)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the last attempt brought nothing."""

    outcome: str
    message: str
    advice: str
    at: float


def is_same_session(one: Credentials, other: Credentials) -> bool:
    """Whether a source has handed out one session twice."""
    return (one.access_key_id, one.expiration) == (other.access_key_id, other.expiration)


def check_life_left(role: str, held: Credentials, now: float) -> None:
    """For a session that is held and was handed out again: that may go on for a while, but not until its end.

    Raises:
        Unreachable: Too little of its life is left.
    """
    end, left = held.expiration, held.expiration - now
    if left < (end - held.obtained) * _STALE:
        raise Unreachable(
            f'role "{role}": the source goes on handing out the session that ends at {timestamp(end)},'
            f" in {round(left / 60)} min",
            "see why it is not renewed where it comes from",
        )


def check_lives_longer(role: str, held: Held, new: Credentials, now: float, *, passed_on: bool) -> None:
    """For a session that would replace one that lives: of the two, the one that lives longer is kept.

    What something else renews may be replaced by a shorter one on purpose: it is taken if it has life enough.

    Raises:
        Invalid: The new one ends earlier.
    """
    end = new.expiration
    if now >= held.until or end >= held.credentials.expiration or (passed_on and end - now > ENOUGH):
        return
    raise Invalid(
        f'role "{role}": the source handed out a session that ends at {timestamp(end)}, in {round(end - now)} s: before'
        f" the one that is held, which ends at {timestamp(held.credentials.expiration)} and stays",
        "see why its sessions live so short; a reload with other settings of the role takes them as they are",
    )
