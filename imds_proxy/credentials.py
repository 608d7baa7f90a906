"""Temporary AWS credentials, and the times in them.

A secret is redacted by its type: nothing that formats, logs or compares a `Credentials` can show one by accident.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NoReturn

from imds_proxy.access_key import hint

ISO_TIME: Final = "time in ISO 8601 with its zone, such as 2026-01-01T00:00:00Z"


class Secret:
    """A string that shows itself only when asked to by name."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The string itself. Every call of this is a place to review."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


@dataclass(frozen=True, slots=True)
class Credentials:
    """One session as its source handed it out.

    Args:
        access_key_id: Shown to people by its last four characters only (`key_hint`).
        secret_access_key: Secret.
        session_token: Secret.
        expiration: Seconds since the epoch, by AWS's clock.
        obtained: Seconds since the epoch, when they were asked for: before AWS's or the other end's life of them began.
        role_arn: The role's own ARN (arn:aws:iam::ACCOUNT:role/NAME), where the source or the config says it.
        session_arn: Who AWS says the session is (arn:aws:sts::ACCOUNT:assumed-role/NAME/SESSION), where it was said.
        account: The twelve digits of the account, where the source says it and gives no ARN.
    """

    access_key_id: str
    secret_access_key: Secret
    session_token: Secret
    expiration: float
    obtained: float
    role_arn: str | None = None
    session_arn: str | None = None
    account: str | None = None

    def __post_init__(self) -> None:
        """Blank credentials are impossible; raises ValueError."""
        if not (self.access_key_id and self.secret_access_key and self.session_token):
            raise ValueError("blank credentials")
        if any(arn is not None and arn.count(":") < 5 for arn in (self.session_arn, self.role_arn)):  # noqa: PLR2004
            raise ValueError("not an ARN")

    @property
    def account_id(self) -> str | None:
        """The twelve digits of the account the session belongs to, where anybody said it."""
        arn = self.session_arn or self.role_arn
        return arn.split(":")[4] if arn else self.account

    @property
    def key_hint(self) -> str:
        """The last four characters of the access key id, if it looks like one."""
        return hint(self.access_key_id)

    def __repr__(self) -> str:
        return f"Credentials(…{self.key_hint}, {self.session_arn or self.role_arn}, until {timestamp(self.expiration)})"


def timestamp(seconds: float) -> str:
    """Seconds since the epoch as `YYYY-MM-DDTHH:MM:SSZ`, rounded down (PROTOCOL.md 15)."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: object) -> float | None:
    """`ISO_TIME` as seconds since the epoch; None for anything else: without a zone, it would be a guess."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC).timestamp() if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None
