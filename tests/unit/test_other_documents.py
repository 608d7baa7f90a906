"""What is said of a document that is not the one which was expected (aws/other_documents.py)."""

import base64
import json
import time
from itertools import count

import pytest

from imds_proxy.aws.other_documents import markup_of
from imds_proxy.errors import Invalid
from imds_proxy.sources.credential_documents import parse
from imds_proxy.sources.web_identity.oidc_token import read_token
from support.credential_service import Session

SESSION = Session()
KEY, SECRET, TOKEN = SESSION.secrets
KEYS = {"AccessKeyId": KEY, "SecretAccessKey": SECRET}
LOWER = {"accessKeyId": KEY, "secretAccessKey": SECRET, "sessionToken": TOKEN}
END = {"Expiration": "2099-01-01T00:00:00Z"}
LONG_LIVED_OF_VAULT = {"data": {"access_key": KEY, "secret_key": SECRET, "security_token": None}}


def refused(document, source="process", shape="process"):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(Invalid) as caught:
        parse(shape, body, role="r", origin="what it printed", now=SESSION.began, source=source)
    text = f"{caught.value.message} → {caught.value.advice}"
    assert not [secret for secret in SESSION.secrets if secret in text]
    assert base64.b64encode(SECRET.encode()).decode() not in text
    return text


@pytest.mark.parametrize(
    ("document", "words", "advice"),
    [
        ({"Code": "Success", **KEYS, "Token": TOKEN, **END}, "the imds document", 'shape = "imds"'),
        ({"Code": "Success", **KEYS}, "the imds document", 'format = "imds"'),
        ({"data": {"access_key": KEY}}, "HashiCorp Vault's", 'shape = "vault"'),
        (LONG_LIVED_OF_VAULT, "the vault document", "https://VAULT/v1/aws/sts/ROLE"),
        (SESSION.document("vault"), "the vault document", 'source = "http"'),
        (SESSION.document("iot"), "the iot document", 'shape = "iot"'),
        ({**KEYS, "Token": TOKEN, **END}, "the container document", 'shape = "container"'),
        ({"Credentials": {**KEYS, "SessionToken": TOKEN, **END}}, "aws sts", 'source = "assume-role"'),
        ({"roleCredentials": LOWER}, "aws sso get-role-credentials", 'source = "ambient"'),
        ({"accessToken": LOWER, "refreshToken": TOKEN}, "aws login", "login_session"),
        ({"AccessKey": {**KEYS, "Status": "Active"}}, "a long-lived key", 'source = "assume-role"'),
        ({"Code": "AssumeRoleUnauthorizedAccess"}, "an error in place of credentials (AssumeRole", "see there"),
        ({"code": SECRET, "message": TOKEN}, "an error in place of credentials ", "see there"),
        ({"errors": ["permission denied"]}, "Vault answered with errors: permission denied", "Vault"),
        ({"errors": [SECRET, 7]}, "Vault answered with errors: ", "Vault"),
        ({"wrap_info": {"token": TOKEN}, "data": None}, "wrapped", "X-Vault-Wrap-TTL"),
    ],
)
def test_a_command_that_prints_another_document_is_told_which_source_takes_it(document, words, advice):
    """`Version is not 1` sends somebody to the docs of a contract that they never meant to follow."""
    text = refused(document)
    assert words in text.partition("→")[0]
    assert advice in text.partition("→")[2]


@pytest.mark.parametrize(
    ("text", "words", "advice"),
    [
        (f"export AWS_ACCESS_KEY_ID={KEY}\nexport AWS_SECRET_ACCESS_KEY={SECRET}\n", "lines for a shell", "process"),
        (f"AWS_ACCESS_KEY_ID={KEY}\nAWS_SECRET_ACCESS_KEY={SECRET}\n", "lines for a shell", "--format process"),
        (f'$env:AWS_ACCESS_KEY_ID="{KEY}"\n', "lines for a shell", '"Version": 1'),
        (f"set -gx AWS_ACCESS_KEY_ID {KEY};\n", "lines for a shell", "export-credentials"),
        (f"[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n", "INI", 'format = "ini"'),
        (f"Credentials:\n  AccessKeyId: {KEY}\n", "YAML", "--output json"),
        (f"<AssumeRoleResponse><SecretAccessKey>{SECRET}</SecretAccessKey>", "XML (AssumeRoleResponse)", "JSON"),
        (f"<!doctype html><p>{SECRET}", "HTML", "JSON"),
        ("eyJhbGciOiJub25lIn0.eyJpc3MiOiJ4In0.c2ln\n", "a JSON Web Token", "token_command"),
        (f"Enter the code:\n{json.dumps(SESSION.document('process'))}", "words before the document", "standard error"),
    ],
    ids=map(str, count()),  # a secret is made for each run
)
def test_a_text_that_is_no_json_is_recognised(text, words, advice):
    """What a program prints for people, for a shell or for another program."""
    said = refused(text.encode())
    assert f"{len(text.encode())} bytes that are not JSON: " in said
    assert words in said.partition("→")[0]
    assert advice in said.partition("→")[2]


