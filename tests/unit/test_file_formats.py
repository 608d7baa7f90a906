"""`source = "file"`: the formats, and how long a session lives (sources/file.py, sources/ini.py)."""

import asyncio
import json
import os
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from imds_proxy.aws.ini_text import EXPIRATIONS
from imds_proxy.config.roles import FileConfig
from imds_proxy.errors import Denied, Invalid, SourceError
from imds_proxy.host.clock import Clock
from imds_proxy.sources import Context, obtain
from imds_proxy.sources.file import make

ARN = "arn:aws:iam::123456789012:role/Deploy"
SECRET, TOKEN = "s" * 20 + "/+%1$(x)s" + "s" * 11, "t" * 90 + "=="


def iso(seconds):
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def json_document(**changes):
    fields = {"Version": 1, "AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": SECRET, "SessionToken": TOKEN}
    fields = fields | {"Expiration": iso(time.time() + 3600)} | changes
    return json.dumps({name: value for name, value in fields.items() if value is not None})


def imds_document(**changes):
    fields = {"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": SECRET}
    fields = fields | {"Token": TOKEN, "Expiration": iso(time.time() + 3600)} | changes
    return json.dumps({name: value for name, value in fields.items() if value is not None})


def ini(profile="default", **changes):
    fields = {"aws_access_key_id": "ASIAEXAMPLE", "aws_secret_access_key": SECRET, "aws_session_token": TOKEN}
    fields = fields | {EXPIRATIONS[0]: iso(time.time() + 3600)} | changes
    lines = [f"{name} = {value}" for name, value in fields.items() if value is not None]
    return "\n".join([f"[{profile}]", *lines, ""])


class File:
    """A credentials file and its source."""

    def __init__(self, path, **settings):
        self.path = path
        options = FileConfig.model_validate({"source": "file", "path": str(path), **settings})
        self.clock = Clock()
        self.source = make("deploy", options, Context(self.clock, lambda: None, None, lambda: None))

    def write(self, content, *, age=60.0):
        """Replace the file by one that was written `age` seconds ago."""
        self.path.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.path.chmod(0o600)
        os.utime(self.path, (time.time() - age,) * 2)
        return self

    def fetch(self):
        return asyncio.run(obtain("deploy", self.source, self.clock))

    def refused(self, error=Invalid):
        """Why; the message says where, and holds no secret."""
        with pytest.raises(error) as caught:
            self.fetch()
        assert 'role "deploy"' in caught.value.message
        assert str(self.path) in caught.value.message
        assert caught.value.advice
        assert not any(secret in caught.value.message for secret in ("sssss", "ttttt", "ASIAEXAMPLE"))
        return caught.value


@pytest.fixture
def file(tmp_path, monkeypatch):
    """`file(**settings)`; what makes no sense is not given time to become whole."""
    monkeypatch.setattr("imds_proxy.sources.file._STILL_BEING_WRITTEN", 0.0)
    return lambda **settings: File(tmp_path / "credentials", **settings)


def assert_is_the_session(found):
    assert found.access_key_id == "ASIAEXAMPLE"
    assert found.secret_access_key.reveal() == SECRET
    assert found.session_token.reveal() == TOKEN
    assert found.expiration == pytest.approx(time.time() + 3600, abs=5)
    assert found.obtained == pytest.approx(time.time() - 60, abs=5)


# Formats


@pytest.mark.parametrize(
    ("content", "settings"),
    [
        (json_document, {}),
        (json_document, {"format": "json"}),
        (imds_document, {"format": "imds"}),
        (ini, {"format": "ini"}),
        (lambda: ini("web"), {"format": "ini", "profile": "web"}),
        (lambda: ini("profile web"), {"format": "ini", "profile": "web"}),
        (lambda: "\ufeff" + json_document(), {}),
        (lambda: "\ufeff" + imds_document(), {"format": "imds"}),
    ],
)
def test_each_format_is_read(file, content, settings):
    assert_is_the_session(file(**settings).write(content()).fetch())


def test_the_role_is_what_the_config_says(file):
    assert file(role_arn=ARN).write(json_document()).fetch().role_arn == ARN


@pytest.mark.parametrize(
    ("content", "settings", "says"),
    [
        ("", {}, "nothing"),
        (json_document()[:-5], {}, "not JSON"),
        (imds_document(), {}, "this is the imds document"),
        (ini(), {}, "not JSON"),
        (json_document(SessionToken=None), {}, "long-lived keys"),
        (json_document(Expiration=None), {}, "nobody knows when these end"),
        (
            json_document(Expiration="2030-01-01T00:00:00"),
            {},
            "Expiration is no time in ISO 8601 with its zone, such as 20",
        ),
        (imds_document(Expiration="2030-01-01"), {"format": "imds"}, "Expiration is no time in ISO 8601 with its zone"),
        (json_document().encode("utf-16"), {}, "is UTF-16 text"),
        (json_document(Expiration=iso(time.time() - 60)), {}, "dead since"),
        (json_document(Expiration="2524-01-01T00:00:00Z"), {}, "a life of"),
        (imds_document(SecretAccessKey=None), {"format": "imds"}, "SecretAccessKey is missing"),
        (json_document(), {"format": "imds"}, "this is the process document"),
    ],
)
def test_another_document_is_refused_in_words(file, content, settings, says):
    subject = file(**settings).write(content)
    with pytest.raises(Invalid) as caught:
        subject.fetch()
    assert says in caught.value.message
    assert "sssss" not in caught.value.message


