"""A private key that never leaves its token: a smart card, an HSM, a TPM, or SoftHSM.

In: a `pkcs11:` URI (RFC 7512), the token's library, the PIN. Out: signatures. Errors: Invalid for a library, token or
key that is not there, Denied for the PIN, Unreachable for whatever else the token says. The standard is "PKCS #11
Cryptographic Token Interface", OASIS.
"""

import hashlib
import re
import threading
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

import pkcs11
from pkcs11.util.ec import encode_ecdsa_signature

from imds_proxy.errors import Denied, Invalid, SourceError, Unreachable
from imds_proxy.sources.roles_anywhere.sigv4_x509 import Algorithm

_PIN_REFUSED: Final = (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange)
_TIME_LIMIT: Final = 15.0
_FORM: Final = "as in pkcs11:token=LABEL;object=LABEL or pkcs11:token=LABEL;id=%01"

# Who is logged in to a token is the process's, not a session's, and few libraries bear several threads.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True, slots=True)
class KeyUri:
    """Which key on which token; what is None is not asked for."""

    token: str | None
    serial: bytes | None
    label: str | None
    id: bytes | None

    def __str__(self) -> str:
        names = {"token": self.token, "object": self.label, "id": self.id.hex() if self.id else None}
        return ", ".join(f"{name} {value}" for name, value in names.items() if value is not None)


def parse(role: str, uri: str) -> KeyUri:
    """A URI's key; raises Invalid, without repeating a PIN that it may hold."""
    path, _, query = uri.removeprefix("pkcs11:").partition("?")
    if query:
        advice = "the PIN belongs into passphrase_file, and the library into pkcs11_module"
        raise Invalid(f'role "{role}": private_key has a ? and attributes after it', advice)
    pairs = [part.partition("=") for part in path.split(";") if part]
    found = {name: unquote_to_bytes(value) for name, _, value in pairs}
    if unknown := sorted(found.keys() - {"token", "serial", "object", "id", "type"}):
        name = re.sub(r"[^\w-]", "?", unknown[0])
        raise Invalid(f'role "{role}": private_key has the attribute {name}, which is not known here', _FORM)
    if found.get("type", b"private") != b"private" or not found.keys() & {"object", "id"}:
        raise Invalid(f'role "{role}": private_key does not name a private key', _FORM)
    try:
        token, label = (found[name].decode() if name in found else None for name in ("token", "object"))
    except UnicodeDecodeError:
        raise Invalid(f'role "{role}": private_key is not UTF-8', _FORM) from None
    return KeyUri(token, found.get("serial"), label, found.get("id"))


class TokenKey:
    """One role's key on a token.

    Each signature opens a session of its own: a token that was away is used again as soon as it is back.

    Args:
        role: For messages.
        module: Path of the token's library.
        uri: Of the key.
    """

    def __init__(self, role: str, module: str, uri: str) -> None:
        self._role = role
        self._module = module
        self._key = parse(role, uri)
        self._refused: bytes | None = None

    def sign(self, message: bytes, *, pin: bytes | None, algorithm: Algorithm) -> bytes:
        """A signature over SHA-256 of the message, as `Signer.sign`; blocks for as long as the token takes."""
        if pin is not None and pin == self._refused:
            raise self._pin_refused()
        if not _one_at_a_time.acquire(timeout=_TIME_LIMIT):
            raise self._unreachable("is busy with another signature")
        try:
            return self._sign(message, pin, algorithm)
        except _PIN_REFUSED:
            self._refused = pin  # a token locks itself after a few wrong ones
            raise self._pin_refused() from None
        except (pkcs11.PKCS11Error, UnicodeDecodeError) as error:
            raise self._translate(error) from None
        finally:
            _one_at_a_time.release()

    def _sign(self, message: bytes, pin: bytes | None, algorithm: Algorithm) -> bytes:
        key, library = self._key, pkcs11.lib(self._module)
        token = library.get_token(
            token_label=key.token, token_serial=key.serial, token_flags=pkcs11.TokenFlag.TOKEN_INITIALIZED
        )
        with token.open(user_pin=None if pin is None else pin.decode()) as session:
            private = _only_key(session, key)
            if algorithm == "RSA":
                return bytes(private.sign(message, mechanism=pkcs11.Mechanism.SHA256_RSA_PKCS))
            # Few tokens hash for ECDSA, and all give r and s one after the other.
            digest = hashlib.sha256(message).digest()
            return bytes(encode_ecdsa_signature(private.sign(digest, mechanism=pkcs11.Mechanism.ECDSA)))

    def _pin_refused(self) -> SourceError:
        return Denied(
            f'role "{self._role}": the token refused the PIN for {self._key}',
            "correct passphrase_file; until that changes it is not tried again, so that the token does not lock itself",
        )

    def _unreachable(self, what: str) -> SourceError:
        advice = f"see whether {self._module} and its token work; it is retried"
        return Unreachable(f'role "{self._role}": the token with {self._key} {what}', advice)

    def _translate(self, error: Exception) -> SourceError:
        def invalid(what: str, advice: str) -> SourceError:
            return Invalid(f'role "{self._role}": {what}', advice)

        match error:
            case UnicodeDecodeError():
                return invalid("passphrase_file is no PIN: it is not UTF-8", "correct it")
            case pkcs11.PinLocked():
                return Denied(f'role "{self._role}": the token is locked ({self._key})', "unlock it with its SO PIN")
            case pkcs11.NoSuchToken() | pkcs11.TokenNotPresent():
                return invalid(
                    f"{self._module} knows no token for {self._key}", "is it plugged in, and its label right?"
                )
            case pkcs11.MultipleTokensReturned() | pkcs11.MultipleObjectsReturned():
                return invalid(f"more than one key or token fits {self._key}", "name token, and object and id, both")
            case pkcs11.NoSuchKey():
                advice = (
                    "see object and id with pkcs11-tool --login --list-objects; passphrase_file has to hold the PIN"
                )
                return invalid(f"no private key on the token fits {self._key}", advice)
            case _ if type(error) is pkcs11.PKCS11Error:  # what the binding raises where a library does not load
                return invalid(f"{self._module} cannot be loaded as a PKCS #11 library", "correct pkcs11_module")
        return self._unreachable(f"said {type(error).__name__}")


def _only_key(session: pkcs11.Session, key: KeyUri) -> pkcs11.SignMixin:
    """The key; not by `get_key`, which leaves a search open where it finds two, and that ends in a warning."""
    wanted = {
        pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY,
        pkcs11.Attribute.LABEL: key.label,
        pkcs11.Attribute.ID: key.id,
    }
    found = list(session.get_objects({name: value for name, value in wanted.items() if value is not None}))
    if not found:
        raise pkcs11.NoSuchKey
    if len(found) > 1:
        raise pkcs11.MultipleObjectsReturned
    private = found[0]
    assert isinstance(private, pkcs11.SignMixin)  # noqa: S101 - every private key may be asked to sign
    return private
