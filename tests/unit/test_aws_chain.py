"""What a daemon's AWS chain does with profiles that run programs (aws/session.py)."""

import asyncio
import os

import pytest

from imds_proxy.aws import providers, session
from imds_proxy.aws.session import AwsChain, find
from imds_proxy.errors import Denied, Invalid, Unreachable
from support.sso import START_URL, cached_token


@pytest.fixture
def helper(monkeypatch, tmp_path):
    """`helper(script)` makes that the credential_process of the profile `work`."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))

    def write(script, profile="work", extra=""):
        (tmp_path / "helper").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "helper").chmod(0o755)
        (tmp_path / "config").write_text(f"[profile {profile}]\ncredential_process = {tmp_path}/helper\n{extra}")

    return write


async def gone(pid: str) -> bool:
    for _ in range(100):
        if not os.path.exists(f"/proc/{pid}"):  # noqa: ASYNC240, PTH110 - memory, not a disk
            return True
        await asyncio.sleep(0.05)
    return False


HANGS = "sleep 600 &\necho $! > {mark}\nwait"


async def test_a_helper_that_hangs_is_ended_with_all_it_started(helper, monkeypatch, tmp_path):
    """Every renewal would leave one more process behind."""
    monkeypatch.setattr(providers, "_PROCESS_TIME_LIMIT", 0.5)
    helper(HANGS.format(mark=tmp_path / "pid"))
    with pytest.raises(Unreachable, match=r'role "login": credential_process .*helper: did not end within 0.5 s'):
        await find(AwsChain(), "login", "work")
    assert await gone((tmp_path / "pid").read_text().strip())


async def test_a_helper_is_ended_when_the_whole_takes_too_long(helper, monkeypatch, tmp_path):
    """A stop or reload of the daemon in the middle of a renewal, too, cancels it."""
    monkeypatch.setattr(session, "_TIME_LIMIT", 0.5)
    helper(HANGS.format(mark=tmp_path / "pid"))
    with pytest.raises(Unreachable, match='AWS credentials of profile "work": no answer in time'):
        await find(AwsChain(), "login", "work")
    assert await gone((tmp_path / "pid").read_text().strip())


async def test_the_helper_of_a_source_profile_is_run_the_same_way(helper):
    """botocore makes the provider of a source profile apart from those of the chain."""
    role = "role_arn = arn:aws:iam::123456789012:role/x\nsource_profile = base\nregion = eu-west-1\n"
    helper("echo no luck >&2; exit 3", profile="base", extra=f"[profile work]\n{role}")
    with pytest.raises(Denied, match=r"credential_process .* ended with exit code 3: no luck"):
        await find(AwsChain(), "login", "work")


@pytest.mark.parametrize("end", ["2030-01-01T00:00:00", "soon", "", "9" * 400])
async def test_an_expiry_that_cannot_be_used_is_no_defect_of_ours(helper, end):
    """botocore raises whatever Python raises: the daemon would ask for a report."""
    keys = '"AccessKeyId": "a", "SecretAccessKey": "of somebody", "SessionToken": "c"'
    helper(f'echo \'{{"Version": 1, {keys}, "Expiration": "{end}"}}\'')
    said = "what credential_process printed: Expiration is no time in ISO 8601 with its zone, such as 2026-01-01T"
    with pytest.raises(Invalid, match=said) as raised:
        await find(AwsChain(), "login", "work")
    assert "of somebody" not in raised.value.message


@pytest.mark.parametrize(
    ("printed", "said"),
    [('{"Version": 1, "SecretAccessKey": "of some', "42 bytes that are not JSON"), ("[]", "no JSON object")],
)
async def test_what_a_helper_prints_that_is_no_document_is_named(helper, printed, said):
    helper(f"printf '%s' '{printed}'")
    with pytest.raises(Invalid, match=f"what credential_process printed: {said}") as raised:
        await find(AwsChain(), "login", "work")
    assert "of some" not in raised.value.message


async def test_a_helper_may_print_a_byte_order_mark(helper):
    keys = '"AccessKeyId": "a", "SecretAccessKey": "of-somebody", "SessionToken": "c"'
    helper(f'printf \'\\357\\273\\277{{"Version": 1, {keys}, "Expiration": "2090-01-01T00:00:00Z"}}\'')
    assert (await find(AwsChain(), "login", "work")).frozen.access_key == "a"


@pytest.mark.parametrize("said", ["2030-01-01T00:00:00", "soon"])
async def test_an_end_in_the_environment_is_never_guessed(helper, monkeypatch, said):
    helper("exit 1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "value")
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", said)
    with pytest.raises(Invalid, match="AWS_CREDENTIAL_EXPIRATION in the environment is no time in ISO 8601 with its"):
        await find(AwsChain(), "login", None)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("\ufeff[default]\naws_access_key_id = AKIASECRET\n".encode(), "begins with a byte order mark"),
        ("[default]\naws_access_key_id = AKIASECRET\n".encode("utf-16"), "is not UTF-8 text"),
        (b"[default]\na = AKIASECRET\n[default]\n", r"the same profile twice \(line 3\)"),
        (b"[default]\nAKIASECRET\n", r"neither KEY = VALUE nor \[PROFILE\] \(line 2\)"),
        (b"[default]\ns3 =\n  AKIASECRET\n", "is not read by the AWS SDKs"),
    ],
)
async def test_a_file_that_botocore_does_not_read_is_named(helper, tmp_path, content, said):
    """Nobody would know which file to look at."""
    helper("exit 1")
    (tmp_path / "credentials").write_bytes(content)
    with pytest.raises(Invalid, match=f"{tmp_path}/credentials .*{said}") as raised:
        await find(AwsChain(), "login", None)
    assert raised.value.advice
    assert "AKIASECRET" not in raised.value.message


WEB = """[profile web]
role_arn = arn:aws:iam::123456789012:role/x
web_identity_token_file = {token}
region = eu-west-1
[profile chained]
role_arn = arn:aws:iam::123456789012:role/y
source_profile = web
region = eu-west-1
"""


@pytest.mark.parametrize("profile", ["web", "chained"])
async def test_a_web_identity_token_in_utf_16_is_not_sent(helper, tmp_path, profile):
    """STS would say that it is no token, in words that name no file."""
    helper("exit 1", extra=WEB.format(token=tmp_path / "token"))
    (tmp_path / "token").write_bytes("a.b.c".encode("utf-16"))
    with pytest.raises(Invalid, match=f"names {tmp_path}/token, which is UTF-16 text"):
        await find(AwsChain(), "login", profile)


SSO = """[profile sso]
sso_session = s
sso_account_id = 123456789012
sso_role_name = Role
[profile legacy]
sso_start_url = https://login.example.test/start
sso_region = eu-west-1
sso_account_id = 123456789012
sso_role_name = Role
[sso-session s]
sso_region = eu-west-1
sso_start_url = https://login.example.test/start
[profile chained]
role_arn = arn:aws:iam::123456789012:role/x
source_profile = sso
region = eu-west-1
"""


@pytest.mark.parametrize("profile", ["sso", "legacy", "chained"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[: len(text) // 2], "is half written, or no JSON"),
        (lambda _: "", "is half written, or no JSON"),
        (lambda _: "[]", "holds no JSON object"),
        (lambda text: text.replace("expiresAt", "x"), "has no expiresAt"),
        (lambda text: text.replace("accessToken", "x"), "has no accessToken"),
        (
            lambda text: text.replace('Z"', '"'),
            "has an expiresAt that is no time in ISO 8601 with its zone, such as 2026",
        ),
        (lambda text: text.replace('"SECRET"', "5"), "has an accessToken that is no text"),
    ],
)
async def test_a_token_of_sso_that_is_torn_or_ends_nobody_knows_when_is_named(
    helper, monkeypatch, tmp_path, profile, change, said
):
    """It was a KeyError or a TypeError, and nobody knew that to sign in again mends it."""
    helper("exit 1", extra=SSO)
    monkeypatch.setattr("botocore.credentials.SSOProvider._SSO_TOKEN_CACHE_DIR", str(tmp_path))
    for key in (START_URL, "s"):
        name, content = cached_token("SECRET", key)
        (tmp_path / name).write_text(change(content))
    with pytest.raises(Invalid) as raised:
        await find(AwsChain(), "login", profile)
    assert f"SSO cache {tmp_path}/" in raised.value.message
    assert said in raised.value.message
    assert "SECRET" not in raised.value.message
    assert "aws sso login --profile" in raised.value.advice


async def test_another_document_of_a_helper_is_named(helper):
    """botocore says `<Version key not provided>`, of what is no such document at all."""
    helper("""echo '{"data": {"access_key": "of somebody"}}'""")
    with pytest.raises(Invalid, match=r"credential_process .*helper printed: this is the vault document") as raised:
        await find(AwsChain(), "login", "work")
    assert "of somebody" not in raised.value.message + raised.value.advice


async def test_nothing_is_found_where_there_is_nothing(helper, tmp_path):
    (tmp_path / "config").touch()
    (tmp_path / "credentials").touch()
    assert await find(AwsChain(), "login", None) is None
