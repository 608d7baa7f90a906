"""Certificates and keys in every form that people keep them in, and what is said about those that will not do."""

import codecs
import time

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import PrivateFormat

from imds_proxy.config.roles import RolesAnywhereConfig
from imds_proxy.errors import Denied, Invalid, SourceError
from imds_proxy.sources.roles_anywhere import key_files, key_pair
from imds_proxy.sources.roles_anywhere.certificate import of_pem
from support.certificates import DAY, KEYS, Authority, Issued, as_read, put
from support.roles_anywhere import PROFILE, ROLE, TRUST_ANCHOR

PASSPHRASE = b"correct horse battery staple"
SHA1_CERTIFICATE = b"""-----BEGIN CERTIFICATE-----
MIIBcDCCARegAwIBAgIULV2fp7Z7tL0Sze58/68hysaqmXUwCQYHKoZIzj0EATAP
MQ0wCwYDVQQDDAR3ZWFrMCAXDTI2MTEyMTEyNDE1M1oYDzIxMjYxMDI4MTI0MTUz
WjAPMQ0wCwYDVQQDDAR3ZWFrMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEg/Ak
6GSFaGMww8gN46hFzT1tDJMTct3XQtqdDvci/OMc5Cd89ECNez1HoXjLxijFAcH6
RVCtIAwBjQvCPn3VUKNQME4wHQYDVR0OBBYEFNzPVv70PBVFFCw/JO2TxUILiRTp
MB8GA1UdIwQYMBaAFNzPVv70PBVFFCw/JO2TxUILiRTpMAwGA1UdEwEB/wQCMAAw
CQYHKoZIzj0EAQNIADBFAiEAuq4pztK4HHWHo7S2fzRMszWOGpEA1tLg/u/5WwhL
taMCIEo4FitOA5jK4EzOjMsHUoZ49ESPDzu6YwbX4sws5WNV
-----END CERTIFICATE-----
"""
V1_CERTIFICATE = b"""-----BEGIN CERTIFICATE-----
MIIBGTCBvwIUCyyWSG1rj0phEF1xy9BsmuODr+IwCgYIKoZIzj0EAwIwDjEMMAoG
A1UEAwwDb2xkMCAXDTI2MTEyMTEyNDE1M1oYDzIxMjYxMDI4MTI0MTUzWjAOMQww
CgYDVQQDDANvbGQwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATzCtKPDK7zElM2
SMsmEL00OS2UHP3vWiWo4KU5tjPvoU4dvvKFzvEQQeKZyRmoppPQ0R+b1AqL11xb
q81Uo4HLMAoGCCqGSM49BAMCA0kAMEYCIQC6S379WRUdtVcjZef3cFxRfAQI4Gtt
lkWYzfLe3j3QkgIhAJlhnrmS3tAegoUPLkxA8dWHjf62lTwZMv2l4jd//K2L
-----END CERTIFICATE-----
"""


@pytest.fixture(scope="module")
def company():
    return Authority()


@pytest.fixture(scope="module")
def host(company):
    """A host's certificate, issued by an intermediate CA."""
    return company.intermediate().issue(kind="rsa")


@pytest.fixture
def load(tmp_path):
    """`load(certificate=PEM, private_key=PEM, …)`: the pair of these files, judged as the daemon judges it."""

    def load(modes=None, **contents):
        files = {
            name: put(tmp_path / name, content, (modes or {}).get(name, 0o600)) for name, content in contents.items()
        }
        settings = RolesAnywhereConfig(
            source="roles-anywhere", role_arn=ROLE, trust_anchor_arn=TRUST_ANCHOR, profile_arn=PROFILE, **files
        )
        pair = key_files.pair_of("host", settings, key_files.read("host", settings), None)
        key_pair.acceptable("host", pair, time.time())
        key_pair.belongs("host", pair)
        return pair

    return load


def test_files_that_windows_wrote_are_read(host, load):
    """Its editors put a byte order mark first: the passphrase would be a wrong one."""
    mark = codecs.BOM_UTF8
    key, secret = host.key_pem(passphrase=PASSPHRASE), mark + PASSPHRASE + b"\r\n"
    assert load(certificate=mark + host.certificate_pem(), private_key=mark + key, passphrase_file=secret)


