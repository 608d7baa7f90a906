"""The JSON documents that are made of credentials, as each protocol has them."""

import json
from dataclasses import dataclass
from typing import Final

from imds_proxy.credentials import Credentials, timestamp


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
