"""A Kubernetes service account's token: its form and its claims. Who signed it is `signing_keys.py`'s to say.

In: what a client sent, and what the config believes. Out: the account. Errors: NotAccepted, with a constant reason that
holds nothing of the token.

RFC 7515 (JSON Web Signature), RFC 7519 (JSON Web Token), "Managing Service Accounts" of the Kubernetes documentation.
"""

import base64
import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

from imds_proxy.callers.caller import ServiceAccount
from imds_proxy.config.grants import ServiceAccountsConfig
from imds_proxy.errors import ImdsProxyError

_LARGEST: Final = 8192  # characters; Kubernetes' own have about 1,000
_LONGEST_KEY_ID: Final = 256
_LATEST: Final = 2e11  # seconds: the year 8307, within what a calendar has

_FORM: Final = re.compile(r"([\w-]+)\.([\w-]+)\.([\w-]+)", re.ASCII)
_SUBJECT: Final = "system:serviceaccount:"
_NAMESPACE: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_UID: Final = re.compile(r"[A-Za-z0-9-]{1,64}")


class NotAccepted(ImdsProxyError):  # noqa: N818 - a verdict, not a fault
    """The token proves nothing here. The message is a short constant reason."""


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """What a token says of itself; it may be anybody's words."""

    text: str = field(repr=False)
    algorithm: str
    key_id: str
    claims: dict[str, Any] = field(repr=False)


def read(text: str) -> UnverifiedToken:
    """A token's parts, each in the one form that RFC 7515 gives it: no two texts are the same token.

    Raises:
        NotAccepted: It is something else.
    """
    if len(text) > _LARGEST:
        raise NotAccepted("the token is larger than 8 kB")
    form = _FORM.fullmatch(text)
    if form is None:
        raise NotAccepted("a JSON Web Token is expected")
    try:
        header, claims, _ = _object(form[1]), _object(form[2]), _bytes(form[3])
    except (ValueError, RecursionError):
        raise NotAccepted("a JSON Web Token is expected") from None
    if "crit" in header:
        raise NotAccepted("the token has critical header fields, which are not understood here")
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or not isinstance(key_id, str) or not 0 < len(key_id) <= _LONGEST_KEY_ID:
        raise NotAccepted("the token does not say which key has signed it")
    return UnverifiedToken(text, algorithm, key_id, claims)


def account_of(claims: dict[str, Any], settings: ServiceAccountsConfig, now: float) -> ServiceAccount:
    """Whose token it is, if it was made for here and is alive.

    Args:
        claims: Of a token.
        settings: Whom to believe.
        now: Wall time, seconds since the epoch.

    Raises:
        NotAccepted: It is of another issuer, for another audience, not for now, or not a service account's.
    """
    if claims.get("iss") not in settings.issuer:
        raise NotAccepted("the token is of another issuer")
    said = claims.get("aud")
    audiences = said if isinstance(said, list) else [said]
    if not any(audience in audiences for audience in settings.audience):
        raise NotAccepted("the token is for another audience")
    _check_times(claims, settings.leeway, now)
    return _account(claims)


def _check_times(claims: dict[str, Any], leeway: float, now: float) -> None:
    if now >= _moment(claims, "exp") + leeway:
        raise NotAccepted("the token has expired")
    for name in ("nbf", "iat"):
        if name in claims and now < _moment(claims, name) - leeway:
            raise NotAccepted("the token is not valid yet")


def _moment(claims: dict[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LATEST:
        raise NotAccepted("the token does not say until when it is valid")
    return value


def _account(claims: dict[str, Any]) -> ServiceAccount:
    """The account of `sub`, with the pod of the private claim, which has to agree."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject.startswith(_SUBJECT):
        raise NotAccepted("the token is not a service account's")
    namespace, _, name = subject.removeprefix(_SUBJECT).partition(":")
    private = _table(claims, "kubernetes.io")
    agreed = private.get("namespace") == namespace and _table(private, "serviceaccount").get("name") == name
    if not agreed or not _NAMESPACE.fullmatch(namespace) or not _NAME.fullmatch(name):
        raise NotAccepted("the token does not say clearly whose it is")
    if "pod" not in private:  # it is bound to a secret or a node, or to nothing
        return ServiceAccount(namespace, name)
    pod = _table(private, "pod")
    return ServiceAccount(namespace, name, _text(pod, "name", _NAME), _text(pod, "uid", _UID))


def _table(claims: dict[str, Any], name: str) -> dict[str, Any]:
    value = claims.get(name)
    if not isinstance(value, dict):
        raise NotAccepted("the token does not say clearly whose it is")
    return value


def _text(claims: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise NotAccepted("the token does not say clearly which pod it is of")
    return value


def _object(part: str) -> dict[str, Any]:
    found = json.loads(_bytes(part), object_pairs_hook=_without_duplicates)
    if not isinstance(found, dict):
        raise ValueError("no object")  # noqa: TRY004 - the caller knows one kind of mistake
    return found


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two members of one name another reader might take the other."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def _bytes(part: str) -> bytes:
    """Base64url without padding; ValueError where the last character has bits that say nothing."""
    found = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if base64.urlsafe_b64encode(found).rstrip(b"=") != part.encode():
        raise ValueError("another way to write the same")
    return found
