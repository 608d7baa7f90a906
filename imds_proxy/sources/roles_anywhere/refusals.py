"""What IAM Roles Anywhere says when it refuses, as our four outcomes with what to do about each.

"IAM Roles Anywhere CreateSession API", "The IAM Roles Anywhere trust model" and "IAM Roles Anywhere and the role trust
policy" of the IAM Roles Anywhere user guide, and "Common errors" of its API reference.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from imds_proxy.config.roles import RolesAnywhereConfig
from imds_proxy.errors import Denied, Invalid, SourceError, Throttled, Unreachable
from imds_proxy.host.clock import skew_advice
from imds_proxy.host.http_client import Answer
from imds_proxy.host.retry_after import retry_after

_SUCCESS: Final = 200, 299
_TOO_MANY, _SERVER_ERROR = 429, 500
_REFUSED: Final = {401, 403}
_WINDOW: Final = 5 * 60.0
"""Seconds that the time of a signature may be off."""
_CLOCK_WORDS: Final = ("signature expired", "signature not yet current", "requesttimetooskewed", "requestexpired")
_CHAIN_WORDS: Final = ("untrusted", "insufficient certificate", "certificate chain")


@dataclass(frozen=True, slots=True)
class Call:
    """What was tried, for the message: never holds a secret."""

    role: str
    settings: RolesAnywhereConfig
    endpoint: str
    certificate: str


def translate(answer: Answer, call: Call, skew: float) -> SourceError:
    """The error of ours for an answer that is no success.

    Args:
        answer: What came back.
        call: What was tried.
        skew: Seconds this host is behind AWS, by this answer.
    """
    code, text = _said(answer)
    said = ": ".join(filter(None, map(answer.shown, (code, text))))
    message = (
        f'role "{call.role}": rolesanywhere:CreateSession for {call.settings.role_arn} with the certificate'
        f" {call.certificate} at {call.endpoint}: {said or answer.status}"
    )
    if answer.status == _TOO_MANY or "Throttl" in code or code == "TooManyRequestsException":
        advice = "nothing: it is retried; if it lasts, fewer hosts should renew from one account"
        return Throttled(message, advice, retry_after(answer.headers))
    if answer.status >= _SERVER_ERROR:
        return Unreachable(message, "nothing: it is retried")
    if not code:
        return Invalid(message, "this is not what IAM Roles Anywhere answers: check endpoint and the proxy")
    if _is_of_the_clock(code, text, skew):
        return Denied.of_the_clock(message, skew_advice(skew))
    if code == "ResourceNotFoundException":
        return Invalid(
            message, f"are trust_anchor_arn and profile_arn right, and of the region that {call.endpoint} is in?"
        )
    if code.startswith("AccessDenied") or answer.status in _REFUSED:
        return Denied(message, _advice(text.lower(), call))
    return Invalid(message, "correct this role's settings")


def is_about_time(answer: Answer) -> bool:
    """Whether a signature was refused, in so many words, because one of the clocks is off."""
    return not _SUCCESS[0] <= answer.status <= _SUCCESS[1] and _names_the_clock(*_said(answer))


def trust_statement(trust_anchor_arn: str) -> str:
    """The trust policy statement that lets certificates of a trust anchor have a role, as JSON on one line."""
    return json.dumps(
        {
            "Effect": "Allow",
            "Principal": {"Service": "rolesanywhere.amazonaws.com"},
            "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"],
            "Condition": {"ArnEquals": {"aws:SourceArn": trust_anchor_arn}},
        }
    )


def _said(answer: Answer) -> tuple[str, str]:
    """AWS's name of the error, and its sentence, as they are: to be compared. Both "" where AWS did not answer."""
    body = _object(answer.body)
    name = answer.headers.get("x-amzn-errortype") or body.get("__type") or body.get("code")
    code = name.partition(":")[0].rpartition("#")[2] if isinstance(name, str) else ""
    if not (code.isascii() and code.isalnum()):
        return "", ""
    text = body.get("message") or body.get("Message")
    text = text if isinstance(text, str) else ""
    return code, text


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_of_the_clock(code: str, text: str, skew: float) -> bool:
    return _names_the_clock(code, text) or abs(skew) > _WINDOW


def _names_the_clock(code: str, text: str) -> bool:
    said = f"{code} {text}".lower()
    return any(words in said for words in _CLOCK_WORDS)


def _advice(text: str, call: Call) -> str:
    """What a denial may come from; where AWS's sentence says which it is, that alone."""
    settings = call.settings
    statement = trust_statement(settings.trust_anchor_arn)
    trust = f"does the trust policy of {settings.role_arn} hold this statement? {statement}"
    profile = f"is the role in the profile {settings.profile_arn}, and are profile and trust anchor enabled?"
    chain = (
        f"does the certificate ({call.certificate}) chain to the trust anchor {settings.trust_anchor_arn}?"
        " intermediates go into the certificate's file or into intermediates; it has to be X.509 v3, no CA"
        " certificate, with the key usage digitalSignature, and not revoked"
    )
    if "rolesessionname" in text:
        return f"let the profile {settings.profile_arn} accept a role session name, or remove session_name here"
    if any(words in text for words in _CHAIN_WORDS):
        return chain
    if "assume role" in text or "sts:" in text:
        return f"1. {trust} 2. has that policy conditions that the certificate does not meet? 3. {profile}"
    return f"1. {trust} 2. {profile} 3. {chain}"
