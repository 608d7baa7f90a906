"""The shared credentials file (base_key/key_file.py)."""

import configparser
import io
import stat

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from imds_proxy.base_key.access_keys import KeyPair
from imds_proxy.base_key.key_file import CredentialsFile
from imds_proxy.credentials import Secret
from imds_proxy.errors import Invalid

OLD = KeyPair("AKIAIOSFODNN7EXAMPLE", Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"))
NEW = KeyPair("AKIAI44QH8DHBEXAMPLE", Secret("je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY"))
PLAIN = "[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("file")


def written(folder, text, key=OLD, profile="default"):
    path = folder / "credentials"
    path.write_bytes(text.replace("{id}", key.id).replace("{secret}", key.secret.reveal()).encode())
    path.chmod(0o600)
    return CredentialsFile(path, profile)


# Everything else stays

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12)
SPACES = st.text(" \t", max_size=3)
ENDS = st.sampled_from(["\n", "\r\n", "\n\n", "\r\n \r\n", "\r"])
NAMES = st.text("abcxyz_AWS-", min_size=1, max_size=10)
VALUES = st.text("abcXYZ019 =:#;%${}[]/+\té", max_size=30)
SEPARATORS = st.sampled_from(["=", " = ", ":", "  :\t", "= "])
COMMENTS = st.builds("{}{}{}".format, SPACES, st.sampled_from("#;"), WORDS)
OPTIONS = st.builds("{}{}{}".format, NAMES, SEPARATORS, VALUES)
CONTINUATIONS = st.builds("\n    {}".format, OPTIONS)
FEW = st.integers(0, 3)
SECTIONS = st.lists(NAMES, max_size=2, unique=True)
IDS = st.sampled_from(["aws_access_key_id", "AWS_ACCESS_KEY_ID", "Aws_Access_Key_Id"])
SECRETS = st.sampled_from(["aws_secret_access_key", "AWS_SECRET_ACCESS_KEY"])


@st.composite
def files(draw):
    """A file with the profile `default` somewhere in it, as configparser takes it."""

    def lines(*more):
        options = [f"{number}{draw(OPTIONS)}{draw(st.just('') | CONTINUATIONS)}" for number in range(draw(FEW))]
        return draw(st.permutations([*options, *more, *(draw(COMMENTS | SPACES) for _ in range(draw(FEW)))]))

    key = f"{draw(IDS)}{draw(SEPARATORS)}{{id}}{draw(SPACES)}"
    secret = f"{draw(SECRETS)}{draw(SEPARATORS)}{{secret}}{draw(SPACES)}"
    sections = [[f"[default]{draw(st.sampled_from(['', ' ', ' # note']))}", *lines(key, secret)]]
    sections += [[f"[{name}]", *lines("aws_access_key_id=AKIAOTHER")] for name in draw(SECTIONS)]
    text = "".join(line + draw(ENDS) for section in draw(st.permutations(sections)) for line in section)
    return draw(st.sampled_from(["", "# é\n", "\r\n"])) + (text if draw(st.booleans()) else text.rstrip("\r\n"))


def profiles(text):
    parser = configparser.RawConfigParser()
    parser.read_file(io.StringIO(text, newline=None))
    return {name: dict(parser[name]) for name in parser.sections()}


@settings(deadline=None)  # it writes to disk
@given(files())
def test_every_other_byte_of_the_file_stays_as_it_was(folder, text):
    """Somebody's profile, comment or line end would be lost by a rotation at night."""
    filled = text.replace("{id}", OLD.id).replace("{secret}", OLD.secret.reveal())
    try:
        found = profiles(filled).get("default", {})
    except configparser.Error:
        found = {}
    assume((found.get("aws_access_key_id"), found.get("aws_secret_access_key")) == (OLD.id, OLD.secret.reveal()))
    file = written(folder, text)
    assert file.read() == OLD
    file.rehearse()
    assert file.path.read_bytes() == filled.encode()
    file.replace_key(OLD, NEW)
    assert file.path.read_bytes() == written_bytes(text, NEW)
    assert file.read() == NEW


def written_bytes(text, key):
    return text.replace("{id}", key.id).replace("{secret}", key.secret.reveal()).encode()


def test_the_mode_stays_and_nothing_is_left_beside_the_file(tmp_path):
    """A secret would be left in a file that nobody looks after."""
    file = written(tmp_path, PLAIN)
    file.path.chmod(0o400)
    (tmp_path / ".credentials.imds-proxy.0123abcd").write_text("of a crash")
    file.replace_key(OLD, NEW)
    assert [path.name for path in tmp_path.iterdir()] == ["credentials"]
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o400


