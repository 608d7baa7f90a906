"""The JSON documents that programs, files and services hand credentials out in.

In: bytes, and which shape they should have. Out: one session. Errors: Invalid, Denied; no message repeats a value of a
document, which may be a secret, wherever it stands.

"Sourcing credentials with an external process" and "Container credential provider" of the AWS SDKs and Tools guide,
"Retrieve security credentials from instance metadata" of the EC2 user guide, "Authorizing direct calls to AWS services
using AWS IoT Core credential provider" of the IoT Core guide, "AWS secrets engine (API)" of HashiCorp Vault.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from imds_proxy.aws.other_documents import other_document, other_text, safe_code, wanted
from imds_proxy.credentials import ISO_TIME, Credentials, Secret, parse_time
from imds_proxy.errors import Denied, Invalid
from imds_proxy.sources.interface import LONGEST_LIFE

_LONG_LIVED: Final = (
    "long-lived keys are not handed on: have it hand out a session, or give the key to this daemon alone and use"
    ' source = "assume-role"'
)
# What goes into files of lines and into headers has no spaces and no ends of line.
_VALUE: Final = re.compile(r"[!-~]+")
_ACCOUNT: Final = re.compile(r"\d{12}", re.ASCII)
_ROLE_ARN: Final = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+", re.ASCII)
_SESSION_ARN: Final = re.compile(r"arn:aws[a-z-]*:sts::\d{12}:(assumed-role|federated-user)/[\w+=,.@/:-]+", re.ASCII)
_NEVER: Final = 1e11  # seconds: three thousand years


@dataclass(frozen=True, slots=True)
class Shape:
    """What a document calls its fields, and how else it differs."""

    key: str
    secret: str
    tokens: tuple[str, ...]
    """The first that there is counts."""
    expiration: str = "Expiration"
    table: str | None = None
    """The key under which everything is; None: the document itself."""
    success: tuple[str, object] | None = None
    """What a document says that holds credentials."""
    lease: str | None = None
    """The key of the life in seconds, in place of an expiration."""
    arn: str = "RoleArn"
    """The key of the role, or of the session."""


SHAPES: Final = {
    "process": Shape("AccessKeyId", "SecretAccessKey", ("SessionToken",), success=("Version", 1)),
    "imds": Shape("AccessKeyId", "SecretAccessKey", ("Token",), success=("Code", "Success")),
    "container": Shape("AccessKeyId", "SecretAccessKey", ("Token",)),
    "iot": Shape("accessKeyId", "secretAccessKey", ("sessionToken",), "expiration", table="credentials"),
    # Vault has said session_token since 1.16, and will stop saying security_token.
    "vault": Shape(
        "access_key",
        "secret_key",
        ("session_token", "security_token"),
        table="data",
        lease="lease_duration",
        arn="arn",
    ),
}


def parse(shape: str, body: bytes, *, role: str, origin: str, now: float, source: str = "http") -> Credentials:
    """The credentials in a document.

    Args:
        shape: A key of `SHAPES`.
        body: The document.
        role: For the message.
        origin: Where the document is from, for the message.
        now: Seconds since the epoch; from then on a lease counts.
        source: Of the role, for advice.

    Raises:
        Invalid: It is no such document, or holds no session.
        Denied: It says that there are no credentials.
    """
    return _Document(shape, body, f'role "{role}": {origin}', source).credentials(now)


class _Document:
    """One document, and what it should be.

    Args:
        shape: A key of `SHAPES`.
        body: The document.
        place: Role and origin, for the message.
        source: Of the role.
    """

    def __init__(self, shape: str, body: bytes, place: str, source: str) -> None:
        self._shape, self._form, self._place, self._source = shape, SHAPES[shape], place, source
        self._all = self._load(body)
        fields = _table(self._form, self._all)
        if fields is None:
            raise self._invalid(f'no table "{self._form.table}" in it' if self._form.table else "no JSON object")
        self._fields = fields

    def credentials(self, now: float) -> Credentials:
        self._check_success()
        key, secret = self._value(self._form.key), self._value(self._form.secret)
        token = next((name for name in self._form.tokens if self._fields.get(name)), None)
        if token is None:
            raise self._invalid(f"no {self._form.tokens[0]}, so these are long-lived keys", _LONG_LIVED)
        arn = self._fields.get(self._form.arn)
        return Credentials(
            access_key_id=key,
            secret_access_key=Secret(secret),
            session_token=Secret(self._value(token)),
            expiration=self._lease_end(now) if self._form.lease else self._expiration(),
            obtained=self._obtained(now),
            role_arn=_if_like(_ROLE_ARN, arn),
            session_arn=_if_like(_SESSION_ARN, arn),
            account=_if_like(_ACCOUNT, self._fields.get("AccountId")),
        )

    def _load(self, body: bytes) -> Any:
        self._all = None
        try:
            return json.loads(body, parse_constant=_no_number)
        except (ValueError, RecursionError):
            if not body.strip():
                raise self._invalid("nothing") from None
            other = other_text(body, self._shape, self._source)
            what = f"{len(body)} bytes that are not JSON{f': {other.what}' if other else ''}"
            raise self._invalid(what, other.advice if other else None) from None

    def _invalid(self, what: str, advice: str | None = None) -> Invalid:
        other = other_document(self._all, self._shape, self._source)
        if other and not _is_of(self._form, self._all):
            what, advice = other
        return Invalid(f"{self._place}: {what}", advice or f"have it hand out {wanted(self._shape)}")

    def _check_success(self) -> None:
        if self._form.success is None:
            return
        name, value = self._form.success
        said = self._all.get(name)
        if said == value:
            return
        if name == "Code" and (code := safe_code(said)):
            raise Denied(f"{self._place}: it has no credentials: {code}", "see there what it lacks")
        if name not in self._all:
            raise self._invalid(f"no {name}, which has to be {json.dumps(value)}")
        raise self._invalid(f"{name} is not {json.dumps(value)}")

    def _value(self, name: str) -> str:
        value = self._fields.get(name)
        if value in (None, ""):
            raise self._invalid(f"{name} is missing")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise self._invalid(f"{name} is not what AWS has there")
        return value

    def _expiration(self) -> float:
        said = self._fields.get(self._form.expiration)
        if said is None:
            raise self._invalid(f"no {self._form.expiration}, so nobody knows when these end", _LONG_LIVED)
        moment = parse_time(said)
        if moment is None:
            raise self._invalid(f"{self._form.expiration} is no {ISO_TIME}")
        return moment

    def _lease_end(self, now: float) -> float:
        """The end of Vault's lease, or of `ttl` where its role is set to make no leases."""
        life = self._all.get(self._form.lease) or self._fields.get("ttl")
        if isinstance(life, bool) or not isinstance(life, int | float) or not 0 < life < _NEVER:
            raise self._invalid(f"{self._form.lease} is missing or no number of seconds")
        return now + life

    def _obtained(self, now: float) -> float:
        """When the session began, where that is said and can be: of one that is half over, half is left."""
        said = parse_time(self._fields.get("LastUpdated"))
        return said if said is not None and now - LONGEST_LIFE <= said <= now else now


def _no_number(name: str) -> float:
    """NaN and Infinity are not JSON, and would be alive for ever."""
    raise ValueError(name)


def _table(form: Shape, document: Any) -> dict[str, Any] | None:
    table = document.get(form.table) if form.table and isinstance(document, dict) else document
    return table if isinstance(table, dict) else None


def _is_of(form: Shape, document: Any) -> bool:
    """Whether a document has the keys of a shape."""
    fields = _table(form, document) or {}
    has_token = any(name in fields for name in form.tokens)
    return form.key in fields and has_token and (form.success is None or form.success[0] in fields)


def _if_like(pattern: re.Pattern[str], said: object) -> str | None:
    return said if isinstance(said, str) and pattern.fullmatch(said) else None
