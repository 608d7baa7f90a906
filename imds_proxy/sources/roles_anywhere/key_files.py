"""The files of a certificate and its private key: PEM (PKCS #8, PKCS #1, SEC 1) or PKCS #12, encrypted or not.

In: the role's settings. Out: what the files hold, and a `KeyPair` of it. Errors: Invalid for what is no certificate or
key, or a key that other users can read (the advice has the chmod); Denied for a wrong passphrase.
"""

import hashlib
import re
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from imds_proxy.config.roles import RolesAnywhereConfig
from imds_proxy.errors import Denied, Invalid
from imds_proxy.host.file_content import PUBLIC, Content, content_of, mistaken_certificate, mistaken_key
from imds_proxy.host.read_private import read_file
from imds_proxy.sources.roles_anywhere import certificate
from imds_proxy.sources.roles_anywhere.certificate import Certificate
from imds_proxy.sources.roles_anywhere.key_pair import KeyPair, Sign, algorithm_of
from imds_proxy.sources.roles_anywhere.sigv4_x509 import Algorithm

TOKEN: Final = "pkcs11:"  # noqa: S105 - not that kind of token
"""How a private key begins that is on a token."""
_PEM: Final = b"-----BEGIN "
_PEM_KEY: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.+?-----END \1-----", re.DOTALL)
_TPM_KEY: Final = b"TSS2 PRIVATE KEY"
_OPENSSH_KEY: Final = b"OPENSSH PRIVATE KEY"
_KIND: Final = "AWS takes RSA, and EC on P-256, P-384 or P-521"
_NOT_READ: Final = (ValueError, TypeError, UnsupportedAlgorithm)


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
        _refuse_mistaken(role, settings.certificate, mistaken_certificate(certificate))
        certificate = read_file(role, settings.certificate, what, private=True)  # the file that is proven private
    private_key = None if key is None or key.startswith(TOKEN) else _private_key(role, key)
    intermediates = _read(role, settings.intermediates, "intermediates", private=False)
    passphrase = _read(role, settings.passphrase_file, "passphrase", private=True)
    return KeyFiles(certificate, private_key, intermediates, passphrase and passphrase.rstrip(b"\r\n"))


def _private_key(role: str, path: str) -> bytes:
    """The file's content. Of what is no key at all it is not said that others may read it."""
    try:
        return read_file(role, path, "private key", private=True)
    except Invalid as refused:
        try:
            content = read_file(role, path, "private key", private=False)
        except Invalid:  # it is refused for more than its mode
            raise refused from None
        if content_of(content) in PUBLIC and not _PEM_KEY.search(content):
            _refuse_mistaken(role, path, mistaken_key(content))
        raise


def _refuse_mistaken(role: str, path: str, mistaken: tuple[str, str] | None) -> None:
    """Raise Invalid for a file that holds something else than it is named for."""
    if mistaken is not None:
        raise Invalid(f'role "{role}": {path} {mistaken[0]}', mistaken[1].format(path=path))


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
    if token is not None:
        _check_order(role, settings.certificate, first, rest, None)
        algorithm = algorithm_of(role, first)
        return KeyPair(first, _chain(first, rest), algorithm, partial(token, algorithm=algorithm, pin=files.passphrase))
    private = private or _pem_key(role, settings, files)
    _check_order(role, settings.certificate, first, rest, private)
    algorithm = algorithm_of(role, first)
    sign = _sign_with(role, private)
    return KeyPair(first, _chain(first, rest), algorithm, sign)


def _certificates(role: str, path: str, pem: bytes) -> list[Certificate]:
    try:
        return certificate.of_pem(pem)
    except ValueError:
        if content_of(pem) is not Content.CERTIFICATE:
            _refuse_mistaken(role, path, mistaken_certificate(pem))
        raise Invalid(
            f'role "{role}": {path} holds no complete certificate in PEM',
            "it has to begin with the host's own certificate, and may go on with intermediates",
        ) from None


def _check_order(role: str, path: str, first: Certificate, rest: list[Certificate], private: object) -> None:
    """Raise Invalid where another certificate of the file than the first one is the host's own."""
    own = _of_key(first, rest, private)
    if own is None and first.is_ca:
        own = next((each for each in rest if not each.is_ca), None)
    if own is not None:
        raise Invalid(
            f'role "{role}": the first certificate in {path} is {first}, and the host\'s own is a later one: {own}',
            "put the host's own certificate first, then those of the CAs above it",
        )


