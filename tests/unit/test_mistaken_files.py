"""What is said to whoever put the wrong file in the place of a certificate or a key (file_content.py)."""

import base64
from itertools import count

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, pkcs7

from imds_proxy.config.roles import RolesAnywhereConfig
from imds_proxy.errors import Denied, Invalid, SourceError
from imds_proxy.host.file_content import PUBLIC, content_of
from imds_proxy.sources.roles_anywhere import key_files
from support.certificates import Authority, put
from support.roles_anywhere import PROFILE, ROLE, TRUST_ANCHOR

COMPANY = Authority()
HOST = COMPANY.intermediate().issue(kind="p256")
CERTIFICATE, KEY = HOST.certificate_pem(), HOST.key_pem()
REQUEST = x509.CertificateSigningRequestBuilder().subject_name(HOST.certificate.subject).sign(HOST.key, hashes.SHA256())
PUBLIC_BYTES = HOST.key.public_key().public_bytes
KEY_DER = {
    "PKCS #8": HOST.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
    "SEC 1": HOST.key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
}
OPENSSH = HOST.key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
CERTIFICATE_DER = HOST.certificate.public_bytes(Encoding.DER)
BUNDLE = pkcs7.serialize_certificates([HOST.certificate], Encoding.PEM)
# `openssl pkcs8 -topk8 -v2 aria-256-cbc`, and `openssl ec -aria-256-cbc`, of a key that is nobody's.
ARIA = [
    b"""-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgBK+hTXgdMfwICCAAw
DAYIKoZIhvcNAgkFADAdBgkqgxqMmm4BAQwEEGH208VDvC5sGI1lndlHOuMEgZBd
FdLcloF9ZLhELwPa2T2LVJqN0rigsknLiJU4QZXEoRIwe0Al8NlUtv3x/7qLPMnw
eQwp6tVms2v7U32fPSuMM83vdT83jV/SpFNbn4HsflwjaZN4QlIF+uoSUa0MN/3h
aMOF770lJ/XYbNHJ6Gci2OMD+It2lEjCgaCx8tkFeObngI51cOOQlN6tC0/48As=
-----END ENCRYPTED PRIVATE KEY-----
""",
    b"""-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: ARIA-256-CBC,1FB944D2D148EBA337B4D6F877329B12

rZea6El9tbb82pbwVk6Ypdyn01CoR4kGtUIKbracla2up5XwU7Xjb2WW2QxDJewf
HkKouLajiiemOnoZfK38Ko3gk2Co/vNlGETyz05anjiLQ7n815VfFa7LyOVAqtjT
2i4ZNpUn8z1QEfP2Zp8q6Ypb4B7796l7BuDBrtJATL4=
-----END EC PRIVATE KEY-----
""",
]

# `openssl pkcs12 -export` of a certificate whose PrintableString holds an @; its passphrase is x.
ODD_PKCS12 = base64.b64decode("""
MIIDnAIBAzCCA1IGCSqGSIb3DQEHAaCCA0MEggM/MIIDOzCCAfIGCSqGSIb3DQEHBqCCAeMwggHfAgEAMIIB2AYJKoZIhvcNAQcB
MFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAh72Ad5B2DF8gICCAAwDAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEP+S
YNnAwOYQSAIRW+K3YJSAggFwEYHmn9FNi/95TOxzdGpBYBmn3WpvXpqnYYyNYf81G4GrmilFY3L2EsJytg2hzHASCo1czWwfFQcY
O0Tv4aRtSndHYUgZxGsc3JD/E3fHzVEon/Ne2Qd1DBwBuul5bJlqh5H9fqdELldUzEZEBiHYv2CAKrgpD665T35h40uPUSGuo5u+
fqy9MYM2yv1qTRppS6HYgyczXYJPHS2ynNrJoakfHHwUOCtKZnyIjmEOC3LMhFGDRy4e1dkiidL/C0G3rlnvKNrhOIw3Ya3UYyAc
ndET0TcSyrBjFKmC9yGnQvDq2DHtL+AnA9Rl7ixnfzw/G6yZeuMhi1uFSBazAewP3P1PWgvvFc0rOxW7LxlqxsOr+2KKSpy+jQHp
zOzwZ9DV7AFVmaIP01KHvJQopBXR9XDmFSpfrm0VwnQ1mAFYya/zi8k01E40ZZBKH2HSRnZZd/SVJ37P+1VaHcFuN6lj3VuouyEb
kPjaJWLYtdmPh9owggFBBgkqhkiG9w0BBwGgggEyBIIBLjCCASowggEmBgsqhkiG9w0BDAoBAqCB7zCB7DBXBgkqhkiG9w0BBQ0w
SjApBgkqhkiG9w0BBQwwHAQIdGDU77wMsJkCAggAMAwGCCqGSIb3DQIJBQAwHQYJYIZIAWUDBAEqBBDU1r43z+9auEQWqO1cr95x
BIGQsTl8wagj2oGCqBpJVLU6HqyuUmRPWaXGTIDMRYaCH8jPRd4gAetAtTDh6p394Ig6foZiizoIpXhoda+4eoBPa25VEtKHpUiu
m7JHeKnPbCxB2Q9UIao4xdD/RpnB9gzpmxCSAxIE07x03XxolGsoKV8oKZg7jiGrrMDRYpDMQ0WS5ZfuPx9GrBxlh5wsj61ZMSUw
IwYJKoZIhvcNAQkVMRYEFHI8tbnI8KplnK9Zoa0VOXvz363XMEEwMTANBglghkgBZQMEAgEFAAQgj6xpxjiAHCA0PxGtWqqy0/Be
8WyNtZx3m0NAi4Ka24UECD+V37O0NLKSAgIIAA==
""")