def test_a_document_that_says_it_has_none_is_a_denial(file):
    """What writes it was refused itself."""
    said = json.dumps({"Code": "AssumeRoleUnauthorizedAccess", "Message": SECRET})
    assert "AssumeRoleUnauthorizedAccess" in file(format="imds").write(said).refused(Denied).message


def test_others_must_not_read_it(file):
    """Every user of the host would have the role."""
    subject = file().write(json_document())
    subject.path.chmod(0o644)
    assert subject.refused().advice.startswith("chmod 600")


@pytest.mark.parametrize("make_it", ["unlink", "folder", "fifo", "large"])
def test_what_is_no_such_file_is_refused(file, make_it):
    subject = file().write(json_document() + " " * ((10 << 20) if make_it == "large" else 0))
    if make_it != "large":
        subject.path.unlink()
    if make_it == "folder":
        subject.path.mkdir()
    if make_it == "fifo":
        os.mkfifo(subject.path, 0o600)
    says = {"unlink": "cannot be read: No such file", "large": "larger than 1 MB"}
    assert says.get(make_it, "is not a regular file") in subject.refused().message


# INI


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "# comment\n; another\n\n" + text.replace("\n", "\n# key = value\n"),
        lambda text: text.replace(" = ", "="),
        lambda text: text.replace(" = ", " : "),
        lambda text: text.replace("aws_", "AWS_"),
        lambda text: text.replace("aws_session_token", "aws_security_token"),
        lambda text: text + "region = eu-west-1\nx_principal_arn = arn:aws:sts::1:x\ns3 =\n  max = 1\n",
        lambda text: "[other]\naws_access_key_id = AKIAOTHER\n" + text + "[more]\naws_session_token = other\n",
        lambda text: text.rstrip("\n"),
    ],
)
def test_ini_files_are_written_in_many_ways(file, change):
    assert_is_the_session(file(format="ini").write(change(ini())).fetch())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "no such profile in it; there are: none"),
        (ini("a") + ini("profile b"), "there are: a, b"),
        (ini() + ini(), "the same profile twice (line 6)"),
        (ini() + "aws_session_token = ttttt\n", "the same key twice (line 6)"),
        ("aws_session_token = ttttt\n" + ini(), "no [profile] above the first key (line 1)"),
        (ini() + "ttttt\n", "neither KEY = VALUE nor [PROFILE] (line 6)"),
        (ini().encode() + b"\xff", "is not UTF-8 text, perhaps Latin-1 (ISO 8859-1, Windows-1252) (line 6)"),
        (ini().encode("utf-16"), "is UTF-16 text"),
        (ini().encode("utf-16-le"), "is UTF-16 text"),
        (json_document(), "no [profile] above the first key"),
        (ini(aws_access_key_id=None), "aws_access_key_id is missing"),
        (ini(aws_secret_access_key=""), "aws_secret_access_key is missing"),
        (ini(aws_session_token=None), "no aws_session_token, so these are long-lived keys"),
        (ini(aws_session_token="ttttt\n  ttttt"), "aws_session_token is not what AWS has there"),
        (ini(aws_secret_access_key="ssss sssss"), "aws_secret_access_key is not what AWS has there"),
    ],
)
def test_what_is_no_session_in_an_ini_file_is_said_without_the_line(file, content, says):
    """A line of this file is a secret."""
    assert says in file(format="ini").write(content).refused().message


# When a session in an INI file ends


@pytest.mark.parametrize("key", EXPIRATIONS)
def test_every_key_that_login_programs_write_is_understood(file, key):
    found = file(format="ini").write(ini(**({EXPIRATIONS[0]: None} | {key: iso(time.time() + 900)}))).fetch()
    assert found.expiration == pytest.approx(time.time() + 900, abs=5)


ZONE = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    "form",
    [
        lambda moment: moment.isoformat(),  # gimme-aws-creds
        lambda moment: moment.astimezone(ZONE).isoformat(timespec="seconds"),  # saml2aws
        lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%S%z"),  # aws-google-auth
        lambda moment: moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),  # aws-azure-login
        lambda moment: moment.isoformat(" "),
    ],
)
def test_every_way_that_login_programs_write_a_time_is_understood(file, form):
    """Hours more or less: dead credentials served, or good ones refused."""
    moment = datetime.fromtimestamp(int(time.time()) + 900, UTC)
    found = file(format="ini").write(ini(**{EXPIRATIONS[0]: form(moment)})).fetch()
    assert found.expiration == moment.timestamp()


