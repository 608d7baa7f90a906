"""An internal credential service, AWS IoT's credentials provider, HashiCorp Vault, or another imds-proxy, over HTTP.

In: the role's settings; the files of its token and TLS, read at every fetch. Out: one session. Errors: Denied,
Throttled, Unreachable, Invalid.

"Container credential provider" of the AWS SDKs and Tools guide, "Use the Instance Metadata Service to access instance
metadata" of the EC2 user guide, "Authorizing direct calls to AWS services using AWS IoT Core credential provider" of
the IoT Core guide, "AWS secrets engine (API)" and "Vault Agent caching" of HashiCorp Vault.
"""

import asyncio
import re
import ssl
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from imds_proxy.config.http_role import HttpConfig, is_this_host
from imds_proxy.credentials import Credentials
from imds_proxy.errors import Invalid, Unreachable
from imds_proxy.host.clock import Clock
from imds_proxy.host.http_client import Answer, WebRequest, ask
from imds_proxy.host.read_private import read_file
from imds_proxy.host.tls import KeptContexts, tls_context
from imds_proxy.host.watched_files import FileWatcher, WatchedFiles, unanswered
from imds_proxy.sources.credential_documents import parse
from imds_proxy.sources.http.refusals import refusal
from imds_proxy.sources.interface import Context, Source

# How each shape says who asks; the container's goes raw, as the AWS SDKs send it.
_TOKEN_HEADERS: Final = {
    "container": ("Authorization", ""),
    "process": ("Authorization", "Bearer "),
    "iot": ("Authorization", "Bearer "),
    "vault": ("X-Vault-Token", ""),
}
_VAULT_HEADERS: Final = {"X-Vault-Request": "true"}
_SENDABLE: Final = re.compile(r"[ -~]+")
_INEXACT: Final = 15.0  # seconds: the longest that an answer takes by default, and what is cut off
_SECONDS: Final = re.compile(r"[0-9]{1,9}")

_IMDS_TTL: Final = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
_IMDS_TOKEN: Final = "X-aws-ec2-metadata-token"  # noqa: S105 - a header's name
_IMDS_ROLES: Final = "/latest/meta-data/iam/security-credentials"
_IMDS_ROLE: Final = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)


def make(role: str, settings: HttpConfig, context: Context) -> Source:
    """The source of one role."""
    return Http(role, settings, context.clock, context.tls, context.watcher)


class Http(Source):
    """One role's source.

    Args:
        role: The name it has in the config.
        settings: Its table.
        clock: Wall time; not told what time the service says it is, which is not AWS.
        tls: Shared with other sources; None: its own.
        watcher: The same.
    """

    passes_on = True

    def __init__(
        self,
        role: str,
        settings: HttpConfig,
        clock: Clock,
        tls: KeptContexts | None = None,
        watcher: FileWatcher | None = None,
    ) -> None:
        self._role = role
        self._settings = settings
        self._clock = clock
        self._contexts = tls or KeptContexts()
        files = (settings.token_file, settings.client_certificate, settings.client_key, settings.ca_bundle)
        self._paths = [path for path in files if path is not None]
        self._files = WatchedFiles(*self._paths, watcher=watcher)
        self._failed = False
        self._last: Credentials | None = None

    async def fetch(self) -> Credentials:
        """What the service hands out now."""
        self._failed = True
        sent = self._clock.boot()
        answer = await self._answer()
        age = _seconds(answer.headers.get("age", "")) if self._settings.shape == "vault" else 0
        found = parse(
            self._settings.shape, answer.body, role=self._role, origin=answer.place, now=self._clock.then(sent) - age
        )
        self._failed = False
        self._last = replace(
            found,
            expiration=self._expiration(found),
            obtained=min(found.obtained, self._clock.wall()),
            role_arn=self._settings.role_arn or found.role_arn,
        )
        return self._last

    async def changed(self) -> None:
        """Return when a file has changed after a failure: it may be what the request lacked."""
        await (self._files.changed() if self._failed and self._paths else super().changed())

    async def _answer(self) -> Answer:
        settings = self._settings
        try:
            token, tls = await self._files.read(self._read_files)
        except TimeoutError:
            raise unanswered(self._role, " or ".join(self._paths) or "the CA bundle") from None
        service = _Service(self._role, settings, token, tls)
        if settings.shape == "imds":
            return await _ask_imds(service, settings.url)
        return await service.get(settings.url, _VAULT_HEADERS if settings.shape == "vault" else {})

    def _expiration(self, found: Credentials) -> float:
        """The same as before for the same session: the end of a lease is reckoned anew each time, a second off."""
        last = self._last
        if last and last.access_key_id == found.access_key_id and abs(last.expiration - found.expiration) < _INEXACT:
            return last.expiration
        return found.expiration

    def _read_files(self) -> tuple[dict[str, str], ssl.SSLContext | None]:
        return self._token(), self._tls()

    def judge(self) -> None:
        """Raise SourceError where its files cannot be used; nothing is sent."""
        self._token()
        self._tls()

    def _token(self) -> dict[str, str]:
        """The header with the token in its file."""
        path = self._settings.token_file
        if path is None:
            return {}
        token = read_file(self._role, path, "token", private=False).strip().decode("latin-1")
        if not _SENDABLE.fullmatch(token):
            what = "is more than one line of ASCII" if token else "is empty"
            raise Invalid(f'role "{self._role}": token {path} {what}', "have the token put there, and nothing else")
        name, scheme = _TOKEN_HEADERS[self._settings.shape]
        return {name: token if token.lower().startswith("bearer ") else scheme + token}

    def _tls(self) -> ssl.SSLContext | None:
        settings = self._settings
        if not settings.url.startswith("https:"):
            return None
        if settings.client_certificate is None:
            return self._contexts.trusting(self._role, settings.ca_bundle)
        return tls_context(self._role, settings.ca_bundle, settings.client_certificate, settings.client_key)


