"""The keys that an issuer signs its tokens with, and whether one of them has signed a token.

In: a JSON Web Key Set. Out: a verdict. Errors: Invalid for what is no such set, NotAccepted for a token. Nothing in a
token's header is followed: `jku`, `x5u`, `jwk` and `x5c` could be anybody's.

RFC 7517 (JSON Web Key), RFC 7518 (JSON Web Algorithms), RFC 8725 (JSON Web Token Best Current Practices).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWS, PyJWTError
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from imds_proxy.callers.kubernetes.token import NotAccepted, UnverifiedToken
from imds_proxy.errors import Invalid

PublicKey = RSAPublicKey | EllipticCurvePublicKey

# What Kubernetes signs with ("Managing Service Accounts", external signers included), and RSA's longer hashes.
_RSA: Final = frozenset({"RS256", "RS384", "RS512"})
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_SMALLEST_RSA: Final = 2048  # bits
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_NOT_A_KEY: Final = (PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, LookupError)
_NOT_SIGNED: Final = (PyJWTError, ValueError, TypeError)


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """One issuer's public keys.

    Args:
        keys: Each key's algorithms, by its id.
        ignored: How many entries of the set are not for signing, or private, or of a kind not known here.
    """

    keys: Mapping[str, Mapping[str, PublicKey]]
    ignored: int = 0

    def verify(self, token: UnverifiedToken) -> None:
        """Return if the key that the token names has signed it, by an algorithm of that key's.

        Raises:
            NotAccepted: It has not.
        """
        key = self.keys.get(token.key_id, {}).get(token.algorithm)
        if key is None:
            raise NotAccepted("the token's algorithm is not its key's")
        try:
            PyJWS(algorithms=[token.algorithm]).decode(token.text, key, algorithms=[token.algorithm])
        except _NOT_SIGNED:
            raise NotAccepted("the token's signature is not its key's") from None


def parse(content: bytes, origin: str) -> SigningKeys:
    """The keys of a JSON Web Key Set that can verify a token.

    Args:
        content: As it was fetched.
        origin: Where, for the message.

    Raises:
        Invalid: It is no such set. One without any usable key is: nobody's token is accepted then.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    entries = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(entries, list):
        raise Invalid(f"{origin} holds no JSON Web Key Set", "it is what kubectl get --raw /openid/v1/jwks prints")
    keys: dict[str, dict[str, PublicKey]] = {}
    ignored = 0
    for entry in entries:
        usable = _usable(entry) if isinstance(entry, dict) else {}
        ignored += not usable
        for algorithm, key in usable.items():
            keys.setdefault(entry["kid"], {}).setdefault(algorithm, key)
    return SigningKeys(keys, ignored)


def _usable(entry: dict[str, Any]) -> dict[str, PublicKey]:
    """A key by each algorithm that it may be used with; none if it is not meant for this."""
    key_id, operations = entry.get("kid"), entry.get("key_ops", ["verify"])
    if not isinstance(key_id, str) or not key_id or _PRIVATE & entry.keys():
        return {}
    if entry.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return {}
    try:
        found = _key(entry)
    except _NOT_A_KEY:
        return {}
    return {name: key for name, key in found.items() if entry.get("alg", name) == name}


def _key(entry: dict[str, Any]) -> dict[str, PublicKey]:
    if entry.get("kty") == "RSA":
        rsa = RSAAlgorithm.from_jwk(entry)
        if isinstance(rsa, RSAPublicKey) and rsa.key_size >= _SMALLEST_RSA:
            return dict.fromkeys(_RSA, rsa)
    if entry.get("kty") == "EC":
        ec = ECAlgorithm.from_jwk(entry)
        if isinstance(ec, EllipticCurvePublicKey) and ec.curve.name in _CURVES:
            return {_CURVES[ec.curve.name]: ec}
    return {}
