"""Whose credentials call STS: the daemon's own AWS chain, or another role of the config (role chaining)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from botocore.credentials import ReadOnlyCredentials

from imds_proxy.access_key import hint
from imds_proxy.aws import refusals
from imds_proxy.aws.session import AwsChain, find
from imds_proxy.credentials import Credentials
from imds_proxy.errors import Unreachable


@dataclass(frozen=True, slots=True)
class Base:
    """A session that calls STS, and whose it is in words for a message."""

    session: Any
    identity: str
    credentials: Any = field(default=None, repr=False)
    """botocore's `ReadOnlyCredentials`; None where nothing is signed."""


class BaseSource(Protocol):
    """One way to have a session that calls STS."""

    async def base(self, role: str, chain: AwsChain) -> Base:
        """The session for one call, made afresh each time. Raises SourceError when there are no credentials."""


@dataclass(frozen=True, slots=True)
class FromChain:
    """The daemon's own AWS chain, or one profile of it."""

    profile: str | None
    region: str | None = None

    async def base(self, role: str, chain: AwsChain) -> Base:
        """Read again at every call, so that a key rotated on disk needs no restart."""
        found = await find(chain, role, self.profile, self.region)
        if found is None:
            raise refusals.no_base_credentials(role, self.profile)
        return Base(found.session, f"key …{hint(found.frozen.access_key)} of {found.method}", found.frozen)


@dataclass(frozen=True, slots=True)
class FromRole:
    """Another role's live credentials."""

    name: str
    live: Callable[[], Credentials | None]

    async def base(self, role: str, chain: AwsChain) -> Base:
        """As that role is now."""
        credentials = self.live()
        if credentials is None:
            raise Unreachable(
                f'role "{role}": the role it is assumed from, "{self.name}", has no credentials at this time',
                f'see what is wrong with "{self.name}"',
            )
        session = await chain.fresh_session(role=role, credentials=False)
        identity = credentials.session_arn or f'key …{credentials.key_hint} of "{self.name}"'
        return Base(session, identity, frozen(credentials))


def frozen(credentials: Credentials) -> ReadOnlyCredentials:
    """A session as botocore signs with it."""
    secret, token = credentials.secret_access_key.reveal(), credentials.session_token.reveal()
    return ReadOnlyCredentials(credentials.access_key_id, secret, token)