def refused(load, kind=Invalid, **contents):
    with pytest.raises(SourceError) as caught:
        load(**contents)
    assert type(caught.value) is kind
    assert caught.value.message.startswith('role "host": ')
    assert PASSPHRASE.decode() not in caught.value.message + caught.value.advice
    return caught.value


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_every_kind_of_key_is_read_in_every_form(company, load, kind, form, passphrase):
    issued = company.issue(kind=kind)
    extra = {"passphrase_file": passphrase + b"\n"} if passphrase else {}
    pair = load(certificate=issued.certificate_pem(), private_key=issued.key_pem(form, passphrase), **extra)
    assert pair.algorithm == ("RSA" if kind == "rsa" else "ECDSA")
    signature, public = pair.sign(b"message"), issued.certificate.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        public.verify(signature, b"message", padding.PKCS1v15(), hashes.SHA256())
    else:
        public.verify(signature, b"message", ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_pkcs12_is_read_with_and_without_a_passphrase(host, load, passphrase):
    extra = {"passphrase_file": passphrase} if passphrase else {}
    pair = load(certificate=host.pkcs12(passphrase), **extra)
    assert pair.certificate == host.as_read
    assert list(pair.chain) == [as_read(host.chain[0])]


def test_pkcs12_may_hold_the_certificate_alone(host, load):
    """A key that is kept apart is the one that is used."""
    bundle = Issued(host.certificate, host.key, host.chain).pkcs12()
    assert load(certificate=bundle, private_key=host.key_pem()).certificate == host.as_read


def test_certificate_key_and_intermediates_may_be_in_one_file(host, load):
    pair = load(certificate=host.key_pem() + host.certificate_pem(chain=True))
    assert pair.certificate == host.as_read
    assert list(pair.chain) == [as_read(host.chain[0])]


def test_intermediates_have_a_file_and_the_root_is_left_at_home(host, load):
    """AWS has the root as its trust anchor; every certificate makes the headers longer, and those have a limit."""
    pair = load(
        certificate=host.certificate_pem(chain=True), private_key=host.key_pem(), intermediates=host.chain_pem()
    )
    assert list(pair.chain) == [as_read(host.chain[0])]
    assert len(host.chain) == 2


def test_an_unneeded_passphrase_does_no_harm(host, load):
    """Whoever stops encrypting the key should not have to change the config at the same moment."""
    assert load(certificate=host.certificate_pem(), private_key=host.key_pem(), passphrase_file=PASSPHRASE)


@pytest.mark.parametrize("readable", [0o644, 0o640 | 0o020, 0o604])
@pytest.mark.parametrize("which", ["private_key", "passphrase_file"])
def test_a_secret_that_others_can_read_is_refused_with_the_chmod(host, load, which, readable, tmp_path):
    error = refused(
        lambda **contents: load(modes={which: readable}, **contents),
        certificate=host.certificate_pem(),
        private_key=host.key_pem(passphrase=PASSPHRASE),
        passphrase_file=PASSPHRASE,
    )
    assert f"{tmp_path / which} can be read or changed by other users" in error.message
    assert f"chmod 600 {tmp_path / which}" in error.advice


@pytest.mark.parametrize("form", ["pem", "pkcs12"])
@pytest.mark.parametrize("apart", [False, True])
def test_a_certificates_file_with_a_key_in_it_is_a_secret_too(host, load, tmp_path, form, apart):
    content = host.pkcs12() if form == "pkcs12" else host.certificate_pem() + host.key_pem()
    extra = {"private_key": host.key_pem()} if apart else {}
    error = refused(lambda **contents: load(modes={"certificate": 0o644}, **contents), certificate=content, **extra)
    assert f"chmod 600 {tmp_path / 'certificate'}" in error.advice


def test_a_certificate_alone_may_be_read_by_everybody(host, load):
    assert load(modes={"certificate": 0o644}, certificate=host.certificate_pem(), private_key=host.key_pem())


@pytest.mark.parametrize("other", KEYS)
def test_a_key_of_another_certificate_is_refused(company, load, other):
    """Half of a rotation."""
    issued, stranger = company.issue(kind="rsa"), company.issue(kind=other)
    error = refused(load, certificate=issued.certificate_pem(), private_key=stranger.key_pem())
    assert "the private key does not belong to the certificate" in error.message
    assert f"serial {issued.certificate.serial_number:x}" in error.message


@pytest.mark.parametrize(
    ("details", "outcome", "words"),
    [
        ({"age": 3 * DAY, "left": -DAY}, Denied, "the certificate expired on 20"),
        ({"age": -DAY}, Denied, "the certificate is not valid before 20"),
        ({"ca": True}, Invalid, "it is a CA certificate"),
        ({"usage": False}, Invalid, "its key usage has no digitalSignature"),
    ],
)
def test_a_certificate_that_aws_would_refuse_is_refused_here_with_the_reason(company, load, details, outcome, words):
    issued = company.issue(**details)
    error = refused(load, outcome, certificate=issued.certificate_pem(), private_key=issued.key_pem())
    assert words in error.message
    assert "CN=host-1.example.com, serial " in error.message


def test_a_certificate_without_key_usage_is_for_aws_to_judge(company, load):
    issued = company.issue(usage=None)
    assert load(certificate=issued.certificate_pem(), private_key=issued.key_pem())


def test_a_weak_signature_on_the_certificate_is_named():
    (certificate,) = of_pem(SHA1_CERTIFICATE)
    pair = key_pair.KeyPair(certificate, (), "ECDSA", lambda _: b"")
    with pytest.raises(Invalid, match="it is signed with SHA-1 or MD5"):
        key_pair.acceptable("host", pair, time.time())


def test_a_certificate_of_version_1_is_named():
    (certificate,) = of_pem(V1_CERTIFICATE)
    pair = key_pair.KeyPair(certificate, (), "ECDSA", lambda _: b"")
    with pytest.raises(Invalid, match=r"it is no X\.509 v3 certificate"):
        key_pair.acceptable("host", pair, time.time())


@pytest.mark.parametrize("key", [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256K1())])
def test_a_kind_of_key_that_aws_does_not_take_is_named(company, load, key):
    issued = company.issue(key=key)
    error = refused(load, certificate=issued.certificate_pem(), private_key=issued.key_pem())
    assert "neither RSA nor EC on P-256, P-384 or P-521" in error.message


