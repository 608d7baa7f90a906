"""What a file holds where a certificate, a private key or a CA was expected: the words for whoever mixed them up. Pure.

In: the file's content. Out: what it is, and how to make of it what was wanted; nothing of the content.
"""

import re
from enum import Enum
from typing import Final

from imds_proxy.host import der


class Content(Enum):
    """What is recognized, each with the words for it."""

    EMPTY = "is empty"
    JAVA = "is a Java keystore"
    CERTIFICATE_DER = "is a certificate in DER, and not in PEM"
    KEY_DER = "is a private key in DER, and not in PEM"
    REQUEST_DER = "is a request for a certificate (CSR), which no CA has signed yet"
    PKCS7_DER = "is a PKCS #7 bundle"
    PKCS12 = "is PKCS #12"
    CERTIFICATE = "holds a certificate in PEM"
    KEY = "holds a private key in PEM"
    OPENSSH_KEY = "is a private key in OpenSSH's own format"
    REQUEST = "holds a request for a certificate (CSR), which no CA has signed yet"
    PUBLIC_KEY = "holds a public key"
    PKCS7 = "holds a PKCS #7 bundle"
    REVOKED = "holds a list of revoked certificates (CRL)"
    PUTTY = "is a private key in PuTTY's own format"
    PGP = "is made by PGP"
    HTML = "is a web page"
    BASE64 = "is base64 without the lines of PEM around it"


