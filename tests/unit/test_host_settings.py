"""A broken setting of this host is named as that, and the other roles go on (`check`, and what renews)."""

import asyncio
import os
import re

import pytest

from imds_proxy.aws.session import AwsChain, find
from imds_proxy.cli import check
from imds_proxy.config import reader
from imds_proxy.errors import Denied, Invalid, Unreachable
from imds_proxy.host.clock import Clock
from imds_proxy.sources import factory
from support.certificates import Authority
from support.fixed_answer import fixed_answer

CONFIG = """
[roles.a]
role_arn = "arn:aws:iam::123456789012:role/a"
default = true
[roles.b]
source = "process"
command = ["/bin/false"]
"""
KEY_ID, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


@pytest.fixture
def host(monkeypatch, tmp_path):
    """`host(config=…, credentials=…, NAME=VALUE…)` sets up the AWS settings; nothing listens where STS is."""
    for name in os.environ:
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    environment = {
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL_STS": "https://127.0.0.1:1",
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
    }

    def set_up(config="", credentials="", **more):
        (tmp_path / "config").write_text(config)
        (tmp_path / "credentials").write_text(credentials)
        for name, value in (environment | more).items():
            if value:
                monkeypatch.setenv(name, value)

    return set_up


@pytest.fixture
def checked(tmp_path, capsys):
    """`checked()`: what `imds-proxy check` prints of role a; of b too there is always a line."""

    def run():
        path = tmp_path / "imds-proxy.toml"
        path.write_text(CONFIG)
        assert asyncio.run(check._try_roles(reader.load(path))) == 1
        said = capsys.readouterr().out
        first, second = re.fullmatch(r"(?s)(a  .*?)\n(b  \w+: .*)", said).groups()
        assert "/bin/false" in second
        return first

    return run


def test_what_listens_nowhere_is_unreachable(host, checked):
    """What the others here differ from."""
    host()
    assert re.search(r"a  unreachable: .*connection refused", checked())


ENDS = {"\r": "ends with an end of line", "\r\n": "ends with an end of line", "\u00e9": "holds a space"}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
def test_a_key_that_cannot_be_sent_is_named_by_its_variable(host, checked, name, end):
    """It was called unreachable: check DNS; or a new signature was tried for ever."""
    value = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}.get(name, "FwoGZXIvYXdz")
    host(**{name: value + end})
    said = checked()
    assert "a  invalid: " in said
    assert f"{name} {ENDS[end]}" in said
    assert value not in said


def test_a_quoted_key_is_named_by_its_file(host, checked, tmp_path):
    """An INI file is no shell: the quotes were sent."""
    keys = f'aws_access_key_id = {KEY_ID}\naws_secret_access_key = "{SECRET}"'
    host(credentials=f"[default]\n{keys}\n", AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    assert f"aws_secret_access_key in {tmp_path}/credentials stands in quotes" in checked()


def test_the_key_that_a_profile_assumes_its_role_with_is_looked_at_too(host, checked):
    """botocore signs with that by itself."""
    role = "role_arn = arn:aws:iam::123456789012:role/x\nsource_profile = base\n"
    keys = f"[base]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET} {SECRET}\n"
    host(config=f"[profile work]\n{role}", credentials=keys, AWS_PROFILE="work", AWS_ACCESS_KEY_ID="")
    assert "a  invalid: " in (said := checked())
    assert "the secret key holds a space" in said


PROXIES = [
    ("http://proxy#x:3128", "it holds a #"),
    ("http://user:pa#ss@proxy:3128", "it holds a #"),
    ("http://user:pa/ss@proxy:3128", "its login holds a character"),
    ("http://user:pa?ss@proxy:3128", "its login holds a character"),
    ("http://proxy:99999", "its port is no number from 1 to 65535"),
    ("http://proxy:0", "its port is no number from 1 to 65535"),
    ("http://proxy:port", "its port is no number from 1 to 65535"),
    ("socks5://proxy:1080", "neither http:// nor https://"),
    ('"http://proxy:3128"', "neither http:// nor https://"),
    ("http://pro xy:3128", "it holds a space"),
    ("http://proxy:3128\r", "it holds a space, an end of line"),
    ("http://[::1:3128", "no host name or address"),
    ("http://:3128", "there is no host in it"),
    ("http:/proxy:3128", "no host name or address"),
    ("http://a..b:3128", "no host name or address"),
    (f"http://{'a' * 70}:3128", "no host name or address"),
]


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [*(("HTTPS_PROXY", *case) for case in PROXIES), ("https_proxy", *PROXIES[0])],
)
def test_what_can_be_no_proxy_is_named_by_its_variable(host, checked, variable, value, words):
    host(**{variable: value})
    said = checked()
    assert f"{variable} names no HTTP proxy: " in said
    assert "a  invalid: " in said
    assert words in said
    assert "user" not in said


