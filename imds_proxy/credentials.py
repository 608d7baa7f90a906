"""Temporary AWS credentials and the documents made of them.

A secret is redacted by its type: nothing that formats, logs or compares a `Credentials` can show one by accident.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NoReturn

from imds_proxy.access_key import hint


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


def imds_document(credentials: Credentials) -> dict[str, str]:
    """The instance metadata role document, with these keys and no others (PROTOCOL.md 14)."""
    return {
        "Code": "Success",
        "LastUpdated": timestamp(credentials.obtained),
        "Type": "AWS-HMAC",
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key.reveal(),
        "Token": credentials.session_token.reveal(),
        "Expiration": timestamp(credentials.expiration),
    }


def container_document(credentials: Credentials) -> dict[str, str]:
    """The container credentials document (PROTOCOL.md 27), without the role and account that nobody said."""
    about = {"RoleArn": credentials.role_arn, "AccountId": credentials.account_id}
    return {name: value for name, value in about.items() if value} | imds_document(credentials)


def process_document(credentials: dict[str, str]) -> dict[str, str | int]:
    """What `credential_process` wants (version 1), from either document above."""
    return {
        "Version": 1,
        "AccessKeyId": credentials["AccessKeyId"],
        "SecretAccessKey": credentials["SecretAccessKey"],
        "SessionToken": credentials["Token"],
        "Expiration": credentials["Expiration"],
    }


def info_document(credentials: Credentials) -> dict[str, str]:
    """`iam/info`, which .NET reads before every document (PROTOCOL.md 20)."""
    arn = credentials.role_arn or f"arn:aws:iam::{credentials.account_id or _UNKNOWN_ACCOUNT}:role/imds-proxy"
    partition, account, name = arn.split(":")[1], arn.split(":")[4], arn.rpartition("/")[2]
    return {
        "Code": "Success",
        "LastUpdated": timestamp(credentials.obtained),
        "InstanceProfileArn": f"arn:{partition}:iam::{account}:instance-profile/{name}",
        "InstanceProfileId": _PROFILE_ID,
    }


# AWS gives an instance profile an id of 21 characters; a role has none of its own, and no client uses the value.
_PROFILE_ID: Final = "AIPAIMDSPROXY00000000"
_UNKNOWN_ACCOUNT: Final = "000000000000"


@dataclass(frozen=True, slots=True)
class Documents:
    """Every body the data plane serves for one session, serialised once."""

    imds: bytes
    extended: bytes
    container: bytes
    info: bytes

    def __repr__(self) -> str:
        return "Documents(***)"


def documents(credentials: Credentials) -> Documents:
    """Serialise `credentials` into every document that is served of them."""
    imds = imds_document(credentials)
    return Documents(
        imds=_json(imds),
        extended=_json(imds | ({"AccountId": account} if (account := credentials.account_id) else {})),
        container=_json(container_document(credentials)),
        info=_json(info_document(credentials)),
    )


def _json(document: dict[str, str]) -> bytes:
    # Indented as the real service does it: some shell scripts read it line by line. Not by `indent`: that takes longer
    # than the encoder that is written in C, and leaves reference cycles for the garbage collector.
    fields = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in document.items()]
    return ("{\n" + ",\n".join(fields) + "\n}").encode()
