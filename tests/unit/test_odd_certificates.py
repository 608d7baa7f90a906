"""Certificates that break the rules, as companies' CAs have made them for decades, and that OpenSSL reads."""

import ssl
import time
from base64 import encodebytes

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from imds_proxy.config.roles import RolesAnywhereConfig
from imds_proxy.host.http_client import WebRequest
from imds_proxy.sources.roles_anywhere import key_files, key_pair
from imds_proxy.sources.roles_anywhere.certificate import Certificate, of_pem
from imds_proxy.sources.roles_anywhere.key_files import KeyFiles
from imds_proxy.sources.roles_anywhere.key_pair import KeyPair
from imds_proxy.sources.roles_anywhere.sigv4_x509 import signed
from support.certificates import Authority, Issued
from support.roles_anywhere import PROFILE, ROLE, TRUST_ANCHOR

KEY = ec.generate_private_key(ec.SECP256R1())
KEY_PEM = Issued(None, KEY).key_pem()
PUBLIC = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
SETTINGS = RolesAnywhereConfig(
    source="roles-anywhere",
    role_arn=ROLE,
    trust_anchor_arn=TRUST_ANCHOR,
    profile_arn=PROFILE,
    certificate="/etc/host.crt",
    private_key="/etc/host.key",
)
UTF8, NUMERIC, PRINTABLE, TELETEX, IA5, UNIVERSAL, BMP = 12, 18, 19, 20, 22, 28, 30
COMMON_NAME, COUNTRY, SERIAL_NAME, EMAIL, UNIQUE = (
    b"\x55\4\3",
    b"\x55\4\6",
    b"\x55\4\5",
    b"*\x86H\x86\xf7\r\1\t\1",
    b"\x55\4\x2d",
)
KEY_USAGE, CONSTRAINTS, OTHER_NAMES = b"\x55\x1d\x0f", b"\x55\x1d\x13", b"\x55\x1d\x11"
ECDSA_SHA256 = b"*\x86H\xce=\4\3\2"


def tlv(tag, *parts):
    body = b"".join(parts)
    size = len(body).to_bytes(4, "big").lstrip(b"\0") or b"\0"
    return bytes([tag]) + (size if len(body) < 128 else bytes([0x80 | len(size)]) + size) + body


def sequence(*parts):
    return tlv(0x30, *parts)


def name(*attributes):
    return sequence(*(tlv(0x31, sequence(tlv(6, kind), tlv(tag, value))) for kind, tag, value in attributes))


def extension(kind, *parts):
    return sequence(tlv(6, kind), *parts)


HOST = name((COMMON_NAME, UTF8, b"host"))
SIGNS = extension(KEY_USAGE, tlv(4, tlv(3, b"\7\x80")))
BEGINS, ENDS = tlv(23, b"260101000000Z"), tlv(23, b"490101000000Z")
V3 = tlv(0xA0, tlv(2, b"\2"))


def made(
    subject=HOST, issuer=None, serial=b"\5", extensions=(SIGNS,), begins=BEGINS, ends=ENDS, version=V3, algorithm=None
):
    algorithm = sequence(tlv(6, ECDSA_SHA256), algorithm or b"")
    parts = algorithm, issuer or subject, sequence(begins, ends), subject, PUBLIC, tlv(0xA3, sequence(*extensions))
    body = sequence(V3, tlv(2, serial), *parts)
    return sequence(body, algorithm, tlv(3, b"\0" + KEY.sign(body, ec.ECDSA(hashes.SHA256()))))


def pem(der, what="CERTIFICATE"):
    return f"-----BEGIN {what}-----\n".encode() + encodebytes(der) + f"-----END {what}-----\n".encode()


