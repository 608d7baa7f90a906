"""Clients of STS that are made once: what is renewed is the credentials they sign with, not the clients.

In: a session, for its settings; where STS is. Out: a client, which signs with the credentials of the task that calls.
Errors: what botocore raises for settings that cannot be used.
"""

import asyncio
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioCredentials
from botocore import UNSIGNED

from imds_proxy.aws.guarded_http import allowing_http
from imds_proxy.aws.signing_guard import current_credentials
from imds_proxy.host.threads import in_thread

_MOST: Final = 64
"""Clients: 0.1 MB each. More than so many endpoints, regions and profiles in use at once take 6 ms a renewal."""
_SECRETS: Final = {"aws_access_key_id", "aws_secret_access_key", "aws_session_token", "aws_security_token"}
"""Of a profile, and in capitals of the environment. They shape no client."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where STS is called, and how.

    Args:
        region: Of STS.
        url: Of a private endpoint; None: the region's own.
        allow_http: Whether it may be a plain one.
        signed: Whether requests are signed.
    """

    region: str
    url: str | None = None
    allow_http: bool = False
    signed: bool = True


class KeptClients:
    """The clients of one chain, by what they are made of: other settings of a profile make another client.

    Args:
        new_session: Makes a session of a profile, one that knows no credentials yet.
        config: Of every client.
    """

    def __init__(self, new_session: Callable[[str | None], Any], config: AioConfig) -> None:
        self._new_session = new_session
        self._config = config
        self._kept: dict[tuple[bytes, Endpoint], asyncio.Future[Any]] = {}
        """The one that was used last is the last."""

    async def get(self, session: Any, endpoint: Endpoint) -> Any:
        """A client with the settings of `session`; where there is none, it is made once, beside the loop."""
        key = _settings(session), endpoint
        making = self._kept.pop(key, None)
        if making is None or (making.done() and making.exception() is not None):
            profile = session.instance_variables().get("profile")
            making = in_thread(self._make, profile, endpoint)
        self._kept[key] = making
        while len(self._kept) > _MOST:
            del self._kept[next(iter(self._kept))]
        return await asyncio.shield(making)

    def _make(self, profile: str | None, endpoint: Endpoint) -> Any:
        session = self._new_session(profile)
        for settings in session.full_config["profiles"].values():  # the client keeps the session, which keeps these
            for name in _SECRETS & settings.keys():
                del settings[name]
        session._credentials = _CurrentCredentials("", "")  # noqa: SLF001 - it has no public way to give it an object
        config = self._config if endpoint.signed else self._config.merge(AioConfig(signature_version=UNSIGNED))
        if endpoint.allow_http:
            config = allowing_http(config)
        return asyncio.run(_created(session, endpoint, config))


class _CurrentCredentials(AioCredentials):  # type: ignore[misc]  # aiobotocore publishes no types
    """What a kept client has in place of credentials: those of the task that calls."""

    async def get_frozen_credentials(self) -> Any:
        return current_credentials()


async def _created(session: Any, endpoint: Endpoint, config: AioConfig) -> Any:
    made = session.create_client("sts", region_name=endpoint.region, endpoint_url=endpoint.url, config=config)
    return await made.__aenter__()  # nothing is opened by that: see `Network`


def _settings(session: Any) -> bytes:
    """A digest of all that shapes a client: the environment, the profile, and endpoints that the profile names."""
    profile = {name: value for name, value in session.get_scoped_config().items() if name not in _SECRETS}
    environment = {name: value for name, value in os.environ.items() if name.lower() not in _SECRETS}
    shape = session.instance_variables(), profile, session.full_config.get("services"), environment
    return hashlib.blake2b(repr(shape).encode("utf-8", "surrogateescape")).digest()