def test_what_is_in_base64_is_said_to_be_that():
    """As a secret of Kubernetes comes out of kubectl."""
    for text in (json.dumps(SESSION.document("process")), f"[default]\naws_access_key_id = {KEY}\n"):
        assert "credentials in base64 → have it decoded" in refused(base64.encodebytes(text.encode()))
    assert "base64" not in refused(base64.b64encode(b"some other text, and a long one")).partition("→")[0]


def test_a_token_in_base64_is_said_to_be_that():
    """AWS would be asked with nonsense, or its user look for a mistake in the token."""
    encoded = base64.b64encode(b"eyJhbGciOiJub25lIn0.eyJpc3MiOiJ4In0.c2ln\n")
    with pytest.raises(Invalid, match="that are no JSON Web Token: they are one in base64, to be decoded"):
        read_token("r", encoded, "token_file /x")
    with pytest.raises(Invalid, match=r"that are no JSON Web Token$"):
        read_token("r", base64.b64encode(b"hello, hello, hello"), "token_file /x")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("Bearer TOKEN", 'they begin with "Bearer"'),
        ('"TOKEN"', "the quotes are to be left out"),
        ('{"id_token": "TOKEN", "expires_in": 3}', "jq -r .id_token takes out"),
        ('{"count": 1, "value": "TOKEN"}', "jq -r .value"),
        ('{"kind": "TokenRequest", "status": {"token": "TOKEN"}}', "jq -r .status.token"),
        ('{"status": 7, "token": ["TOKEN"]}', "no JSON Web Token"),
    ],
)
def test_what_is_around_a_token_is_named(content, words):
    """The answer of the service that gives it, or a header, in place of the token alone."""
    token = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJ4In0.c2ln"
    with pytest.raises(Invalid) as caught:
        read_token("r", content.replace("TOKEN", token).encode(), "token_file /x")
    assert words in caught.value.message
    assert token not in caught.value.message


@pytest.mark.parametrize(
    ("document", "source", "shape", "advice"),
    [
        ({"Code": "Success", **KEYS, "Token": TOKEN}, "file", "process", 'set format = "imds"'),
        ({"Version": 1, **KEYS, "SessionToken": TOKEN}, "file", "imds", 'set format = "json"'),
        (f"[default]\naws_access_key_id = {KEY}\n".encode(), "file", "process", 'set format = "ini"'),
        (SESSION.document("vault"), "file", "process", 'source = "http"'),
        (SESSION.document("vault"), "http", "container", 'set shape = "vault"'),
        ({"Version": 1, **KEYS, "SessionToken": TOKEN}, "http", "imds", 'set shape = "process"'),
        ({"Credentials": KEYS}, "http", "container", 'source = "assume-role"'),
    ],
    ids=map(str, count()),  # a secret is made for each run
)
def test_each_source_is_told_its_own_setting(document, source, shape, advice):
    assert advice in refused(document, source, shape).partition("→")[2]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({**KEYS, **END}, "no Version, which has to be 1"),
        ({"Version": "1", **KEYS, "SessionToken": TOKEN, **END}, "Version is not 1"),
        ({"Version": 1, **KEYS, "SessionToken": TOKEN}, "no Expiration"),
        ({}, "no Version"),
        ({"errors": "x", "data": 7, "Credentials": []}, "no Version"),
    ],
)
def test_what_is_nearly_the_right_document_is_told_what_it_lacks(document, words):
    assert words in refused(document)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"\n<HTML lang='en'>", "HTML"),
        (b"<?xml version='1.0'?>\n<!DOCTYPE html PUBLIC>", "HTML"),
        (b"<?xml version='1.0'?><Error><Code>x</Code>", "XML (Error)"),
        (b"\xef\xbb\xbf<ErrorResponse xmlns='https://sts.amazonaws.com/doc/2011-06-15/'>", "XML (ErrorResponse)"),
        (b"<samlp:Response>", "XML (samlp:Response)"),
        (b"<path>", "XML (path)"),
        (b"<", "XML"),
        (b"{}", None),
        (b"", None),
    ],
)
def test_xml_is_told_from_html(body, found):
    """Whoever reads HTML looks for a login page; it was AWS that answered."""
    assert markup_of(body) == found


@pytest.mark.parametrize("filler", [b" ", b"\n", b"a", b"A ", b"\n-", b"<", b"{", b"eyJ.", b"export "])
def test_no_text_takes_long(filler):
    """What a service answers is read on the event loop, and may be a megabyte of anything."""
    began = time.process_time()
    for size in (60_000, 900_000):
        refused(b"x" + filler * (size // len(filler)) + b"!")
    assert time.process_time() - began < 0.5


def test_the_name_of_an_element_shows_no_secret():
    assert SECRET[:20] not in (markup_of(f"<{SECRET.replace('/', 'x').replace('+', 'y')}>".encode()) or "")
