"""What goes into the files that are kept fresh (output_files/formats.py, aws/shared_credentials.py)."""

import codecs
import configparser
import json
import re
import subprocess

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from imds_proxy.aws.shared_credentials import replaced
from imds_proxy.credentials import Credentials, Secret
from imds_proxy.errors import FileError
from imds_proxy.output_files import formats
from imds_proxy.sources.ini import Profile
from support.plane import credentials

NOW = 1_800_000_000.0
HELD = credentials(now=NOW)
FIELDS = {"aws_access_key_id": "AKID", "aws_secret_access_key": "key", "aws_session_token": "token"}
BLOCK = "aws_access_key_id = AKID\naws_secret_access_key = key\naws_session_token = token\n"


def with_secret(value: str) -> Credentials:
    return Credentials("AKID", Secret("key"), Secret(value), NOW + 3600, NOW)


def test_an_ini_file_holds_the_profile_and_when_it_ends():
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(formats.ini(b"", {"default": HELD}).decode())
    assert dict(parser["default"]) == {
        "aws_access_key_id": HELD.access_key_id,
        "aws_secret_access_key": HELD.secret_access_key.reveal(),
        "aws_session_token": HELD.session_token.reveal(),
        "aws_expiration": "2027-01-15T09:00:00Z",
    }


def test_another_daemon_can_take_the_ini_file_as_its_source():
    """A host that gets its credentials by a file would not know when they end."""
    read = Profile("deploy", "the file", None).read(formats.ini(b"", {"deploy": HELD}), NOW)
    assert (read.access_key_id, read.session_token, read.expiration) == (
        HELD.access_key_id,
        HELD.session_token,
        HELD.expiration,
    )


def test_a_json_file_is_the_credential_process_document():
    assert json.loads(formats.document(HELD)) == {
        "Version": 1,
        "AccessKeyId": HELD.access_key_id,
        "SecretAccessKey": HELD.secret_access_key.reveal(),
        "SessionToken": HELD.session_token.reveal(),
        "Expiration": "2027-01-15T09:00:00Z",
    }


def test_an_environment_file_means_the_same_to_a_shell(tmp_path):
    file = tmp_path / "env"
    file.write_bytes(formats.env(HELD))
    shell = ["sh", "-ac", f". {file}; env"]
    seen = subprocess.run(shell, env={}, capture_output=True, text=True, check=True).stdout.splitlines()
    assert f"AWS_SECRET_ACCESS_KEY={HELD.secret_access_key.reveal()}" in seen
    assert set(file.read_text().splitlines()) <= set(seen)
    assert [line.partition("=")[0] for line in file.read_text().splitlines()] == [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_CREDENTIAL_EXPIRATION",
    ]


@pytest.mark.parametrize("value", ["$(reboot)", "a;reboot", "a b", "a\nPATH=/tmp", "`id`", "a'b", 'a"b', "a#b", "ä"])
def test_what_means_something_to_a_shell_does_not_get_into_an_environment_file(value):
    """A broker that was taken over would run commands as root on every host that reads the file."""
    with pytest.raises(FileError) as refused:
        formats.env(with_secret(value))
    assert value not in refused.value.message + refused.value.advice


@pytest.mark.parametrize("value", ["a\n[other]\nx = y", "a b", "a\rb", "ä", "#a", ";a"])
def test_what_is_no_value_of_ini_does_not_get_into_one(value):
    with pytest.raises(FileError):
        formats.ini(b"", {"default": with_secret(value)})


# Other people's lines

END = st.sampled_from(["\n", "\r\n"])
NAME = st.from_regex(r"[a-z][a-z0-9 _.-]{0,8}[a-z0-9]", fullmatch=True)
VALUE = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zs", "Zl", "Zp")), max_size=12)
OPTION = st.builds(
    "{}{}{}".format, st.from_regex(r"[a-z][a-z_]{0,10}", fullmatch=True), st.sampled_from(["=", " = ", ": "]), VALUE
)
COMMENT = st.builds("{}{}".format, st.sampled_from(["# ", "; ", "#"]), VALUE)
BLANK = st.sampled_from(["", " ", "\t"])
NESTED = st.builds("s3 =\n  {} = {}".format, NAME, VALUE)
BODY = st.lists(
    OPTION | COMMENT | BLANK | NESTED, max_size=6, unique_by=lambda line: re.split("[=: ]", line)[0].strip() or object()
)
"""Each key once: else no SDK reads it, and it is refused."""
SECTION = st.tuples(NAME, st.sampled_from(["", " ", "  # x"]), BODY)


