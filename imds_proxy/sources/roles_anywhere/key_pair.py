"""A certificate with its private key, and whether AWS will take the two.

"The IAM Roles Anywhere trust model" of the IAM Roles Anywhere user guide says what an end entity certificate has to
be. In: a certificate, its chain, and what signs. Out: a `KeyPair`. Errors: Invalid for what will never do, Denied for
a date that is not within the certificate's.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from imds_proxy.credentials import timestamp
from imds_proxy.errors import Denied, Invalid
from imds_proxy.sources.roles_anywhere.certificate import Certificate
from imds_proxy.sources.roles_anywhere.sigv4_x509 import Algorithm

_CURVES: Final = {"secp256r1", "secp384r1", "secp521r1"}
_VERSION: Final = 3
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

    certificate: Certificate
    chain: tuple[Certificate, ...]
    algorithm: Algorithm
    sign: Sign = field(repr=False, compare=False)

    @property
    def serial(self) -> int:
        """The certificate's serial number."""
        return self.certificate.serial

    @property
    def certificate_der(self) -> bytes:
        """The certificate in DER."""
        return self.certificate.der

    @property
    def chain_der(self) -> tuple[bytes, ...]:
        """The chain in DER."""
        return tuple(each.der for each in self.chain)

    @property
    def expiration(self) -> float:
        """When the certificate ends, seconds since the epoch."""
        return self.certificate.ends

    @property
    def issued(self) -> float:
        """When the certificate begins, seconds since the epoch."""
        return self.certificate.begins

    def __str__(self) -> str:
        return str(self.certificate)


def public_key(role: str, certificate: Certificate) -> object:
    """The certificate's key; raises Invalid where it is of a kind that is not known here."""
    try:
        return serialization.load_der_public_key(certificate.public_key)
    except (ValueError, UnsupportedAlgorithm):
        raise Invalid(
            f'role "{role}": the public key of the certificate ({certificate}) cannot be read', _ISSUE
        ) from None


def algorithm_of(role: str, certificate: Certificate) -> Algorithm:
    """Which of AWS's two signatures the certificate's key makes; raises Invalid for a kind of key that has none."""
    key = public_key(role, certificate)
    if isinstance(key, rsa.RSAPublicKey):
        return "RSA"
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return "ECDSA"
    raise Invalid(f'role "{role}": the certificate\'s key is neither RSA nor EC on P-256, P-384 or P-521', _ISSUE)


def belongs(role: str, pair: KeyPair) -> None:
    """Prove that the key is the certificate's own: raises Invalid, or what the token says."""
    key, signature = public_key(role, pair.certificate), pair.sign(_PROBE)
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


def _faults(certificate: Certificate) -> list[str]:
    if certificate.version != _VERSION:
        return ["it is no X.509 v3 certificate"]
    faults = []
    if certificate.is_weak:
        faults.append("it is signed with SHA-1 or MD5")
    if certificate.is_ca:
        faults.append("it is a CA certificate")
    if certificate.may_sign is False:
        faults.append("its key usage has no digitalSignature")
    return faults
