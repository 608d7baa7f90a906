"""What STS and botocore say, as one of four outcomes with what to do about it (aws/refusals.py)."""

import json

import aiohttp
import pytest
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from imds_proxy.aws.call import Call
from imds_proxy.aws.guarded_http import UnsafeAnswerError
from imds_proxy.aws.refusals import chain_error, no_base_credentials, principal, translate, trust_statement
from imds_proxy.errors import Denied, Invalid, Throttled, Unreachable

USER = "arn:aws:iam::123456789012:user/host"
ROLE = "arn:aws:iam::123456789012:role/Deploy"
CALL = Call("deploy", "sts:AssumeRole", ROLE, "https://sts.eu-west-1.amazonaws.com", USER)


def answer(code, message="words of AWS", status=400):
    error = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return boto.ClientError(error, "AssumeRole")


ANSWERS = [
    ("AccessDenied", 403, Denied, "trust policy"),
    ("AccessDeniedException", 403, Denied, "trust policy"),
    ("UnauthorizedOperation", 403, Denied, "trust policy"),
    ("ExpiredToken", 403, Denied, "replace them"),
    ("ExpiredTokenException", 403, Denied, "replace them"),
    ("InvalidClientTokenId", 403, Denied, "replace them"),
    ("UnrecognizedClientException", 403, Denied, "replace them"),
    ("SignatureDoesNotMatch", 403, Denied, "replace them"),
    ("IncompleteSignature", 400, Denied, "replace them"),
    ("RequestTimeTooSkewed", 403, Denied, "clock"),
    ("RequestExpired", 400, Denied, "clock"),
    ("Throttling", 400, Throttled, "retried"),
    ("ThrottlingException", 400, Throttled, "retried"),
    ("RequestLimitExceeded", 503, Throttled, "retried"),
    ("TooManyRequestsException", 429, Throttled, "retried"),
    ("RegionDisabledException", 403, Invalid, "sts_regions"),
    ("ValidationError", 400, Invalid, "settings"),
    ("PackedPolicyTooLarge", 400, Invalid, "settings"),
    ("MalformedPolicyDocument", 400, Invalid, "settings"),
    ("InternalFailure", 500, Unreachable, "retried"),
    ("ServiceUnavailable", 503, Unreachable, "retried"),
    ("503", 503, Unreachable, "retried"),
    ("", 0, Invalid, "settings"),
]


@pytest.mark.parametrize(("code", "status", "outcome", "advice"), ANSWERS)
def test_each_answer_of_sts_has_its_outcome_and_advice(code, status, outcome, advice):
    """An alert on the wrong outcome wakes the wrong people."""
    error = translate(answer(code, status=status), CALL)
    assert type(error) is outcome
    assert advice in error.advice
    assert "words of AWS" in error.message


