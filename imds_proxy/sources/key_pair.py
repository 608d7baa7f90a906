"""A certificate with its private key, and whether AWS will take the two.

"The IAM Roles Anywhere trust model" of the IAM Roles Anywhere user guide says what an end entity certificate has to
be. In: a certificate, its chain, and what signs. Out: a `KeyPair`. Errors: Invalid for what will never do, Denied for
a date that is not within the certificate's.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from imds_proxy.credentials import timestamp
from imds_proxy.errors import Denied, Invalid
from imds_proxy.sources.redaction import printable
from imds_proxy.sources.x509_signature import Algorithm

_CURVES: Final = {"secp256r1", "secp384r1", "secp521r1"}
_TOO_WEAK: Final = hashes.SHA1 | hashes.MD5
_PROBE: Final = b"imds-proxy: does this key belong to this certificate?"
_ISSUE: Final = "have the CA issue an end entity certificate for IAM Roles Anywhere"

Sign = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class KeyPair:
    """What a host proves itself with.

    Args:
        certificate: The host's own.
        chain: The certificates between it and the trust anchor.
        algorithm: Of the key.
        sign: Signs a message, by SHA-256; may take as long as a token does.
    """

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    algorithm: Algorithm
    sign: Sign = field(repr=False, compare=False)

    @property
    def serial(self) -> int:
        """The certificate's serial number."""
        return self.certificate.serial_number

    @property
    def certificate_der(self) -> bytes:
        """The certificate in DER."""
        return _der(self.certificate)

    @property
    def chain_der(self) -> tuple[bytes, ...]:
        """The chain in DER."""
        return tuple(map(_der, self.chain))

    @property
    def expiration(self) -> float:
        """When the certificate ends, seconds since the epoch."""
        return self.certificate.not_valid_after_utc.timestamp()

    @property
    def issued(self) -> float:
        """When the certificate begins, seconds since the epoch."""
        return self.certificate.not_valid_before_utc.timestamp()

    def __str__(self) -> str:
        subject = printable(self.certificate.subject.rfc4514_string()) or "no subject"
        return f"{subject}, serial {self.serial:x}, until {timestamp(self.expiration)}"


def algorithm_of(role: str, certificate: x509.Certificate) -> Algorithm:
    """Which of AWS's two signatures the certificate's key makes; raises Invalid for a kind of key that has none."""
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return "RSA"
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return "ECDSA"
    raise Invalid(f'role "{role}": the certificate\'s key is neither RSA nor EC on P-256, P-384 or P-521', _ISSUE)


def belongs(role: str, pair: KeyPair) -> None:
    """Prove that the key is the certificate's own: raises Invalid, or what the token says."""
    key, signature = pair.certificate.public_key(), pair.sign(_PROBE)
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, _PROBE, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, _PROBE, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise Invalid(
            f'role "{role}": the private key does not belong to the certificate ({pair})',
            "put the two that were made for each other in place; a rotation that replaces one after the other is"
            " taken once both are there",
        ) from None


def acceptable(role: str, pair: KeyPair, now: float) -> None:
    """Raise Invalid where AWS would refuse the certificate whatever the day, Denied where it would today."""
    for wrong in _faults(pair.certificate):
        raise Invalid(f'role "{role}": AWS will not accept the certificate ({pair}): {wrong}', _ISSUE)
    if now < pair.issued:
        raise Denied(
            f'role "{role}": the certificate is not valid before {timestamp(pair.issued)} ({pair})',
            f"wait for it, or set this host's clock: by that it is {timestamp(now)}",
        )
    alive(role, pair, now)


def alive(role: str, pair: KeyPair, now: float) -> None:
    """Raise Denied for a certificate that has expired."""
    if now >= pair.expiration:
        raise Denied(
            f'role "{role}": the certificate expired on {timestamp(pair.expiration)} ({pair})',
            "renew it, and see why what renews it did not; by this host's clock it is " + timestamp(now),
        )


def _faults(certificate: x509.Certificate) -> list[str]:
    if certificate.version is not x509.Version.v3:
        return ["it is no X.509 v3 certificate"]
    try:
        extensions = [extension.value for extension in certificate.extensions]
    except ValueError:
        return ["its extensions cannot be read"]
    faults = []
    if isinstance(certificate.signature_hash_algorithm, _TOO_WEAK):
        faults.append("it is signed with SHA-1 or MD5")
    for value in extensions:
        if isinstance(value, x509.BasicConstraints) and value.ca:
            faults.append("it is a CA certificate")
        if isinstance(value, x509.KeyUsage) and not value.digital_signature:
            faults.append("its key usage has no digitalSignature")
    return faults


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)
