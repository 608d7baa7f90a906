"""`[roles.NAME]` with `source = "http"`: what may be sent where."""

import ipaddress
import re
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from imds_proxy.config.role_base import RoleConfig
from imds_proxy.config.types import MINUTE, AbsolutePath, HttpUrl, Seconds


class HttpConfig(RoleConfig):
    """`source = "http"`: an internal credential service, or another imds-proxy."""

    source: Literal["http"]
    url: HttpUrl
    shape: Literal["container", "imds", "process", "iot", "vault"] = "container"
    token_file: AbsolutePath | None = Field(None, description="sent as the shape's own header; read at every renewal")
    headers: dict[str, str] = Field({}, description="further headers; nothing secret")
    client_certificate: AbsolutePath | None = Field(None, description="PEM; its key may be in it")
    client_key: AbsolutePath | None = None
    ca_bundle: AbsolutePath | None = Field(None, description="left out: AWS_CA_BUNDLE, or the system's")
    timeout: Seconds = Field(10, ge=1, le=5 * MINUTE)
    allow_http: bool = Field(default=False, description="let secrets go over plain HTTP beyond this host")

    @field_validator("url")
    @classmethod
    def _is_plain(cls, url: str) -> str:
        if not _PRINTABLE.fullmatch(url) or "#" in url:
            raise ValueError("expected a URL of ASCII without spaces or a fragment; write others percent-encoded")
        if not _is_address(url):
            raise ValueError("expected a host, and a port from 1 to 65535 if any")
        if "@" in urlsplit(url).netloc:
            raise ValueError("holds a user or password: put the secret into a file, and name that in token_file")
        return url

    @field_validator("headers")
    @classmethod
    def _may_be_sent(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
                raise ValueError(f"{name!r} is no header: a name of letters, digits and -, and one line of ASCII")
            if name.lower() in _SECRET_HEADERS:
                raise ValueError(f"{name} holds a secret: put that into a file, and name it in token_file")
            if name.lower() in _FRAMING_HEADERS:
                raise ValueError(f"{name} is not for a config to say")
        return headers

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.client_key is not None and self.client_certificate is None:
            raise ValueError("client_key goes with client_certificate")
        if self.url.startswith("http:") and (self.client_certificate or self.ca_bundle):
            raise ValueError("client_certificate and ca_bundle are for an https:// url")
        if self.shape == "imds" and self.token_file is not None:
            raise ValueError('shape = "imds" takes no token_file: its session token is asked for')
        if not self.allow_http and not is_private_channel(self.url):
            raise ValueError(in_the_clear("url"))
        return self


_PRINTABLE = re.compile(r"[!-~]+")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?|")
_SECRET_HEADERS = frozenset(
    (
        "authorization",
        "cookie",
        "proxy-authorization",
        "x-api-key",
        "x-aws-ec2-metadata-token",
        "x-vault-token",
    )
)
_FRAMING_HEADERS = frozenset(
    (
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "expect",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-aws-ec2-metadata-token-ttl-seconds",
    )
)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def is_private_channel(url: str) -> bool:
    """Whether nobody on a network can read what goes to `url`: TLS, or this host's own addresses."""
    return urlsplit(url).scheme == "https" or is_this_host(url)


def in_the_clear(key: str) -> str:
    """What is wrong with an URL that is at no private channel."""
    return f"{key} would send secrets in the clear: use https, or set allow_http = true"


def is_this_host(url: str) -> bool:
    """Whether `url` is at a loopback or link-local address, or at one that AWS uses like those."""
    host = urlsplit(url).hostname or ""
    return host == "localhost" or is_local_address(host)


def is_local_address(host: str) -> bool:
    """The same of an address literal; false for a wildcard, which is every address of this host."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_link_local or address in _METADATA


_METADATA = ipaddress.ip_network("fd00:ec2::/32")
"""Instance metadata and EKS Pod Identity over IPv6."""
