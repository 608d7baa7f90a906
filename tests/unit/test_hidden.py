"""What AWS and other services say, without what was sent to them (host/redaction.py, host/sent_values.py)."""

import base64
import html
import json
import random
import string
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from imds_proxy.credentials import Secret
from imds_proxy.host.redaction import hidden, one_line, secrets_of_header

BASE64 = string.ascii_letters + string.digits + "+/"
URL_SAFE = string.ascii_letters + string.digits + "-_"
PRINTABLE = string.ascii_letters + string.digits + string.punctuation

chance = st.integers(0, 2**64).map(random.Random)


def drawn(alphabet, shortest, longest):
    return st.builds(lambda by, length: "".join(by.choices(alphabet, k=length)), chance, st.integers(shortest, longest))


secret_keys = drawn(BASE64, 40, 40)
session_tokens = drawn(BASE64, 200, 1500).map(lambda token: "IQoJb3JpZ2lu" + token + "==")
jwts = st.lists(drawn(URL_SAFE, 43, 300), min_size=3, max_size=3).map(".".join)
passwords = drawn(PRINTABLE, 12, 30)
secrets = st.one_of(secret_keys, session_tokens, jwts, passwords)


def wrapped(secret, width, between):
    return between.join(secret[at : at + width] for at in range(0, len(secret), width))


def ascii_json(text):
    return "".join(f"\\u{ord(c):04x}" if not c.isalnum() else c for c in text)


FORMS = {
    "plain": lambda secret: secret,
    "quoted": lambda secret: f"'{secret}'",
    "repr": repr,
    "percent": lambda secret: quote(secret, safe=""),
    "percent in small letters": lambda secret: quote(secret, safe="").lower() if secret.islower() else quote(secret),
    "percent of everything": lambda secret: "".join(f"%{byte:02X}" for byte in secret.encode()),
    "percent twice": lambda secret: quote(quote(secret, safe=""), safe=""),
    "form": quote_plus,
    "plus as a space": lambda secret: secret.replace("+", " "),
    "HTML": html.escape,
    "XML in numbers": lambda secret: "".join(f"&#{ord(c)};" if not c.isalnum() else c for c in secret),
    "XML in hexadecimal": lambda secret: "".join(f"&#x{ord(c):X};" if not c.isalnum() else c for c in secret),
    "JSON": json.dumps,
    "JSON with escaped slashes": lambda secret: json.dumps(secret).replace("/", "\\/"),
    "JSON in ASCII": ascii_json,
    "JSON in JSON": lambda secret: json.dumps(json.dumps(secret)),
    "JSON in a query": lambda secret: quote(json.dumps(secret)),
    "wrapped": lambda secret: wrapped(secret, 64, "\n"),
    "wrapped short": lambda secret: wrapped(secret, 10, "\r\n  "),
    "spaced": lambda secret: wrapped(secret, 4, " "),
    "added up": lambda secret: wrapped(secret, 9, "' + '"),
    "escaped ends of line": lambda secret: wrapped(secret, 11, "\\n"),
    "the other base64": lambda secret: secret.replace("+", "-").replace("/", "_"),
    "with control characters": lambda secret: wrapped(secret, 7, "\x1b[0m" if not secret.isdigit() else " "),
}
AROUND = {
    "alone": "{}",
    "a sentence": "The security token {} included in the request is invalid.",
    "against words": "tokenIs{}andMore",
    "below an ARN": "arn:aws:iam::123456789012:role/{} is not there",
    "a URL": "GET https://sts.amazonaws.com/?t={}&Version=1",
    "after much": "many words " * 30 + "{}",
}


def left(text, secret, least=12):
    """The pieces of a secret that a text still holds."""
    return [at for at in range(len(secret) - least + 1) if secret[at : at + least] in text]


def letters(text):
    return "".join(filter(str.isalnum, text))


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=12)
@given(secret=secrets)
def test_nothing_that_was_sent_is_repeated_in_whatever_writing(form, around, secret):
    """AWS's refusal goes into the log, the status page and the terminal of whoever asks."""
    text = hidden(AROUND[around].format(FORMS[form](secret)), [Secret(secret)])
    assert not left(text, secret)
    # Whoever puts the writing back together has no more of it.
    assert not left(letters(text), letters(secret), 16)


@settings(max_examples=300)
@given(secret=secrets, data=st.data())
def test_no_piece_of_what_was_sent_is_repeated(secret, data):
    """A parser that stops at a sign says what it has so far."""
    begin = data.draw(st.integers(0, len(secret) - 12))
    piece = secret[begin : data.draw(st.integers(begin + 12, len(secret)))]
    assume(len(letters(piece[:12])) >= 8)
    text = hidden(f"Value '{piece}' at 'webIdentityToken' failed to satisfy constraint", [Secret(secret)])
    assert not left(text, piece)
    assert text.endswith("'webIdentityToken' failed to satisfy constraint")


