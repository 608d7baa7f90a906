"""Where no file is left, every source says that, and not what it was about to do."""

import errno
import socket

import pytest
from botocore import exceptions as boto

from imds_proxy.aws import refusals
from imds_proxy.aws.session import AwsChain
from imds_proxy.aws.signing_guard import signing
from imds_proxy.aws.sts_caller import FromChain
from imds_proxy.callers.grant_token_files import _read_or_make
from imds_proxy.errors import FileError, Unreachable
from imds_proxy.host.file_errors import write_failure
from imds_proxy.host.http_client import WebRequest, ask
from imds_proxy.host.open_files import exhausted
from imds_proxy.host.read_private import read_file
from imds_proxy.host.tls import tls_context
from support.open_files import no_file_left

SAYS = "too many open files (limit "


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
async def test_a_request_over_http(host):
    """The operator would look for the reason at the other end, or in DNS."""
    with no_file_left(), pytest.raises(Unreachable) as found:
        await ask("deploy", WebRequest("GET", f"http://{host}:9/"), timeout=5, direct=True)
    assert SAYS in found.value.message
    assert "LimitNOFILE=" in found.value.advice


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_call_of_sts(host):
    """It was "no HTTP that can be read"."""
    chain = AwsChain()
    session = chain.session(role="deploy")
    session.set_credentials("AKIAEXAMPLE", "x", None)
    call = refusals.Call("deploy", "sts:AssumeRole")
    async with session.create_client("sts", region_name="eu-west-1", endpoint_url=f"http://{host}:9") as sts:
        with signing(session), no_file_left(), pytest.raises((boto.BotoCoreError, OSError)) as caught:
            await sts.get_caller_identity()
        with no_file_left():  # as when it is told: a name that is not found does not say why
            told = refusals.translate(caught.value, call)
    assert isinstance(told, Unreachable)
    assert SAYS in told.message
    assert "LimitNOFILE=" in told.advice


@pytest.mark.parametrize("profile", [None, "default"])
async def test_the_credential_chain(tmp_path, monkeypatch, profile):
    """The operator would look for a profile that is there: botocore takes what it cannot open for an empty file."""
    path = tmp_path / "credentials"
    keys = "[default]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = x\n"
    path.write_text(keys)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    chain = AwsChain()  # one, because the end of another's loop would leave files for this one
    assert await FromChain(profile).base("deploy", chain)
    path.write_text(keys)  # else it need not be read again
    with no_file_left(), pytest.raises(Unreachable) as found:
        await FromChain(profile).base("deploy", chain)
    assert SAYS in found.value.message


def test_a_file(tmp_path):
    """The operator would correct a path that is right."""
    path = tmp_path / "token"
    path.write_text("x")
    with no_file_left(), pytest.raises(Unreachable) as found:
        read_file("deploy", str(path), "token", private=False)
    assert SAYS in found.value.message


def test_a_ca_bundle(tmp_path):
    """It would be called no PEM."""
    path = tmp_path / "ca.pem"
    path.write_text("x")
    with no_file_left(), pytest.raises(Unreachable) as found:
        tls_context("deploy", str(path))
    assert SAYS in found.value.message


def test_a_token_file_and_a_file_that_is_written(tmp_path):
    """The operator would change owners and modes that are right."""
    path = tmp_path / "token"
    path.write_text("x" * 30)
    with no_file_left(), pytest.raises(FileError) as found:
        _read_or_make(path)
    assert SAYS in found.value.message
    why = write_failure(path, OSError(errno.EMFILE, "Too many open files"), {})
    assert SAYS in why.message
    assert "LimitNOFILE=" in why.advice


def test_a_name_that_is_not_found_where_files_are_left_is_just_that():
    """Every typing error in a URL would be blamed on a limit."""
    assert exhausted(socket.gaierror(socket.EAI_NONAME, "Name or service not known")) is None
    with no_file_left():
        assert exhausted(socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")) is not None
