"""The documents that credentials come in (sources/credential_documents.py)."""

import json
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as some

from imds_proxy.credentials import parse_time, timestamp
from imds_proxy.errors import Denied, Invalid, SourceError
from imds_proxy.sources.credential_documents import SHAPES, parse, safe_code
from support.credential_service import ROLE_ARN, SESSION_ARN, Session

SESSION = Session()
NOW = SESSION.began


def read(shape, document, now=NOW):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return parse(shape, body, role="deploy", origin="https://broker", now=now)


def refused(shape, document, kind=Invalid):
    with pytest.raises(kind) as caught:
        read(shape, document)
    assert type(caught.value) is kind
    text = caught.value.message + caught.value.advice
    assert caught.value.message.startswith('role "deploy": https://broker: ')
    assert caught.value.advice
    assert not [secret for secret in SESSION.secrets if secret in text]
    return text


def changed(shape, table=None, **changes):
    """A good document with some keys of it changed; one that becomes `...` is left out."""
    document = SESSION.document(shape)
    table = document if SHAPES[shape].table is None or table == "top" else document[SHAPES[shape].table]
    table |= changes
    for name in [name for name, value in table.items() if value is ...]:
        del table[name]
    return document


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_gives_the_session_that_is_in_it(shape):
    found = read(shape, SESSION.document(shape))
    assert (found.access_key_id, found.secret_access_key.reveal(), found.session_token.reveal()) == SESSION.secrets
    assert abs(found.expiration - NOW - 3600) <= 1
    assert NOW - 1 <= found.obtained <= NOW


def test_who_it_is_is_taken_from_the_documents_that_say_so():
    """Clients are told a role and an account: the right ones, or none."""
    assert read("container", SESSION.document("container")).role_arn == ROLE_ARN
    assert read("vault", SESSION.document("vault")).session_arn == SESSION_ARN
    session = read("container", changed("container", RoleArn=SESSION_ARN))
    assert (session.role_arn, session.session_arn) == (None, SESSION_ARN)
    plain = read("container", changed("container", RoleArn=..., AccountId="123456789012"))
    assert (plain.role_arn, plain.session_arn, plain.account_id) == (None, None, "123456789012")
    for rubbish in ("arn:aws:iam::1:role/x", "Deploy", 7, ["arn"], f"{ROLE_ARN}\n", None):
        odd = read("container", changed("container", RoleArn=rubbish, AccountId=rubbish))
        assert (odd.role_arn, odd.session_arn, odd.account) == (None, None, None)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("value", [..., None, "", 7, {}, ["x"], True, "two words", "line\nline", "é"])
@pytest.mark.parametrize("field", ["key", "secret"])
def test_a_key_that_is_missing_or_is_none_is_named(shape, field, value):
    """A key with a line in it would end up in the files and headers of others."""
    name = getattr(SHAPES[shape], field)
    assert name in refused(shape, changed(shape, **{name: value}))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("value", [..., None, ""])
def test_keys_without_a_session_token_are_long_lived(shape, value):
    """Whoever takes a long-lived key from a host has it for years."""
    text = refused(shape, changed(shape, **dict.fromkeys(SHAPES[shape].tokens, value)))
    assert "long-lived keys" in text
    assert 'source = "assume-role"' in text


@pytest.mark.parametrize("shape", [name for name, form in SHAPES.items() if not form.lease])
@pytest.mark.parametrize(
    "value", [..., None, "", "soon", 1800000000, "2027-13-01T00:00:00Z", "0001-01-01T00:00:00+14:00", True, ["x"]]
)
def test_an_end_that_nobody_can_read_is_refused(shape, value):
    assert SHAPES[shape].expiration in refused(shape, changed(shape, **{SHAPES[shape].expiration: value}))


@pytest.mark.parametrize("life", [..., None, 0, -1, "3600", True, 1e300, 10**400, [3600]])
def test_a_lease_that_is_no_number_of_seconds_is_refused(life):
    assert "lease_duration" in refused("vault", changed("vault", "top", lease_duration=life))


@pytest.mark.parametrize("life", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 5000])
def test_a_lease_for_ever_is_refused(life):
    """NaN is neither dead nor too long: it would never be renewed."""
    refused("vault", json.dumps(SESSION.document("vault")).encode().replace(b"3600", life))


def test_vaults_both_names_of_the_token_and_a_role_without_leases_are_taken():
    """security_token goes away; no lease is a setting of Vault's role."""
    for name in ("security_token", "session_token"):
        other = ({"security_token", "session_token"} - {name}).pop()
        assert read("vault", changed("vault", **{other: ...})).session_token.reveal() == SESSION.token
    document = changed("vault", ttl=900)
    assert read("vault", document | {"lease_duration": 0}).expiration == NOW + 900


