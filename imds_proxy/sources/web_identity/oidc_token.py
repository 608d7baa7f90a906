"""An OpenID Connect token, read without being verified: only to say what is wrong with it. AWS verifies it.

In: what a file holds or a command prints. Out: the token and its claims. Errors: Invalid. RFC 7519 (JSON Web Token),
"OpenID Connect Core 1.0", section 2 (ID Token), "AssumeRoleWithWebIdentity" of the STS API reference.
"""

import base64
import json
import re
from dataclasses import dataclass
from typing import Any, Final

from imds_proxy.aws.other_documents import is_base64_of
from imds_proxy.credentials import Secret
from imds_proxy.errors import Invalid
from imds_proxy.host import utf8
from imds_proxy.host.utf8 import NotUtf8Error
from imds_proxy.printable import LONGEST_NAME, printable

_LONGEST: Final = 20_000  # characters; STS takes no more
_JWT: Final = re.compile(r"[\w-]+\.[\w-]+\.[\w-]*", re.ASCII)
_ADVICE: Final = (
    "it takes an OpenID Connect ID token: a JSON Web Token, three parts with dots between, and nothing else"
)


@dataclass(frozen=True, slots=True)
class OidcToken:
    """A token and what it claims; claims are "" or None where it does not say, and may be anything."""

    secret: Secret
    origin: str
    """Where it is from, in words for a message."""
    issuer: str
    subject: str
    audiences: tuple[str, ...]
    authorized_party: str
    algorithm: str
    expires: float | None
    """Seconds since the epoch, as are the next."""
    valid_from: float | None

    @property
    def audience(self) -> str:
        """Its audiences, for a message."""
        return shown(" and ".join(self.audiences)) or "missing"

    def __str__(self) -> str:
        claims = f'iss "{shown(self.issuer)}", aud "{self.audience}", sub "{shown(self.subject)}"'
        return f"token of {self.origin} ({claims})"


def read_token(role: str, content: bytes, origin: str) -> OidcToken:
    """The token in `content`, without the white space around it.

    Args:
        role: For the message.
        content: What was read.
        origin: Where, for the message: "token_file /…".

    Raises:
        Invalid: There is none, or something else. Opaque OAuth 2.0 tokens are refused: STS takes those of two providers
            only, which are for applications on phones.
    """

    def invalid(what: str) -> Invalid:
        return Invalid(f'role "{role}": {origin}: {what}', _ADVICE)

    try:
        text = utf8.without_mark(content).decode("ascii", "replace").strip()
    except NotUtf8Error as error:
        raise Invalid(f'role "{role}": {origin}: it {error.message}', f"{error.advice}; {_ADVICE}") from None
    if not text:
        raise invalid("it is empty")
    if len(text) > _LONGEST:
        raise invalid(f"{len(text)} characters, more than any token that AWS takes")
    if not _JWT.fullmatch(text):
        what = _wrapping(text)
        raise invalid(f"{len(text)} characters that are no JSON Web Token{f': {what}' if what else ''}")
    header, claims = (_decoded(part) for part in text.split(".")[:2])
    if header is None or claims is None:
        raise invalid("it has the form of a JSON Web Token, but there are no claims in it")
    return OidcToken(
        secret=Secret(text),
        origin=origin,
        issuer=_text(claims.get("iss")),
        subject=_text(claims.get("sub")),
        audiences=_texts(claims.get("aud")),
        authorized_party=_text(claims.get("azp")),
        algorithm=_text(header.get("alg")),
        expires=_moment(claims.get("exp")),
        valid_from=max(filter(None, (_moment(claims.get("nbf")), _moment(claims.get("iat")))), default=None),
    )


def _wrapping(text: str) -> str | None:
    """What is around a token, where one is in what was read; None where there is none."""
    if text[:7].lower() == "bearer " and _JWT.fullmatch(text[7:].strip()):
        return 'they begin with "Bearer", which is to be left out'
    if _JWT.fullmatch(text.strip("\"'")):
        return "the quotes are to be left out"
    if is_base64_of(text.encode("ascii", "replace"), _is_token):
        return "they are one in base64, to be decoded"
    if key := _key_of_token(text):
        return f"they are JSON with one in it, which jq -r {key} takes out"
    return None


def _key_of_token(text: str) -> str | None:
    """Where in a JSON document a token is, as jq says it."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    document = document if isinstance(document, dict) else {}
    status = document.get("status")
    for path, table in (("", document), (".status", status if isinstance(status, dict) else {})):
        for key in _TOKEN_KEYS:
            if isinstance(found := table.get(key), str) and _JWT.fullmatch(found):
                return f"{path}.{key}"
    return None


def _is_token(content: bytes) -> bool:
    return _JWT.fullmatch(content.decode("ascii", "replace").strip()) is not None


_TOKEN_KEYS: Final = ("id_token", "token", "value", "access_token")
"""Of OpenID Connect's token endpoint, Kubernetes' TokenRequest, GitHub Actions, Azure's instance metadata."""


def _decoded(part: str) -> dict[str, Any] | None:
    try:
        found = json.loads(base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def shown(claim: str) -> str:
    """A claim fit for a terminal: whoever wrote the file may have put anything there."""
    return printable(claim, LONGEST_NAME)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: object) -> tuple[str, ...]:
    return tuple(each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str))


def _moment(value: object) -> float | None:
    """Whole seconds, within what a calendar has."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 < value < 2e11 else None  # noqa: PLR2004 - the year 8307