def test_a_private_key_of_another_kind_is_named(company, load):
    stranger = company.issue(key=ed25519.Ed25519PrivateKey.generate())
    error = refused(load, certificate=company.issue().certificate_pem(), private_key=stranger.key_pem())
    assert "the private key is neither RSA nor EC" in error.message


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9])
def test_a_torn_file_is_refused(host, load, part):
    """Written in place, and read in the middle of it."""

    def torn(content):
        return content[: int(len(content) * part)]

    certificate, key = host.certificate_pem(), host.key_pem()
    refused(load, certificate=torn(certificate), private_key=key)
    error = refused(load, certificate=certificate, private_key=torn(key))
    assert ("holds no complete private key" if part else "is empty") in error.message
    refused(load, Denied if part else Invalid, certificate=torn(host.pkcs12()))


def test_a_damaged_key_is_refused(host, load):
    lines = host.key_pem().splitlines(keepends=True)
    error = refused(load, certificate=host.certificate_pem(), private_key=b"".join([*lines[:5], *lines[6:]]))
    assert "private_key is damaged" in error.message


def test_a_wrong_or_missing_passphrase_is_told_apart(host, load):
    certificate, key = host.certificate_pem(), host.key_pem(passphrase=PASSPHRASE)
    wrong = refused(load, Denied, certificate=certificate, private_key=key, passphrase_file=b"wrong")
    assert "cannot be decrypted" in wrong.message
    assert "passphrase_file" in wrong.advice
    missing = refused(load, certificate=certificate, private_key=key)
    assert "is encrypted" in missing.message
    for extra in ({}, {"passphrase_file": b"wrong"}):
        bundle = refused(load, Denied, certificate=host.pkcs12(PASSPHRASE), **extra)
        assert "cannot be opened as PKCS #12" in bundle.message
        assert "passphrase_file" in bundle.advice


def test_the_key_of_a_tpm_is_named(host, load):
    wrapped = b"-----BEGIN TSS2 PRIVATE KEY-----\nMHQCAQEE\n-----END TSS2 PRIVATE KEY-----\n"
    error = refused(load, certificate=host.certificate_pem(), private_key=wrapped)
    assert "a key that only a TPM can use" in error.message
    assert "pkcs11_module" in error.advice


def test_a_certificate_without_its_key_says_what_to_set(host, load):
    error = refused(load, certificate=host.certificate_pem())
    assert "private_key" in error.advice


def test_a_request_for_a_certificate_is_no_certificate(host, load):
    request = b"-----BEGIN CERTIFICATE REQUEST-----\nMHQCAQEE\n-----END CERTIFICATE REQUEST-----\n"
    error = refused(load, certificate=request, private_key=host.key_pem())
    assert "holds a request for a certificate (CSR)" in error.message
    assert "give it to the CA" in error.advice


def test_nothing_shows_a_key_or_a_passphrase(host, load, tmp_path):
    pair = load(certificate=host.certificate_pem(), private_key=host.key_pem())
    secret = host.key_pem().decode().splitlines()[3]
    files = key_files.KeyFiles(b"", host.key_pem(), None, PASSPHRASE)
    assert secret not in repr(pair) + str(pair) + repr(files)
    assert PASSPHRASE.decode() not in repr(files)
