"""AssumeRoleWithWebIdentity at AWS STS: an OpenID Connect token for a session, without any AWS key.

In: the role's settings, and a token from a file or a command, read again at every renewal. Out: one session. Errors:
Denied, Throttled, Unreachable, Invalid; `refusals.py` has what AWS's refusals mean.
"AssumeRoleWithWebIdentity" in the STS API reference, "OIDC federation" of the IAM user guide.
"""

from dataclasses import replace
from functools import partial
from typing import Final

from botocore.exceptions import ClientError

from imds_proxy.aws import refusals as refusals_of_sts
from imds_proxy.aws.call import Call
from imds_proxy.aws.session import AwsChain
from imds_proxy.aws.sts import Request, Sts, fallback_region
from imds_proxy.aws.sts_caller import Base
from imds_proxy.config.roles import WebIdentityConfig
from imds_proxy.credentials import Credentials
from imds_proxy.errors import Denied, SourceError
from imds_proxy.host.clock import Clock
from imds_proxy.host.read_private import read_file
from imds_proxy.host.run_command import run_command
from imds_proxy.host.threads import OneByOne
from imds_proxy.host.watched_files import FileWatcher, WatchedFiles, unanswered
from imds_proxy.sources.interface import Context, Source
from imds_proxy.sources.web_identity import refusals
from imds_proxy.sources.web_identity.oidc_token import OidcToken, read_token

_COMMAND_TIME_LIMIT: Final = 30.0
_ANSWERED_WITHIN: Final = 60.0  # seconds, by far, from the request to the beginning of the session


def make(role: str, settings: WebIdentityConfig, context: Context) -> Source:
    """The source of one role."""
    region = context.region or fallback_region(role, settings.role_arn)
    return WebIdentity(role, settings, context.chain(), region, context.clock, context.watcher)


class WebIdentity(Source):
    """One role's source.

    Args:
        role: The name it has in the config.
        settings: Its settings.
        chain: Makes AWS sessions; its credentials are not used, its CA bundle and proxy are.
        region: The region of the STS endpoint, unless the settings name others.
        clock: Told what time AWS says it is.
        watcher: Tells when the token's file changes; None: its own.
    """

    def __init__(
        self,
        role: str,
        settings: WebIdentityConfig,
        chain: AwsChain,
        region: str,
        clock: Clock,
        watcher: FileWatcher | None = None,
    ) -> None:
        self._role = role
        self._settings = settings
        self._chain = chain
        self._sts = Sts(role, settings, chain, region, clock)
        self._clock = clock
        self._file = WatchedFiles(settings.token_file, watcher=watcher) if settings.token_file else None
        self._token_is_good = True
        self._starts = OneByOne()

    async def fetch(self) -> Credentials:
        """One new session, by the token as it is now."""
        self._token_is_good = False
        token = await self._token()
        self._check_audience(token)
        parameters = await self._sts.made(partial(self._sts.parameters, WebIdentityToken=token.secret.reveal()))
        explain = partial(self._explain, token)
        request = Request("AssumeRoleWithWebIdentity", parameters, explain, signed=False)
        session = await self._chain.fresh_session(role=self._role, credentials=False)
        credentials = await self._sts.session(Base(session, str(token)), request)
        self._token_is_good = True
        # Nothing is signed, so AWS answers a clock that is hours behind too. By that one the session would seem to live
        # for hours longer than was asked for, and be renewed when it is dead.
        earliest = credentials.expiration - self._settings.duration - _ANSWERED_WITHIN
        return replace(credentials, obtained=max(credentials.obtained, earliest))

    async def changed(self) -> None:
        """Return when there is another token, if the last one brought nothing; else tokens rotate without a call."""
        if self._file is None or self._token_is_good:
            await super().changed()
        else:
            await self._file.changed()

    async def _token(self) -> OidcToken:
        if self._settings.token_command is not None:
            command = self._settings.token_command
            what, starts = "token_command", self._starts
            printed = await run_command(self._role, command, timeout=_COMMAND_TIME_LIMIT, what=what, starts=starts)
            return read_token(self._role, printed, f"{what} {command[0]}")
        assert self._settings.token_file is not None  # noqa: S101 - the config has one of the two
        assert self._file is not None  # noqa: S101 - with the file
        origin = f"token_file {self._settings.token_file}"
        # Kubernetes mounts it readable for all, inside a container that is nobody else's.
        read = partial(read_file, self._role, self._settings.token_file, "token_file", private=False)
        try:
            content = await self._file.read(read)
        except TimeoutError:
            raise unanswered(self._role, origin) from None
        return read_token(self._role, content, origin)

    def _check_audience(self, token: OidcToken) -> None:
        """The rest AWS decides: by its clock, not by this host's, which may be off."""
        wanted = self._settings.audience
        if wanted is not None and wanted not in token.audiences:
            raise Denied(
                f'role "{self._role}": {token.origin}: token audience is "{token.audience}" and "{wanted}" was wanted',
                f'have the token made for "{wanted}", or correct audience',
            )

    async def _explain(self, token: OidcToken, error: ClientError, call: Call, sts: object) -> SourceError:  # noqa: ARG002
        return refusals.refusal(error, token, call, self._clock) or refusals_of_sts.translate(
            error, call, skew=self._clock.skew
        )