@st.composite
def foreign_files(draw):
    """The pieces before and after the place of a profile of ours, each ended or not."""
    end = draw(END)
    sections = draw(st.lists(SECTION, max_size=4, unique_by=lambda section: section[0]))
    assume(all(name not in {"default", "work"} for name, _, _ in sections))
    head = [draw(COMMENT | BLANK) for _ in range(draw(st.integers(0, 2)))]
    pieces = [f"[{name}]{rest}\n" + "".join(f"{line}\n" for line in body) for name, rest, body in sections]
    at = draw(st.integers(0, len(pieces)))
    before, after = "".join(f"{line}\n" for line in head) + "".join(pieces[:at]), "".join(pieces[at:])
    return before.replace("\n", end), after.replace("\n", end), end


@given(foreign_files())
@example(("[a]\nk = v\n\n", "\n[b]\nx = y\n", "\n"))
@example(("# only a comment\r\n", "", "\r\n"))
def test_every_foreign_byte_stays_where_the_profile_is_there(pieces):
    """Somebody's own profiles, comments and ends of lines would be lost half an hour after they were written."""
    before, after, end = pieces
    block = f"[default]{end}" + BLOCK.replace("\n", end)
    old = block.replace("AKID", "OLD").replace("token =", "token=")
    first = replaced(before + old + after, {"default": FIELDS})
    # The line ends of ours are those of the file's first line, which `before` may not have.
    assert first == before + block + after


@given(foreign_files(), st.booleans())
def test_every_foreign_byte_stays_where_the_profile_is_new(pieces, ended):
    before, after, end = pieces
    text = before + after if ended else (before + after).removesuffix(end)
    result = replaced(text, {"default": FIELDS})
    assert result.startswith(text)
    added = result[len(text) :]
    assert added.replace("\r\n", "\n").lstrip("\n") == f"[default]\n{BLOCK}"
    assert replaced(result, {"default": FIELDS}) == result


@given(st.binary(max_size=200))
def test_whatever_is_there_is_kept_or_refused(content):
    """A file of another kind at a path with a typing error would be destroyed."""
    try:
        written = formats.ini(content, {"default": HELD})
    except FileError:
        return
    parser = configparser.RawConfigParser()
    parser.read_string(written.decode("utf-8", "surrogateescape"))
    assert parser["default"]["aws_session_token"] == HELD.session_token.reveal()
    if b"default" not in content:
        assert written.startswith(content.removeprefix(codecs.BOM_UTF8))


def test_several_profiles_of_one_file():
    text = replaced("[work]\nregion = eu-west-1\n", {"default": FIELDS, "work": FIELDS})
    assert text == f"[work]\n{BLOCK}region = eu-west-1\n[default]\n{BLOCK}"


def test_other_keys_of_the_profile_stay_and_old_keys_of_a_session_go():
    """A region that somebody wrote there would be gone, or an expiration of another tool would be believed."""
    old = "[default]\n# mine\nregion = eu-west-1\naws_session_token = a\n  b\nexpiration = 2020\noutput = json\n"
    assert replaced(old, {"default": FIELDS}) == f"[default]\n{BLOCK}# mine\nregion = eu-west-1\noutput = json\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}\n", r"no INI file that can be read: no \[profile\] above the first key \(line 1\)"),
        ("[default\n", "no INI file"),
        ("[a]\nsecret-thing\n", r"neither KEY = VALUE nor \[PROFILE\] \(line 2\)"),
        ("[default]\na = b\n[default]\nc = d\n", r"the same profile twice \(line 3\)"),
        ("[a]\na = b\n[b]\n[a]\nc = d\n", r"the same profile twice \(line 4\)"),
        ("[a]\nk = b\nK: c\n", r"the same key of a profile twice \(line 3\)"),
        ("[a]\ns3 =\n  max = 1\n  secret-thing\n", r"not KEY = VALUE \(line 4\)"),
        ("[ default ]\nregion = x\n", r"\(line 1\) that is profile \"default\" for some SDKs"),
        ("[default] # or [work]\nregion = x\n", r"\(line 1\) that is profile \"default\" for some SDKs"),
        ("[DEFAULT]\naws_security_token = secret-thing\n", r"aws_security_token in \[DEFAULT\] \(line 2\)"),
        ("[default]\nexpiration = 1\n[DEFAULT]\nexpiration = 2\n", r"expiration in \[DEFAULT\] \(line 4\)"),
    ],
)
def test_what_sdks_do_not_read_or_not_as_one_is_refused_with_its_line(text, said):
    """The log would say that the file is written, and every program would fail to read it."""
    with pytest.raises(FileError, match=said) as refused:
        replaced(text, {"default": FIELDS})
    assert refused.value.advice
    assert "secret-thing" not in refused.value.message + refused.value.advice


