"""A company's certificate authority, and the files that hosts get from it."""

import datetime as dt
import os

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)

from imds_proxy.sources.roles_anywhere.certificate import Certificate

KEYS = {
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
}
"""The kinds of key that AWS takes."""
DAY = 86400.0


def as_read(certificate):
    """A certificate of cryptography's as the daemon reads it."""
    return Certificate.parse(certificate.public_bytes(Encoding.DER))


class Issued:
    """A certificate, its key, and the certificates between it and the root."""

    def __init__(self, certificate, key, chain=()):
        self.certificate, self.key, self.chain = certificate, key, list(chain)

    @property
    def as_read(self):
        """The certificate as the daemon reads it."""
        return as_read(self.certificate)

    @property
    def expiration(self):
        return self.certificate.not_valid_after_utc.timestamp()

    def certificate_pem(self, *, chain=False):
        certificates = [self.certificate, *(self.chain if chain else [])]
        return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)

    def chain_pem(self):
        return b"".join(each.public_bytes(Encoding.PEM) for each in self.chain)

    def key_pem(self, form=PrivateFormat.PKCS8, passphrase=None):
        encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
        return self.key.private_bytes(Encoding.PEM, form, encryption)

    def pkcs12(self, passphrase=None):
        encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
        return pkcs12.serialize_key_and_certificates(b"host", self.key, self.certificate, self.chain, encryption)

    def issue(self, name="host-1.example.com", *, kind="p256", key=None, **details):
        """A certificate signed by this one's key, whether or not this may be a CA's.

        `details`: `age` and `left` in seconds, `ca`, `usage` (digitalSignature in the key usage; None: no key usage).
        """
        key = key or KEYS[kind]()
        certificate = _certificate(name, key.public_key(), self, **details)
        return Issued(certificate, key, [self.certificate, *self.chain])


class Authority(Issued):
    """A CA; `intermediate()` is one below it."""

    def __init__(self, name="Company CA", issuer=None):
        key = KEYS["p256"]()
        chain = [issuer.certificate, *issuer.chain] if issuer else []
        super().__init__(_certificate(name, key.public_key(), issuer or key, ca=True), key, chain)

    def intermediate(self, name="Issuing CA"):
        return Authority(name, self)


def _certificate(name, public_key, issuer, *, age=3600.0, left=30 * DAY, ca=False, usage=True):
    """A certificate; the root's issuer is its own key."""
    now, subject = dt.datetime.now(dt.UTC), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    by, key = (issuer.certificate.subject, issuer.key) if isinstance(issuer, Issued) else (subject, issuer)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(seconds=age))
        .not_valid_after(now + dt.timedelta(seconds=left))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if usage is not None:
        builder = builder.add_extension(_usage(signature=usage and not ca, ca=ca), critical=True)
    return builder.sign(key, hashes.SHA256())


def _usage(*, signature, ca):
    return x509.KeyUsage(
        digital_signature=signature,
        content_commitment=False,
        key_encipherment=not ca,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def put(path, content, mode=0o600):
    """Write a file as what rotates certificates does it: whole, by a rename."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(content)
    new.chmod(mode)
    os.replace(new, path)  # noqa: PTH105 - the system call's own name
    return str(path)