HOSTS = Authority().issue(kind="p256")
LATIN1 = "Müller".encode("latin-1")
ODD = {
    "Teletex in Latin-1": ({"subject": name((COMMON_NAME, TELETEX, LATIN1))}, "CN=Müller"),
    "IA5 in Latin-1": ({"subject": name((COMMON_NAME, IA5, LATIN1))}, "CN=Müller"),
    "Printable in Latin-1": ({"subject": name((COMMON_NAME, PRINTABLE, LATIN1))}, "CN=Müller"),
    "Teletex in UTF-8": ({"subject": name((COMMON_NAME, TELETEX, "Müller".encode()))}, "CN=Müller"),
    "at in Printable": ({"subject": name((EMAIL, PRINTABLE, b"me@x.de"))}, "1.2.840.113549.1.9.1=me@x.de"),
    "underscore in Printable": ({"subject": name((COMMON_NAME, PRINTABLE, b"my_host*"))}, "CN=my_host*"),
    "letters in Numeric": ({"subject": name((SERIAL_NAME, NUMERIC, b"12a"))}, "2.5.4.5=12a"),
    "empty common name": ({"subject": name((COMMON_NAME, UTF8, b""))}, "CN="),
    "BMP": ({"subject": name((COMMON_NAME, BMP, "Mü".encode("utf-16-be")))}, "CN=Mü"),
    "Universal": ({"subject": name((COMMON_NAME, UNIVERSAL, "Mü".encode("utf-32-be")))}, "CN=Mü"),
    "country of three": ({"subject": name((COUNTRY, PRINTABLE, b"DEU"), (COMMON_NAME, UTF8, b"h"))}, "CN=h,C=DEU"),
    "country of none": ({"subject": name((COUNTRY, PRINTABLE, b""), (COMMON_NAME, UTF8, b"h"))}, "CN=h,C="),
    "no subject": ({"subject": sequence(), "issuer": HOST}, "no subject"),
    "bits": ({"subject": name((UNIQUE, 3, b"\0\1"))}, "2.5.4.45=#03020001"),
    "zero byte": ({"subject": name((COMMON_NAME, TELETEX, b"a\0b"))}, "CN=a\\00b"),
    "issuer in Latin-1": ({"issuer": name((COMMON_NAME, PRINTABLE, LATIN1))}, "CN=host"),
    "serial zero": ({"serial": b"\0"}, "serial 0, "),
    "serial negative": ({"serial": b"\xfb"}, "serial -5, "),
    "serial of 30 bytes": ({"serial": b"\1" * 30}, f"serial {'1' + '01' * 29}, "),
    "no seconds": ({"begins": tlv(23, b"2601010000Z")}, "CN=host"),
    "time zone": ({"ends": tlv(23, b"490101000000+0100")}, "until 2048-12-31T23:00:00Z"),
    "fraction of a second": ({"ends": tlv(24, b"20490101000000.5Z")}, "until 2049-01-01T00:00:00Z"),
    "no end": ({"ends": tlv(24, b"99991231235959Z")}, "until 9999-12-31T23:59:59Z"),
    "year zero": ({"begins": tlv(24, b"00000101000000Z")}, "CN=host"),
    "default written out": ({"extensions": [extension(CONSTRAINTS, tlv(4, sequence(tlv(1, b"\0"))))]}, "CN=host"),
    "critical is 1": ({"extensions": [extension(KEY_USAGE, tlv(1, b"\1"), tlv(4, tlv(3, b"\7\x80")))]}, "CN=host"),
    "not critical": ({"extensions": [extension(KEY_USAGE, tlv(1, b"\0"), tlv(4, tlv(3, b"\7\x80")))]}, "CN=host"),
    "twice": ({"extensions": [SIGNS, SIGNS]}, "CN=host"),
    "other names in Latin-1": (
        {"extensions": [extension(OTHER_NAMES, tlv(4, sequence(tlv(0x82, LATIN1))))]},
        "CN=host",
    ),
    "other names of rubbish": ({"extensions": [extension(OTHER_NAMES, tlv(4, b"hello"))]}, "CN=host"),
    "parameters of the algorithm": ({"algorithm": tlv(5)}, "CN=host"),
}


def judged(certificate, key=KEY_PEM, intermediates=None):
    """The pair, with all done to it that the daemon does."""
    pair = key_files.pair_of("host", SETTINGS, KeyFiles(certificate, key, intermediates, None), None)
    key_pair.acceptable("host", pair, time.time())
    key_pair.belongs("host", pair)
    signed(WebRequest("POST", "https://x/sessions?a=b", {}, b"{}"), pair, "eu-west-1", time.time())
    assert pair.issued < time.time() < pair.expiration
    return pair


@pytest.mark.parametrize("odd", ODD)
def test_a_certificate_that_openssl_reads_works(odd):
    """It works with every other program of the host's."""
    parts, words = ODD[odd]
    der = made(**parts)
    pair = judged(pem(der))
    assert words in str(pair)
    assert pair.certificate_der == der
    above = made(**parts | {"issuer": name((EMAIL, IA5, b"a@b"))})
    assert [each.der for each in judged(HOSTS.certificate_pem() + pem(above), HOSTS.key_pem()).chain] == [above]


@pytest.mark.parametrize("odd", ODD)
def test_openssl_does_read_it(odd):
    """What is said above of it."""
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=made(**ODD[odd][0]))


@pytest.mark.parametrize("issued", [Authority().issue(kind="rsa"), Authority('Ü, \\ " # <CA>').intermediate(" x ")])
def test_what_is_by_the_rules_is_read_as_cryptography_reads_it(issued):
    theirs, mine = issued.certificate, issued.as_read
    assert mine.subject == theirs.subject.rfc4514_string()
    assert mine.issuer == theirs.issuer.rfc4514_string()
    assert mine.serial == theirs.serial_number
    assert mine.begins == theirs.not_valid_before_utc.timestamp()
    assert mine.ends == theirs.not_valid_after_utc.timestamp()
    assert mine.is_ca == theirs.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert mine.may_sign == theirs.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    assert mine.public_key == theirs.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert mine.version == 3
    assert not mine.is_weak


@pytest.mark.parametrize("cut", [0, 1, 2, 5, 40, 200, -1])
def test_half_a_certificate_is_none(cut):
    with pytest.raises(ValueError, match=r"no |not "):
        Certificate.parse(made()[:cut])


WINDOWS = pem(made()).replace(b"\n", b"\r\n")


@pytest.mark.parametrize(
    "text",
    [
        WINDOWS,
        b"subject=CN = host\nissuer=CN = host\n" + pem(made()),
        b"\xef\xbb\xbf" + pem(made()),
        b"Bag Attributes\r\n    friendlyName: M\xfcller\r\n" + WINDOWS + b"\r\n\x1a",
        pem(made(), "X509 CERTIFICATE"),
        pem(made() + sequence(), "TRUSTED CERTIFICATE"),
        b"  " + pem(made()).replace(b"\n", b"\n  "),
        pem(made()).replace(b"\n", b"").replace(b"-----M", b"-----\nM").replace(b"-----END", b"\n-----END"),
    ],
)
def test_pem_may_be_written_as_people_write_it(text):
    """Windows' line ends, text before it, a BOM, lines of any length."""
    key = KEY_PEM.replace(b"\n", b"\r\n") if b"\r\n" in text else KEY_PEM
    assert isinstance(judged(text, b"text before\n" + key), KeyPair)
    assert of_pem(text)[0].subject == "CN=host"
