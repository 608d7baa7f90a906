"""What looks like a key id and what like a secret (access_key.py), and where a swapped pair is refused."""

import json
import random
import string
from dataclasses import replace

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.access_key import are_swapped, hint, looks_secret
from imds_proxy.aws.session import AwsChain, find
from imds_proxy.aws.signing_guard import signing
from imds_proxy.base_key.access_keys import KeyPair
from imds_proxy.base_key.key_file import CredentialsFile
from imds_proxy.codedeploy import agent_credentials as agent_file
from imds_proxy.codedeploy.api import CodeDeploy
from imds_proxy.credentials import Credentials, Secret
from imds_proxy.errors import ConfigError, Denied, Invalid
from imds_proxy.host.clock import Clock
from imds_proxy.sources import Source, obtain
from support.saved import saved_sessions, shape

KEY_ID = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
PLAIN_SECRET = "wJalrXUtnFEMIxK7MDENGxbPxRfiCYEXAMPLEKEY"
BASE64 = string.ascii_letters + string.digits + "+/"
SWAPPED = "are the two swapped?"

chance = st.integers(0, 2**64).map(random.Random)


def drawn(alphabet, length):
    return chance.map(lambda by: "".join(by.choices(alphabet, k=length)))


@given(secret=drawn(BASE64, 40))
def test_every_secret_key_is_seen_in_the_place_of_an_id(secret):
    """The commonest mistake of all would send the secret in the clear, to be repeated in a refusal."""
    assert looks_secret(secret)
    assert hint(secret) == "***"


@given(token=st.integers(129, 1500).flatmap(lambda length: drawn(BASE64, length)))
def test_a_session_token_is_seen_in_the_place_of_an_id(token):
    assert looks_secret(token)


@given(
    prefix=st.sampled_from(["AKIA", "ASIA"]),
    rest=drawn(string.ascii_uppercase + "234567", 16),
    secret=drawn(BASE64, 40),
)
def test_no_pair_as_aws_makes_it_is_refused(prefix, rest, secret):
    """A pair that works must not be refused once in a million hosts."""
    assert not are_swapped(prefix + rest, secret)
    assert hint(prefix + rest) == rest[-4:]
    assert are_swapped(secret, prefix + rest)
    assert are_swapped("test", prefix + rest)


@pytest.mark.parametrize(
    "key_id",
    [
        "test",
        "minioadmin",
        "foobar_key",
        "000000000000",
        "LKIAQAAAAAAAN5JGQZ5H",
        "a/b+c",
        "0123456789abcdef0123456789abcdef",
        "a9993e364706816aba3e25717850c26c9cd0d89d",
        "AKIA" + "Z" * 124,
    ],
)
def test_ids_of_doubles_and_other_makers_stay_usable(key_id):
    """Whoever tries this against LocalStack or MinIO has an id that AWS would never make."""
    assert not are_swapped(key_id, "test")
    assert not are_swapped(key_id, SECRET)


@pytest.mark.parametrize(
    "swapped", [SECRET, PLAIN_SECRET, SECRET[:-1], SECRET[:20], PLAIN_SECRET[:-1], "IQoJb3JpZ2lu" * 20]
)
def test_a_secret_that_was_cut_or_has_no_slash_is_seen_too(swapped):
    assert are_swapped(swapped, KEY_ID)
    assert are_swapped(swapped, "anything")


def credentials(key_id=SECRET, secret=KEY_ID):
    return Credentials(key_id, Secret(secret), Secret("t" * 100), 2e9, 1e9)


def test_no_repr_shows_the_end_of_a_secret():
    assert repr(credentials()).startswith("Credentials(…***,")
    assert repr(KeyPair(SECRET, Secret(KEY_ID))) == "KeyPair(…***)"


def hides(error):
    """Neither of the two, nor a piece of the secret, is in it."""
    text = f"{error} {error!r} {getattr(error, 'advice', '')}"
    assert SWAPPED in text
    assert KEY_ID not in text
    assert not [at for at in range(len(SECRET) - 4) if SECRET[at : at + 5] in text]


class Handout(Source):
    async def fetch(self):
        return credentials()


async def test_what_a_source_hands_out_swapped_is_refused():
    """Every source's credentials come through here: they would be served, called AWS with, and their end shown."""
    with pytest.raises(Denied) as raised:
        await obtain("deploy", Handout(), Clock(lambda: 1e9))
    hides(raised.value)