@pytest.mark.parametrize(
    ("text", "edited"),
    [
        (
            "  [default]\n  aws_access_key_id = old\n  region = x\n  [work]\n  region = y\n",
            f"[default]\n  region = x\n{BLOCK}[work]\n  region = y\n",
        ),
        ("  [default]\nregion = x\n", f"[default]\n{BLOCK}region = x\n"),
        ("  [default]\n\n# x\n  [work]\n  a = b\n", f"[default]\n{BLOCK}\n# x\n[work]\n  a = b\n"),
        ("[default]\n  region = x\n  aws_access_key_id = y\n", f"[default]\n  region = x\n{BLOCK}"),
        (" [a]\n  k = v\n [default]\n  x = 1\n    2\n\n# y", f" [a]\n  k = v\n[default]\n  x = 1\n    2\n{BLOCK}\n# y"),
        ("[default]\n  x = 1", f"[default]\n  x = 1\n{BLOCK}"),
        ("  [work]\n  region = y", f"  [work]\n  region = y\n[default]\n{BLOCK}"),
        ("[a]\nk = v\n  [default]\naws_x = 1\n", f"[a]\nk = v\n  [default]\naws_x = 1\n[default]\n{BLOCK}"),
        ("[default] ; mine\nregion = x", f"[default] ; mine\n{BLOCK}region = x"),
        ("[default]\ns3 =\n  max = 1\nregion = x\n", f"[default]\n{BLOCK}s3 =\n  max = 1\nregion = x\n"),
        ("[default]\naws_access_key_id = 1\naws_access_key_id = 2\n", f"[default]\n{BLOCK}"),
        ("[DEFAULT]\nregion = x\n[default]\n", f"[DEFAULT]\nregion = x\n[default]\n{BLOCK}"),
        ("[DEFAULT]\nregion = x\n", f"[DEFAULT]\nregion = x\n[default]\n{BLOCK}"),
        (
            "[profile default]\nregion = x\n[sso-session s]\n",
            f"[profile default]\n{BLOCK}region = x\n[sso-session s]\n",
        ),
        ('[profile "default"]\nregion = x\n', f'[profile "default"]\n{BLOCK}region = x\n'),
        (
            "[profile default]\nregion = x\n[default]\nregion = y",
            f"[profile default]\nregion = x\n[default]\n{BLOCK}region = y",
        ),
        ("", f"[default]\n{BLOCK}"),
    ],
)
def test_an_unusual_file_is_edited_where_botocore_reads_the_profile(text, edited):
    """A second header below the one that was not seen makes the file unreadable for every SDK."""
    for end in ("\n", "\r\n"):
        found = replaced(text.replace("\n", end), {"default": FIELDS})
        assert found == (edited.replace("\n", end) if "\n" in text else edited)
        assert replaced(found, {"default": FIELDS}) == found


def test_a_byte_order_mark_is_not_written_back():
    """botocore reads no file that begins with one."""
    written = formats.ini("\ufeff[work]\nregion = é\n".encode(), {"default": HELD})
    assert written.startswith("[work]\nregion = é\n[default]\n".encode())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[default]\n".encode("utf-16"), "is UTF-16 text"),
        ("[default]\n".encode("utf-16-be"), "is UTF-16 text"),
    ],
)
def test_text_of_another_encoding_is_refused(content, said):
    with pytest.raises(FileError, match=said):
        formats.ini(content, {"default": HELD})
