"""AES-256-GCM (NIST SP 800-38D), of the `cryptography` package: all that needs the extra "encrypted-state"."""

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES: Final = 12


class Aes256Gcm:
    """Encrypts with one key.

    Nonces are random: with a renewal each minute, a thousand roles take eight years to the 2^32 messages that one key
    is good for.

    Args:
        key: 32 bytes.
    """

    name = "aes-256-gcm"

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def __repr__(self) -> str:
        return "Aes256Gcm(***)"

    def encrypt(self, content: bytes, associated: bytes) -> bytes:
        """A nonce, and the encrypted content with its tag."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, content, associated)

    def decrypt(self, encrypted: bytes, associated: bytes) -> bytes:
        """The content; raises ValueError where key, nonce, content or associated data are not those it was made of."""
        try:
            return self._cipher.decrypt(encrypted[:_NONCE_BYTES], encrypted[_NONCE_BYTES:], associated)
        except InvalidTag:
            raise ValueError("not encrypted with this key") from None
