"""What it means when STS refuses an OpenID Connect token, and what to do about it.

In: botocore's error and the token. Out: the error to raise. "AssumeRoleWithWebIdentity" (errors) in the STS API
reference; "Create an OpenID Connect (OIDC) identity provider in IAM", "Create a role for OpenID Connect federation" and
"IAM and AWS STS condition context keys" of the IAM user guide; "How can I resolve the AWS STS AssumeRoleWithWebIdentity
API call error InvalidIdentityToken?" of AWS re:Post.
"""

import json
from typing import Any, Final

from imds_proxy.aws.call import Call
from imds_proxy.aws.refusals import code_and_text, date_of, words
from imds_proxy.credentials import timestamp
from imds_proxy.errors import Denied, SourceError, Unreachable
from imds_proxy.host.clock import Clock, skew_advice
from imds_proxy.sources.web_identity.oidc_token import OidcToken, shown

_EXPIRED: Final = {"ExpiredTokenException", "ExpiredToken"}
_REFUSED: Final = {"InvalidIdentityToken", "IDPRejectedClaim", *_EXPIRED}
_ALGORITHMS: Final = {"RS256", "RS384", "RS512", "ES256", "ES384", "ES512"}
_LONGEST_CLAIM: Final = 1000  # characters of a claim in a statement; AWS takes a few hundred
_MOST_AUDIENCES: Final = 10
_BUILT_IN: Final = {"accounts.google.com", "cognito-identity.amazonaws.com"}


def refusal(error: Any, token: OidcToken, call: Call, clock: Clock) -> SourceError | None:
    """The error for what is particular to these tokens; None for what any call to STS may meet.

    Args:
        error: botocore's ClientError.
        token: What was refused.
        call: What was tried.
        clock: Wall time.
    """
    code, text = code_and_text(error)
    said = words(error, call)
    if code in _REFUSED and (off := _time_trouble(token, clock.wall(), clock.skew_by(date_of(error.response)))):
        said, advice = f"{off[0]} ({said})", off[1]
        return Denied(_message(call, said), advice)
    if code == "IDPCommunicationError" or "verification key" in text:
        return Unreachable(_message(call, said), _issuer_advice(token))
    if code == "AccessDenied":
        return Denied(_message(call, said), _trust_advice(token, call))
    if code in _REFUSED:
        return Denied(_message(call, said), _token_advice(code, text, token, call))
    return None


def _message(call: Call, what: str) -> str:
    return f'role "{call.role}": {call}: {what}'


def _time_trouble(token: OidcToken, here: float, skew: float) -> tuple[str, str] | None:
    """What is wrong with the token's dates by AWS's time, and whose clock or clockwork that is."""
    now = here + skew
    if token.expires is not None and token.expires <= now:
        what = f"the token expired on {timestamp(token.expires)}, {_minutes(now - token.expires)} ago"
        stopped = f"whatever renews {token.origin} has stopped"
        return what, stopped if token.expires <= here else f"{skew_advice(skew)}; or {stopped}"
    if token.valid_from is not None and token.valid_from > now:
        what = f"the token is valid from {timestamp(token.valid_from)} only, in {_minutes(token.valid_from - now)}"
        issuer = f"the clock of {shown(token.issuer)} is ahead of AWS's"
        return what, issuer if token.valid_from > here else skew_advice(skew)
    return None


def _minutes(seconds: float) -> str:
    return f"{round(seconds / 60)} minutes"


def _issuer_advice(token: OidcToken) -> str:
    issuer = shown(token.issuer).removesuffix("/")
    return (
        f"AWS could not get the keys that tokens of {issuer} are signed with: {issuer}/.well-known/openid-configuration"
        " and the jwks_uri in it have to answer everybody on the internet, within 5 s; it is retried"
    )


def _token_advice(code: str, text: str, token: OidcToken, call: Call) -> str:
    issuer = shown(token.issuer)
    if "audience" in text.lower():
        return (
            f'token audience is "{token.audience}": let the identity provider of {issuer} in IAM list it (aws iam'
            " add-client-id-to-open-id-connect-provider), or have the token made for an audience that is listed"
        )
    if "No OpenIDConnect provider" in text:
        return (
            f"make an identity provider for {issuer} in IAM of account {call.target.split(':')[4]} (aws iam"
            " create-open-id-connect-provider); its URL is the token's iss to the letter, a slash at its end included"
        )
    if token.algorithm not in _ALGORITHMS:
        return f'the token is signed by "{shown(token.algorithm)}", and AWS takes {", ".join(sorted(_ALGORITHMS))} only'
    if code in _EXPIRED:
        return f"see what renews {token.origin}: AWS wants a newer token"
    return f"see what renews {token.origin}: {issuer} may have revoked the token, or no longer publishes the key of it"


def _trust_advice(token: OidcToken, call: Call) -> str:
    statement = trust_statement(token, call.target)
    return (
        f"1. does {call.target} exist? 2. does its trust policy hold this statement? {statement}"
        " 3. does that policy, or one of the organization, have further conditions on the token's claims?"
    )


def trust_statement(token: OidcToken, role_arn: str) -> str:
    """The trust policy statement that lets the token's subject have the role, as JSON on one line."""
    partition, account = role_arn.split(":")[1], role_arn.split(":")[4]
    provider = token.issuer.removeprefix("https://")[:_LONGEST_CLAIM]
    federated = provider if provider in _BUILT_IN else f"arn:{partition}:iam::{account}:oidc-provider/{provider}"
    # Where a token has azp, that is what AWS compares with its aud key.
    said = [token.authorized_party] if token.authorized_party else token.audiences[:_MOST_AUDIENCES]
    audiences = [audience[:_LONGEST_CLAIM] for audience in said]
    claims = {
        f"{provider}:aud": audiences[0] if len(audiences) == 1 else audiences,
        f"{provider}:sub": token.subject[:_LONGEST_CLAIM],
    }
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": federated},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": claims},
    }
    return json.dumps(statement)
