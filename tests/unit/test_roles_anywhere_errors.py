"""What Roles Anywhere refuses, in the operator's words."""

import json
import subprocess
import sys

import pytest

from imds_proxy.config.roles import RolesAnywhereConfig
from imds_proxy.errors import Denied, Invalid, Throttled, Unreachable
from imds_proxy.host.clock import skew_advice
from imds_proxy.host.http_client import Answer
from imds_proxy.sources.roles_anywhere.refusals import Call, translate, trust_statement
from support.roles_anywhere import PROFILE, ROLE, TRUST_ANCHOR

SETTINGS = RolesAnywhereConfig(
    source="roles-anywhere",
    role_arn=ROLE,
    trust_anchor_arn=TRUST_ANCHOR,
    profile_arn=PROFILE,
    certificate="/etc/pki/host.pem",
)
ENDPOINT = "https://rolesanywhere.eu-west-1.amazonaws.com"
CALL = Call("host", SETTINGS, ENDPOINT, "CN=host, serial ab, until 2027-01-01T00:00:00Z")
SECRET = "wJalrXUtnFEMI-K7MDENG"


def said(code, text="", status=403, skew=0.0):
    headers = {"x-amzn-errortype": f"{code}:http://internal.amazon.com/coral/"} if code else {}
    return translate(Answer(status, headers, json.dumps({"message": text}).encode()), CALL, skew)


def test_the_message_says_what_was_tried_and_what_aws_said():
    error = said("AccessDeniedException", "Unable to assume role")
    assert error.message == (
        f'role "host": rolesanywhere:CreateSession for {ROLE} with the certificate CN=host, serial ab, until'
        f" 2027-01-01T00:00:00Z at {ENDPOINT}: AccessDeniedException: Unable to assume role"
    )


@pytest.mark.parametrize(
    ("code", "status", "kind", "advice"),
    [
        ("AccessDeniedException", 403, Denied, "trust policy"),
        ("UnrecognizedClientException", 403, Denied, "trust policy"),
        ("ResourceNotFoundException", 404, Invalid, "trust_anchor_arn and profile_arn"),
        ("ValidationException", 400, Invalid, "correct this role's settings"),
        ("ThrottlingException", 400, Throttled, "retried"),
        ("ThrottledException", 429, Throttled, "retried"),
        ("TooManyRequestsException", 429, Throttled, "retried"),
        ("", 429, Throttled, "retried"),
        ("InternalServerException", 500, Unreachable, "retried"),
        ("", 503, Unreachable, "retried"),
        ("", 403, Invalid, "endpoint and the proxy"),
        ("", 404, Invalid, "endpoint and the proxy"),
    ],
)
def test_each_refusal_has_its_outcome(code, status, kind, advice):
    error = said(code, "", status)
    assert type(error) is kind
    assert advice in error.advice


@pytest.mark.parametrize(
    ("text", "there", "not_there"),
    [
        ("Unable to assume role for arn:x", ["1. does the trust policy of", "sts:TagSession", PROFILE], ["chain to"]),
        ("Untrusted signing certificate", ["chain to the trust anchor", "digitalSignature"], ["trust policy"]),
        ("Insufficient certificate", ["X.509 v3", "no CA certificate", "intermediates"], ["trust policy"]),
        ("Not authorized to set roleSessionName.", ["accept a role session name", "session_name"], ["trust policy"]),
        ("", ["trust policy", "enabled?", "chain to the trust anchor"], []),
    ],
)
def test_a_denial_says_what_to_look_at(text, there, not_there):
    advice = said("AccessDeniedException", text).advice
    assert all(words in advice for words in there)
    assert not any(words in advice for words in not_there)


def test_the_trust_policy_is_there_to_be_copied():
    statement = json.loads(trust_statement(TRUST_ANCHOR))
    assert statement == {
        "Effect": "Allow",
        "Principal": {"Service": "rolesanywhere.amazonaws.com"},
        "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"],
        "Condition": {"ArnEquals": {"aws:SourceArn": TRUST_ANCHOR}},
    }
    assert trust_statement(TRUST_ANCHOR) in said("AccessDeniedException", "Unable to assume role").advice


@pytest.mark.parametrize(
    ("text", "skew", "advice"),
    [
        ("Signature expired: 20260101T000000Z", 420.0, "this host's clock is 7 min behind AWS's"),
        ("Signature not yet current", -420.0, "this host's clock is 7 min ahead of AWS's"),
        ("Signature expired", 0.0, "compare this host's clock with AWS's"),
        ("whatever AWS may say", 3600.0, "this host's clock is 60 min behind AWS's"),
    ],
)
def test_a_wrong_clock_is_named_with_its_minutes(text, skew, advice):
    error = said("AccessDeniedException", text, skew=skew)
    assert isinstance(error, Denied)
    assert error.advice.startswith(advice)


def test_a_small_skew_is_not_blamed():
    assert "clock" not in said("AccessDeniedException", "Unable to assume role", skew=200.0).advice


def test_the_advice_on_the_clock_rounds_to_minutes():
    assert skew_advice(89) == "this host's clock is 1 min behind AWS's: set it (chronyc makestep)"
    assert skew_advice(20) == "compare this host's clock with AWS's"


@pytest.mark.parametrize(
    "body",
    [
        SECRET.encode(),
        json.dumps({"credentialSet": [{"credentials": {"secretAccessKey": SECRET}}]}).encode(),
        json.dumps([SECRET]).encode(),
        json.dumps({"code": f"x {SECRET}", "message": SECRET}).encode(),
        b"[" * 100_000,
    ],
)
def test_what_is_not_awss_error_is_not_repeated(body):
    """It may be an answer meant for somebody, and that a secret."""
    error = translate(Answer(403, {}, body), CALL, 0.0)
    assert SECRET not in error.message + error.advice
    assert isinstance(error, Invalid)


def test_awss_words_stay_on_one_line_and_short():
    error = said("AccessDeniedException", "one\ntwo\x1b[31m " + "x" * 5000)
    assert "one two?[31m …" in error.message
    assert len(error.message) < 700


def test_the_error_may_be_named_in_the_body():
    body = json.dumps({"__type": "com.amazon.coral#AccessDeniedException", "Message": "No"}).encode()
    assert translate(Answer(403, {}, body), CALL, 0.0).message.endswith(": AccessDeniedException: No")


def test_a_host_with_a_certificate_alone_pays_for_no_botocore():
    """It costs 300 ms and 11 MB, and no call here goes through it."""
    code = "import sys, imds_proxy.sources.roles_anywhere.source"
    code += "; print({'botocore', 'pkcs11', 'moto'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"
