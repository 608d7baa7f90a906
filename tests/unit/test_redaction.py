"""What another program said, fit for a message (host/redaction.py)."""

import base64
import json
import random
import string
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imds_proxy.host.redaction import one_line

KEY_ID = string.ascii_uppercase + "234567"
BASE64 = string.ascii_letters + string.digits + "+/"
URL_SAFE = string.ascii_letters + string.digits + "-_"

# As AWS draws them: at random. (A run of letters that hypothesis makes up may be a word.)
chance = st.integers(0, 2**64).map(random.Random)


def some(alphabet, length, prefix=""):
    return chance.map(lambda drawn: prefix + "".join(drawn.choices(alphabet, k=length)))


key_ids = st.one_of(some(KEY_ID, 16, "ASIA"), some(KEY_ID, 16, "AKIA"))
secret_keys = some(BASE64, 40)
session_tokens = st.integers(40, 1500).flatmap(lambda length: some(BASE64, length, "IQoJb3JpZ2luX2Vj"))
jwts = st.lists(some(URL_SAFE, 60), min_size=3, max_size=3).map(".".join)
secrets = st.one_of(key_ids, secret_keys, session_tokens, session_tokens.map(lambda token: token + "=="), jwts)

FORMS = {
    "plain": lambda secret: secret,
    "in a sentence": lambda secret: f"error: got {secret}, which is wrong",
    "assigned": lambda secret: f"AWS_SECRET_ACCESS_KEY={secret}",
    "exported": lambda secret: f"export AWS_SESSION_TOKEN='{secret}'",
    "JSON": lambda secret: json.dumps({"Version": 1, "SecretAccessKey": secret}),
    "JSON with escaped slashes": lambda secret: json.dumps({"Token": secret}).replace("/", "\\/"),
    "JSON in ASCII": lambda secret: json.dumps({"Token": secret}).replace("+", "\\u002b").replace("=", "\\u003d"),
    "INI": lambda secret: f"[default]\naws_secret_access_key = {secret}\n",
    "XML": lambda secret: f"<SessionToken>{secret}</SessionToken>",
    "query": lambda secret: f"https://sts.amazonaws.com/?Action=X&X-Amz-Security-Token={secret}&Version=1",
    "percent-encoded": lambda secret: (
        "GET /?t=" + secret.replace("/", "%2F").replace("+", "%2B").replace("=", "%3D") + " 403"
    ),
    "header": lambda secret: f"> Authorization: Bearer {secret}\r\n> Host: x",
    "repr": lambda secret: repr({"token": secret}),
    "wrapped": lambda secret: "\n".join(secret[i : i + 64] for i in range(0, len(secret), 64)),
    "below a path": lambda secret: f"/usr/local/bin/corporate-helper\n{secret}\nok",
    "with control characters": lambda secret: f"\x1b[31m{secret}\x1b[0m",
    "at the end of much": lambda secret: "many words " * 2_000 + secret,
}
DOCUMENTS = {
    "no document": lambda _: b"",
    "the same document": lambda secret: json.dumps({"a": [{"b": secret}]}).encode(),
    "a torn document": lambda secret: json.dumps({"a": secret}).encode()[:-1],
    "the token alone": lambda secret: f"{secret}\n".encode(),
}


def pieces(secret):
    """What may not be left of a secret: no twelve characters in a row."""
    return {secret[i : i + 12] for i in range(len(secret) - 11)}


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=30)
@given(secret=secrets)
def test_no_secret_is_repeated_whatever_it_is_in(form, document, secret):
    """A helper that prints its document to standard error would put a key into every log."""
    words = one_line(FORMS[form](secret).encode(), DOCUMENTS[document](secret))
    assert not {piece for piece in pieces(secret) if piece in words}


@given(secret=secrets)
def test_no_encoding_of_a_secret_is_repeated(secret):
    for encoded in (base64.b64encode(secret.encode()).decode(), secret.encode().hex()):
        words = one_line(f"got {encoded}!".encode())
        assert not {piece for piece in pieces(encoded) if piece in words}


