"""Sessions that attempts in quick succession share, and what ends that (aws/kept_sessions.py)."""

import asyncio
import os
import sys
import time

import pytest

from imds_proxy.aws import kept_sessions
from imds_proxy.aws.session import AwsChain, find
from imds_proxy.aws.signing_guard import sent_by
from imds_proxy.errors import Invalid

PROFILE = "[{name}]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"
SECRET = "s" * 40


@pytest.fixture
def files(monkeypatch, tmp_path):
    """The AWS files of a test, unchanged for a while, and no AWS setting of whoever runs it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setattr(kept_sessions, "_SETTLED", 0.05)
    (tmp_path / "config").write_text("[profile work]\nregion = eu-west-1\n")
    write(tmp_path / "credentials", "AKIAONE")
    return tmp_path


def write(path, key_id, name="work"):
    path.write_text(PROFILE.format(name=name, key=key_id, secret=SECRET))
    time.sleep(0.1)


async def key_of(chain, profile="work", role="deploy"):
    return (await find(chain, role, profile)).frozen.access_key


@pytest.fixture
def made(monkeypatch):
    """The sessions that were made."""
    sessions, make = [], AwsChain.session

    def noted(*given, **named):
        sessions.append(make(*given, **named))
        return sessions[-1]

    monkeypatch.setattr(AwsChain, "session", noted)
    return sessions


async def test_attempts_in_quick_succession_share_one(files, made):
    """A thousand roles in an outage would have a core made busy by sessions alone."""
    chain = AwsChain()
    assert {await key_of(chain, role=f"role{number}") for number in range(20)} == {"AKIAONE"}
    assert len(made) == 1


@pytest.mark.parametrize("named", ["{}", "$FOLDER/credentials", "~/credentials"])
@pytest.mark.parametrize("how", ["in place", "replaced", "same size and time"])
async def test_a_key_that_is_rotated_on_disk_is_used_by_the_next_attempt(files, monkeypatch, how, named):
    """AWS would refuse the old one, which its owner has deleted."""
    monkeypatch.setenv("FOLDER", str(files))
    monkeypatch.setenv("HOME", str(files))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", named.format(files / "credentials"))
    chain, path = AwsChain(), files / "credentials"
    await key_of(chain)
    if how == "in place":
        write(path, "AKIATWO")
    else:
        write(files / "new", "AKIATWO")
        if how == "same size and time":
            os.utime(files / "new", ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
        (files / "new").rename(path)
    assert await key_of(chain) == "AKIATWO"


async def test_a_key_that_was_rotated_twice_at_once_is_the_last_one(files, monkeypatch):
    """Two changes within the resolution of a file's times look like one."""
    monkeypatch.setattr(kept_sessions, "_SETTLED", 60)
    chain, path = AwsChain(), files / "credentials"
    for number in range(20):
        path.write_text(PROFILE.format(name="work", key=f"AKIA{number:04}", secret=SECRET))
        assert await key_of(chain) == f"AKIA{number:04}"


@pytest.mark.parametrize("name", ["config", "credentials"])
async def test_a_file_that_is_taken_away_or_comes_is_seen(files, name):
    chain = AwsChain()
    assert await key_of(chain) == "AKIAONE"
    (files / name).rename(files / "away")
    if name == "credentials":
        with pytest.raises(Invalid, match=r"AWS_SHARED_CREDENTIALS_FILE names .*credentials, which does not exist"):
            await find(chain, "deploy", "work")
    (files / "away").rename(files / name)
    assert await key_of(chain) == "AKIAONE"


async def test_another_environment_is_another_session(files, monkeypatch):
    """`systemctl set-environment` reaches no running daemon; but what a test or a verb sets counts."""
    chain = AwsChain()
    assert await find(chain, "deploy", None) is None
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert await key_of(chain, None) == "AKIAENV"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENW")
    assert await key_of(chain, None) == "AKIAENW"


async def test_what_a_helper_prints_is_asked_for_each_time(files, made):
    """A helper gives short sessions: one that is kept would be dead."""
    script = files / "helper.py"
    lines = [
        "import json, pathlib",
        f"counter = pathlib.Path({str(files / 'count')!r})",
        "number = len(counter.read_text()) if counter.exists() else 0",
        "counter.write_text('x' * (number + 1))",
        f"print(json.dumps({{'Version': 1, 'AccessKeyId': f'AKIA{{number}}', 'SecretAccessKey': {SECRET!r}}}))",
    ]
    script.write_text("\n".join(lines))
    (files / "config").write_text(f"[profile helper]\ncredential_process = {sys.executable} {script}\n")
    time.sleep(0.1)  # noqa: ASYNC251 - it is settled then
    chain = AwsChain()
    assert [await key_of(chain, "helper") for _ in range(3)] == ["AKIA0", "AKIA1", "AKIA2"]
    assert len(made) == 3


async def test_credentials_that_end_are_read_each_time(files, made, monkeypatch):
    """What renews itself near its end alone would be kept until then, though a newer one is there."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2099-01-01T00:00:00Z")
    chain = AwsChain()
    for _ in range(3):
        await key_of(chain, None)
    assert len(made) == 3


async def test_each_attempt_has_a_guard_of_its_own(files):
    """A message of one role would be cleaned of what another one sent, and not of its own."""
    chain = AwsChain()
    first, second = [await chain.fresh_session("work", role=role) for role in ("one", "two")]
    await first.get_credentials()
    third = await chain.fresh_session("work", role="three")
    assert len({id(sent_by(session)) for session in (first, second, third)}) == 3
    sent_by(first).check("AKIAONE", "secret-of-one", None)
    assert list(sent_by(third)) == []


async def test_one_for_its_settings_is_shared_without_credentials(files, made):
    chain = AwsChain()
    for number in range(5):
        await chain.fresh_session(role=f"role{number}", credentials=False)
    assert len(made) == 1
    assert await chain.fresh_session(role="deploy") is not None
    assert len(made) == 2, "what looks for credentials has its own"


async def test_none_is_kept_when_attempts_are_over(files, monkeypatch):
    """The key of the shared files would be in the memory for good, used or not."""
    monkeypatch.setattr(kept_sessions, "KEPT", 0.2)
    chain = AwsChain()
    await key_of(chain)
    assert chain._sessions._kept
    await asyncio.sleep(0.3)
    assert not chain._sessions._kept


async def test_a_pipe_is_opened_by_botocore_alone(files, monkeypatch):
    """Whoever writes into it once would find that nobody reads."""
    pipe = files / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(pipe))
    writing = asyncio.create_task(asyncio.to_thread(pipe.write_text, "content"))
    await asyncio.sleep(0.1)
    for _ in range(3):
        assert kept_sessions._shape() is None
    assert await asyncio.wait_for(asyncio.to_thread(pipe.read_text), 10) == "content"
    await writing
