"""Tokens, what their refusal means, and the call (sources/web_identity/)."""

import asyncio
import base64
import json

import pytest
from botocore.exceptions import ClientError

from imds_proxy.aws.call import Call
from imds_proxy.aws.session import AwsChain
from imds_proxy.config.roles import WebIdentityConfig
from imds_proxy.errors import Denied, Invalid, SourceError, Unreachable
from imds_proxy.host.clock import Clock
from imds_proxy.host.redaction import hidden
from imds_proxy.sources.web_identity.oidc_token import read_token
from imds_proxy.sources.web_identity.refusals import refusal, trust_statement
from imds_proxy.sources.web_identity.source import WebIdentity

ROLE = "arn:aws:iam::123456789012:role/Pod"
ISSUER = "https://oidc.example.test/cluster"
NOW = 1_800_000_000.0
CALL = Call("pod", "sts:AssumeRoleWithWebIdentity", ROLE, "https://sts.example.test", "token")


def encoded(part):
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def raw_token(header=None, **claims):
    always = {"iss": ISSUER, "aud": "sts.amazonaws.com", "sub": "pod", "iat": NOW - 60, "exp": NOW + 3600}
    return f"{encoded(header or {'alg': 'RS256'})}.{encoded(always | claims)}.c2lnbmF0dXJl"


def token(header=None, **claims):
    return read_token("pod", raw_token(header, **claims).encode(), "token_file /t")


# The token


def test_what_a_token_claims_is_read():
    subject = token(aud=["a", "b"], azp="client", nbf=NOW + 5)
    assert (subject.issuer, subject.subject, subject.audiences) == (ISSUER, "pod", ("a", "b"))
    assert (subject.authorized_party, subject.algorithm) == ("client", "RS256")
    assert (subject.valid_from, subject.expires) == (NOW + 5, NOW + 3600)
    assert str(subject) == f'token of token_file /t (iss "{ISSUER}", aud "a and b", sub "pod")'


def test_white_space_around_a_token_is_not_of_it():
    """Every shell writes a line end."""
    assert read_token("pod", f"\n {raw_token()}\r\n".encode(), "x").secret.reveal() == raw_token()


ODD = [{}, [], None, 1, "x", True, 1e300, -5, float("nan"), ["x", 1], {"a": "b"}]


@pytest.mark.parametrize("claim", ["iss", "sub", "aud", "azp", "exp", "nbf", "iat"])
@pytest.mark.parametrize("value", ODD, ids=repr)
def test_a_claim_may_be_anything(claim, value):
    """The file is somebody else's; AWS says what is wrong with it, not a traceback."""
    odd = token(**{claim: value})
    assert hidden(odd, [odd.secret]) == str(odd)
    for code in ("InvalidIdentityToken", "ExpiredTokenException", "AccessDenied", "IDPCommunicationError"):
        assert refusal(error(code), odd, CALL, Clock(lambda: NOW)).advice


def test_a_claim_cannot_write_on_the_terminal_or_fill_it():
    """`check` prints what the file claims."""
    text = str(token(sub="\x1b[2J\n" + "x" * 5000))
    assert "\x1b" not in text
    assert "\n" not in text
    assert len(text) < 500


DEEP = base64.urlsafe_b64encode(b"[" * 9000).decode().rstrip("=")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" \n",
        b"opaque",
        b"a.b",
        b"a.b.c.d.e",
        b"YQ.YQ.YQ",
        f"{encoded([])}.{encoded([])}.x".encode(),
        f"{encoded({})}.{DEEP}.x".encode(),
        b"\xff\xfe.a.b",
        raw_token().encode() + b" " + raw_token().encode(),
        b"a" * 20001,
    ],
)
def test_what_is_no_token_is_invalid_and_not_repeated(content):
    """The path may name a private key by mistake."""
    with pytest.raises(Invalid) as raised:
        read_token("pod", content, "token_file /t")
    assert "token_file /t" in raised.value.message
    assert not content.strip() or content.decode("latin-1") not in raised.value.message
    assert "ID token" in raised.value.advice


def test_a_token_is_in_no_repr():
    assert raw_token() not in repr(token())
    assert raw_token().split(".")[1] not in repr(token())


def test_what_repeats_a_token_is_not_repeated():
    """AWS's validation errors repeat the parameter they are about."""
    subject = token()
    said = hidden(f"Value '{raw_token()}' or {raw_token().split('.')[1]} is wrong", [subject.secret])
    assert said == "Value '***' or *** is wrong"


# What a refusal means


def error(code, text="", status=400):
    return ClientError(
        {"Error": {"Code": code, "Message": text}, "ResponseMetadata": {"HTTPStatusCode": status}}, CALL.action
    )


REFUSALS = [
    ("InvalidIdentityToken", "Incorrect token audience", Denied, 'token audience is "sts.amazonaws.com": let the'),
    (
        "InvalidIdentityToken",
        f"No OpenIDConnect provider found in your account for {ISSUER}",
        Denied,
        f"make an identity provider for {ISSUER} in IAM of account 123456789012",
    ),
    (
        "InvalidIdentityToken",
        "Couldn't retrieve verification key from your identity provider, please reference the documentation",
        Unreachable,
        f"{ISSUER}/.well-known/openid-configuration",
    ),
    ("InvalidIdentityToken", "The ID Token provided is not a valid JWT", Denied, "see what renews token_file /t"),
    ("ExpiredTokenException", "Token expired", Denied, "AWS wants a newer token"),
    ("IDPRejectedClaim", "", Denied, "may have revoked the token"),
    ("IDPCommunicationError", "", Unreachable, "within 5 s"),
    ("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", Denied, "trust policy"),
]


