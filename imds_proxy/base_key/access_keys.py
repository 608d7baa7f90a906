"""What is known of an IAM user and its access keys."""

from dataclasses import dataclass
from typing import Final

from imds_proxy import access_key
from imds_proxy.credentials import Secret

PER_USER: Final = 2
"""Access keys that IAM allows a user ("IAM and AWS STS quotas")."""


@dataclass(frozen=True, slots=True)
class User:
    """An IAM user."""

    arn: str

    @property
    def name(self) -> str:
        """Without its path."""
        return self.arn.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A key that can sign: its id, of which people see the last four characters, and its secret."""

    id: str
    secret: Secret

    def __repr__(self) -> str:
        return f"KeyPair({hint(self.id)})"


@dataclass(frozen=True, slots=True)
class AccessKey:
    """What AWS says of a key.

    Args:
        id: The whole id.
        active: Whether it may be used.
        created: Seconds since the epoch, by AWS's clock.
    """

    id: str
    active: bool
    created: float

    def __repr__(self) -> str:
        return f"AccessKey({hint(self.id)}, active={self.active})"


def hint(key_id: str) -> str:
    """How a key is named to people: its last four characters."""
    return f"…{access_key.hint(key_id)}"
