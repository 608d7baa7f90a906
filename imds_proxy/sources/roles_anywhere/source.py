"""CreateSession at IAM Roles Anywhere ("IAM Roles Anywhere CreateSession API" of its user guide).

In: the role's settings, a certificate and its private key. Out: one session. Errors: Denied, Throttled, Unreachable,
Invalid, each saying what to do. botocore has no CreateSession and is not needed here.
"""

import asyncio
import json
import ssl
from typing import Any, Final

from imds_proxy.aws import session_name
from imds_proxy.config.http_role import is_this_host
from imds_proxy.config.roles import RolesAnywhereConfig
from imds_proxy.credentials import ISO_TIME, Credentials, Secret, parse_time
from imds_proxy.errors import Invalid, Unreachable
from imds_proxy.host.clock import Clock
from imds_proxy.host.file_watcher import FileWatcher
from imds_proxy.host.http_client import Answer, WebRequest, ask
from imds_proxy.host.threads import OneByOne, in_thread
from imds_proxy.host.tls import KeptContexts
from imds_proxy.host.watched_files import READ_WITHIN, unanswered
from imds_proxy.partitions import USUAL, Variants, endpoint
from imds_proxy.sources.interface import Context, Source
from imds_proxy.sources.roles_anywhere import sigv4_x509
from imds_proxy.sources.roles_anywhere.certificate_rotation import CertificateInUse
from imds_proxy.sources.roles_anywhere.key_pair import KeyPair
from imds_proxy.sources.roles_anywhere.refusals import Call, is_about_time, translate

_TIME_LIMIT: Final = 20.0
_SUCCESS: Final = 200, 299
_NOT_AWS: Final = "this is not what IAM Roles Anywhere answers: check endpoint and the proxy"


def make(role: str, settings: RolesAnywhereConfig, context: Context) -> Source:
    """The source of one role."""
    return RolesAnywhere(role, settings, context.clock, context.tls, context.watcher, context.variants)


class RolesAnywhere(Source):
    """One role's source.

    Args:
        role: The name it has in the config.
        settings: Its table.
        clock: Wall time; told what time AWS says it is.
        tls: Shared with other sources; None: its own.
        watcher: The same.
        variants: Which endpoint of the region is called, where the settings name none.
    """

    def __init__(
        self,
        role: str,
        settings: RolesAnywhereConfig,
        clock: Clock,
        tls: KeptContexts | None = None,
        watcher: FileWatcher | None = None,
        variants: Variants = USUAL,
    ) -> None:
        self._role = role
        self._settings = settings
        self._clock = clock
        self._tls, self._trusting = tls or KeptContexts(), OneByOne()
        self._in_use = CertificateInUse(role, settings, clock, watcher)
        anchor = settings.trust_anchor_arn
        self._region = settings.region or anchor.split(":")[3]
        self._endpoint = (settings.endpoint or endpoint("rolesanywhere", self._region, variants, anchor)).rstrip("/")
        self.certificate = self._in_use.stats

    async def fetch(self) -> Credentials:
        """One new session, signed for with the pair then in use."""
        pair = await self._in_use.pair()
        try:
            async with asyncio.timeout(_TIME_LIMIT):
                request = await in_thread(self._signed, pair)
        except TimeoutError:
            raise Unreachable(
                f'role "{self._role}": the private key did not sign within {_TIME_LIMIT:g} s ({pair})',
                "see whether the token that it is on works; it is retried",
            ) from None
        tls = await self._trust()
        direct = is_this_host(self._endpoint)  # no proxy is told what is for this host
        sent = self._clock.boot()
        answer = await ask(self._role, request, tls=tls, timeout=_TIME_LIMIT, direct=direct)
        date = answer.headers.get("date")
        self._clock.observe_date(date, self._endpoint, refused=is_about_time(answer))
        if not _SUCCESS[0] <= answer.status <= _SUCCESS[1]:
            call = Call(self._role, self._settings, self._endpoint, str(pair))
            raise translate(answer, call, self._clock.skew_by(date))
        return self._credentials(answer, sent)

    async def _trust(self) -> ssl.SSLContext:
        try:
            return await self._trusting.do(self._tls.trusting, self._role, within=READ_WITHIN)
        except TimeoutError:
            raise unanswered(self._role, "the CA bundle") from None

    async def changed(self) -> None:
        """Return when another certificate is in use: who it is may have changed, and whether AWS knows it."""
        await self._in_use.changed()

    def _signed(self, pair: KeyPair) -> WebRequest:
        settings = self._settings
        query = sigv4_x509.canonical_query(
            [
                ("profileArn", settings.profile_arn),
                ("roleArn", settings.role_arn),
                ("trustAnchorArn", settings.trust_anchor_arn),
            ]
        )
        body: dict[str, Any] = {"durationSeconds": settings.duration}
        if settings.session_name is not None:
            body["roleSessionName"] = session_name.render(settings.session_name)
        url, headers = f"{self._endpoint}/sessions?{query}", {"Content-Type": "application/json"}
        request = WebRequest("POST", url, headers, json.dumps(body).encode())
        return sigv4_x509.signed(request, pair, self._region, self._clock.wall() + self._clock.skew)

    def _credentials(self, answer: Answer, sent: float) -> Credentials:
        try:
            session = json.loads(answer.body)["credentialSet"][0]
            fields = session["credentials"]
            return Credentials(
                access_key_id=_text(fields["accessKeyId"]),
                secret_access_key=Secret(_text(fields["secretAccessKey"])),
                session_token=Secret(_text(fields["sessionToken"])),
                expiration=self._expiration(fields["expiration"]),
                obtained=self._clock.then(sent),
                role_arn=self._settings.role_arn,
                session_arn=_text(session["assumedRoleUser"]["arn"]),
            )
        except (LookupError, TypeError, ValueError, RecursionError):
            what = f'role "{self._role}": {self._endpoint} answered {answer.status} without credentials in it'
            raise Invalid(what, _NOT_AWS) from None

    def _expiration(self, said: object) -> float:
        if (moment := parse_time(_text(said))) is None:
            raise Invalid(f'role "{self._role}": {self._endpoint}: expiration is no {ISO_TIME}', _NOT_AWS)
        return moment


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("not a string")
    return value
