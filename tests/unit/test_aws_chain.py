"""What a daemon's AWS chain does with profiles that run programs (sources/aws_chain.py)."""

import asyncio
import os

import pytest

from imds_proxy.errors import Denied, Invalid, Unreachable
from imds_proxy.sources import aws_chain
from imds_proxy.sources.aws_chain import AwsChain, find


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
    monkeypatch.setattr(aws_chain, "_PROCESS_TIME_LIMIT", 0.5)
    helper(HANGS.format(mark=tmp_path / "pid"))
    with pytest.raises(Unreachable, match=r'role "login": credential_process .*helper: did not end within 0.5 s'):
        await find(AwsChain(), "login", "work")
    assert await gone((tmp_path / "pid").read_text().strip())


async def test_a_helper_is_ended_when_the_whole_takes_too_long(helper, monkeypatch, tmp_path):
    """A stop or reload of the daemon in the middle of a renewal, too, cancels it."""
    monkeypatch.setattr(aws_chain, "_TIME_LIMIT", 0.5)
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
    with pytest.raises(Invalid, match="what was found cannot be used") as raised:
        await find(AwsChain(), "login", "work")
    assert "of somebody" not in raised.value.message


async def test_nothing_is_found_where_there_is_nothing(helper):
    assert await find(AwsChain(), "login", None) is None
