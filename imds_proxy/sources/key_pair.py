"""A certificate with its private key, and whether AWS will take the two.

"The IAM Roles Anywhere trust model" of the IAM Roles Anywhere user guide says what an end entity certificate has to
be. In: a certificate, its chain, and what signs. Out: a `KeyPair`. Errors: Invalid for what will never do, Denied for
a date that is not within the certificate's.
"""

from collections.abc import Callable, Iterable
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

_PARTS: Final[dict[str, Callable[[x509.Certificate], object]]] = {
    "the subject": lambda certificate: certificate.subject.rfc4514_string(),
    "the issuer": lambda certificate: certificate.issuer.rfc4514_string(),
    "the serial number": lambda certificate: certificate.serial_number,
    "the dates": lambda certificate: (certificate.not_valid_before_utc, certificate.not_valid_after_utc),
    "the public key": lambda certificate: certificate.public_key(),
    "the algorithm of the signature": lambda certificate: certificate.signature_hash_algorithm,
    "an extension": lambda certificate: list(certificate.extensions),
}
_PARTS_OF_CHAIN: Final = ("the subject", "the issuer")

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


def readable(role: str, path: str, first: x509.Certificate, rest: Iterable[x509.Certificate]) -> None:
    """Raise Invalid where a part of a certificate cannot be read that is needed later.

    cryptography reads a certificate's parts only when they are asked for, and has no common error for what it cannot
    read: after this, nothing about these certificates raises any more.

    Args:
        role: For the message.
        path: Of their file, for the message.
        first: The host's own.
        rest: The others.
    """
    for certificate in (first, *rest):
        parts = _PARTS if certificate is first else _PARTS_OF_CHAIN
        for name in parts:
            try:
                _PARTS[name](certificate)
            except Exception:  # noqa: BLE001 - see above
                whose = "the certificate" if certificate is first else "a certificate of the chain"
                raise Invalid(f'role "{role}": {path}: {name} of {whose} cannot be read', _ISSUE) from None


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
    extensions = [extension.value for extension in certificate.extensions]
    faults = []
    if certificate.serial_number <= 0:
        faults.append("its serial number is not positive")
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