@pytest.mark.parametrize(("code", "text", "outcome", "advice"), REFUSALS)
def test_each_refusal_has_its_outcome_and_advice(code, text, outcome, advice):
    """AWS's own words name neither the audience, nor the issuer, nor the statement that is missing."""
    told = refusal(error(code, text), token(), CALL, Clock(lambda: NOW))
    assert type(told) is outcome
    assert advice in told.advice
    assert text in told.message
    assert 'role "pod"' in told.message


@pytest.mark.parametrize("code", ["Throttling", "RegionDisabledException", "PackedPolicyTooLarge", "InternalFailure"])
def test_what_any_call_may_meet_is_left_to_what_all_calls_share(code):
    assert refusal(error(code), token(), CALL, Clock(lambda: NOW)) is None


@pytest.mark.parametrize("code", ["ExpiredTokenException", "InvalidIdentityToken", "IDPRejectedClaim"])
def test_a_token_that_has_expired_is_told_as_such_whatever_aws_calls_it(code):
    told = refusal(error(code), token(exp=NOW - 1200), CALL, Clock(lambda: NOW))
    assert "the token expired on 2027-01-15T07:40:00Z, 20 minutes ago" in told.message
    assert told.advice == "whatever renews token_file /t has stopped"


@pytest.mark.parametrize(
    ("claims", "skew", "advice"),
    [
        ({"exp": NOW + 600}, 1800, "this host's clock is 30 min behind AWS's"),
        ({"exp": NOW - 600}, 1800, "whatever renews token_file /t has stopped"),
        ({"nbf": NOW}, -1800, "this host's clock is 30 min ahead of AWS's"),
        ({"iat": NOW}, -1800, "this host's clock is 30 min ahead of AWS's"),
        ({"iat": NOW + 1800}, 0, f"the clock of {ISSUER} is ahead of AWS's"),
    ],
)
def test_whose_clock_is_wrong_is_said(claims, skew, advice):
    """Three clocks are in it: this host's, the issuer's and AWS's."""
    clock = Clock(lambda: NOW)
    clock.observe(NOW + skew)
    assert advice in refusal(error("InvalidIdentityToken"), token(**claims), CALL, clock).advice


def test_an_algorithm_that_aws_does_not_take_is_said():
    """Some providers sign with a shared secret unless told otherwise."""
    told = refusal(error("InvalidIdentityToken"), token({"alg": "HS256"}), CALL, Clock(lambda: NOW))
    assert 'signed by "HS256", and AWS takes ES256' in told.advice


@pytest.mark.parametrize(
    ("claims", "role", "federated", "condition"),
    [
        (
            {},
            ROLE,
            "arn:aws:iam::123456789012:oidc-provider/oidc.example.test/cluster",
            {"oidc.example.test/cluster:aud": "sts.amazonaws.com", "oidc.example.test/cluster:sub": "pod"},
        ),
        (
            {"iss": "https://tenant.example.test/", "aud": ["a", "b"]},
            "arn:aws-cn:iam::210987654321:role/x",
            "arn:aws-cn:iam::210987654321:oidc-provider/tenant.example.test/",
            {"tenant.example.test/:aud": ["a", "b"], "tenant.example.test/:sub": "pod"},
        ),
        (
            {"iss": "https://accounts.google.com", "azp": "client"},
            ROLE,
            "accounts.google.com",
            {"accounts.google.com:aud": "client", "accounts.google.com:sub": "pod"},
        ),
    ],
    ids=["own provider", "slash and China", "built in"],
)
def test_the_trust_statement_can_be_pasted_into_the_policy(claims, role, federated, condition):
    """One character off, and AWS says "Not authorized" again."""
    statement = json.loads(trust_statement(token(**claims), role))
    assert statement["Principal"] == {"Federated": federated}
    assert statement["Condition"] == {"StringEquals": condition}


# The source


def source(path, **settings):
    options = {"source": "web-identity", "role_arn": ROLE, "token_file": str(path)} | settings
    options = WebIdentityConfig.model_validate({name: value for name, value in options.items() if value})
    return WebIdentity("pod", options, AwsChain(), "eu-west-1", Clock())


async def test_sts_has_every_parameter_that_is_sent():
    """A misspelt parameter would be refused by botocore at the first renewal only."""
    policy = {"Version": "2012-10-17", "Statement": []}
    subject = source("/t", policy=policy, policy_arns=["arn:aws:iam::aws:policy/ReadOnlyAccess"])
    sent = subject._sts.parameters(WebIdentityToken="x")
    model = await AwsChain().session().get_service_model("sts")
    shape = model.operation_model("AssumeRoleWithWebIdentity").input_shape
    assert set(sent) <= set(shape.members)
    assert set(shape.required_members) <= set(sent)


async def test_a_change_of_the_file_counts_only_while_no_token_was_good(tmp_path):
    """Tokens rotate more often than sessions end."""
    subject = source(tmp_path / "token")
    with pytest.raises(SourceError):
        await subject.fetch()
    (tmp_path / "token").write_text("x")
    await asyncio.wait_for(subject.changed(), 3)
    subject._token_is_good = True
    (tmp_path / "token").write_text("y")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(subject.changed(), 1)