def test_of_several_ends_the_soonest_counts(file):
    """One program may leave another's key behind."""
    soon, late = iso(time.time() + 900), iso(time.time() + 3600)
    found = file(format="ini").write(ini(expiration=soon, aws_expiration=late)).fetch()
    assert found.expiration == pytest.approx(time.time() + 900, abs=5)


@pytest.mark.parametrize(
    "said", [None, "2030-01-01 12:00:00", "2030-01-01T12:00:00", "soon", "1900000000", "2030-13-01Z"]
)
def test_an_end_is_never_guessed(file, said):
    """aws-mfa means UTC by a time without a zone, and AWSume the host's: one of them would be served dead."""
    error = file(format="ini").write(ini(**{EXPIRATIONS[0]: None}, expiration=said)).refused()
    assert ("nobody knows when this session ends" if said is None else "is no time in ISO 8601") in error.message
    assert "lifetime" in error.advice


@pytest.mark.parametrize("said", [None, "2030-01-01 12:00:00"])
def test_a_lifetime_counts_from_when_the_file_was_written(file, said):
    """Credentials that were an hour old when the daemon started would be served for an hour after their end."""
    subject = file(format="ini", lifetime="1h").write(ini(**{EXPIRATIONS[0]: None}, expiration=said), age=900)
    found = subject.fetch()
    assert found.expiration == pytest.approx(time.time() + 2700, abs=5)
    assert found.obtained == pytest.approx(time.time() - 900, abs=5)


def test_a_lifetime_is_over_for_an_old_file(file):
    text = ini(**{EXPIRATIONS[0]: None})
    for age in (3700, 30 * 86400):
        with pytest.raises(Invalid, match="dead since"):
            file(format="ini", lifetime="1h").write(text, age=age).fetch()


def test_the_end_in_the_file_goes_before_the_lifetime(file):
    found = file(format="ini", lifetime="6h").write(ini()).fetch()
    assert found.expiration == pytest.approx(time.time() + 3600, abs=5)


def test_writing_the_same_session_again_does_not_make_it_live_longer(file):
    """A file with several profiles is rewritten for each of them; and a stuck writer would hide that it is stuck."""
    text = ini(**{EXPIRATIONS[0]: None})
    subject = file(format="ini", lifetime="1h").write(text, age=1800)
    first = subject.fetch()
    assert subject.write(text, age=0).fetch().expiration == first.expiration
    other = subject.write(text.replace("ASIAEXAMPLE", "ASIAEXAMPLF"), age=0).fetch()
    assert other.expiration == pytest.approx(time.time() + 3600, abs=5)


def test_a_date_in_the_future_gives_no_lifetime(file):
    """A clock that is off, or a date that was copied: the session's end would be made up."""
    subject = file(format="ini", lifetime="1h").write(ini(**{EXPIRATIONS[0]: None}), age=-600)
    assert "changed in the future" in subject.refused().message
    assert subject.write(ini(**{EXPIRATIONS[0]: None}), age=-2).fetch()  # a file server's clock


@pytest.mark.parametrize("age", [-600, 30 * 86400, 1.7e9])
def test_a_date_that_says_nothing_about_the_session_is_not_its_beginning(file, age):
    """A file from an archive would look as if its session were nearly over, and be asked for each second."""
    found = file().write(json_document(), age=age).fetch()
    assert found.obtained == pytest.approx(time.time(), abs=5)


# While it is being written


async def test_half_a_file_is_given_time_to_become_whole(tmp_path):
    """A renewal that falls into a write would count as a failure, and wake somebody."""
    subject = File(tmp_path / "credentials")
    text = json_document()
    subject.write(text[:40])

    async def write_the_rest():
        for end in (80, 120, len(text)):
            await asyncio.sleep(0.6)
            subject.write(text[:end])

    writing = asyncio.create_task(write_the_rest())
    found = await subject.source.fetch()
    await writing
    assert found.access_key_id == "ASIAEXAMPLE"


async def test_a_file_that_stays_torn_is_said_to_be(tmp_path):
    subject = File(tmp_path / "credentials").write(json_document()[:40])
    began = time.monotonic()
    with pytest.raises(Invalid, match="not JSON"):
        await subject.source.fetch()
    assert 1.5 < time.monotonic() - began < 3.5


async def test_a_writer_that_does_not_end_does_not_hold_it_up(tmp_path, monkeypatch):
    """The role would never say that something is wrong."""
    monkeypatch.setattr("imds_proxy.sources.file._PATIENCE", 1.0)
    subject = File(tmp_path / "credentials")

    async def write_for_ever():
        while True:
            subject.write("{")
            await asyncio.sleep(0.05)

    writing = asyncio.create_task(write_for_ever())
    await asyncio.sleep(0)
    began = time.monotonic()
    with pytest.raises(SourceError):
        await subject.source.fetch()
    assert time.monotonic() - began < 3
    writing.cancel()
