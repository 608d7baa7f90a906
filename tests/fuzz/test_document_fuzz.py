"""Whatever a program, a file, a service, the state directory or an API server hands out as a document."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.credentials import Credentials
from imds_proxy.errors import SourceError
from imds_proxy.host.http_client import Answer
from imds_proxy.host.redaction import _values
from imds_proxy.renewal.disk_cache import _checked
from imds_proxy.renewal.seal import SealError, _parse
from imds_proxy.renewal.session_shape import SessionShape
from imds_proxy.sources import credential_documents
from imds_proxy.sources.http import refusals as refusals_of_http
from imds_proxy.sources.ini import Profile
from imds_proxy.sources.roles_anywhere import refusals as refusals_of_roles_anywhere
from imds_proxy.webhook.accounts import UnreadableError, _annotations
from imds_proxy.webhook.pod import MalformedError
from imds_proxy.webhook.review import Review, read_review
from support.admission import pod_of, review_of
from support.fuzzing import NESTED, as_json, changed, examples, nearly, outcome

NOW = 1_800_000_000.0
END = "2027-01-15T09:00:00Z"
SECRET = "secretaccesskeyOfTheTest0123456789/+"
KEYS = {"AccessKeyId": "ASIAEXAMPLEKEYIDABCD", "SecretAccessKey": SECRET}
DOCUMENTS = {
    "process": KEYS | {"Version": 1, "SessionToken": "token", "Expiration": END, "AccountId": "123456789012"},
    "imds": KEYS | {"Code": "Success", "LastUpdated": "2027-01-15T07:59:00Z", "Token": "token", "Expiration": END},
    "container": KEYS | {"Token": "token", "Expiration": END, "RoleArn": "arn:aws:iam::123456789012:role/a"},
    "iot": {
        "credentials": {
            "accessKeyId": "ASIAEXAMPLEKEYIDABCD",
            "secretAccessKey": SECRET,
            "sessionToken": "token",
            "expiration": END,
        }
    },
    "vault": {
        "lease_duration": 3600,
        "data": {"access_key": "ASIAEXAMPLEKEYIDABCD", "secret_key": SECRET, "session_token": "token", "ttl": 3600},
    },
}
INI = f"""[default]
aws_access_key_id = ASIAEXAMPLEKEYIDABCD
aws_secret_access_key = {SECRET}
aws_session_token = token
x_security_token_expires = {END}
[profile other]
region = eu-west-1
""".encode()
INI_LINES = b"[default]|[DEFAULT]|[]|[a|k|k=|=v| v|\t|k : v|#c|; c|%(x)s|\x00|\x85|[x]y|\xff|aws_access_key_id"
SAVED = {
    "role": "deploy",
    "shape": "digest",
    "credentials": {
        "access_key_id": "ASIAEXAMPLEKEYIDABCD",
        "secret_access_key": SECRET,
        "session_token": "token",
        "expiration": NOW + 3000,
        "obtained": NOW - 600,
        "role_arn": None,
        "session_arn": None,
        "account": None,
    },
}
SHAPE = SessionShape("digest", None, 3600.0)
DEEP = st.sampled_from(NESTED).map(str.encode)


def bodies(document):
    """Bodies that are nearly such a document."""
    return nearly(document).map(as_json) | changed(as_json(document)) | DEEP | st.binary(max_size=30)


def usable(found):
    """Credentials that are used as the daemon does."""
    assert isinstance(found, Credentials | SourceError)
    if isinstance(found, Credentials):
        assert isinstance(found.expiration > NOW, bool)
        assert SECRET not in repr(found)
    else:
        assert SECRET not in found.message


@pytest.mark.parametrize("shape", DOCUMENTS)
def test_a_document_of_credentials(shape):
    @examples(80)
    @given(body=bodies(DOCUMENTS[shape]))
    def target(body):
        usable(outcome(lambda: credential_documents.parse(shape, body, role="deploy", origin="it", now=NOW)))

    target()
    assert credential_documents.parse(shape, as_json(DOCUMENTS[shape]), role="deploy", origin="it", now=NOW)


@examples(150)
@given(body=changed(INI) | st.lists(st.sampled_from(INI_LINES.split(b"|"))).map(b"\n".join) | st.binary(max_size=40))
def test_a_profile_of_a_credentials_file(body):
    usable(outcome(lambda: Profile("default", 'role "deploy": /x', None).read(body, NOW)))


@examples(100)
@given(body=bodies({"__type": "x#AccessDenied", "message": "no", "Code": "AccessDenied", "list": [1, {"a": "b"}]}))
def test_what_a_service_says_when_it_refuses(body):
    """And what a text is hidden by that repeats it."""
    answer = Answer(403, {}, body, "https://broker.example")
    refusals_of_http._code(answer)
    refusals_of_roles_anywhere._object(body)
    assert all(isinstance(value, str) for value in _values(body))


@examples(100)
@given(body=bodies(SAVED))
def test_a_saved_session(body):
    """Whoever may write there could stop the daemon at every start."""
    usable_saved = outcome(lambda: _checked(body, "deploy", SHAPE, NOW))
    assert isinstance(usable_saved, Credentials | SealError)
    assert isinstance(outcome(lambda: _parse(body)), dict | SealError)


@examples(150)
@given(body=bodies(json.loads(review_of(pod_of())) if isinstance(review_of(pod_of()), bytes) else review_of(pod_of())))
def test_a_review_of_a_pod(body):
    assert isinstance(outcome(lambda: read_review(body)), Review | MalformedError)


@examples(80)
@given(body=bodies({"kind": "ServiceAccount", "metadata": {"annotations": {"eks.amazonaws.com/role-arn": "a"}}}))
def test_a_service_account_of_the_api_server(body):
    found = outcome(lambda: _annotations(200, body, "https://api"))
    assert isinstance(found, dict | UnreadableError)