def test_what_was_saved_swapped_is_not_taken_up_again(tmp_path):
    """Its last four characters are the end of a secret."""
    saved = saved_sessions(tmp_path)
    for made, is_taken in ((credentials(), False), (credentials(KEY_ID, SECRET), True)):
        pair = replace(made, expiration=made.obtained + 3600)
        saved.save("deploy", shape(), pair)
        assert (saved.load("deploy", shape(), pair.obtained + 1) is not None) is is_taken


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An AWS configuration of this test's alone; nothing can be reached."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    return tmp_path


def ways(home, monkeypatch):
    """Every way into the daemon's own chain, by name; None is the environment."""
    pair = f"aws_access_key_id = {SECRET}\naws_secret_access_key = {KEY_ID}\n"
    printed = {"Version": 1, "AccessKeyId": SECRET, "SecretAccessKey": KEY_ID}
    (home / "printed.json").write_text(json.dumps(printed))
    role = "role_arn = arn:aws:iam::123456789012:role/Deploy\nregion = eu-west-1\n"
    (home / "credentials").write_text(f"[file]\n{pair}")
    (home / "config").write_text(
        f"[profile config]\n{pair}"
        f"[profile printed]\ncredential_process = cat {home}/printed.json\n"
        f"[profile chained]\n{role}source_profile = file\n"
        f"[profile chained-process]\n{role}source_profile = printed\n"
        f"[profile chained-environment]\n{role}credential_source = Environment\n"
    )
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", SECRET)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY_ID)
    return [None, "file", "config", "printed", "chained", "chained-process", "chained-environment"]


async def test_the_chain_refuses_a_swapped_pair_wherever_it_stands(home, monkeypatch):
    """A profile that assumes a role sends its source's key before this daemon has seen it."""
    for profile in ways(home, monkeypatch):
        with pytest.raises(Denied) as raised:
            await find(AwsChain(), "deploy", profile, "eu-west-1")
        hides(raised.value)


def test_an_operators_swapped_pair_is_sent_nowhere(home, monkeypatch):
    """`codedeploy --profile` reads the operator's keys with botocore's own chain."""
    for profile in ways(home, monkeypatch):
        with pytest.raises(Denied) as raised:
            CodeDeploy(profile, "eu-west-1").call("GetOnPremisesInstance", instanceName="web1")
        hides(raised.value)


async def test_a_session_without_a_profile_is_watched_too():
    """Whoever adds a call to AWS gets the refusal with the session."""
    session = AwsChain().session(role="deploy")
    session.set_credentials(SECRET, KEY_ID)
    async with session.create_client("sts", region_name="eu-west-1", endpoint_url="http://127.0.0.1:9") as sts:
        with signing(session), pytest.raises(Denied) as raised:
            await sts.get_caller_identity()
    hides(raised.value)


async def test_a_call_outside_of_signing_sends_nothing():
    """It would be watched by nobody, or signed with another role's key."""
    session = AwsChain().session(role="deploy")
    session.set_credentials(KEY_ID, SECRET)
    async with session.create_client("sts", region_name="eu-west-1", endpoint_url="http://127.0.0.1:9") as sts:
        with pytest.raises(LookupError):
            await sts.get_caller_identity()


def test_a_base_key_that_is_swapped_is_not_read(tmp_path):
    """Rotation would ask IAM with it, and name it by the end of the secret."""
    path = tmp_path / "credentials"
    path.touch(0o600)
    path.write_text(f"[default]\naws_access_key_id = {SECRET}\naws_secret_access_key = {KEY_ID}\n")
    with pytest.raises(Invalid) as raised:
        CredentialsFile(path, "default").read()
    hides(raised.value)


def test_the_agents_file_with_a_swapped_pair_is_a_finding(tmp_path):
    path = tmp_path / "credentials"
    path.write_text(f"[default]\naws_access_key_id={SECRET}\naws_secret_access_key={KEY_ID}\naws_session_token=t\n")
    with pytest.raises(ConfigError) as raised:
        agent_file.load(path)
    hides(raised.value)


async def test_a_double_with_any_id_works(home, monkeypatch):
    """Trying it out against LocalStack is how many begin."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    found = await find(AwsChain(), "deploy", None, "eu-west-1")
    assert found.frozen.access_key == "test"
    assert botocore.session.Session().get_credentials().access_key == "test"