LONG = {
    "hexadecimal": "0123456789abcdef" * 4000,
    "one name": "_key" * 16000,
    "capitals": "AbcDefGhi" * 7000,
    "ARNs": "arn:aws:" * 8000,
    "wrapped": ("A" * 64 + "\n") * 1000 + "half-a-secret9\nfailed: see above",
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_however_much_it_says_the_event_loop_hardly_waits(text):
    """64 kB of hexadecimal digits once took 78 seconds, and no client was answered."""
    for said in (text, text[:2000]):
        began = time.process_time()
        words = one_line(said.encode())
        assert time.process_time() - began < 0.5
        assert "half-a-secret9" not in words
    assert one_line((text + "\nfailed: see above").encode()).endswith("failed: see above")


@given(value=st.text(string.ascii_letters + ' äß"\\/', min_size=6, max_size=40).filter(str.strip))
def test_no_value_of_the_document_is_repeated_even_if_it_reads_as_words(value):
    document = json.dumps({"Version": 1, "SessionToken": value}).encode()
    said = one_line(f"x {value} y {json.dumps(value)} z".encode(), document)
    assert said == 'x *** y "***" z'


@pytest.mark.parametrize(
    "words",
    [
        "Error: the SSO session associated with this profile has expired or is otherwise invalid.",
        "An error occurred (InvalidClientTokenId) when calling the AssumeRole operation: not valid",
        "An error occurred (ExpiredTokenException): UnrecognizedClientException, AccessDeniedException",
        "User: arn:aws:sts::123456789012:assumed-role/My-App2.Role_x/i-0123456789abcdef0 is not authorized",
        "arn:aws:rolesanywhere:eu-west-1:123456789012:trust-anchor/01234567-89ab-cdef-0123-456789abcdef not found",
        "cannot open /opt/corp/lib/python3.11/site-packages/corp_helper/credentials.json: No such file",
        "/usr/local/bin/aws_signing_helper: x509: certificate signed by unknown authority",
        "dial tcp: lookup sts.eu-west-1.amazonaws.com on 10.0.0.2:53: no such host",
        'Post "https://rolesanywhere.eu-west-1.amazonaws.com/sessions": context deadline exceeded',
        "missing environment variable AWS_WEB_IDENTITY_TOKEN_FILE or AWS_ROLE_ARN",
        "Traceback (most recent call last): File '/usr/lib/helper.py', line 12, in main",
        "2026-11-21T12:30:00Z level=error msg='login required' account=123456789012",
        "Zugriff verweigert: Anmeldung abgelaufen für Gerät №7",
        "please run: corp-login --profile production --force-reauthentication",
    ],
)
def test_what_helps_is_kept(words):
    """A message without the reason helps nobody."""
    assert one_line(words.encode()) == words


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("login failed: password=hunter2 wrong", "login failed: password=*** wrong"),
        ('{"refresh_token": "abc", "error": "x"}', '{"refresh_token": "***", "error": "x"}'),
        ("proxy http://me:hunter2@proxy.example:3128 refused", "proxy http://***@proxy.example:3128 refused"),
        ("Authorization: Basic bWU6aHVudGVyMg==", "Authorization: Basic ***"),
        ("Cookie: sid=abc", "Cookie: ***"),
    ],
)
def test_what_calls_itself_a_secret_is_one_however_short(words, kept):
    assert one_line(words.encode()) == kept


def test_it_is_one_line_without_control_characters():
    """A helper could write log lines of its own, or colour the operator's terminal."""
    assert one_line(b"a\r\nb\x1b[31mc\x00\x07\t d\xff\xe2\x80\xa8e") == "a b?[31mc?? d\ufffd e"


def test_the_end_is_kept_of_much():
    """Programs say last what went wrong."""
    words = one_line(b"begin " + b"much " * 100_000 + b"the reason")
    assert words.startswith("…")
    assert words.endswith("the reason")
    assert len(words) == 501


def test_beside_a_document_that_is_none_nothing_is_repeated():
    assert one_line(b"the reason", b"x" * 20_000) == ""


HARD = {
    "one run": b"A" * 16384,
    "words": b"word/" * 3200,
    "nearly words": b"word/" * 3200 + b"!",
    "camels": b"CamelCase" * 1800 + b"+",
    "separators": b"/._=-" * 3200,
    "arns": b"arn:aws:" * 2000,
    "names": b"secret_token_key:" * 900,
    "lines": b"aaaaaaaaaaaaaaaaaaaaaaaa\n" * 650,
    "urls": b"https://" * 2000,
}


@pytest.mark.parametrize("kind", HARD)
def test_nothing_takes_long_to_read(kind):
    """A regular expression that backtracks would hold up every answer of the daemon."""
    began = time.perf_counter()
    one_line(HARD[kind], HARD[kind])
    assert time.perf_counter() - began < 0.2