@pytest.fixture
def refused(tmp_path):
    """`refused(certificate=…, private_key=…)`: the error for these files, with these modes."""

    def refused(kind=Invalid, modes=None, **contents):
        files = {
            name: put(tmp_path / name, content, (modes or {}).get(name, 0o600)) for name, content in contents.items()
        }
        settings = RolesAnywhereConfig(
            source="roles-anywhere", role_arn=ROLE, trust_anchor_arn=TRUST_ANCHOR, profile_arn=PROFILE, **files
        )
        with pytest.raises(SourceError) as caught:
            key_files.pair_of("host", settings, key_files.read("host", settings), None)
        assert type(caught.value) is kind
        said = f"{caught.value.message}\n{caught.value.advice}"
        assert not [content for content in contents.values() if content and said.count(content.decode("latin-1"))]
        assert "{path}" not in said
        return said

    return refused


MISTAKEN = [
    (b"", "is empty", "in PEM"),
    (b" \n", "is empty", "in PEM"),
    (CERTIFICATE.decode().encode("utf-16"), "is UTF-16 text", "write it as UTF-8"),
    (CERTIFICATE.decode().encode("utf-16-le"), "is UTF-16 text", "write it as UTF-8"),
    (b"\xfe\xed\xfe\xed\0\0\0\2" + bytes(100), "is a Java keystore", "keytool -importkeystore"),
    (CERTIFICATE_DER, "is a certificate in DER, and not in PEM", "openssl x509 -inform DER"),
    (KEY_DER["PKCS #8"], "is a private key in DER", "are certificate and private_key swapped?"),
    (KEY_DER["SEC 1"], "is a private key in DER", "are certificate and private_key swapped?"),
    (KEY, "holds a private key in PEM", "are certificate and private_key swapped?"),
    (OPENSSH, "is a private key in OpenSSH's own format", "are certificate and private_key swapped?"),
    (REQUEST.public_bytes(Encoding.PEM), "a request for a certificate (CSR)", "give it to the CA"),
    (REQUEST.public_bytes(Encoding.DER), "a request for a certificate (CSR)", "give it to the CA"),
    (
        PUBLIC_BYTES(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "holds a public key",
        "the certificate that a CA made",
    ),
    (
        PUBLIC_BYTES(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "holds a public key",
        "the certificate that a CA made",
    ),
    (PUBLIC_BYTES(Encoding.OpenSSH, PublicFormat.OpenSSH), "holds a public key", "the certificate that a CA made"),
    (BUNDLE, "holds a PKCS #7 bundle", "openssl pkcs7 -print_certs"),
    (pkcs7.serialize_certificates([HOST.certificate], Encoding.DER), "is a PKCS #7 bundle", "openssl pkcs7"),
    (b"PuTTY-User-Key-File-3: ssh-rsa\n", "is a private key in PuTTY's", "are certificate and private_key swapped?"),
    (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n", "is made by PGP", "X.509 certificate"),
    (b"\n<!DOCTYPE html><title>Sign in", "is a web page", "a login page or an error"),
    (base64.encodebytes(CERTIFICATE_DER), "is base64 without the lines of PEM", "-----BEGIN CERTIFICATE-----"),
]


@pytest.mark.parametrize(("content", "words", "advice"), MISTAKEN, ids=map(str, count()))  # keys are made for each run
def test_what_is_no_certificate_is_called_what_it_is(refused, content, words, advice):
    """It was called PKCS #12 with a wrong passphrase, whatever it was."""
    said = refused(certificate=content, private_key=KEY)
    assert words in said
    assert advice in said
    assert "passphrase" not in said


KEYS = [
    (b"", "is empty", "in PEM"),
    (KEY.decode().encode("utf-16"), "is UTF-16 text", "write it as UTF-8"),
    (CERTIFICATE, "holds a certificate in PEM", "are certificate and private_key swapped?"),
    (CERTIFICATE_DER, "is a certificate in DER", "are certificate and private_key swapped?"),
    (KEY_DER["PKCS #8"], "is a private key in DER", "openssl pkey -inform DER"),
    (OPENSSH, "is a private key in OpenSSH's own format", "ssh-keygen -p -m PKCS8"),
    (REQUEST.public_bytes(Encoding.PEM), "a request for a certificate (CSR)", "made together with the request"),
    (
        PUBLIC_BYTES(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "holds a public key",
        "the private key that belongs to it",
    ),
    (HOST.pkcs12(), "is PKCS #12", "name it in certificate, and leave private_key out"),
    (BUNDLE, "holds a PKCS #7 bundle", "no key in such a bundle"),
    (base64.encodebytes(KEY_DER["PKCS #8"]), "is base64 without", "-----BEGIN PRIVATE KEY-----"),
]


@pytest.mark.parametrize(
    ("content", "words", "advice", "mode"),
    [*((*case, 0o600) for case in KEYS), *((*case, 0o644) for case in KEYS if content_of(case[0]) in PUBLIC)],
)
def test_what_is_no_private_key_is_called_what_it_is(refused, content, words, advice, mode):
    """A certificate may be read by all: "chmod 600" is no help to whoever named it as the key."""
    said = refused(certificate=CERTIFICATE, private_key=content, modes={"private_key": mode})
    assert words in said
    assert advice in said
    assert "chmod" not in said


def test_the_two_swapped_are_said_to_be_swapped(refused):
    said = refused(certificate=KEY, private_key=CERTIFICATE, modes={"private_key": 0o644})
    assert "are certificate and private_key swapped?" in said
    assert "chmod" not in said


@pytest.mark.parametrize("key", [KEY, CERTIFICATE + KEY, OPENSSH, KEY_DER["PKCS #8"], HOST.pkcs12(), KEYS[1][0]])
def test_a_key_that_others_can_read_is_said_to_be_open_first(refused, tmp_path, key):
    """Whatever else is wrong with it, it is no secret any more."""
    said = refused(certificate=CERTIFICATE, private_key=key, modes={"private_key": 0o644})
    assert f"chmod 600 {tmp_path / 'private_key'}" in said


@pytest.mark.parametrize("chain", [HOST.chain, HOST.chain[:1]])
def test_a_ca_before_the_hosts_own_is_named(refused, chain):
    """OpenSSL's and AWS's order is the other one; what was said was that the key is another's."""
    above = b"".join(each.public_bytes(Encoding.PEM) for each in chain)
    said = refused(certificate=above + CERTIFICATE, private_key=KEY)
    assert "the first certificate in " in said
    assert "and the host's own is a later one: CN=host-1.example.com" in said
    assert "put the host's own certificate first" in said


def test_another_hosts_certificate_before_the_own_is_named(refused):
    other = COMPANY.issue("host-2.example.com").certificate_pem()
    assert "is CN=host-2.example.com" in refused(certificate=other + CERTIFICATE, private_key=KEY)


@pytest.mark.parametrize("key", ARIA)
@pytest.mark.parametrize("passphrase", [b"correct horse battery staple", b"wrong"])
def test_a_cipher_that_is_not_supported_is_no_wrong_passphrase(refused, key, passphrase):
    said = refused(certificate=CERTIFICATE, private_key=key, passphrase_file=passphrase)
    assert "is encrypted with a cipher that is not supported here, such as ARIA" in said
    assert "openssl pkcs8 -topk8 -v2 aes-256-cbc" in said


def test_a_wrong_passphrase_is_said_to_be_one(refused):
    key = HOST.key_pem(passphrase=b"right")
    assert "cannot be decrypted" in refused(
        Denied, certificate=CERTIFICATE, private_key=key, passphrase_file=b"hunter-2"
    )
    assert "passphrase_file" in refused(Denied, certificate=HOST.pkcs12(b"right"), passphrase_file=b"hunter-2")


def test_what_cannot_be_read_in_pkcs12_is_no_wrong_passphrase(refused):
    """A certificate that is read from PEM, which is read more leniently."""
    said = refused(certificate=ODD_PKCS12, passphrase_file=b"x")
    assert "is PKCS #12, and something in it cannot be read" in said
    assert "-nodes -out NEW makes PEM of it" in said
    assert "passphrase_file" in refused(Denied, certificate=ODD_PKCS12, passphrase_file=b"hunter-2")


def test_a_key_in_the_certificates_file_is_used(tmp_path):
    """In one file, in whatever order, and with Windows' line ends."""
    both = put(tmp_path / "both", (KEY + CERTIFICATE).replace(b"\n", b"\r\n"))
    settings = RolesAnywhereConfig(
        source="roles-anywhere", role_arn=ROLE, trust_anchor_arn=TRUST_ANCHOR, profile_arn=PROFILE, certificate=both
    )
    assert key_files.pair_of("host", settings, key_files.read("host", settings), None).certificate == HOST.as_read