ENDPOINTS = [
    ("localhost:4566", "does not begin with https://", "as in http://localhost:4566"),
    ("sts.example.com", "does not begin with https://", "as in https://sts.example.com"),
    ("[::1]:4566", "does not begin with https://", "as in http://[::1]:4566"),
    ("https://::1:4566", "IPv6 address that is not in brackets", "https://[::1]:4566"),
    ("https://[::1", "IPv6 address that is not in brackets", "https://[::1]:4566"),
    ("https://host:99999", "a port that is no number", "correct it"),
    ("https://127.0.0.1:1 ", "holds a space", "correct it"),
    ("https://127.0.0.1:1\r", "an end of line", "correct it"),
    ("https://host name", "holds a space", "correct it"),
    ("https://", "has no host name", "correct it"),
    ("ftp://x", "does not begin with https://", "as in https://x"),
    ("'https://sts.example.com'", "does not begin with https://", "as in https://sts.example.com"),
    ("https://user:hunter2@sts.example.com", "holds a user or password", "correct it"),
]


@pytest.mark.parametrize(
    ("variable", "url", "words", "meant"),
    [*(("AWS_ENDPOINT_URL_STS", *case) for case in ENDPOINTS), ("AWS_ENDPOINT_URL", *ENDPOINTS[0])],
)
def test_an_endpoint_that_is_no_url_is_named_by_its_variable(host, checked, variable, url, words, meant):
    """It ended `check` with a traceback, and no other role was tried."""
    host(**{"AWS_ENDPOINT_URL_STS": "", variable: url})
    said = checked()
    assert "a  invalid: " in said
    assert f"{variable} is " in said
    assert words in said
    assert meant in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("[default]\nendpoint_url = localhost:4566\n", "endpoint_url of the AWS profile default is"),
        (
            "[default]\nservices = x\n[services x]\nsts =\n  endpoint_url = localhost:4566\n",
            "endpoint_url of sts in [services x] of the AWS config file is",
        ),
        (
            "[default]\nservices = x\n[services x]\nsts = localhost\n",
            "sts in [services x] of the AWS config file has a value",
        ),
        ("[default]\nservices = y\n", "names [services y], and the AWS config file has no such section"),
    ],
)
def test_an_endpoint_of_a_profile_that_is_no_url_is_named(host, checked, config, words):
    host(config=config, AWS_ENDPOINT_URL_STS="")
    assert words in checked()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("AWS_METADATA_SERVICE_TIMEOUT", "soon", "is no number"),
        ("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "x", "is no number"),
        ("AWS_PROFILE", "work\r", "ends with a space or an end of line"),
    ],
)
def test_another_variable_that_cannot_be_used_is_named(host, checked, name, value, words):
    host(config="[profile work]\nregion = eu-west-1\n", **{name: value})
    said = checked()
    assert "a  invalid: " in said
    assert name in said
    assert words in said


def test_an_endpoint_that_is_to_be_ignored_is(host, checked):
    host(
        AWS_ENDPOINT_URL_STS="localhost:4566",
        AWS_IGNORE_CONFIGURED_ENDPOINT_URLS="true",
        HTTPS_PROXY="http://127.0.0.1:1",
    )
    assert "a  unreachable: " in checked()


def test_the_endpoint_of_a_profile_that_assumes_a_role_is_named(host, checked):
    """botocore makes that client by itself."""
    role = "role_arn = arn:aws:iam::123456789012:role/x\nsource_profile = base\n"
    keys = f"[base]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n"
    settings = {"AWS_PROFILE": "work", "AWS_ACCESS_KEY_ID": "", "AWS_ENDPOINT_URL_STS": "localhost:4566"}
    host(config=f"[profile work]\n{role}", credentials=keys, **settings)
    assert 'AWS_ENDPOINT_URL_STS is "localhost:4566"' in checked()


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", None])
@pytest.mark.parametrize(
    ("content", "words", "advice"),
    [
        (None, "No such file or directory", "correct"),
        ("folder", "it is a folder", "name one file, in PEM"),
        (b"", "it is empty", "put the CA's certificate into it"),
        (b"hello\n", "it holds no CA certificate in PEM", "-----BEGIN CERTIFICATE-----"),
        (Authority().key_pem(), "it holds a private key in PEM", "name a file of CA certificates in PEM"),
        (
            b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
            "holds a certificate in PEM",
            "not complete",
        ),
    ],
)
def test_a_ca_bundle_that_is_none_is_named(host, checked, tmp_path, variable, content, words, advice):
    path = tmp_path / "ca.pem"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    if variable is None:
        host(config=f"[default]\nca_bundle = {path}\n")
    else:
        host(**{variable: str(path)})
    said = checked()
    assert "a  invalid: " in said
    assert f"CA bundle {path} cannot be used: " in said
    assert words in said
    assert f"correct {variable or 'ca_bundle'}" in said
    assert advice in said


