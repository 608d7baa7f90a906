"""Keeps an issuer's key set fresh: fetched ahead of time, and soon when a token names a key that is not in it.

In: where the keys are. Out: `SigningKeys`. Errors: none; a failure is told once, is retried, and leaves the keys that
are held.
"""

import asyncio
import contextlib
import logging
import random
import re
import ssl
from http import HTTPStatus
from typing import Final

from imds_proxy.backoff import wait_after_failure
from imds_proxy.callers.kubernetes import jwks
from imds_proxy.callers.kubernetes.jwks import SigningKeys
from imds_proxy.config.grants import ServiceAccountsConfig
from imds_proxy.config.http_role import is_this_host
from imds_proxy.errors import Denied, Invalid, SourceError, Unreachable
from imds_proxy.host.http_client import WebRequest, ask
from imds_proxy.host.read_private import read_file
from imds_proxy.host.tls import tls_context
from imds_proxy.host.watched_files import FileWatcher, WatchedFiles, unanswered
from imds_proxy.telemetry.log import told

log = logging.getLogger(__name__)

EVERY: Final = 300.0  # seconds; Kubernetes lets its own key set be cached for an hour
JITTER: Final = 1 / 6  # of it, and only earlier
APART: Final = 10.0  # seconds between two fetches for keys that are not known
_TIME_LIMIT: Final = 10.0
_MOST_WANTED: Final = 100  # key ids that are remembered: anybody can name some
_TABLE: Final = "service_accounts"
_SENDABLE: Final = re.compile(rb"[!-~]+")
_REFUSED: Final = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}


class KeySet:
    """One issuer's keys.

    Args:
        settings: Where they are.
        keys: Those known already.
        watcher: Tells when files change; None: one of its own.
    """

    def __init__(
        self, settings: ServiceAccountsConfig, keys: SigningKeys | None = None, watcher: FileWatcher | None = None
    ) -> None:
        self.keys = keys
        """None until the first were fetched."""
        self._settings = settings
        self._origin = settings.jwks_url or settings.jwks_file or ""
        paths = (settings.jwks_file, settings.ca_bundle, settings.token_file)
        self._paths = [path for path in paths if path is not None]
        self._files = WatchedFiles(*self._paths, watcher=watcher)
        self._wanted: set[str] = set()
        self._absent: frozenset[str] = frozenset()
        self._asked = asyncio.Event()
        self._failures = 0
        self._told = ""

    def look_for(self, key_id: str) -> bool:
        """Have the keys fetched soon for one that is not there; whether it may yet turn up then.

        False when the last fetch has looked for it and not found it.
        """
        if len(self._wanted) < _MOST_WANTED:
            self._wanted.add(key_id)
        self._asked.set()
        return key_id not in self._absent

    async def run(self) -> None:
        """Keep them, for ever."""
        while True:
            began = asyncio.get_running_loop().time()
            await self._fetch()
            await self._until_due(began)

    async def _fetch(self) -> None:
        self._asked.clear()
        wanted, self._wanted = self._wanted, set()
        try:
            content = await self._content()
            keys = await asyncio.to_thread(jwks.parse, content, self._origin)
        except SourceError as error:
            self._failed(error)
        except Exception as error:  # noqa: BLE001 - whatever a library raises, the keys are kept
            self._failed(
                Invalid(f"unexpected {told(error)}", "this is a defect of imds-proxy: please report this line")
            )
        else:
            self._absent = frozenset(wanted - keys.keys.keys())
            self._wanted -= keys.keys.keys()  # asked for meanwhile
            if not self._wanted:
                self._asked.clear()
            self._succeeded(keys)

    async def _until_due(self, began: float) -> None:
        """Return when it is time to fetch again, or when somebody asks for a key, or when a file has changed."""
        chance = random.random()  # noqa: S311 - spreads load, guards nothing
        wait = EVERY * (1 - JITTER * chance)
        if self._failures:
            wait = wait_after_failure(self._failures, chance, denied=False)
        waiting = [asyncio.ensure_future(self._asked_for(began, within=wait))]
        if self._settings.jwks_file is not None or (self._paths and self._failures):
            waiting.append(asyncio.ensure_future(self._files.changed()))
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    async def _asked_for(self, began: float, *, within: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._asked.wait()
                await asyncio.sleep(began + APART - asyncio.get_running_loop().time())

    async def _content(self) -> bytes:
        try:
            if self._settings.jwks_file is not None:
                return await self._files.read(_read_keys, self._settings.jwks_file)
            headers, tls = await self._files.read(_prepare, self._settings)
        except TimeoutError:
            raise unanswered(_TABLE, " or ".join(self._paths) or "the CA bundle") from None
        return await _ask_for_keys(self._origin, headers, tls)

    def _succeeded(self, keys: SigningKeys) -> None:
        before = self.keys.keys.keys() if self.keys is not None else None
        if self._failures or keys.keys.keys() != before:
            level = logging.INFO if keys.keys else logging.WARNING
            extra = {"origin": self._origin, "keys": len(keys.keys), "ignored": keys.ignored}
            log.log(level, "service account keys fetched", extra=extra)
        self.keys, self._failures, self._told = keys, 0, ""

    def _failed(self, error: SourceError) -> None:
        self._failures += 1
        message = _without_role(error)
        extra = {"error": message, "advice": error.advice, "failures": self._failures, "held": self.keys is not None}
        log.log(
            logging.DEBUG if message == self._told else logging.ERROR, "service account keys not fetched", extra=extra
        )
        self._told = message


def _prepare(settings: ServiceAccountsConfig) -> tuple[dict[str, str], ssl.SSLContext]:
    """The headers of a request for keys, and whom it trusts. Raises SourceError."""
    headers = {"Accept": "application/jwk-set+json, application/json"} | _authorization(settings.token_file)
    return headers, tls_context(_TABLE, settings.ca_bundle)


def judge(settings: ServiceAccountsConfig) -> None:
    """Raise Invalid where the files of the key set cannot be used; nobody is asked for anything."""
    try:
        if settings.jwks_file is not None:
            jwks.parse(_read_keys(settings.jwks_file), settings.jwks_file)
        else:
            _prepare(settings)
    except SourceError as error:
        raise Invalid(_without_role(error), error.advice) from None


def _without_role(error: SourceError) -> str:
    """The message of what reads files for roles."""
    return error.message.removeprefix(f'role "{_TABLE}": ')


async def _ask_for_keys(url: str, headers: dict[str, str], tls: ssl.SSLContext) -> bytes:
    """What the issuer's server answers. Raises SourceError."""
    answer = await ask(_TABLE, WebRequest("GET", url, headers), tls=tls, timeout=_TIME_LIMIT, direct=is_this_host(url))
    if answer.status in _REFUSED:
        raise Denied(
            f"{answer.place} answered {answer.status}",
            "set token_file to a token whose account has the ClusterRole system:service-account-issuer-discovery",
        )
    if answer.status != HTTPStatus.OK:
        raise Unreachable(f"{answer.place} answered {answer.status}", "see that server's log; it is retried")
    return answer.body


def _authorization(token_file: str | None) -> dict[str, str]:
    if token_file is None:
        return {}
    token = read_file(_TABLE, token_file, "token", private=False).strip()
    if not _SENDABLE.fullmatch(token):
        raise Invalid(f"token {token_file} is not one line of ASCII", "have the token put there, and nothing else")
    return {"Authorization": f"Bearer {token.decode()}"}


def _read_keys(path: str) -> bytes:
    """The key set in a file that only those change who decide whom this host believes."""
    return read_file(_TABLE, path, "key set", private=False, trusted=True)
