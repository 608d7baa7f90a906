"""What this daemon has to know of an X.509 certificate, read as leniently as OpenSSL reads it.

Companies' CAs have made certificates for decades that break the rules of RFC 5280: umlauts in an IA5String, an @ in a
PrintableString, a serial number of zero. AWS judges whether it takes one; here, nothing but what is used is looked at.
In: PEM or DER. Out: a `Certificate`. Errors: ValueError.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from imds_proxy.credentials import timestamp
from imds_proxy.host import der
from imds_proxy.host.der import Value
from imds_proxy.printable import LONGEST_NAME, printable
from imds_proxy.sources.roles_anywhere.distinguished_name import written

_PEM: Final = re.compile(rb"-----BEGIN ((?:X509 |TRUSTED )?CERTIFICATE)-----([^-]*)-----END \1-----")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/=\s]*")
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_TIME: Final = re.compile(r"(\d{10})(\d\d)?(?:\.\d+)?(Z|[+-]\d{4})")
_KEY_USAGE, _BASIC_CONSTRAINTS = "2.5.29.15", "2.5.29.19"
_PSS: Final = "1.2.840.113549.1.1.10"
_WEAK: Final = {
    "1.2.840.113549.1.1.2",
    "1.2.840.113549.1.1.3",
    "1.2.840.113549.1.1.4",
    "1.2.840.113549.1.1.5",
    "1.2.840.10040.4.3",
    "1.2.840.10045.4.1",
    "1.3.14.3.2.29",
}
"""Signatures over MD2, MD4, MD5 or SHA-1, by RSA, DSA and ECDSA."""
_SHA1, _MD5 = "1.3.14.3.2.26", "1.2.840.113549.2.5"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate.

    Args:
        der: All of it, as it is sent.
        version: 1 to 3.
        serial: The serial number; zero and less are against the rules, and occur.
        issuer: Its name as RFC 4514 writes it.
        subject: The same; "" where it has none.
        begins: When it begins, seconds since the epoch.
        ends: When it ends, the same.
        public_key: The SubjectPublicKeyInfo, in DER.
        is_ca: Whether its basic constraints say that it is a CA's.
        may_sign: Whether its key usage has digitalSignature; None where no key usage can be read.
        is_weak: Whether it is signed over SHA-1 or something older.
    """

    der: bytes = field(repr=False)
    version: int
    serial: int
    issuer: str
    subject: str
    begins: float
    ends: float
    public_key: bytes = field(repr=False)
    is_ca: bool
    may_sign: bool | None
    is_weak: bool

    def __str__(self) -> str:
        subject = printable(self.subject, LONGEST_NAME) or "no subject"
        return f"{subject}, serial {self.serial:x}, until {timestamp(self.ends)}"

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Of DER; whatever follows the certificate is left out. Raises ValueError."""
        try:
            return cls._parse(data)
        except LookupError:
            raise ValueError("not a certificate") from None

    @classmethod
    def _parse(cls, data: bytes) -> Self:
        whole = der.first(data).of(der.SEQUENCE)
        body, algorithm, _ = whole.parts()[:3]
        parts = body.of(der.SEQUENCE).parts()
        version = parts.pop(0).parts()[0].number() if parts[0].tag == _VERSION else 0
        if len(parts) < 6:  # noqa: PLR2004 - serial, algorithm, issuer, dates, subject, key
            raise ValueError("not a certificate")
        serial, _, issuer, dates, subject, public_key, *more = parts
        begins, ends = dates.of(der.SEQUENCE).parts()
        extensions = dict(_extensions(more))
        return cls(
            der=whole.whole,
            version=version + 1,
            serial=serial.number(),
            issuer=written(issuer),
            subject=written(subject),
            begins=_moment(begins),
            ends=_moment(ends),
            public_key=public_key.of(der.SEQUENCE).whole,
            is_ca=_is_ca(extensions.get(_BASIC_CONSTRAINTS, b"")),
            may_sign=_may_sign(extensions.get(_KEY_USAGE, b"")),
            is_weak=_is_weak(algorithm),
        )


def of_pem(pem: bytes) -> list[Certificate]:
    """All certificates of a PEM file, whatever stands between them; raises ValueError where one is broken, or none."""
    found = [Certificate.parse(_decoded(block[2])) for block in _PEM.finditer(pem)]
    if not found or pem.count(b"-----BEGIN CERTIFICATE-----") != pem.count(b"-----END CERTIFICATE-----"):
        raise ValueError("no complete certificate")
    return found


def _decoded(text: bytes) -> bytes:
    if not _BASE64.fullmatch(text):
        raise ValueError("no base64")
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error:
        raise ValueError("no base64") from None


def _moment(value: Value) -> float:
    """Seconds since the epoch; with and without seconds and zone, as OpenSSL reads them."""
    text = value.content.decode("ascii")
    if value.tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    elif value.tag != _GENERALIZED_TIME:
        raise ValueError("no time")
    if (found := _TIME.fullmatch(text[2:])) is None:
        raise ValueError("no time")
    zone = 0 if found[3] == "Z" else int(f"{found[3][0]}1") * (int(found[3][1:3]) * 3600 + int(found[3][3:]) * 60)
    year = max(int(text[:4]), 1)  # before any that Python knows, and long ago
    moment = datetime.strptime(f"{year:04}{found[1][2:]}{found[2] or '00'}", "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(seconds=1) - zone


def _extensions(more: list[Value]) -> Iterator[tuple[str, bytes]]:
    """The extensions by their names; the last one of a name counts, and what cannot be read is nobody's."""
    for part in more:
        if part.tag != _EXTENSIONS:
            continue
        for extension in part.parts()[0].parts():
            name, *_, value = extension.parts()
            yield name.name(), value.of(der.OCTET_STRING).content


def _is_ca(value: bytes) -> bool:
    try:
        parts = der.first(value).parts()
    except ValueError:
        return False
    return bool(parts) and parts[0].tag == der.BOOLEAN and any(parts[0].content)


def _may_sign(value: bytes) -> bool | None:
    try:
        bits = der.first(value).of(der.BIT_STRING).content
    except ValueError:
        return None
    return bool(len(bits) > 1 and bits[1] & 0x80)


def _is_weak(algorithm: Value) -> bool:
    name, *parameters = algorithm.parts()
    if name.name() != _PSS:
        return name.name() in _WEAK
    try:  # RSASSA-PSS-params: the hash is the first of them, and SHA-1 where it is left out
        hashed = next(part for part in parameters[0].parts() if part.tag == 0xA0)  # noqa: PLR2004 - its number
        return hashed.parts()[0].parts()[0].name() in {_SHA1, _MD5}
    except (ValueError, LookupError, StopIteration):
        return True
