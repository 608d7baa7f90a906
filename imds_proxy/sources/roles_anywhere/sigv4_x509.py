"""Signature Version 4 with a certificate in place of an access key.

"The IAM Roles Anywhere authentication signing process" of the IAM Roles Anywhere user guide, and for the canonical
request "Create a signed AWS API request" of the IAM user guide. Pure: a request in, the same with its headers out.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal, Protocol
from urllib.parse import parse_qsl, quote, urlsplit

from imds_proxy.host.http_client import WebRequest

Algorithm = Literal["RSA", "ECDSA"]


class Signer(Protocol):
    """A private key and what proves whose it is."""

    @property
    def algorithm(self) -> Algorithm:
        """Of the key."""

    @property
    def serial(self) -> int:
        """Of the certificate."""

    @property
    def certificate_der(self) -> bytes:
        """The certificate."""

    @property
    def chain_der(self) -> tuple[bytes, ...]:
        """The certificates between it and the trust anchor, as far as they are known."""

    def sign(self, message: bytes) -> bytes:
        """Over SHA-256 of the message: PKCS #1 v1.5, or ECDSA as a DER sequence."""


def signed(request: WebRequest, signer: Signer, region: str, moment: float) -> WebRequest:
    """The request with every header that AWS wants of its signer; each header it has is signed.

    Args:
        request: The query is sent as it stands in the URL.
        signer: Whose request it is.
        region: Of the trust anchor.
        moment: Seconds since the epoch; AWS takes five minutes on either side.

    Raises:
        SourceError: The key is on a token that does not sign.
    """
    date = datetime.fromtimestamp(int(moment), UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = dict(request.headers) | {
        "Host": urlsplit(request.url).netloc,
        "X-Amz-Date": date,
        "X-Amz-X509": _base64(signer.certificate_der),
    }
    if signer.chain_der:
        headers["X-Amz-X509-Chain"] = ",".join(map(_base64, signer.chain_der))
    algorithm = f"AWS4-X509-{signer.algorithm}-SHA256"
    scope = f"{date[:8]}/{region}/rolesanywhere/aws4_request"
    text = string_to_sign(algorithm, date, scope, canonical_request(replace(request, headers=headers)))
    signature = signer.sign(text.encode()).hex()
    headers["Authorization"] = (
        f"{algorithm} Credential={signer.serial}/{scope}, SignedHeaders={_names(headers)}, Signature={signature}"
    )
    return replace(request, headers=headers)


def canonical_request(request: WebRequest) -> str:
    """What the hash is made of that both ends have to agree on."""
    parts = urlsplit(request.url)
    headers = {name.lower(): " ".join(value.split()) for name, value in request.headers.items()}
    return "\n".join(
        (
            request.method,
            _escaped(parts.path or "/", "/"),
            canonical_query(parse_qsl(parts.query, keep_blank_values=True)),
            *(f"{name}:{headers[name]}" for name in sorted(headers)),
            "",
            _names(headers),
            hashlib.sha256(request.body).hexdigest(),
        )
    )


def canonical_query(parameters: list[tuple[str, str]]) -> str:
    """The parameters in AWS's one way to write them; a URL may hold them so too."""
    pairs = sorted((_escaped(name), _escaped(value)) for name, value in parameters)
    return "&".join(f"{name}={value}" for name, value in pairs)


def string_to_sign(algorithm: str, date: str, scope: str, canonical: str) -> str:
    """What the private key signs."""
    return "\n".join((algorithm, date, scope, hashlib.sha256(canonical.encode()).hexdigest()))


def _names(headers: Mapping[str, str]) -> str:
    return ";".join(sorted(name.lower() for name in headers))


def _escaped(text: str, kept: str = "") -> str:
    return quote(text, safe=f"-_.~{kept}")


def _base64(der: bytes) -> str:
    return base64.b64encode(der).decode()
