"""Content that this host alone may have written: authenticated, and encrypted where there is a key for it.

A sealed document is one line of JSON, in its shortest form with sorted keys, all ASCII:

    {"cipher":"none","content":"…","host":"…","mac":"…","version":1}

* `host`: the first 8 bytes of HMAC-SHA256, to tell a copy from another host from a change. It identifies the key.
* `content`: the text itself, or base64 of what the cipher made of it.
* `mac`: HMAC-SHA256 over the document without it. Any other byte than what was written is refused.

The keys of both are derived by HKDF-SHA256 (RFC 5869), each for its purpose alone: the input is the key file of the
state directory and the machine id, where that is stable (`host/machine_id.py`).
"""

import hmac
import json
import secrets
from base64 import b64decode, b64encode
from typing import Any, Final, Protocol

from imds_proxy.errors import ImdsProxyError

KEY_BYTES: Final = 32

_VERSION: Final = 1
_NOT_ENCRYPTED: Final = "none"
_FIELDS: Final = {"cipher": str, "content": str, "host": str, "mac": str, "version": int}
_HOST_BYTES: Final = 8
_SALT: Final = b"imds-proxy sealed state, version 1"
_RENEWED: Final = "nothing to do: they are renewed; find out what writes there if this comes again"


class SealError(ImdsProxyError):
    """The content is not what this host wrote."""


class OldFormatError(SealError):
    """The content is from a version that did not seal it."""


class Cipher(Protocol):
    """Authenticated encryption."""

    name: str

    def encrypt(self, content: bytes, associated: bytes) -> bytes:
        """The encrypted content."""

    def decrypt(self, encrypted: bytes, associated: bytes) -> bytes:
        """The content; raises ValueError where the key or anything else is another."""


class Seal:
    """Seals content and opens it again.

    Args:
        key: That of the state directory, `KEY_BYTES` long.
        machine_id: Of this machine, where it has a stable one.
        cipher: Encrypts, where the service manager gives a key.
    """

    def __init__(self, key: bytes, machine_id: str | None, cipher: Cipher | None = None) -> None:
        material = key + (machine_id or "").encode()  # the key's length is fixed: no other pair gives the same bytes
        self._mac_key = derive(material, _SALT, b"authentication")
        self._host = derive(material, _SALT, b"host")[:_HOST_BYTES].hex()
        self._cipher = cipher

    def __repr__(self) -> str:
        return "Seal(***)"

    def close(self, content: bytes) -> bytes:
        """The sealed document of `content`, which is ASCII."""
        cipher = self._cipher
        body = b64encode(cipher.encrypt(content, self._associated(cipher))) if cipher else content
        fields = {"version": _VERSION, "host": self._host, "cipher": self._cipher_name, "content": body.decode("ascii")}
        return _line(fields | {"mac": self._mac(fields)})

    def open(self, sealed: bytes) -> bytes:
        """The content of a sealed document.

        Raises:
            SealError: It is from another host, was changed, is encrypted with another key or should be and is not.
        """
        fields = _parse(sealed)
        if fields["version"] != _VERSION:
            raise SealError("is of another version of imds-proxy", _RENEWED)
        if fields["host"] != self._host:
            raise SealError(
                "was copied from another host, or this host has another machine-id or state.key since",
                "never copy the state directory: leave it out of images, and of backups that go to other hosts",
            )
        mac = fields.pop("mac").encode()
        if not hmac.compare_digest(mac, self._mac(fields).encode()):
            raise SealError("was changed since it was written", _RENEWED)
        return self._content(fields)

    def _content(self, fields: dict[str, Any]) -> bytes:
        content: bytes = fields["content"].encode("ascii")
        cipher = self._cipher
        if fields["cipher"] != self._cipher_name:
            raise SealError(*_CIPHER_DIFFERS[cipher is not None])
        if cipher is None:
            return content
        try:
            return cipher.decrypt(b64decode(content), self._associated(cipher))
        except ValueError:
            raise SealError("is encrypted with another key than the service manager gives now", _RENEWED) from None

    @property
    def _cipher_name(self) -> str:
        return self._cipher.name if self._cipher else _NOT_ENCRYPTED

    def _associated(self, cipher: Cipher) -> bytes:
        return f"{_VERSION} {self._host} {cipher.name}".encode()

    def _mac(self, fields: dict[str, Any]) -> str:
        return hmac.digest(self._mac_key, _line(fields), "sha256").hex()


_CIPHER_DIFFERS: Final = {
    True: ("is not encrypted, and the service manager gives a key for that", _RENEWED),
    False: (
        "is encrypted, and the service manager gives no key for that",
        "see LoadCredential= in the unit; without it they are renewed, and saved in clear",
    ),
}


def derive(material: bytes, salt: bytes, purpose: bytes) -> bytes:
    """32 bytes of HKDF-SHA256 (RFC 5869): one key for one purpose."""
    extracted = hmac.digest(salt, material, "sha256")
    return hmac.digest(extracted, purpose + b"\x01", "sha256")


def new_key() -> bytes:
    """A random one."""
    return secrets.token_bytes(KEY_BYTES)


def _parse(sealed: bytes) -> dict[str, Any]:
    """The fields of a document in the one form that it is written in."""
    try:
        fields = json.loads(sealed)
    except (ValueError, RecursionError):
        fields = None
    if isinstance(fields, dict) and {"fingerprint", "credentials"} <= fields.keys():
        raise OldFormatError("is of a version of imds-proxy that did not authenticate what it saved", _RENEWED)
    if not isinstance(fields, dict) or not _is_written_form(fields, sealed):
        raise SealError("was changed since it was written, or is torn", _RENEWED)
    return fields


def _is_written_form(fields: dict[str, Any], sealed: bytes) -> bool:
    return {name: type(value) for name, value in fields.items()} == _FIELDS and _line(fields) == sealed


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode("ascii")
