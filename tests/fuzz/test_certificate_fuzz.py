"""Whatever stands in the files of a certificate and its key (key_files.py, key_pair.py): a pair, or why it is none."""

import base64
import time
import warnings

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.config.roles import RolesAnywhereConfig
from imds_proxy.errors import Invalid, SourceError
from imds_proxy.host.file_content import mistaken_ca, mistaken_certificate, mistaken_key
from imds_proxy.host.http_client import WebRequest
from imds_proxy.sources.roles_anywhere import key_files, key_pair
from imds_proxy.sources.roles_anywhere.key_files import KeyFiles
from imds_proxy.sources.roles_anywhere.key_pair import KeyPair
from imds_proxy.sources.roles_anywhere.sigv4_x509 import signed
from support.certificates import Authority
from support.fuzzing import changed, changed_der, examples, outcome, parse_der, write_der
from support.roles_anywhere import PROFILE, ROLE, TRUST_ANCHOR

SETTINGS = RolesAnywhereConfig(
    source="roles-anywhere",
    role_arn=ROLE,
    trust_anchor_arn=TRUST_ANCHOR,
    profile_arn=PROFILE,
    certificate="/etc/host.crt",
    private_key="/etc/host.key",
)
IN_ONE = SETTINGS.model_copy(update={"private_key": None})
WITH_INTERMEDIATES = SETTINGS.model_copy(update={"intermediates": "/etc/intermediates.crt"})
AUTHORITY = Authority()
EC, RSA = AUTHORITY.intermediate().issue(kind="p256"), AUTHORITY.issue(kind="rsa")
DER = [each.certificate.public_bytes(Encoding.DER) for each in (EC, RSA)]
CHAIN = EC.chain[0].public_bytes(Encoding.DER)
KEYS = [each.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()) for each in (EC, RSA)]
PKCS12 = EC.pkcs12()
REQUEST = WebRequest("POST", "https://rolesanywhere.eu-west-1.amazonaws.com/sessions?a=b", {}, b"{}")


@pytest.fixture(autouse=True)
def _warnings_as_in_a_service():
    """Of odd certificates cryptography warns; only these tests would make an error of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def pem(der, what="CERTIFICATE"):
    return f"-----BEGIN {what}-----\n".encode() + base64.encodebytes(der) + f"-----END {what}-----\n".encode()


def judged(certificate, key=None, intermediates=None, settings=SETTINGS):
    """The pair, with all done to it that the daemon does, or the error in its place; nothing else escapes."""

    def use():
        pair = key_files.pair_of("host", settings, KeyFiles(certificate, key, intermediates, None), None)
        key_pair.acceptable("host", pair, time.time())
        key_pair.belongs("host", pair)
        signed(REQUEST, pair, "eu-west-1", time.time())
        return pair if str(pair) and pair.expiration else None

    found = outcome(use)
    assert isinstance(found, KeyPair | SourceError)
    return found


@examples(300)
@given(der=st.sampled_from(DER).flatmap(changed_der))
def test_a_certificate(der):
    judged(pem(der), EC.key_pem())


@examples(100)
@given(der=changed_der(CHAIN))
def test_an_intermediate(der):
    judged(EC.certificate_pem(), EC.key_pem(), pem(der), settings=WITH_INTERMEDIATES)
    judged(EC.certificate_pem() + pem(der), EC.key_pem())


@examples(100)
@given(der=st.sampled_from(KEYS).flatmap(changed_der))
def test_a_private_key(der):
    judged(EC.certificate_pem(), pem(der, "PRIVATE KEY"))
    judged(RSA.certificate_pem(), pem(der, "RSA PRIVATE KEY"))


@examples(100)
@given(data=changed_der(PKCS12) | changed(PKCS12) | st.binary(max_size=50))
def test_pkcs12(data):
    judged(data, settings=IN_ONE)


@examples(60)
@given(text=changed(EC.certificate_pem(chain=True)), key=changed(EC.key_pem()))
def test_pem(text, key):
    judged(text, EC.key_pem())
    judged(EC.certificate_pem(), key)


@examples(200)
@given(data=st.sampled_from([*DER, *KEYS, PKCS12]).flatmap(changed_der) | st.binary(max_size=60))
def test_what_a_file_is_called(data):
    for words in (mistaken_certificate(data), mistaken_key(data), mistaken_ca(data)):
        assert words is None or all(words)


def test_what_is_changed_here_is_right_before():
    assert isinstance(judged(pem(DER[0]), EC.key_pem(), pem(CHAIN)), KeyPair)
    assert isinstance(judged(pem(DER[1]), RSA.key_pem()), KeyPair)
    assert isinstance(judged(PKCS12, settings=IN_ONE), KeyPair)
    assert [write_der(parse_der(der)) for der in (*DER, CHAIN, *KEYS)] == [*DER, CHAIN, *KEYS]


# Found: the parts of a certificate by their place in it (RFC 5280, 4.1)

VERSION, SERIAL, SIGNATURE, ISSUER, DATES, SUBJECT, KEY, EXTENSIONS = range(8)
UNKNOWN = b"\x2a\x86\x48\xce\x3d\x04\x03\x7f"


def with_part(change):
    """The certificate with what `change` does to its parts."""
    tree = parse_der(DER[0])
    change(tree[0][1][0][1], tree[0][1])
    return pem(write_der(tree))


def doubled_extension(parts, _):
    extensions = parts[EXTENSIONS][1][0][1]
    extensions.append(extensions[0])


def unknown_curve(parts, _):
    parts[KEY][1][0][1][1][1] = UNKNOWN


def unknown_signature(parts, whole):
    parts[SIGNATURE][1][0][1] = whole[1][1][0][1] = UNKNOWN


def bad_subject(parts, _):
    parts[SUBJECT][1][0][1][0][1][1] = [0x0C, b"\xff\xfe"]


def teletex_subject(parts, _):
    parts[SUBJECT][1][0][1][0][1][1] = [0x14, "Müller".encode("latin-1")]


def bad_date(parts, _):
    parts[DATES][1][1] = [0x17, b"991332256199Z"]


def unknown_version(parts, _):
    parts[VERSION][1][0][1] = b"\x03"


def negative_serial(parts, _):
    parts[SERIAL][1] = b"\xff\x01"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (unknown_curve, r"the public key of the certificate \(.*\) cannot be read"),
        (bad_date, "holds no complete certificate"),
        (unknown_version, r"it is no X\.509 v3 certificate"),
    ],
)
def test_an_odd_certificate_is_told_of_in_words(change, message):
    """The log would ask to report a defect, and the operator would not know which part of the certificate it is."""
    with pytest.raises(Invalid, match=message) as raised:
        raise judged(with_part(change), EC.key_pem())
    assert raised.value.advice


@pytest.mark.parametrize(
    "change",
    [doubled_extension, unknown_signature, bad_subject, teletex_subject, negative_serial],
    ids=lambda f: f.__name__,
)
def test_what_openssl_reads_of_an_odd_certificate_is_no_reason_to_refuse(change):
    """Companies' CAs break rules, and it is AWS that judges them."""
    assert isinstance(judged(with_part(change), EC.key_pem()), KeyPair)


def test_a_changed_certificate_is_still_one():
    """Else the target would only ever test how PEM is refused."""
    assert isinstance(x509.load_pem_x509_certificate(with_part(negative_serial)), x509.Certificate)