TOKENS = [
    (None, "does not exist"),
    ("folder", "is a folder"),
    (b" \n", "is empty"),
    (b"\xff\xfeA\0", "is UTF-16 text"),
    ("é".encode(), "no token"),
]


@pytest.mark.parametrize(("content", "words"), TOKENS)
def test_a_token_file_that_cannot_be_used_is_named(host, checked, tmp_path, content, words):
    path = tmp_path / "token"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    role = "arn:aws:iam::123456789012:role/x"
    host(AWS_ACCESS_KEY_ID="", AWS_WEB_IDENTITY_TOKEN_FILE=str(path), AWS_ROLE_ARN=role)
    said = checked()
    assert "a  invalid: " in said
    assert f"AWS_WEB_IDENTITY_TOKEN_FILE names {path}, which" in said
    assert words in said


@pytest.mark.parametrize("variable", ["AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"])
def test_an_aws_file_that_may_not_be_read_is_named(host, monkeypatch, tmp_path, variable):
    """botocore takes it for an empty one: "no AWS credentials"."""
    host(AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    theirs, opened = os.environ[variable], os.open

    def refused(path, *given, **named):
        if path == theirs:
            raise PermissionError(13, "Permission denied", path)
        return opened(path, *given, **named)

    monkeypatch.setattr(os, "open", refused)  # root may read everything
    with pytest.raises(Denied, match=f"{variable} names {theirs}, which may not be read by this user") as raised:
        asyncio.run(find(AwsChain(), "a", None))
    assert "let the user the daemon runs as" in raised.value.advice
    with pytest.raises(Denied, match="may not be read by this user"):
        asyncio.run(find(AwsChain(), "a", "missing"))


def test_an_aws_file_that_is_not_there_is_named(host, tmp_path):
    host(AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    (tmp_path / "credentials").unlink()
    with pytest.raises(
        Invalid, match=f"AWS_SHARED_CREDENTIALS_FILE names {tmp_path}/credentials, which does not exist"
    ):
        asyncio.run(find(AwsChain(), "a", None))


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyError("x"), OSError("x"), RecursionError(), AssertionError()])
def test_whatever_a_source_raises_the_other_roles_are_tried(host, checked, monkeypatch, error):
    """One line per role, always."""

    def raises(*_):
        raise error

    host()
    monkeypatch.setattr("imds_proxy.sources.assume_role.AssumeRole.fetch", raises)
    assert f'a  invalid: role "a": unexpected {type(error).__name__}' in checked()


async def test_a_source_that_cannot_be_made_leaves_the_others_alone(host, monkeypatch, tmp_path):
    """The daemon did not start."""
    host(AWS_METADATA_SERVICE_TIMEOUT="soon")
    (tmp_path / "imds-proxy.toml").write_text(CONFIG)
    config = reader.load(tmp_path / "imds-proxy.toml")
    sources = factory.SourceFactory(Clock())
    sources.prepare(config)
    monkeypatch.setattr("imds_proxy.sources.assume_role.make", lambda *_: 1 / 0)
    with pytest.raises(Invalid, match='role "a": unexpected ZeroDivisionError'):
        await sources.make("a", config.roles["a"], lambda: None).fetch()
    with pytest.raises(Denied, match='role "b": command /bin/false'):
        await sources.make("b", config.roles["b"], lambda: None).fetch()


BODIES = [b"", b"Bad gateway", b"<!DOCTYPE html><p>Bad", b"<html lang=en>no</html>", b"<?xml version='1.0'?><Err", b"{"]
FAULTS = [*((502, body) for body in BODIES), (500, b"Bad"), (503, b"{}"), (504, b"")]


@pytest.mark.parametrize(("status", "body"), FAULTS)
def test_a_fault_of_the_service_is_no_setting_of_the_host(host, checked, status, body):
    """ "check sts_endpoint and the proxy", for what is over in a minute."""
    with fixed_answer(status, body) as url:
        host(AWS_ENDPOINT_URL_STS=url)
        said = checked()
    assert "a  unreachable: " in said
    assert "nothing here: AWS has a fault of its own" in said
    assert Unreachable.outcome in said