def test_a_session_counts_from_when_it_began():
    """Of a session that another imds-proxy has had for 40 minutes, a third is left and not the whole."""
    began = changed("imds", LastUpdated=timestamp(NOW - 2400))
    assert read("imds", began).obtained == float(int(NOW - 2400))
    for nonsense in (timestamp(NOW + 60), "0001-01-01T00:00:00Z", "yesterday", 7, ..., timestamp(NOW - 30 * 86400)):
        assert read("imds", changed("imds", LastUpdated=nonsense)).obtained == NOW


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("body", [b"", b" \n", b"null", b"[]", b'"x"', b"7", b"\xff\xfe", b"{", b"[" * 100_000])
def test_what_is_no_document_is_refused(shape, body):
    refused(shape, body)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_document_that_was_cut_off_is_refused_and_not_repeated(shape):
    body = json.dumps(SESSION.document(shape)).encode()
    assert "bytes that are not JSON" in refused(shape, body[:-1])
    assert "bytes that are not JSON" in refused(shape, body[: body.index(SESSION.token.encode()) + 20])


@pytest.mark.parametrize(("asked", "given"), [("process", "container"), ("container", "process"), ("imds", "vault")])
def test_the_document_of_another_shape_is_recognised(asked, given):
    """`shape` is the one setting that everybody gets wrong first."""
    assert f"this is the {given} document" in refused(asked, SESSION.document(given))


def test_a_document_that_says_why_there_is_nothing_says_so():
    """EC2 says AssumeRoleUnauthorizedAccess where the role does not trust it."""
    text = refused("imds", {"Code": "AssumeRoleUnauthorizedAccess"}, Denied)
    assert "it has no credentials: AssumeRoleUnauthorizedAccess" in text
    for secret in SESSION.secrets:
        assert 'Code is not "Success"' in refused("imds", changed("imds", Code=secret))
    assert "Version is not 1" in refused("process", changed("process", Version=2))


def test_only_what_has_the_form_of_an_error_code_is_one():
    """A service that is broken enough puts a key there."""
    for code in ("AccessDenied", "AccessDeniedException", "InvalidClientTokenId", "Failed"):
        assert safe_code(code) == code
    for other in (
        "ASIAQWERTYUIOPASDFGH",
        "wJalrXUtnFEMIKMDENGbPxRfiCYEXAMPLEKEYabcd",
        "Two Words",
        "X\n",
        "x",
        7,
        None,
    ):
        assert safe_code(other) is None


@given(
    some.datetimes(datetime.fromisoformat("1970-01-02"), datetime.fromisoformat("9999-01-01")),
    some.sampled_from(["Z", "+02:00"]),
)
def test_a_time_is_read_as_it_was_written(moment, zone):
    said = moment.isoformat() + zone
    assert parse_time(said) == datetime.fromisoformat(said).timestamp()
    assert parse_time(moment.isoformat()) is None  # another program's local time, for all that is known


VALUES = some.recursive(
    some.none() | some.booleans() | some.floats() | some.integers() | some.text(),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(), inner, max_size=3),
    max_leaves=5,
)
KEYS = {key for shape in SHAPES for key in [*SESSION.document(shape), *(SESSION.document(shape).get("data") or {})]}


@given(some.sampled_from(sorted(SHAPES)), some.dictionaries(some.sampled_from(sorted(KEYS)), VALUES))
def test_whatever_a_document_says_there_are_credentials_or_a_message(shape, changes):
    """An error that nobody thought of says "a defect of imds-proxy" to an operator who can mend nothing."""
    for table in (None, SHAPES[shape].table):
        document = SESSION.document(shape)
        inner = document[table] if table else document
        inner |= changes
        try:
            said = repr(read(shape, document))
        except SourceError as error:
            said = error.message + error.advice
        assert not [secret for secret in SESSION.secrets if secret in said]


@pytest.mark.parametrize("said", ["2090-01-01T00:00:00", "2090-01-01", "2090-01-01 00:00:00.000", "soon", 4e9, ""])
@pytest.mark.parametrize("shape", [name for name, shape in SHAPES.items() if shape.lease is None])
def test_an_end_without_a_zone_is_refused_by_its_name(shape, said):
    """Hours more or less: dead credentials served, or good ones refused."""
    name = SHAPES[shape].expiration
    text = refused(shape, changed(shape, **{name: said}))
    assert f"{name} is no time in ISO 8601 with its zone, such as 2026-01-01T00:00:00Z" in text


@pytest.mark.parametrize("shape", SHAPES)
def test_a_byte_order_mark_is_no_part_of_a_document(shape):
    body = json.dumps(SESSION.document(shape)).encode()
    assert read(shape, b"\xef\xbb\xbf" + body) == read(shape, body)
