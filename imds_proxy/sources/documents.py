"""The JSON documents that programs, files and services hand credentials out in.

"Sourcing credentials with an external process" and "Container credential provider" of the AWS SDKs and Tools guide,
"Retrieve security credentials from instance metadata" of the EC2 user guide, "Authorizing direct calls to AWS services
using AWS IoT Core credential provider" of the IoT Core guide, "AWS secrets engine (API)" of HashiCorp Vault.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from imds_proxy.credentials import Credentials, Secret
from imds_proxy.errors import Denied, Invalid, SourceError

_LONG_LIVED = (
    "long-lived keys are not handed on: have it hand out a session, or give the key to this daemon alone and use"
    ' source = "assume-role"'
)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a document calls its fields, and how else it differs."""

    key: str
    secret: str
    token: str
    expiration: str = "Expiration"
    table: str | None = None
    """The key under which everything is; None: the document itself."""
    success: tuple[str, object] | None = None
    """What a document says that holds credentials."""
    lease: str | None = None
    """The key of the life in seconds, in place of an expiration."""


SHAPES = {
    "process": Shape("AccessKeyId", "SecretAccessKey", "SessionToken", success=("Version", 1)),
    "container": Shape("AccessKeyId", "SecretAccessKey", "Token"),
    "imds": Shape("AccessKeyId", "SecretAccessKey", "Token", success=("Code", "Success")),
    "iot": Shape("accessKeyId", "secretAccessKey", "sessionToken", "expiration", table="credentials"),
    "vault": Shape("access_key", "secret_key", "security_token", table="data", lease="lease_duration"),
}


def parse(shape: str, body: bytes, *, role: str, origin: str, now: float) -> Credentials:
    """The credentials in a document.

    Args:
        shape: A key of `SHAPES`.
        body: The document.
        role: For the message.
        origin: Where the document is from, for the message.
        now: Seconds since the epoch, this host's.

    Raises:
        Invalid: It is no such document, or holds no session. No message repeats anything of it but the names of keys,
            and the code that says why there are no credentials.
        Denied: It says that there are no credentials.
    """

    def invalid(what: str, advice: str = f"have it hand out the {shape} document") -> SourceError:
        return Invalid(f'role "{role}": {origin}: {what}', advice)

    form = SHAPES[shape]
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise invalid(f"{len(body)} bytes that are not JSON" if body.strip() else "nothing") from None
    table = document.get(form.table) if form.table and isinstance(document, dict) else document
    if not isinstance(table, dict):
        raise invalid(f'no table "{form.table}" in it' if form.table else "no JSON object")
    if form.success is not None and document.get(form.success[0]) != form.success[1]:
        raise _unsuccessful(form.success, document, invalid, role, origin)
    for name in (form.key, form.secret):
        if not isinstance(table.get(name), str) or not table[name]:
            raise invalid(f"{name} is missing")
    if not isinstance(table.get(form.token), str) or not table[form.token]:
        raise invalid(f"no {form.token}, so these are long-lived keys", _LONG_LIVED)
    return Credentials(
        access_key_id=table[form.key],
        secret_access_key=Secret(table[form.secret]),
        session_token=Secret(table[form.token]),
        expiration=_expiration(form, document, table, now, invalid),
        obtained=now,
        account=_text(table.get("AccountId")),
    )


def _unsuccessful(
    success: tuple[str, object], document: dict[str, Any], invalid: Callable[[str], SourceError], role: str, origin: str
) -> SourceError:
    said = document.get(success[0])
    if success[0] == "Code" and isinstance(said, str) and said.isalnum():
        return Denied(f'role "{role}": {origin}: it has no credentials: {said}', "see there what it lacks")
    return invalid(f"{success[0]} is not {json.dumps(success[1])}")


def _expiration(
    form: Shape, document: dict[str, Any], table: dict[str, Any], now: float, invalid: Callable[..., SourceError]
) -> float:
    if form.lease is not None:
        lease = document.get(form.lease)
        if isinstance(lease, bool) or not isinstance(lease, int | float) or lease <= 0:
            raise invalid(f"{form.lease} is missing or no number of seconds")
        return now + lease
    said = table.get(form.expiration)
    if said is None:
        raise invalid(f"no {form.expiration}, so nobody knows when these end", _LONG_LIVED)
    moment = parse_time(said)
    if moment is None:
        raise invalid(f"{form.expiration} is no time in ISO 8601, as in 2027-01-31T12:00:00Z")
    return moment


def parse_time(text: object) -> float | None:
    """ISO 8601 as seconds since the epoch; UTC where no zone is given; None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
