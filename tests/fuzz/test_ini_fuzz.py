"""Files that botocore reads, written in every way that it takes: after an edit it reads the same, and what is ours."""

import re
import tempfile
from pathlib import Path

import pytest
from botocore.configloader import raw_config_parse
from botocore.exceptions import ConfigParseError
from hypothesis import assume, given
from hypothesis import strategies as st

from imds_proxy.aws.shared_credentials import _OURS
from imds_proxy.base_key.access_keys import KeyPair
from imds_proxy.base_key.key_file import CredentialsFile
from imds_proxy.credentials import Secret
from imds_proxy.errors import FileError, SourceError
from imds_proxy.output_files import formats
from support.fuzzing import changed, examples, outcome
from support.plane import credentials

HELD = credentials(now=1_800_000_000.0)
WRITTEN = {
    "aws_access_key_id": HELD.access_key_id,
    "aws_secret_access_key": HELD.secret_access_key.reveal(),
    "aws_session_token": HELD.session_token.reveal(),
    "aws_expiration": "2027-01-15T09:00:00Z",
}
OLD, NEW = KeyPair("AKIAOLDOLDOLDOLDOLD1", Secret("o" * 40)), KeyPair("AKIANEWNEWNEWNEWNEW1", Secret("n" * 40))

INDENT = st.sampled_from(["", "", "", " ", "  ", "    ", "\t", "\u3000", "\x85", "\x0c"])
HEADERS = """[default]|[ default ]|[work]|[DEFAULT]|[profile default]|[profile 'work']|[default] # x|[default]x|[a]]
[[a]|[default] [x]|[]|[default|[sso-session x]|[profile]|[Default]|[profile "]"""
HEADER = st.sampled_from(re.split(r"\||\n", HEADERS))
KEYS = """aws_access_key_id|AWS_SECRET_ACCESS_KEY|aws_session_token|aws_security_token|expiration|aws_expiration|region
s3|[x|a b|%(x)s|é"""
KEY = st.sampled_from(re.split(r"\||\n", KEYS))
OPTION = st.builds(
    "{}{}{}".format,
    KEY,
    st.sampled_from(["=", " = ", ":", " : ", "=\t", " =\n  x = ", " =\n\n  ", "=\n "]),
    st.sampled_from(["", "v", "a = b", "[default]", "# x", OLD.id, OLD.secret.reveal(), "x ; y"]),
)
OTHER = st.sampled_from(["", " ", "# [default]", "; aws_access_key_id = x", "#", "\u2028", "word", "= v"])
LINE = st.builds("{}{}".format, INDENT, HEADER | OPTION | OPTION | OTHER)
TEXT = st.builds(
    lambda mark, lines, ends: mark + "".join(line + end for line, end in zip(lines, ends, strict=False)),
    st.sampled_from(["", "", "", "\ufeff"]),
    st.lists(LINE, max_size=14),
    st.lists(st.sampled_from(["\n", "\n", "\n", "\r\n", "\r", ""]), min_size=14, max_size=14),
).map(str.encode)
KEY_FILE = f"  [default]\n  aws_access_key_id = {OLD.id}\n  aws_secret_access_key: {OLD.secret.reveal()}\n".encode()


def read(content: bytes):
    """What botocore reads from such a file, with what [DEFAULT] says only where a profile inherits it."""
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(content)
        return raw_config_parse(file.name, parse_subsections=False) if raw_config_parse(file.name) else {}


def readable(content: bytes):
    """The same, of what botocore reads at all."""
    try:
        return read(content)
    except ConfigParseError:
        return None


def without_ours(section):
    return {key: value for key, value in section.items() if key not in _OURS}


@pytest.mark.parametrize("profile", ["default", "work"])
def test_a_profile_of_a_file_of_others(profile):
    """A file that every SDK read would be one that none reads, or another profile would be lost."""

    @examples(200)
    @given(TEXT | changed(b"  [default]\n  region = x\n  [work]\n  s3 =\n    max = 1\n\n# x\n[a b]\r\nk: v"))
    def target(content):
        before = readable(content)
        result = outcome(lambda: formats.ini(content, {profile: HELD}))
        if isinstance(result, FileError):
            assert result.advice
            return
        after = readable(result)
        if after is None:  # of bytes that are no UTF-8, and were none before
            assert before is None
            return
        lines = {f"{key} = {value}".encode() for key, value in WRITTEN.items()}
        assert lines <= set(result.splitlines())  # indented, it would be left out by others than botocore
        name = profile if profile in after else next(name for name in after if after[name].items() >= WRITTEN.items())
        ours = after.pop(name)
        assert {key: value for key, value in ours.items() if key in _OURS} == WRITTEN
        if before is None:  # a mark, or a key of ours twice: it is readable now
            return
        assert without_ours(ours).items() >= without_ours(before.pop(name, {})).items()
        assert after == before

    target()


@examples(120)
@given(TEXT | changed(KEY_FILE), st.booleans())
def test_the_base_key_in_a_file_of_others(content, whole):
    """The host would be locked out."""
    content = content + b"\n" + KEY_FILE if whole else content
    before = readable(content)
    assume(before is not None)
    with tempfile.TemporaryDirectory() as folder:
        file = CredentialsFile(Path(folder) / "credentials", "default")
        file.path.write_bytes(content)
        file.path.chmod(0o600)
        refused = outcome(lambda: file.replace_key(OLD, NEW))
        after = read(file.path.read_bytes())
        if isinstance(refused, SourceError):
            assert file.path.read_bytes() == content
            return
    assert after["default"]["aws_access_key_id"] == NEW.id
    assert after["default"]["aws_secret_access_key"] == NEW.secret.reveal()
    before["default"] |= {"aws_access_key_id": NEW.id, "aws_secret_access_key": NEW.secret.reveal()}
    assert after == before
