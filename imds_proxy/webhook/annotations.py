"""What a service account and a pod ask for by their annotations. Pure.

The names are those of Amazon's amazon-eks-pod-identity-webhook. What they hold is checked, where that one takes a value
that it cannot read for absent: a pod that gets other than was written down fails later, and far from here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from imds_proxy.errors import ImdsProxyError

PREFIX: Final = "eks.amazonaws.com"
ROLE: Final = f"{PREFIX}/role-arn"
AUDIENCE: Final = f"{PREFIX}/audience"
EXPIRATION: Final = f"{PREFIX}/token-expiration"
SKIP: Final = f"{PREFIX}/skip-containers"

DEFAULT_URI: Final = "http://169.254.170.23/v1/credentials"
DEFAULT_AUDIENCE: Final = "pods.eks.amazonaws.com"
SHORTEST: Final = 600
"""Seconds that a token is valid: kube-apiserver issues none for less."""
LONGEST: Final = 86400
"""EKS issues none for more."""
_LONGEST_ROLE: Final = 2048  # characters, of an ARN
_ROLE: Final = re.compile(r"[A-Za-z0-9:/+=,.@_-]+")
_AUDIENCE: Final = re.compile(r"[!-~]{1,253}")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_SHOWN: Final = 60  # characters of a value, in a message


class RefusedError(ImdsProxyError):
    """A pod asks for what cannot be injected; says what, and what to do."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What is injected where no annotation says otherwise.

    Args:
        uri: Where the daemon answers, without the role.
        audience: Of the token.
        expiration: Seconds that a token is valid.
        region: For AWS_REGION and AWS_DEFAULT_REGION; None: these are not set.
    """

    uri: str = DEFAULT_URI
    audience: str = DEFAULT_AUDIENCE
    expiration: int = LONGEST
    region: str | None = None


@dataclass(frozen=True, slots=True)
class Injection:
    """What a pod gets.

    Args:
        role: What its account's annotation asks for.
        uri: Where its containers ask.
        audience: Of the token.
        expiration: Seconds that a token is valid.
        region: For the variables of the region, or None.
        skipped: Names of containers that get nothing.
    """

    role: str
    uri: str
    audience: str
    expiration: int
    region: str | None
    skipped: frozenset[str]


def asks(account: Mapping[str, str]) -> bool:
    """Whether the annotations of a service account ask for injection."""
    return bool(account.get(ROLE))


def injection(account: Mapping[str, str], pod: Mapping[str, str], defaults: Defaults) -> Injection:
    """What a pod gets by the annotations of its account, which ask, and its own. Raises RefusedError."""
    role = _role(account[ROLE])
    audience = account.get(AUDIENCE, defaults.audience)
    if not _AUDIENCE.fullmatch(audience):
        raise RefusedError(f"{AUDIENCE} is {_shown(audience)}: write 1 to 253 characters of ASCII without spaces")
    expiration = pod.get(EXPIRATION, account.get(EXPIRATION, str(defaults.expiration)))
    return Injection(
        role=role,
        uri=f"{defaults.uri.rstrip('/')}/{role}",
        audience=audience,
        expiration=_expiration(expiration),
        region=defaults.region,
        skipped=frozenset(filter(None, (name.strip() for name in pod.get(SKIP, "").split(",")))),
    )


def _role(role: str) -> str:
    """What goes into a URL as it is: no character that needs escaping, no segment that a client resolves."""
    if len(role) > _LONGEST_ROLE or not _ROLE.fullmatch(role) or {"", ".", ".."} & set(role.split("/")):
        raise RefusedError(f"{ROLE} is {_shown(role)}: write a role's ARN, or its name in the daemon's config")
    return role


def _expiration(text: str) -> int:
    if not _NUMBER.fullmatch(text) or not SHORTEST <= int(text) <= LONGEST:
        raise RefusedError(f"{EXPIRATION} is {_shown(text)}: write a number of seconds from {SHORTEST} to {LONGEST}")
    return int(text)


def _shown(value: str) -> str:
    """A value in one line of ASCII, as a warning's HTTP header needs it."""
    short = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"
    return ascii(short)