def _of_key(first: Certificate, rest: list[Certificate], private: object) -> Certificate | None:
    """The certificate after the first that the key belongs to; None where the first is it, or none is."""
    if not isinstance(private, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        return None
    public = private.public_key()

    def fits(each: Certificate) -> bool:
        try:
            return serialization.load_der_public_key(each.public_key) == public
        except _NOT_READ:
            return False

    return None if fits(first) else next(filter(fits, rest), None)


def _chain(first: Certificate, rest: list[Certificate]) -> tuple[Certificate, ...]:
    """Without the root, which AWS has as its trust anchor, and without anything twice: headers have a limit."""
    intermediates = (each for each in rest if each != first and each.subject != each.issuer)
    return tuple(dict.fromkeys(intermediates))


def _pkcs12(role: str, settings: RolesAnywhereConfig, files: KeyFiles) -> tuple[Certificate, list[Certificate], object]:
    try:
        found = pkcs12.load_pkcs12(files.certificate, files.passphrase)
    except _NOT_READ as error:
        if content_of(files.certificate) is not Content.PKCS12:
            _refuse_mistaken(role, settings.certificate, mistaken_certificate(files.certificate))
        elif _says(error, "asn1"):  # what a wrong passphrase makes of it has another error
            raise Invalid(
                f'role "{role}": {settings.certificate} is PKCS #12, and something in it cannot be read',
                f"openssl pkcs12 -in {settings.certificate} -nodes -out NEW makes PEM of it, of which more can be read",
            ) from None
        raise Denied(
            f'role "{role}": {settings.certificate} is not PEM, and cannot be opened as PKCS #12',
            "is its passphrase the one in passphrase_file (without that key: none), is the file complete, and is it"
            " newer than RC2 (openssl pkcs12 -legacy reads such)?",
        ) from None
    if found.cert is None:
        raise Invalid(f'role "{role}": {settings.certificate} has no certificate for a key in it', "export it again")
    own, *rest = (Certificate.parse(_der(each)) for each in (found.cert, *found.additional_certs))
    return own, rest, found.key if settings.private_key is None else None


def _der(bag: pkcs12.PKCS12Certificate) -> bytes:
    return bag.certificate.public_bytes(serialization.Encoding.DER)


def _pem_key(role: str, settings: RolesAnywhereConfig, files: KeyFiles) -> object:
    path = settings.private_key or settings.certificate
    content = files.certificate if files.private_key is None else files.private_key
    block = _PEM_KEY.search(content)
    if block is None:
        if files.private_key is not None:
            _refuse_mistaken(role, path, mistaken_key(content))
        raise Invalid(
            f'role "{role}": {path} holds no complete private key in PEM', "set private_key to the key's file"
        )
    if block[1] == _TPM_KEY:
        advice = 'use it through its PKCS #11 library: private_key = "pkcs11:…" and pkcs11_module'
        raise Invalid(f'role "{role}": {path} is a key that only a TPM can use', advice)
    if block[1] == _OPENSSH_KEY:
        _refuse_mistaken(role, path, mistaken_key(block[0]))
    encrypted = b"ENCRYPTED" in block[0]
    if encrypted and files.passphrase is None:
        raise Invalid(f'role "{role}": private key {path} is encrypted', "set passphrase_file to its passphrase's file")
    try:
        return serialization.load_pem_private_key(block[0], files.passphrase if encrypted else None)
    except _NOT_READ as error:
        if isinstance(error, UnsupportedAlgorithm) or (encrypted and _says(error, "unknown")):
            raise _not_supported(role, path, encrypted=encrypted) from None
        if encrypted:
            advice = "correct the passphrase in passphrase_file; if it is right, the key's file is damaged"
            raise Denied(f'role "{role}": private key {path} cannot be decrypted', advice) from None
        raise Invalid(f'role "{role}": private key {path} is damaged', "put the complete key there") from None


def _says(error: Exception, word: str) -> bool:
    """Whether cryptography's sentence, which is not shown, has a word in it: there is no other way to tell."""
    return word in str(error).lower()


def _not_supported(role: str, path: str, *, encrypted: bool) -> Invalid:
    if not encrypted:
        return Invalid(f'role "{role}": private key {path} is of a kind that is not known here', _KIND)
    return Invalid(
        f'role "{role}": private key {path} is encrypted with a cipher that is not supported here, such as ARIA',
        f"openssl pkcs8 -topk8 -v2 aes-256-cbc -in {path} -out NEW encrypts it with one that is",
    )


def _sign_with(role: str, private: object) -> Sign:
    if isinstance(private, rsa.RSAPrivateKey):
        return lambda message: private.sign(message, padding.PKCS1v15(), hashes.SHA256())
    if isinstance(private, ec.EllipticCurvePrivateKey):
        return lambda message: private.sign(message, ec.ECDSA(hashes.SHA256()))
    raise Invalid(f'role "{role}": the private key is neither RSA nor EC', "AWS takes no other kind")
