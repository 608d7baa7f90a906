"""Profiles of `aws login` (aws/login.py, aws/login_key.py)."""

import base64
import errno
import hashlib
import os
import sys
import time

import aiobotocore.credentials
import aiohttp
import botocore.config
import botocore.credentials
import botocore.session
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from imds_proxy.aws import guarded_http
from imds_proxy.aws.login_key import LoginKey
from imds_proxy.aws.session import AwsChain, find
from imds_proxy.config.roles import AmbientConfig
from imds_proxy.errors import Denied, Invalid, SourceError, Unreachable
from imds_proxy.host.clock import Clock
from imds_proxy.sources.ambient import Ambient
from support.signin import REFRESH, SESSION, Login, SignIn

ROLE_ARN = "arn:aws:iam::123456789012:role/somebody"
PROFILE = f"[profile work]\nlogin_session = {SESSION}\nregion = eu-west-1\n"


@pytest.fixture
def login(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_LOGIN_CACHE_DIRECTORY", str(tmp_path / "cache"))
    monkeypatch.setattr(botocore.credentials, "EC", None)
    monkeypatch.setattr(aiobotocore.credentials, "EC", None)
    (tmp_path / "config").write_text(PROFILE)
    return Login(tmp_path / "cache", ROLE_ARN)


@pytest.fixture
def signin(login, monkeypatch):
    with SignIn(login) as service:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SIGNIN", service.url)
        yield service
        assert not service.mistakes


async def found(profile="work"):
    return await find(AwsChain(), "r", profile)


async def refused(kind: type[SourceError], profile="work"):
    with pytest.raises(kind) as caught:
        await found(profile)
    assert type(caught.value) is kind
    text = f"{caught.value.message} → {caught.value.advice}"
    assert REFRESH not in text
    return text


async def test_a_session_that_lives_is_taken_from_the_cache(login, signin):
    """A developer's host: they sign in in the browser, and every program here has it."""
    document = login.sign_in()
    session = await found()
    assert session.frozen.access_key == document["accessToken"]["accessKeyId"]
    assert session.frozen.account_id == "123456789012"
    assert (session.method, signin.refreshes) == ("login", 0)
    assert 800 < session.expiration - time.time() <= 900


@pytest.mark.parametrize("life", [-3600, 60])
async def test_one_that_ends_is_refreshed_with_a_proof_of_its_key(login, signin, life):
    """Sessions of aws login live a quarter of an hour; the login itself half a day."""
    before = login.sign_in(life)
    session = await found()
    assert signin.refreshes == 1
    assert session.frozen.access_key != before["accessToken"]["accessKeyId"]
    assert session.frozen.access_key == login.cached()["accessToken"]["accessKeyId"]
    assert 800 < session.expiration - time.time() <= 900
    assert login.path.stat().st_mode & 0o777 == 0o600
    await found()
    assert signin.refreshes == 1


async def test_it_can_be_what_another_profile_starts_from(login, signin, tmp_path):
    """`source_profile` makes a provider of its own."""
    login.sign_in(60)
    role = f"[profile next]\nrole_arn = {ROLE_ARN}\nsource_profile = work\nregion = eu-west-1\n"
    (tmp_path / "config").write_text(PROFILE + role)
    os.environ["AWS_ENDPOINT_URL_STS"] = "http://127.0.0.1:9/"
    try:
        assert "no" in (await refused(Unreachable, "next")).lower()
    finally:
        del os.environ["AWS_ENDPOINT_URL_STS"]
    assert signin.refreshes == 1


async def test_it_is_handed_out_with_its_end(login, signin):
    document = login.sign_in()
    source = Ambient("r", AmbientConfig(source="ambient", profile="work"), AwsChain(), "eu-west-1", Clock())
    credentials = await source.fetch()
    assert credentials.access_key_id == document["accessToken"]["accessKeyId"]
    assert credentials.account_id == "123456789012"


@pytest.mark.parametrize(
    ("error", "words", "advice"),
    [
        ("TOKEN_EXPIRED", "Your session has expired", "aws login --profile work"),
        ("USER_CREDENTIALS_CHANGED", "credentials have changed", "aws login --profile work"),
        ("INSUFFICIENT_PERMISSIONS", "insufficient permissions", "signin:CreateOAuth2Token"),
        ("server_error", "unspecified error", "aws login --profile work"),
    ],
)
async def test_a_login_that_is_over_says_to_log_in(login, signin, error, words, advice):
    login.sign_in(-60)
    signin.refused = error
    text = await refused(Denied)
    assert words in text.partition("→")[0]
    assert advice in text.partition("→")[2]


async def test_who_has_not_logged_in_is_told_to(login):
    text = await refused(Denied)
    assert SESSION in text
    assert "as the user the daemon runs as: aws login --profile work" in text


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"x"'])
async def test_a_cache_that_holds_something_else_says_so(login, content):
    login.sign_in()
    login.path.write_bytes(content)
    assert "aws login --profile work" in await refused(Denied)


@pytest.mark.parametrize("missing", ["accessToken", "refreshToken", "dpopKey", "clientId"])
async def test_a_session_with_something_missing_is_named(login, missing):
    login.sign_in(**{missing: ...})
    assert f"missing required fields: {missing}" in await refused(Denied)


async def test_a_key_of_another_kind_says_to_log_in(login, signin):
    login.sign_in(-60, dpopKey="-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n")
    text = await refused(Denied)
    assert "Unable to load private key" in text
    assert "aws login" in text


async def test_without_the_extra_it_is_named(login, monkeypatch):
    """botocore says to install `botocore[crt]`, into nobody knows which environment."""
    login.sign_in()
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for name in [name for name in sys.modules if name == "imds_proxy.aws.login_key" or "cryptography." in name]:
        monkeypatch.delitem(sys.modules, name)
    text = await refused(Invalid)
    assert 'profile "work" has its credentials by aws login, which needs the Python package cryptography' in text
    assert f"{sys.executable} -m pip install " in text
    assert "crt" not in text


async def test_other_profiles_do_not_need_the_extra(login, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "imds_proxy.aws.login_key", None)
    keys = "aws_access_key_id = AKIAQWERTYUIOPASDFGH\naws_secret_access_key = x\n"
    (tmp_path / "credentials").write_text(f"[other]\n{keys}")
    assert (await found("other")).method == "shared-credentials-file"


async def test_a_cache_that_cannot_be_written_says_so(login, signin, monkeypatch):
    """Under ProtectHome= each refresh would fail, with the network for a reason."""
    login.sign_in(-60)

    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("botocore.utils.tempfile.mkstemp", refuse)
    text = await refused(Invalid)
    assert "it was refreshed, and cannot be saved: Read-only file system" in text
    assert "ReadWritePaths=" in text


async def test_nothing_is_sent_in_the_clear(login, monkeypatch):
    login.sign_in(-60)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SIGNIN", "http://192.0.2.1/")
    assert "would be asked in the clear" in await refused(Invalid)


# The key


def der(key, form=serialization.PrivateFormat.TraditionalOpenSSL):
    return key.private_bytes(serialization.Encoding.DER, form, serialization.NoEncryption())


@pytest.mark.parametrize("form", [serialization.PrivateFormat.TraditionalOpenSSL, serialization.PrivateFormat.PKCS8])
def test_a_key_signs_as_rfc_7518_has_it(form):
    made = ec.generate_private_key(ec.SECP256R1())
    key = LoginKey.new_key_from_der_data(der(made, form))
    x, y = key.get_public_coords()
    assert ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), ec.SECP256R1()).public_key()
    for number in range(50):  # some r or s is shorter than 32 bytes
        text = b"%d" % number
        signature = key.sign(hashlib.sha256(text).digest())
        made.public_key().verify(signature, text, ec.ECDSA(hashes.SHA256()))
        assert len(LoginKey.decode_der_signature_to_padded_pair(signature, pad_to=32)) == 64


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x" * 100,
        der(ec.generate_private_key(ec.SECP384R1())),
        der(rsa.generate_private_key(65537, 2048)),
        base64.b64encode(der(ec.generate_private_key(ec.SECP256R1()))),
    ],
    ids=["nothing", "rubbish", "P-384", "RSA", "base64"],
)
def test_another_key_is_refused_as_botocore_expects(data):
    with pytest.raises(ValueError):  # noqa: PT011 - whatever its words are
        LoginKey.new_key_from_der_data(data)


@pytest.mark.parametrize("region", ["eu-west-1", "us-gov-west-1", "cn-north-1"])
async def test_it_is_refreshed_where_stock_botocore_asks(login, monkeypatch, tmp_path, region):
    """The endpoint has another form than that of other services: a name that is not there."""
    login.sign_in(-60)
    (tmp_path / "config").write_text(PROFILE.replace("eu-west-1", region))
    stock = botocore.session.Session().create_client(
        "signin", region_name=region, config=botocore.config.Config(signature_version=botocore.UNSIGNED)
    )
    wanted = []

    def answered(request, **_):
        wanted.append(request.url)
        return AWSResponse("", 500, {}, None)

    stock.meta.events.register("before-send", answered)
    monkeypatch.setattr(AWSResponse, "content", b"{}")
    with pytest.raises(ClientError):
        stock.create_oauth2_token(tokenInput={"clientId": "x", "grantType": "refresh_token", "refreshToken": "x"})
    monkeypatch.setattr(guarded_http._Careful, "_request", unreachable)
    assert wanted[0] in await refused(Unreachable)


async def unreachable(*_):
    raise aiohttp.ClientConnectionError
