"""The key of a session of `aws login`, with which each refresh is signed (RFC 9449, DPoP), by `cryptography`.

It stands in for `awscrt.crypto.EC`, of which botocore's login provider uses this much: so a daemon that signs a header
now and then needs no second TLS and HTTP stack.
"""

from typing import Final, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature

_COORDINATE: Final = 32  # bytes, of P-256


class LoginKey:
    """A private key on the curve P-256.

    Args:
        key: As `cryptography` has it.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    @classmethod
    def new_key_from_der_data(cls, data: bytes) -> Self:
        """The key in SEC 1 or PKCS#8; ValueError for anything else."""
        try:
            key = serialization.load_der_private_key(data, None)
        except (TypeError, UnsupportedAlgorithm):  # with a passphrase; on another curve
            raise ValueError("not a key that can be used") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ValueError("not a key on P-256")  # noqa: TRY004 - what botocore expects
        return cls(key)

    def get_public_coords(self) -> tuple[bytes, bytes]:
        """The public key's x and y, 32 bytes each."""
        numbers = self._key.public_key().public_numbers()
        return numbers.x.to_bytes(_COORDINATE), numbers.y.to_bytes(_COORDINATE)

    def sign(self, digest: bytes) -> bytes:
        """The signature of a SHA-256 digest, in DER."""
        return self._key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))

    @staticmethod
    def decode_der_signature_to_padded_pair(signature: bytes, pad_to: int) -> bytes:
        """A signature as JSON Web Signatures have it: r and s, each of `pad_to` bytes."""
        return b"".join(number.to_bytes(pad_to) for number in decode_dss_signature(signature))
