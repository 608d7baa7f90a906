"""The files of a certificate and its private key: PEM (PKCS #8, PKCS #1, SEC 1) or PKCS #12, encrypted or not.

In: the role's settings. Out: what the files hold, and a `KeyPair` of it. Errors: Invalid for what is no certificate or
key, or a key that other users can read (the advice has the chmod); Denied for a wrong passphrase.
"""

import hashlib
import re
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from imds_proxy.config_roles import RolesAnywhereConfig
from imds_proxy.errors import Denied, Invalid
from imds_proxy.sources.files import read_file
from imds_proxy.sources.key_pair import KeyPair, Sign, algorithm_of, readable
from imds_proxy.sources.x509_signature import Algorithm

TOKEN: Final = "pkcs11:"  # noqa: S105 - not that kind of token
"""How a private key begins that is on a token."""
_PEM: Final = b"-----BEGIN "
_PEM_KEY: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.+?-----END \1-----", re.DOTALL)
_TPM_KEY: Final = b"TSS2 PRIVATE KEY"
_NOT_READ: Final = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion)


class TokenSign(Protocol):
    """Signs a message with a key that is not in a file."""

    def __call__(self, message: bytes, *, pin: bytes | None, algorithm: Algorithm) -> bytes:
        """As `Signer.sign`."""


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """What the files hold, as bytes; what is not configured is None."""

    certificate: bytes = field(repr=False)
    private_key: bytes | None = field(repr=False)
    intermediates: bytes | None = field(repr=False)
    passphrase: bytes | None = field(repr=False)

    def digest(self) -> str:
        """The same for the same content only."""
        parts = (self.certificate, self.private_key, self.intermediates, self.passphrase)
        return " ".join("none" if part is None else hashlib.sha256(part).hexdigest() for part in parts)


def paths(settings: RolesAnywhereConfig) -> list[str]:
    """Every file that the pair is made of."""
    key = settings.private_key
    named = (
        settings.certificate,
        None if key is None or key.startswith(TOKEN) else key,
        settings.intermediates,
        settings.passphrase_file,
    )
    return [path for path in named if path is not None]


def read(role: str, settings: RolesAnywhereConfig) -> KeyFiles:
    """The content of the files; raises Invalid or Denied as `read_file` does."""
    key = settings.private_key
    certificate = read_file(role, settings.certificate, "certificate", private=key is None)
    if key is not None and (_PEM not in certificate or _PEM_KEY.search(certificate)):
        what = "certificate, which holds a private key,"
        certificate = read_file(role, settings.certificate, what, private=True)  # the file that is proven private
    in_file = None if key is None or key.startswith(TOKEN) else key
    private_key = _read(role, in_file, "private key", private=True)
    intermediates = _read(role, settings.intermediates, "intermediates", private=False)
    passphrase = _read(role, settings.passphrase_file, "passphrase", private=True)
    return KeyFiles(certificate, private_key, intermediates, passphrase and passphrase.rstrip(b"\r\n"))


def _read(role: str, path: str | None, what: str, *, private: bool) -> bytes | None:
    return None if path is None else read_file(role, path, what, private=private)


def pair_of(role: str, settings: RolesAnywhereConfig, files: KeyFiles, token: TokenSign | None) -> KeyPair:
    """Certificate, chain and key of the files; nothing is proven yet.

    Args:
        role: For the message.
        settings: Where the files are, for the message.
        files: Their content.
        token: Signs in place of a key in a file.

    Raises:
        Invalid: A file holds something else, or the key is not the certificate's.
        Denied: The passphrase is not the right one.
    """
    if _PEM in files.certificate:
        first, *rest = _certificates(role, settings.certificate, files.certificate)
        private = None
    else:
        first, rest, private = _pkcs12(role, settings, files)
    if files.intermediates is not None and settings.intermediates is not None:
        rest += _certificates(role, settings.intermediates, files.intermediates)
    readable(role, settings.certificate, first, rest)
    algorithm = algorithm_of(role, first)
    if token is not None:
        sign: Sign = partial(token, algorithm=algorithm, pin=files.passphrase)
    else:
        sign = _sign_with(role, private or _pem_key(role, settings, files))
    return KeyPair(first, _chain(first, rest), algorithm, sign)


def _certificates(role: str, path: str, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except x509.InvalidVersion:
        advice = "have the CA issue an X.509 v3 certificate"
        raise Invalid(f'role "{role}": {path} holds a certificate of an unknown version', advice) from None
    except ValueError:
        raise Invalid(
            f'role "{role}": {path} holds no complete certificate in PEM',
            "it has to begin with the host's own certificate, and may go on with intermediates",
        ) from None


def _chain(first: x509.Certificate, rest: list[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """Without the root, which AWS has as its trust anchor, and without anything twice: headers have a limit."""
    intermediates = (each for each in rest if each != first and each.subject != each.issuer)
    return tuple(dict.fromkeys(intermediates))


def _pkcs12(
    role: str, settings: RolesAnywhereConfig, files: KeyFiles
) -> tuple[x509.Certificate, list[x509.Certificate], object]:
    try:
        found = pkcs12.load_pkcs12(files.certificate, files.passphrase)
    except _NOT_READ:
        raise Denied(
            f'role "{role}": {settings.certificate} is not PEM, and cannot be opened as PKCS #12',
            "is its passphrase the one in passphrase_file (without that key: none), is the file complete, and is it"
            " newer than RC2 (openssl pkcs12 -legacy reads such)?",
        ) from None
    if found.cert is None:
        raise Invalid(f'role "{role}": {settings.certificate} has no certificate for a key in it', "export it again")
    rest = [each.certificate for each in found.additional_certs]
    return found.cert.certificate, rest, found.key if settings.private_key is None else None


def _pem_key(role: str, settings: RolesAnywhereConfig, files: KeyFiles) -> object:
    path = settings.private_key or settings.certificate
    block = _PEM_KEY.search(files.certificate if files.private_key is None else files.private_key)
    if block is None:
        raise Invalid(
            f'role "{role}": {path} holds no complete private key in PEM', "set private_key to the key's file"
        )
    if block[1] == _TPM_KEY:
        advice = 'use it through its PKCS #11 library: private_key = "pkcs11:…" and pkcs11_module'
        raise Invalid(f'role "{role}": {path} is a key that only a TPM can use', advice)
    encrypted = b"ENCRYPTED" in block[0]
    if encrypted and files.passphrase is None:
        raise Invalid(f'role "{role}": private key {path} is encrypted', "set passphrase_file to its passphrase's file")
    try:
        return serialization.load_pem_private_key(block[0], files.passphrase if encrypted else None)
    except _NOT_READ:
        if encrypted:
            advice = "correct the passphrase in passphrase_file; if it is right, the key's file is damaged"
            raise Denied(f'role "{role}": private key {path} cannot be decrypted', advice) from None
        raise Invalid(f'role "{role}": private key {path} is damaged', "put the complete key there") from None


def _sign_with(role: str, private: object) -> Sign:
    if isinstance(private, rsa.RSAPrivateKey):
        return lambda message: private.sign(message, padding.PKCS1v15(), hashes.SHA256())
    if isinstance(private, ec.EllipticCurvePrivateKey):
        return lambda message: private.sign(message, ec.ECDSA(hashes.SHA256()))
    raise Invalid(f'role "{role}": the private key is neither RSA nor EC', "AWS takes no other kind")