INDENTED = "  " + PLAIN.replace("\n", "\n  ")
UNUSUAL = {
    "indented": INDENTED + "[work]\n  region = x\n",
    "indented keys": PLAIN.replace("\n", "\n  ").rstrip(" "),
    "a header that is a value": "[a]\nk = v\n  [default]\n" + PLAIN,
    "a table": PLAIN + "s3 =\n  aws_access_key_id = AKIAOTHER\n",
    "an inherited region": "[DEFAULT]\nregion = x\n" + PLAIN,
}


@pytest.mark.parametrize("unusual", UNUSUAL)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_that_is_written_in_an_unusual_way_is_edited_as_botocore_reads_it(tmp_path, unusual, end):
    """A rotation would be refused, or would change another profile."""
    text = UNUSUAL[unusual].replace("\n", end)
    file = written(tmp_path, text)
    file.replace_key(OLD, NEW)
    assert file.path.read_bytes() == written_bytes(text, NEW)
    assert file.read() == NEW


def test_a_byte_order_mark_goes(tmp_path):
    """botocore reads no file that begins with one."""
    file = written(tmp_path, "\ufeff" + PLAIN)
    assert file.read() == OLD
    file.replace_key(OLD, NEW)
    assert file.path.read_bytes() == written_bytes(PLAIN, NEW)


def test_a_file_in_utf_16_is_left_alone(tmp_path):
    file = written(tmp_path, PLAIN)
    file.path.write_bytes(PLAIN.encode("utf-16"))
    with pytest.raises(Invalid, match=r"file /.* is UTF-16 text"):
        file.read()


# What cannot be edited safely

UNFIT = {
    "no such profile": ("[other]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n", "has no key in its"),
    "no secret": ("[default]\naws_access_key_id = {id}\n", "has no key in its"),
    "a session": (PLAIN + "aws_session_token = tokentoken\n", "has temporary credentials"),
    "an old kind of session": (PLAIN + "aws_security_token = tokentoken\n", "has temporary credentials"),
    "two profiles": (PLAIN + PLAIN.replace("default", "deploy"), 'has the key of profile "default" in "deploy" too'),
    "no section": ("aws_access_key_id = {id}\n", "is no INI file that can be read"),
    "twice": (PLAIN + "aws_access_key_id = {id}\n", "can be read: the same key twice (line 4)"),
    "another profile twice": ("[a]\n[a]\n" + PLAIN, "can be read: the same profile twice (line 2)"),
    "from the parser's own section": (PLAIN.replace("default", "DEFAULT") + "[default]\n", 'in "DEFAULT" too'),
    "a secret on the next line": (PLAIN.replace("key = ", "key =\n  "), "without touching more"),
    "a secret of two lines": (PLAIN + "  more\n", "without touching more"),
    "a secret with a space": (PLAIN.replace("{secret}", "{secret} # note"), "without touching more"),
}


@pytest.mark.parametrize("unfit", UNFIT)
def test_a_file_that_cannot_be_edited_safely_is_left_alone(tmp_path, unfit):
    """The file would hold half a key, and the host would be locked out."""
    text, why = UNFIT[unfit]
    file = written(tmp_path, text)
    before = file.path.read_bytes()
    for attempt in (file.rehearse, lambda: file.replace_key(file.read(), NEW)):
        with pytest.raises(Invalid) as raised:
            attempt()
        assert why in raised.value.message
        assert raised.value.advice
        assert OLD.secret.reveal() not in f"{raised.value.message}{raised.value.advice}"
        assert file.path.read_bytes() == before


def test_another_key_than_expected_is_not_replaced(tmp_path):
    """A key that somebody has put there a second ago would be lost."""
    file = written(tmp_path, PLAIN, NEW)
    with pytest.raises(Invalid, match="was changed meanwhile"):
        file.replace_key(OLD, KeyPair("AKIAX", Secret("y")))
    assert file.read() == NEW


@pytest.mark.parametrize("evil", ["a\nregion = evil", "a b", "", "\ta", "a\r[other]"])
def test_a_secret_that_would_be_more_than_a_secret_is_not_written(tmp_path, evil):
    """Whoever answers in AWS's place could write a profile of their own."""
    file = written(tmp_path, PLAIN)
    with pytest.raises(Invalid):
        file.replace_key(OLD, KeyPair(NEW.id, Secret(evil)))
    assert file.read() == OLD


def test_no_repr_shows_a_secret():
    """A debugger's or a log's repr would."""
    assert repr(OLD) == "KeyPair(…MPLE)"
