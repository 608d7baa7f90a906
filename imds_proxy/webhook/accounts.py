"""Reads service accounts from the API server.

In: namespace and name. Out: the annotations. Errors: UnreadableError; its message has the address asked and the status,
nothing of the token or of the answer.

Asked at each admission, with a connection that is kept: an informer's copy would miss the account that was made a
moment before its pod, and would hold every account of the cluster.
"""

import asyncio
import contextlib
import json
import logging
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import aiohttp
from yarl import URL

from imds_proxy import __version__
from imds_proxy.errors import ImdsProxyError, Invalid, SourceError
from imds_proxy.host.read_private import read_file
from imds_proxy.host.tls import tls_context
from imds_proxy.host.watched_files import FileWatcher, WatchedFiles, unanswered
from imds_proxy.webhook.connection_pool import ConnectionPool

log = logging.getLogger(__name__)

READ_WITHIN: Final = 4.0  # seconds, with the second try
_TRY_WITHIN: Final = 1.9
_AGAIN: Final = 0.1  # seconds before the second try
_FILES_AGAIN: Final = 10.0  # seconds until files that could not be used are tried again without having changed
_LARGEST: Final = 1 << 20  # bytes
_SENDABLE: Final = re.compile(rb"[!-~]+")
_TABLE: Final = "webhook"
_HEADERS: Final = {
    "Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1, application/json",  # no list of secrets
    "Accept-Encoding": "identity",
    "User-Agent": f"imds-proxy/{__version__}",
}


class UnreadableError(ImdsProxyError):
    """What a service account asks for is not known; says why and what to do."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the API server is.

    Args:
        url: `https://HOST:PORT`.
        token_file: The webhook's own token.
        ca_bundle: CAs of the API server.
    """

    url: str
    token_file: str
    ca_bundle: str


@dataclass(frozen=True, slots=True)
class _Access:
    authorization: str
    tls: ssl.SSLContext

    def __repr__(self) -> str:
        return "_Access(…)"


class Accounts:
    """The cluster's service accounts, from `start` to `close`.

    Args:
        place: The API server.
        watcher: Tells when files change; None: one of its own.
    """

    def __init__(self, place: Place, watcher: FileWatcher | None = None) -> None:
        self._place = place
        self._files = WatchedFiles(place.token_file, place.ca_bundle, watcher=watcher)
        self._access: _Access | None = None
        self._pool: ConnectionPool | None = None
        self._following: asyncio.Task[None] | None = None
        self._problem = ""

    @property
    def is_ready(self) -> bool:
        """Whether there is a token to ask with."""
        return self._access is not None

    def start(self) -> None:
        """Read token and CAs, and again when they change."""
        self._following = asyncio.create_task(self._follow(), name="follow token and CAs of the API server")

    async def close(self) -> None:
        """Ask no more."""
        if self._following is not None:
            self._following.cancel()
        if self._pool is not None:
            await self._pool.close()

    async def annotations(self, account: tuple[str, str]) -> Mapping[str, str] | None:
        """The annotations of a service account; None: there is no such account.

        Args:
            account: Namespace and name, both checked.

        Raises:
            UnreadableError: No answer within READ_WITHIN, or none that says it.
        """
        try:
            async with asyncio.timeout(READ_WITHIN):
                try:
                    return await self._ask(account)
                except UnreadableError as error:
                    log.debug("the API server is asked again", extra={"error": error.message})
                    await asyncio.sleep(_AGAIN)
                    return await self._ask(account)
        except TimeoutError:
            raise UnreadableError(f"{self._place.url} did not answer within {READ_WITHIN:g} s") from None

    async def _ask(self, account: tuple[str, str]) -> Mapping[str, str] | None:
        namespace, name = account
        if self._access is None:
            raise UnreadableError(self._problem or "token and CAs of the API server have not been read yet")
        if self._pool is None:
            self._pool = ConnectionPool(_HEADERS)
        pool = self._pool
        url = URL(f"{self._place.url}/api/v1/namespaces/{namespace}/serviceaccounts/{name}", encoded=True)
        try:
            async with (
                asyncio.timeout(_TRY_WITHIN),
                pool.session.get(
                    url,
                    headers={"Authorization": self._access.authorization},
                    ssl=self._access.tls,
                    allow_redirects=False,
                ) as response,
            ):
                body = await _limited(response)
                return _annotations(response.status, body, self._place.url)
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is one
            await self._leave(pool)
            raise UnreadableError(_reason(error, self._place.url)) from None
        except asyncio.CancelledError:  # the limit of both tries
            await self._leave(pool)
            raise

    async def _leave(self, pool: ConnectionPool) -> None:
        """Use these connections no more: what is behind one that does not answer may be gone."""
        if self._pool is pool:
            self._pool = None
        await pool.close()

    async def _follow(self) -> None:
        while True:
            is_used = await self._refresh()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if is_used else _FILES_AGAIN):
                    await self._files.changed()

    async def _refresh(self) -> bool:
        """Use what the files hold; whether it could be."""
        try:
            self._access = await self._files.read(_read, self._place)
        except TimeoutError:
            self._refuse(unanswered(_TABLE, f"{self._place.token_file} or {self._place.ca_bundle}"))
        except SourceError as error:
            self._refuse(error)
        else:
            self._problem = ""
            return True
        return False

    def _refuse(self, error: SourceError) -> None:
        message = error.message.removeprefix(f'role "{_TABLE}": ')
        if message != self._problem:
            extra = {"error": message, "advice": error.advice, "held": self.is_ready}
            log.error("token or CAs of the API server cannot be used", extra=extra)
        self._problem = message


def _read(place: Place) -> _Access:
    token = read_file(_TABLE, place.token_file, "token", private=False).strip()
    if not _SENDABLE.fullmatch(token):
        raise Invalid(f"token {place.token_file} is not one line of ASCII", "have the token put there, and no more")
    return _Access(f"Bearer {token.decode()}", tls_context(_TABLE, place.ca_bundle))


async def _limited(response: aiohttp.ClientResponse) -> bytes:
    body = await response.content.read(_LARGEST)
    while not response.content.at_eof() and len(body) < _LARGEST:
        body += await response.content.read(_LARGEST - len(body))
    return body


def _reason(error: Exception, url: str) -> str:
    if isinstance(error, TimeoutError):
        return f"{url} did not answer within {_TRY_WITHIN:g} s"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = getattr(error.certificate_error, "verify_message", "") or "not trusted"
        return f"the certificate of {url} is not accepted: {reason}"
    return f"no answer from {url} ({type(error).__name__})"


def _annotations(status: int, body: bytes, url: str) -> Mapping[str, str] | None:
    if status == HTTPStatus.NOT_FOUND:
        return None
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise UnreadableError(f"{url} answered {status}: let the webhook's own account get serviceaccounts")
    if status != HTTPStatus.OK:
        raise UnreadableError(f"{url} answered {status}")
    try:
        found: Any = json.loads(body)["metadata"].get("annotations") or {}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise UnreadableError(f"{url} answered with what is no service account")
    return found