@settings(max_examples=200)
@given(secret=drawn(PRINTABLE, 8, 40), before=st.text(max_size=5), after=st.text(max_size=5))
def test_no_other_encoding_of_what_was_sent_is_repeated(secret, before, after):
    """`Authorization: Basic` is base64 of the password with something before it."""
    assume(len(letters(secret)) >= 7)
    raw = before.encode() + secret.encode() + after.encode()
    for encoded in (base64.b64encode(raw).decode(), raw.hex(), raw.hex().upper()):
        inner = encoded[4 * (len(before.encode()) // 3 + 1) : -4 * (len(after.encode()) // 3 + 1)]
        text = hidden(f"got {encoded}!", [Secret(secret)])
        assert not inner or inner not in text


@given(value=drawn(string.ascii_lowercase, 8, 12), around=st.text(max_size=20))
def test_a_sent_value_of_eight_characters_is_not_repeated_though_it_reads_as_a_word(value, around):
    assert value not in hidden(f"{around} {value} {around}", [value]) or value in f"{around}{around}"


@given(
    rest=drawn(string.ascii_uppercase + "234567", 16, 16), prefix=st.sampled_from(["AKIA", "ASIA"]), sent=st.booleans()
)
def test_a_key_id_is_shown_by_its_last_four(rest, prefix, sent):
    """Which of ten keys is it? The whole of an id is for nobody's log."""
    text = f"The AWS Access Key Id {prefix}{rest} you provided does not exist in our records."
    said = hidden(text, [prefix + rest] if sent else [])
    assert said == f"The AWS Access Key Id …{rest[-4:]} you provided does not exist in our records."


def test_an_id_of_a_double_is_no_secret():
    """`test` is in many words."""
    assert hidden("the test key `test` is tested", ["test", Secret("test")]) == "the test key `test` is tested"


TOKEN = "IQoJb3JpZ2luX2VjEJr" + "a7Zk9+Qx/" * 60 + "=="
USER = (
    "arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_AdministratorAccess_0123456789abcdef/first.last@example.com"
)
KEPT = f"""
InvalidClientTokenId: The security token included in the request is invalid.
ExpiredToken: The security token included in the request is expired
ExpiredTokenException: Token expired: current date/time 1700000000 must be before the expiration date/time 1700000000
The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key.
Signature expired: 20200101T000000Z is now earlier than 20200101T001500Z (20200101T003000Z - 15 min.)
Signature not yet current: 20200101T010000Z is still later than 20200101T001500Z (20200101T000000Z + 15 min.)
User: {USER} is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::123456789012:role/Deploy
User: arn:aws:iam::123456789012:user/hosts/web-1 is not authorized to perform: iam:ListAccessKeys on resource: web-1
User: arn:aws:sts::123456789012:assumed-role/Host/4f3c2b1a09f8e7d6c5b4a39281706f5e4d3c2b1a is not authorized
Not authorized to perform sts:AssumeRoleWithWebIdentity
Couldn't retrieve verification key from your identity provider, please reference AssumeRoleWithWebIdentity documentation
No OpenIDConnect provider found in your account for https://token.actions.githubusercontent.com
No provider found for https://oidc.eks.eu-west-1.amazonaws.com/id/0A1B2C3D4E5F60718293A4B5C6D7E8F9
Incorrect token audience
1 validation error detected: Value '1' at 'durationSeconds' failed to satisfy constraint: Member must be at least 900
The requested DurationSeconds exceeds the MaxSessionDuration set for this role.
Untrusted certificate. Insufficient certificate
Resource arn:aws:rolesanywhere:eu-west-1:123456789012:trust-anchor/01234567-89ab-cdef-0123-456789abcdef not found
Cannot exceed quota for AccessKeysPerUser: 2
Request ID: 0a1b2c3d-4e5f-6789-abcd-ef0123456789, host web-1.corp.example.com
Could not connect to the endpoint URL: "https://sts.eu-west-1.amazonaws.com/"
Connect timeout on endpoint URL: "https://vpce-0123456789abcdef0-abcdefgh.sts.eu-west-1.vpce.amazonaws.com/"
The config profile (production-eu) could not be found
Error loading SSO Token: Token for https://d-90671a2b3c.awsapps.com/start does not exist
Partial credentials found in env, missing: AWS_SECRET_ACCESS_KEY
The SSO session associated with this profile has expired or is otherwise invalid. To refresh it run aws sso login
instance i-0123456789abcdef0 in account 123456789012 has no /etc/imds-proxy/config.toml
""".strip().split("\n")


@pytest.mark.parametrize("sentence", KEPT)
def test_awss_sentences_stay_as_they_are(sentence):
    """Which role, whose account, which request? That is what the message is for."""
    sent = ["AKIAIOSFODNN7EXAMPLE", Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"), Secret(TOKEN)]
    assert hidden(sentence, sent) == sentence


CANONICAL = f"""The request signature we calculated does not match the signature you provided.

The Canonical String for this request should have been
'POST
/

content-type:application/x-www-form-urlencoded; charset=utf-8
host:sts.eu-west-1.amazonaws.com
x-amz-date:20261128T120000Z
x-amz-security-token:{TOKEN}

content-type;host;x-amz-date;x-amz-security-token
{"0123456789abcdef" * 4}'

The String-to-Sign should have been
'AWS4-HMAC-SHA256
20261128T120000Z
20261128/eu-west-1/sts/aws4_request
{"fedcba9876543210" * 4}'"""


@pytest.mark.parametrize("sent", [[], [Secret(TOKEN)]], ids=["not known", "known"])
def test_a_repeated_canonical_string_has_no_token(sent):
    """SignatureDoesNotMatch repeats every header that was signed, the session token with them."""
    said = hidden(CANONICAL, sent)
    assert said.startswith("The request signature we calculated does not match")
    assert (
        "host:sts.eu-west-1.amazonaws.com x-amz-date:20261128T120000Z x-amz-security-token:*** content-type;host"
        in said
    )
    assert not left(said, TOKEN)
    assert "0123456789abcdef" not in said
    assert len(said) <= 501


def test_a_repeated_authorization_header_has_no_signature():
    header = (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261128/eu-west-1/sts/aws4_request,"
        f" SignedHeaders=host;x-amz-date, Signature={'0123456789abcdef' * 4}"
    )
    assert list(secrets_of_header(header)) == ["0123456789abcdef" * 4]
    said = hidden(f"Authorization header '{header}' is malformed", secrets_of_header(header))
    assert said.endswith("is malformed")
    assert "0123456789ab" not in said
    assert "AKIAIOSF" not in said
    assert list(secrets_of_header("Bearer abc")) == ["abc"]
    assert list(secrets_of_header("abc")) == ["abc"]


def test_it_is_one_line_and_bounded():
    """A service could write log lines of its own, or colour the operator's terminal."""
    assert hidden("a\r\nb\x1b[31mc\x00\x07\t d\u2028e") == "a b?[31mc?? d e"
    assert len(hidden("word " * 10_000)) == 501
    assert hidden("word " * 300).startswith("word word")


@given(secret=secret_keys, before=st.integers(1900, 2050))
def test_a_secret_at_the_cut_is_not_shown_by_half(secret, before):
    """Half a secret does not look like one."""
    text = "x" * (before % 5 + 1) + " " * 1 + "\n" * (before - 6) + secret + " and more " * 100
    assert not left(hidden(text), secret)


AWKWARD = {
    "hexadecimal": "0123456789abcdef",
    "one character": "A",
    "spaces": " ",
    "ends of line": "\n",
    "wrapped": "A" * 64 + "\n",
    "percent": "%2B",
    "percent of percent": "%25",
    "half escapes": "%2",
    "entities": "&#x41;",
    "half entities": "&#",
    "ampersands": "&amp;",
    "backslashes": "\\",
    "ARNs": "arn:aws:iam::123456789012:role/",
    "half ARNs": "arn:aws:",
    "names": "secret_token_key:",
    "camels": "CamelCase",
    "words": "word/",
    "separators": "/._=-",
    "URLs": "https://",
    "at signs": "://a@",
    "key ids": "AKIAIOSFODNN7EXAMPLE",
    "escapes of a terminal": "\x1b[31m",
    "not ASCII": "ß漢\u202e",
}


@pytest.mark.parametrize("kind", AWKWARD)
def test_however_much_is_said_the_event_loop_hardly_waits(kind):
    """64 kB of hexadecimal digits once held up every client for a minute."""
    unit = AWKWARD[kind]
    text = unit * (65536 // len(unit))
    sent = [
        "AKIAIOSFODNN7EXAMPLE",
        Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        Secret(TOKEN),
        Secret(text[:20_000]),
    ]
    for said in (text, text[:2000], f"{text[:1000]} {text}"):
        assert min(seconds_taken(said, sent) for _ in range(3)) < 0.25


def seconds_taken(said, sent):
    """Of this thread; a collection of the garbage of earlier tests may come in between."""
    began = time.thread_time()
    hidden(said, sent)
    one_line(said.encode(), sent=sent)
    return time.thread_time() - began
