"""What an attempt to renew brings: credentials to hold, or a failure. Pure; in seconds."""

from dataclasses import dataclass, replace
from typing import Self

from imds_proxy.credentials import Credentials, Documents, documents, timestamp
from imds_proxy.errors import Invalid, Unreachable
from imds_proxy.telemetry.log import told

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

    @classmethod
    def of(cls, credentials: Credentials, wall: float) -> Self:
        """The clock may have been set back since: `LastUpdated` is never in the future (PROTOCOL.md 14)."""
        credentials = replace(credentials, obtained=min(credentials.obtained, wall))
        return cls(credentials, documents(credentials), float(int(credentials.expiration)))


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


def unexpected(role: str, error: Exception) -> Invalid:
    """What nobody thought of, without its text, which may hold a secret."""
    advice = "this is a defect of imds-proxy: please report this line"
    return Invalid(f'role "{role}": unexpected {told(error)}', advice)
