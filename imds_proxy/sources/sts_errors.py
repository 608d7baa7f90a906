"""What STS and botocore say when they refuse, as our four outcomes with what to do about each.

AWS pages: "Common errors" of the STS API reference, "Troubleshoot IAM roles" of the IAM user guide.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientHttpProxyError
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from imds_proxy.clock import skew_advice
from imds_proxy.credentials import Secret
from imds_proxy.errors import Denied, Invalid, SourceError, Throttled, Unreachable
from imds_proxy.host.open_files import exhausted, shortage
from imds_proxy.sources.aws_http import InTheClearError, UnsafeAnswerError
from imds_proxy.sources.redaction import hidden
from imds_proxy.sources.retry_after import retry_after

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
_NOT_AWS = "check sts_endpoint and the proxy: something between here and AWS answers in its place"
_CLEAR_TEXT = "let it begin with https:, or go away; a role's own sts_endpoint may be http:, with allow_http = true"
_CONFIGURATION = "correct the daemon's AWS configuration"
_CA_ADVICE = "AWS_CA_BUNDLE, or ca_bundle in the AWS profile, names a file that is missing or may not be read"


@dataclass(frozen=True, slots=True)
class Call:
    """What was tried, for the message: never holds a secret."""

    role: str
    action: str
    target: str = ""
    endpoint: str = ""
    identity: str = ""
    """Who called: an ARN where known, else which provider of the chain the key came from and its last four."""
    sent: Iterable[Secret | str] = field(default=(), repr=False)
    """The secrets that were sent: nothing of them is shown of what the other end says."""

    def __str__(self) -> str:
        said = (("", self.action), ("on ", self.target), ("as ", self.identity), ("at ", self.endpoint))
        return " ".join(f"{word}{value}" for word, value in said if value)


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
        return Unreachable(_message(call, missing[0]), missing[1])
    if isinstance(error, ResponseParserError):  # its text holds the answer, which may hold a secret
        who = "STS" if call.action.startswith("sts:") else "AWS"
        return Invalid(_message(call, f"the answer is not what {who} sends"), _NOT_AWS)
    if isinstance(error, boto.HTTPClientError) and (told := _from_cause(error.kwargs.get("error"), call)):
        return told
    for kind, translated in _WITHOUT_ANSWER:
        if isinstance(error, kind):
            return translated(_message(call, _text(error, call)), _advice_without_answer(error, call))
    return Invalid(_message(call, f"{type(error).__name__}: {_text(error, call)}"), _CONFIGURATION)


def _from_cause(cause: object, call: Call) -> SourceError | None:
    """What botocore's errors of HTTP do not tell, or would tell with a piece of the answer."""
    if isinstance(cause, UnsafeAnswerError):
        return Invalid(_message(call, str(cause)), _NOT_AWS)
    if isinstance(cause, InTheClearError):
        return Invalid(_message(call, str(cause)), _CLEAR_TEXT)
    if isinstance(cause, FileNotFoundError | PermissionError):
        return Invalid(_message(call, f"a file of TLS cannot be read: {cause.strerror}"), _CA_ADVICE)
    return None


def chain_error(error: Exception, call: Call, profile: str | None) -> SourceError:
    """The error of ours for what went wrong while the daemon's own AWS credentials were looked up."""
    if (missing := exhausted(error) or shortage()) is not None:  # botocore takes a file it cannot open for an empty one
        return Unreachable(_message(call, missing[0]), missing[1])
    option = f" --profile {profile}" if profile else ""
    if isinstance(error, boto.SSOError | boto.TokenRetrievalError):
        return Denied(_message(call, _text(error, call)), f"as the user the daemon runs as: aws sso login{option}")
    if isinstance(error, boto.LoginError):
        return Denied(_message(call, _text(error, call)), f"as the user the daemon runs as: aws login{option}")
    by_hand = f"as the user the daemon runs as, aws sts get-caller-identity{option} shows what to mend"
    if not isinstance(error, boto.BotoCoreError | boto.ClientError | ResponseParserError | OSError):
        return Invalid(_message(call, f"what was found cannot be used ({type(error).__name__})"), by_hand)
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
    message = _message(call, words(error, call))
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
        return Unreachable(message, "nothing: it is retried; sts_regions may name a second region")
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


_WITHOUT_ANSWER: tuple[tuple[type[Exception], type[SourceError]], ...] = (
    (boto.ProfileNotFound, Invalid),
    (boto.ConfigParseError, Invalid),
    (boto.PartialCredentialsError, Denied),
    (boto.CredentialRetrievalError, Invalid),
    (boto.TokenRetrievalError, Denied),
    (boto.UnauthorizedSSOTokenError, Denied),
    (boto.InvalidConfigError, Invalid),
    (boto.ParamValidationError, Invalid),
    (boto.HTTPClientError, Unreachable),
    (boto.ConnectionError, Unreachable),
    (TimeoutError, Unreachable),
    (OSError, Unreachable),
)


def _advice_without_answer(error: Exception, call: Call) -> str:
    if isinstance(error, boto.ProxyConnectionError):
        return f"the proxy in HTTPS_PROXY does not answer or refuses {call.endpoint}: check it, and NO_PROXY"
    if isinstance(error, boto.SSLError):
        return "the endpoint's certificate is not trusted: set AWS_CA_BUNDLE to the CA your network uses"
    if isinstance(error, boto.HTTPClientError | boto.ConnectionError | OSError):
        return f"check DNS, route, firewall and HTTPS_PROXY towards {call.endpoint or 'AWS'}; it is retried"
    return _CONFIGURATION


def _message(call: Call, what: str) -> str:
    return f'role "{call.role}": {call}: {what}'


def _text(error: Exception, call: Call) -> str:
    """What botocore says: it may repeat an answer, a file or a helper's words."""
    cause = getattr(error, "kwargs", {}).get("error")
    if type(error) is boto.HTTPClientError:  # of an answer that is no HTTP, its text has a piece
        return f"no HTTP that can be read ({type(cause).__name__})"
    text = hidden(error, call.sent)
    if isinstance(cause, ClientHttpProxyError):
        text += f" (it answered {cause.status})"
    return text or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
