"""What STS and botocore say when they refuse, as our four outcomes with what to do about each.

AWS pages: "Common errors" of the STS API reference, "Troubleshoot IAM roles" of the IAM user guide.
"""

import json
from typing import Any

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from imds_proxy.aws.call import Call
from imds_proxy.aws.no_answer import NOT_AWS, without_answer
from imds_proxy.aws.setting_error import SettingError
from imds_proxy.errors import Denied, Invalid, SourceError, Throttled, Unreachable
from imds_proxy.host.clock import skew_advice
from imds_proxy.host.open_files import exhausted, shortage
from imds_proxy.host.redaction import hidden
from imds_proxy.host.retry_after import retry_after

_THROTTLED = {
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestLimitExceeded",
    "TooManyRequestsException",
}
_NOT_PERMITTED = {"AccessDenied", "AccessDeniedException", "ForbiddenException", "UnauthorizedOperation"}
_BAD_BASE = {
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_CLOCK_WORDS = ("Signature expired", "Signature not yet current", "RequestTimeTooSkewed", "RequestExpired")
_TOO_MANY, _SERVER_ERROR = 429, 500


def translate(error: Exception, call: Call, *, trust: str = "", skew: float = 0.0) -> SourceError:
    """The error of ours for one of botocore's.

    Args:
        error: What botocore raised.
        call: What was tried.
        trust: The statement that the role's trust policy needs, as JSON.
        skew: Seconds this host is behind AWS.
    """
    if isinstance(error, boto.ClientError):
        return _from_answer(error, call, trust, skew)
    if (missing := exhausted(error)) is not None:
        return Unreachable(call.message(missing[0]), missing[1])
    if isinstance(error, ResponseParserError):  # its text holds the answer, which may hold a secret
        return Invalid(call.message(f"the answer is not what {'STS' if call.is_of_sts else 'AWS'} sends"), NOT_AWS)
    return without_answer(error, call)


def chain_error(error: Exception, call: Call, profile: str | None) -> SourceError:
    """The error of ours for what went wrong while the daemon's own AWS credentials were looked up."""
    if (missing := exhausted(error) or shortage()) is not None:  # botocore takes a file it cannot open for an empty one
        return Unreachable(call.message(missing[0]), missing[1])
    option = f" --profile {profile}" if profile else ""
    if isinstance(error, boto.SSOError | boto.TokenRetrievalError):
        return Denied(call.message(hidden(error, call.sent)), f"as the user the daemon runs as: aws sso login{option}")
    if isinstance(error, boto.LoginInsufficientPermissions):
        return Denied(
            call.message(hidden(error, call.sent)), "let who signed in call signin:CreateOAuth2Token (IAM policy)"
        )
    if isinstance(error, boto.LoginError):
        return Denied(call.message(hidden(error, call.sent)), f"as the user the daemon runs as: aws login{option}")
    by_hand = f"as the user the daemon runs as, aws sts get-caller-identity{option} shows what to mend"
    if not isinstance(error, boto.BotoCoreError | boto.ClientError | ResponseParserError | SettingError | OSError):
        return Invalid(call.message(f"what was found cannot be used ({type(error).__name__})"), by_hand)
    told = translate(error, call)
    if isinstance(error, boto.ClientError) and is_about_time(error):
        return told
    is_for_hands = isinstance(error, boto.ClientError | boto.CredentialRetrievalError)
    return type(told)(told.message, by_hand) if is_for_hands and isinstance(told, Denied | Invalid) else told


def no_base_credentials(role: str, profile: str | None) -> Denied:
    """The daemon's own chain has nothing to call STS with."""
    where = f'profile "{profile}" has none' if profile else "none in environment, shared files, web identity or process"
    return Denied(
        f'role "{role}": no AWS credentials to call STS with: {where}',
        "give the daemon a key that may only assume this role: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in its"
        " environment, or a profile in the shared credentials file of the user it runs as",
    )


def code_and_text(error: Any) -> tuple[str, str]:
    """What AWS said, both "" where it did not; to be compared with what is known, and never shown: see `words`."""
    details = error.response.get("Error", {})
    return str(details.get("Code", "")), " ".join(str(details.get("Message", "")).split())


def date_of(answer: Any) -> object:
    """The `Date` header of an answer as botocore has it; None where it has none."""
    return answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")


def words(error: Any, call: Call) -> str:
    """What AWS said, for a message: without the secrets that were sent, and without what may be another."""
    return ": ".join(filter(None, (hidden(said, call.sent) for said in code_and_text(error)))) or "no reason given"


def is_about_time(error: Any) -> bool:
    """Whether a signature was refused because one of the clocks is off."""
    return any(word in said for said in code_and_text(error) for word in _CLOCK_WORDS)


def is_not_permitted(error: Any) -> bool:
    """Whether AWS said that the caller may not: then it matters who that is."""
    return code_and_text(error)[0] in _NOT_PERMITTED


def refuses_credentials(error: Any) -> bool:
    """Whether AWS said that the credentials themselves are no good."""
    return code_and_text(error)[0] in _BAD_BASE or is_about_time(error)


def _from_answer(error: Any, call: Call, trust: str, skew: float) -> SourceError:
    code, _ = code_and_text(error)
    metadata = error.response.get("ResponseMetadata", {})
    status = metadata.get("HTTPStatusCode", 0)
    message = call.message(words(error, call))
    if code in _THROTTLED or status == _TOO_MANY:
        advice = "nothing: it is retried; if it lasts, fewer hosts or roles should renew from one account"
        return Throttled(message, advice, retry_after(metadata.get("HTTPHeaders", {})))
    if is_about_time(error):
        return Denied.of_the_clock(message, skew_advice(skew))
    if code in _BAD_BASE:
        return Denied(message, f"the base credentials ({call.identity}) are not valid at AWS: replace them")
    if code in _NOT_PERMITTED:
        return Denied(message, _permission_advice(call, trust))
    if code == "RegionDisabledException":
        return Invalid(
            message, "STS is switched off for that region in the role's account: set another region or sts_regions"
        )
    if status >= _SERVER_ERROR:
        second = "; sts_regions may name a second region" if call.is_of_sts else ""
        return Unreachable(message, f"nothing here: AWS has a fault of its own, and it is retried{second}")
    return Invalid(message, "correct this role's settings")


def _permission_advice(call: Call, trust: str) -> str:
    return (
        f"1. does {call.target} exist? 2. may {call.identity} call {call.action} on it (its own policy)?"
        f" 3. does the role's trust policy hold this statement? {trust}"
        " 4. does that policy have conditions, such as sts:ExternalId (external_id here)?"
    )


def trust_statement(identity: str, external_id: str | None, actions: list[str]) -> str:
    """The trust policy statement that lets `identity` make the call, as JSON on one line."""
    statement: dict[str, Any] = {"Effect": "Allow", "Principal": {"AWS": principal(identity)}, "Action": actions}
    if external_id is not None:
        statement["Condition"] = {"StringEquals": {"sts:ExternalId": external_id}}
    return json.dumps(statement, ensure_ascii=False)


def principal(identity: str) -> str:
    """The ARN a trust policy would name for a caller: a session is trusted by its role. Else what to put there."""
    if not identity.startswith("arn:"):
        return f"ARN of {identity}"  # AWS did not say who it is: no policy takes this, and its reader sees why
    if ":assumed-role/" not in identity:
        return identity
    partition, account = identity.split(":")[1], identity.split(":")[4]
    return f"arn:{partition}:iam::{account}:role/{identity.split('/')[1]}"