_BLOCKS: Final[tuple[tuple[bytes, Content], ...]] = (
    (rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----", Content.CERTIFICATE),
    (rb"-----BEGIN OPENSSH PRIVATE KEY-----", Content.OPENSSH_KEY),
    (rb"-----BEGIN PGP ", Content.PGP),
    (rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----", Content.KEY),
    (rb"-----BEGIN (?:NEW )?CERTIFICATE REQUEST-----", Content.REQUEST),
    (rb"-----BEGIN [A-Z0-9 ]*PUBLIC KEY-----|^(?:ssh|ecdsa)-[a-z0-9-]+ AAAA", Content.PUBLIC_KEY),
    (rb"-----BEGIN (?:PKCS7|CMS)-----", Content.PKCS7),
    (rb"-----BEGIN X509 CRL-----", Content.REVOKED),
    (rb"^PuTTY-User-Key-File", Content.PUTTY),
    (rb"(?i)^\s*<(?:!doctype|html|\?xml)", Content.HTML),
)
PUBLIC: Final = frozenset(
    {
        Content.EMPTY,
        Content.CERTIFICATE,
        Content.CERTIFICATE_DER,
        Content.REQUEST,
        Content.REQUEST_DER,
        Content.PUBLIC_KEY,
        Content.PKCS7,
        Content.PKCS7_DER,
        Content.REVOKED,
        Content.HTML,
    }
)
"""What everybody may read: there is no private key in it, unless there is one beside it."""
_JAVA: Final = (b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce")
_BASE64_DER: Final = re.compile(rb"\s*MI[A-Za-z0-9+/=\s]{60,}")
_PARTS_OF_REQUEST: Final = 4
_SIGNED_DATA: Final = "1.2.840.113549.1.7."
_PKCS12_VERSION: Final = 3

_AS_PEM: Final = "openssl x509 -inform DER -in {path} -out NEW makes PEM of it"
_CONVERT_P7: Final = "openssl pkcs7 -print_certs -in {path} -out NEW takes the certificates out (for DER, -inform DER)"
_CONVERT_JAVA: Final = (
    "keytool -importkeystore -srckeystore {path} -destkeystore NEW.p12 -deststoretype PKCS12 makes PKCS #12 of it"
)
_SWAPPED: Final = "are certificate and private_key swapped? the one names the certificate's file, the other the key's"
_FROM_CA: Final = "give it to the CA, and put the certificate that comes back in its place"

_OF_CERTIFICATE: Final = {
    Content.EMPTY: "put the host's own certificate into it, in PEM",
    Content.JAVA: f"{_CONVERT_JAVA}, which certificate may name, without private_key",
    Content.CERTIFICATE_DER: _AS_PEM,
    Content.KEY_DER: _SWAPPED,
    Content.KEY: _SWAPPED,
    Content.OPENSSH_KEY: _SWAPPED,
    Content.PUTTY: _SWAPPED,
    Content.REQUEST: _FROM_CA,
    Content.REQUEST_DER: _FROM_CA,
    Content.PKCS7: _CONVERT_P7,
    Content.PKCS7_DER: _CONVERT_P7,
    Content.PUBLIC_KEY: "AWS wants the certificate that a CA made of it",
    Content.REVOKED: "name the file of the host's own certificate",
    Content.PGP: "name the file of the host's own X.509 certificate",
    Content.HTML: "get the certificate again: a login page or an error was saved in its place",
    Content.BASE64: "give it its first and last line: -----BEGIN CERTIFICATE----- and -----END CERTIFICATE-----",
}
_OF_KEY: Final = {
    Content.EMPTY: "put the private key into it, in PEM",
    Content.JAVA: f"{_CONVERT_JAVA}, which certificate may name, without private_key",
    Content.CERTIFICATE: _SWAPPED,
    Content.CERTIFICATE_DER: _SWAPPED,
    Content.KEY_DER: "openssl pkey -inform DER -in {path} -out NEW makes PEM of it",
    Content.OPENSSH_KEY: "ssh-keygen -p -m PKCS8 -f COPY makes PEM of a copy of it",
    Content.PUTTY: "puttygen {path} -O private-openssh -o COPY, then ssh-keygen -p -m PKCS8 -f COPY, makes PEM of it",
    Content.REQUEST: "name the private key's file, which was made together with the request",
    Content.REQUEST_DER: "name the private key's file, which was made together with the request",
    Content.PUBLIC_KEY: "name the file of the private key that belongs to it",
    Content.PKCS7: "there is no key in such a bundle: name the private key's file",
    Content.PKCS7_DER: "there is no key in such a bundle: name the private key's file",
    Content.PKCS12: "name it in certificate, and leave private_key out: it has both in it",
    Content.REVOKED: "name the private key's file",
    Content.PGP: "name the file of the X.509 certificate's own key",
    Content.HTML: "get the private key again: a login page or an error was saved in its place",
    Content.BASE64: "give it its first and last line: -----BEGIN PRIVATE KEY----- and -----END PRIVATE KEY-----",
}
_OF_CA: Final = {
    Content.EMPTY: "put the CA's certificate into it, in PEM",
    Content.JAVA: "keytool -exportcert -rfc -keystore {path} -alias ALIAS writes a CA of it in PEM",
    Content.CERTIFICATE_DER: _AS_PEM,
    Content.PKCS7: _CONVERT_P7,
    Content.PKCS7_DER: _CONVERT_P7,
    Content.CERTIFICATE: "a certificate in it is not complete, or damaged: put the CA's there again",
}


def content_of(data: bytes) -> Content | None:
    """What a file holds; None where it is not recognized."""
    if not data.strip():
        return Content.EMPTY
    if data.startswith(_JAVA):
        return Content.JAVA
    for pattern, content in _BLOCKS:
        if re.search(pattern, data, re.MULTILINE):
            return content
    return Content.BASE64 if _BASE64_DER.fullmatch(data) else _content_of_der(data)


def mistaken_certificate(data: bytes) -> tuple[str, str] | None:
    """What a file is that holds no certificate, and what to do, with {path} in it; None where that is not known."""
    return _words(data, _OF_CERTIFICATE)


def mistaken_key(data: bytes) -> tuple[str, str] | None:
    """The same of a file that holds no private key."""
    return _words(data, _OF_KEY)


def mistaken_ca(data: bytes) -> tuple[str, str] | None:
    """The same of a file of CAs that holds none."""
    return _words(data, _OF_CA, other="name a file of CA certificates in PEM")


def _words(data: bytes, advice: dict[Content, str], other: str | None = None) -> tuple[str, str] | None:
    content = content_of(data)
    told = other if content is None else advice.get(content, other)
    return None if content is None or told is None else (content.value, told)


def _content_of_der(data: bytes) -> Content | None:
    """By the beginning of the structure, which is another in each of them."""
    try:
        parts = der.first(data).of(der.SEQUENCE).parts()
        return _by_parts(parts)
    except (ValueError, LookupError):
        return None


def _by_parts(parts: list[der.Value]) -> Content | None:
    head = parts[0]
    if head.tag == der.OBJECT_ID:
        return Content.PKCS7_DER if head.name().startswith(_SIGNED_DATA) else None
    if head.tag == der.INTEGER:
        is_pkcs12 = head.number() == _PKCS12_VERSION and parts[1].tag == der.SEQUENCE
        return Content.PKCS12 if is_pkcs12 else Content.KEY_DER
    inner = head.of(der.SEQUENCE).parts()
    if inner[0].tag == der.OBJECT_ID:  # an algorithm: of a public key, or of what a private key is encrypted with
        return Content.PUBLIC_KEY if parts[1].tag == der.BIT_STRING else Content.KEY_DER
    is_request = inner[0].tag == der.INTEGER and len(inner) <= _PARTS_OF_REQUEST
    return Content.REQUEST_DER if is_request else Content.CERTIFICATE_DER