WITHOUT_ANSWER = [
    (boto.EndpointConnectionError(endpoint_url=CALL.endpoint), Unreachable, "firewall"),
    (boto.ConnectTimeoutError(endpoint_url=CALL.endpoint), Unreachable, "firewall"),
    (boto.ReadTimeoutError(endpoint_url=CALL.endpoint), Unreachable, "firewall"),
    (boto.ConnectionClosedError(endpoint_url=CALL.endpoint), Unreachable, "firewall"),
    (boto.HTTPClientError(error=ValueError("x")), Invalid, "configuration"),
    (boto.HTTPClientError(error=ConnectionResetError()), Unreachable, "firewall"),
    (boto.SSLError(endpoint_url=CALL.endpoint, error="self-signed"), Unreachable, "AWS_CA_BUNDLE"),
    (boto.ProxyConnectionError(proxy_url="http://proxy:3128"), Unreachable, "HTTPS_PROXY"),
    (TimeoutError(), Unreachable, "firewall"),
    (OSError("gone"), Unreachable, "firewall"),
    (boto.ProfileNotFound(profile="x"), Invalid, "configuration"),
    (boto.ConfigParseError(path="x"), Invalid, "configuration"),
    (boto.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"), Denied, "configuration"),
    (boto.CredentialRetrievalError(provider="custom-process", error_msg="Version"), Invalid, "configuration"),
    (boto.TokenRetrievalError(provider="sso", error_msg="x"), Denied, "configuration"),
    (boto.UnauthorizedSSOTokenError(), Denied, "configuration"),
    (boto.InvalidConfigError(error_msg="source_profile"), Invalid, "configuration"),
    (boto.ParamValidationError(report="too short"), Invalid, "configuration"),
    (boto.InvalidEndpointConfigurationError(msg="x"), Invalid, "configuration"),
]


@pytest.mark.parametrize(("error", "outcome", "advice"), WITHOUT_ANSWER, ids=lambda value: type(value).__name__)
def test_each_error_without_an_answer_has_its_outcome_and_advice(error, outcome, advice):
    """Without advice, somebody reads botocore's sources at night."""
    translated = translate(error, CALL)
    assert type(translated) is outcome
    assert advice in translated.advice


@pytest.mark.parametrize("error", [answer("AccessDenied"), *(error for error, *_ in WITHOUT_ANSWER)], ids=repr)
def test_every_message_names_role_target_identity_and_endpoint(error):
    """Of ten roles and three accounts, which one?"""
    message = translate(error, CALL).message
    assert 'role "deploy"' in message
    assert ROLE in message
    assert USER in message
    assert CALL.endpoint in message
    assert "\n" not in message
    assert not message.rstrip().endswith(":"), "it says what happened"


def test_an_answer_that_cannot_be_parsed_is_not_repeated():
    """botocore's error holds the body, and the body may hold a session token."""
    error = translate(ResponseParserError("invalid XML received: <SessionToken>SECRET"), CALL)
    assert type(error) is Invalid
    assert "SECRET" not in error.message + error.advice + str(error) + repr(error)
    assert "sts_endpoint" in error.advice


@pytest.mark.parametrize("said", ["answered 307, which sends elsewhere", "answered more than 1 MB"])
def test_an_answer_that_was_not_taken_is_invalid_and_says_why(said):
    """Trying again would bring the same; somebody has to look at what answers there."""
    error = translate(boto.HTTPClientError(error=UnsafeAnswerError(said)), CALL)
    assert type(error) is Invalid
    assert error.message.endswith(said)
    assert "sts_endpoint" in error.advice


def test_an_answer_that_is_no_http_is_not_repeated():
    """aiohttp's error holds the line it could not read."""
    cause = aiohttp.http_exceptions.BadHttpMessage("SECRET in a status line")
    error = translate(boto.HTTPClientError(error=cause), CALL)
    assert type(error) is Unreachable
    assert "BadHttpMessage" in error.message
    assert "SECRET" not in error.message + error.advice


def test_a_proxy_that_refuses_is_named_with_its_answer():
    """Whether it is down or forbids AWS is another team's question."""
    request = aiohttp.RequestInfo("http://proxy:3128", "CONNECT", {}, "http://proxy:3128")
    cause = aiohttp.ClientHttpProxyError(request, (), status=407)
    error = translate(boto.ProxyConnectionError(proxy_url="http://proxy:3128", error=cause), CALL)
    assert type(error) is Unreachable
    assert '"http://proxy:3128" (it answered 407)' in error.message
    assert "http://USER:PASSWORD@HOST:PORT" in error.advice


CHAIN = Call("login", 'AWS credentials of profile "work"')
CHAIN_ERRORS = [
    (boto.UnauthorizedSSOTokenError(), Denied, "aws sso login --profile work"),
    (boto.SSOTokenLoadError(error_msg="x"), Denied, "aws sso login --profile work"),
    (boto.TokenRetrievalError(provider="sso", error_msg="x"), Denied, "aws sso login --profile work"),
    (boto.LoginRefreshRequired(), Denied, "aws login --profile work"),
    (answer("AccessDenied", status=403), Denied, "aws sts get-caller-identity --profile work"),
    (answer("ForbiddenException", status=403), Denied, "aws sts get-caller-identity --profile work"),
    (answer("SignatureDoesNotMatch", "Signature expired: x", 403), Denied, "clock"),
    (answer("Throttling"), Throttled, "retried"),
    (answer("InternalFailure", status=500), Unreachable, "retried"),
    (boto.CredentialRetrievalError(provider="custom-process", error_msg="x"), Invalid, "get-caller-identity"),
    (boto.ProfileNotFound(profile="work"), Invalid, "configuration"),
    (boto.EndpointConnectionError(endpoint_url="x"), Unreachable, "firewall and HTTPS_PROXY towards AWS"),
    (TimeoutError(), Unreachable, "firewall"),
    (RuntimeError("still expired"), Invalid, "get-caller-identity"),
    (ValueError("SECRET"), Invalid, "get-caller-identity"),
    (KeyError("SECRET"), Invalid, "get-caller-identity"),
    (ResponseParserError("SECRET"), Invalid, "between here and AWS"),
]


@pytest.mark.parametrize(("error", "outcome", "advice"), CHAIN_ERRORS, ids=lambda value: type(value).__name__)
def test_each_error_of_the_chain_says_what_to_run(error, outcome, advice):
    """Signing in again is what helps nine times of ten, and the tenth shows by hand."""
    translated = chain_error(error, CHAIN, "work")
    assert type(translated) is outcome
    assert advice in translated.advice
    assert translated.message.startswith('role "login": AWS credentials of profile "work": ')
    assert "SECRET" not in translated.message + translated.advice


def test_a_signature_refused_for_its_time_says_which_way_the_clock_is_off():
    """`date` looks right to whoever reads it in another time zone."""
    message = "Signature expired: 20200101T000000Z is now earlier than 20200101T001500Z"
    behind = translate(answer("SignatureDoesNotMatch", message, 403), CALL, skew=1260)
    ahead = translate(answer("SignatureDoesNotMatch", "Signature not yet current: x", 403), CALL, skew=-600)
    unknown = translate(answer("SignatureDoesNotMatch", message, 403), CALL)
    assert type(behind) is Denied
    assert "21 min behind" in behind.advice
    assert "10 min ahead" in ahead.advice
    assert "clock" in unknown.advice


def test_a_denial_asks_the_three_questions_and_holds_the_statement():
    """AWS says AccessDenied for an unknown role, a missing permission and a missing trust alike."""
    statement = trust_statement(USER, None, ["sts:AssumeRole"])
    error = translate(answer("AccessDenied", status=403), CALL, trust=statement)
    assert f"does {ROLE} exist?" in error.advice
    assert f"may {USER} call sts:AssumeRole" in error.advice
    assert statement in error.advice


def test_the_trust_statement_can_be_pasted_into_the_policy():
    """With tags or an external id, the statement everybody copies from the manual is not enough."""
    statement = json.loads(trust_statement(USER, "zebra", ["sts:AssumeRole", "sts:TagSession"]))
    assert statement == {
        "Effect": "Allow",
        "Principal": {"AWS": USER},
        "Action": ["sts:AssumeRole", "sts:TagSession"],
        "Condition": {"StringEquals": {"sts:ExternalId": "zebra"}},
    }


@pytest.mark.parametrize(
    ("caller", "trusted"),
    [
        (USER, USER),
        ("arn:aws:sts::123456789012:assumed-role/Host/web1", "arn:aws:iam::123456789012:role/Host"),
        ("arn:aws-cn:sts::123456789012:assumed-role/Host/web1", "arn:aws-cn:iam::123456789012:role/Host"),
        ("arn:aws:iam::123456789012:root", "arn:aws:iam::123456789012:root"),
    ],
)
def test_a_session_is_trusted_by_its_role(caller, trusted):
    """A trust policy that names a session is gone with it."""
    assert principal(caller) == trusted


def test_no_base_credentials_says_where_it_looked():
    """The first thing a newcomer runs into."""
    assert "environment, shared files, web identity or process" in no_base_credentials("deploy", None).message
    assert 'profile "work" has none' in no_base_credentials("deploy", "work").message
    assert "AWS_ACCESS_KEY_ID" in no_base_credentials("deploy", None).advice


@pytest.mark.parametrize(
    ("identity", "shown"),
    [
        ("arn:aws:iam::123456789012:user/host", "arn:aws:iam::123456789012:user/host"),
        ("arn:aws:sts::123456789012:assumed-role/Base/i-1", "arn:aws:iam::123456789012:role/Base"),
        ("key …PZZM of env", "ARN of key …PZZM of env"),
    ],
)
def test_a_trust_statement_names_an_arn_or_asks_for_one(identity, shown):
    """What stood there looked like a principal, and no policy takes it."""
    assert json.loads(trust_statement(identity, None, ["sts:AssumeRole"]))["Principal"] == {"AWS": shown}