class _Service:
    """The service during one fetch; all its requests together have the role's time limit.

    Args:
        role: For the message.
        settings: The role's table.
        token: The header that says who asks.
        tls: For https.
    """

    def __init__(self, role: str, settings: HttpConfig, token: dict[str, str], tls: ssl.SSLContext | None) -> None:
        self.role = role
        self._settings = settings
        # One name of a header, however the config writes it.
        self._headers = {name.title(): value for name, value in settings.headers.items()} | token
        self._tls = tls
        self._ends = asyncio.get_running_loop().time() + settings.timeout

    async def get(self, url: str, headers: Mapping[str, str]) -> Answer:
        """An answer that may hold what was asked for; raises SourceError for any other."""
        return self.accepted(await self.send("GET", url, headers))

    async def send(self, method: str, url: str, headers: Mapping[str, str]) -> Answer:
        """Any answer. A proxy is not asked for this host's own credentials."""
        return await ask(
            self.role,
            WebRequest(method, url, {**self._headers, **headers}),
            tls=self._tls,
            timeout=max(self._ends - asyncio.get_running_loop().time(), 0),
            direct=is_this_host(url),
        )

    def accepted(self, answer: Answer) -> Answer:
        """The answer, unless it is a refusal, which is raised."""
        if error := refusal(self.role, self._settings, answer):
            raise error
        return answer


async def _ask_imds(service: _Service, url: str) -> Answer:
    """The role document, by IMDSv2; by IMDSv1 where there are no session tokens."""
    base, _, name = url.partition(_IMDS_ROLES)
    base, name = base.rstrip("/"), name.strip("/")
    answer = await service.send("PUT", f"{base}/latest/api/token", _IMDS_TTL)
    headers = {}
    if answer.status not in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}:
        headers[_IMDS_TOKEN] = _line(service, answer, _SENDABLE, "session token")
    if not name:
        answer = await service.send("GET", f"{base}{_IMDS_ROLES}/", headers)
        if answer.status == HTTPStatus.NOT_FOUND and headers:
            raise Unreachable(
                f'role "{service.role}": {answer.place}: it has no credentials to hand out at this time',
                "see there why; if url is this very daemon's, give the role another source",
            )
        name = quote(_line(service, answer, _IMDS_ROLE, "role"))
    return await service.get(f"{base}{_IMDS_ROLES}/{name}", headers)


def _line(service: _Service, answer: Answer, pattern: re.Pattern[str], what: str) -> str:
    """The first line of an answer."""
    line = service.accepted(answer).body.decode("latin-1").partition("\n")[0].strip()
    # A role's name is in the address that is asked next, and that in messages: it is nothing that was sent.
    if not pattern.fullmatch(line) or answer.repeats(line):
        raise Invalid(f'role "{service.role}": {answer.place}: this is no {what}', "correct url and shape")
    return line


def _seconds(age: str) -> int:
    """How long an answer has been in Vault Agent's cache; the lease in it is as it was in the beginning."""
    return int(age) if _SECONDS.fullmatch(age) else 0
