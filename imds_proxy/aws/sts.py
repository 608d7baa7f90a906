"""What the calls of AWS STS that give a session share: parameters, limits, regions, the answer, and AWS's time.

In: a session of the AWS chain, and what one call says besides. Out: one session. Errors: Denied, Throttled,
Unreachable, Invalid, each saying what to do. "AssumeRole", "AssumeRoleWithWebIdentity" and "GetCallerIdentity" in the
STS API reference, "Manage AWS STS in an AWS Region" of the IAM user guide.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from imds_proxy.aws import refusals, session_name
from imds_proxy.aws.call import Call
from imds_proxy.aws.kept_clients import Endpoint
from imds_proxy.aws.session import AwsChain
from imds_proxy.aws.setting_error import SettingError
from imds_proxy.aws.signing_guard import sent_by, signing
from imds_proxy.aws.sts_caller import Base, frozen
from imds_proxy.config.roles import StsConfig
from imds_proxy.credentials import Credentials, Secret
from imds_proxy.errors import Denied, Invalid, SourceError, Unreachable
from imds_proxy.host.clock import Clock
from imds_proxy.host.threads import in_thread
from imds_proxy.partitions import of_arn

log = logging.getLogger(__name__)

_TIME_LIMIT: Final = 20.0
_WHO_AM_I_TIME_LIMIT: Final = 5.0
_NO_ANSWER: Final = (BotoCoreError, ResponseParserError, SettingError, OSError, TimeoutError)
# What botocore's parser raises for an answer that is XML, but none of STS's.
_CALLER: Final = re.compile(r"arn:aws[a-z-]*:(?:iam|sts)::\d{12}:[!-~]{1,1024}", re.ASCII)
_UNREADABLE: Final = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError)


class Explain(Protocol):
    """Makes an error for the operator of a refusal by STS; `sts` is the client that was refused."""

    async def __call__(self, error: ClientError, call: Call, sts: Any) -> SourceError:
        """The error to raise."""


@dataclass(frozen=True, slots=True)
class Request:
    """One call, and what is said when it is refused."""

    operation: str
    """AWS's name: "AssumeRole"."""
    parameters: dict[str, Any] = field(repr=False)
    explain: Explain = field(repr=False)
    signed: bool = True


class Sts:
    """One role's way to STS.

    Args:
        role: The name it has in the config.
        settings: Its settings.
        chain: Keeps clients.
        region: The region of the STS endpoint, unless the settings name others.
        clock: Told what time AWS says it is.
    """

    def __init__(self, role: str, settings: StsConfig, chain: AwsChain, region: str, clock: Clock) -> None:
        self._role = role
        self._settings = settings
        self._chain = chain
        self._regions = settings.sts_regions or (region,)
        self._clock = clock

    def parameters(self, **more: Any) -> dict[str, Any]:
        """What every call says, and what this one does besides; what is empty is left out."""
        settings = self._settings
        parameters = {
            "RoleArn": settings.role_arn,
            "RoleSessionName": session_name.render(settings.session_name),
            "DurationSeconds": settings.duration,
            "Policy": settings.policy,
            "PolicyArns": [{"arn": arn} for arn in settings.policy_arns],
        }
        return {name: value for name, value in (parameters | more).items() if value}

    async def made(self, parameters: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `parameters()` returns; in a thread of its own where the session name is looked up in DNS.

        Raises:
            Unreachable: DNS does not answer.
        """
        if not session_name.asks_dns(self._settings.session_name):
            return parameters()
        try:
            async with asyncio.timeout(_TIME_LIMIT):
                return await in_thread(parameters)
        except TimeoutError:
            raise Unreachable(
                f'role "{self._role}": session_name asks for {{fqdn}}, and DNS did not answer within {_TIME_LIMIT:g} s',
                "see /etc/resolv.conf, or use {hostname}; it is retried",
            ) from None

    async def session(self, base: Base, request: Request) -> Credentials:
        """One new session, from the first region that answers."""
        unreachable: SourceError | None = None
        for region in self._regions:
            try:
                return await self.session_from(region, base, request)
            except Unreachable as error:
                unreachable = unreachable or error
                log.debug("STS did not answer", extra={"role": self._role, "region": region, "error": error.message})
        assert unreachable is not None  # noqa: S101 - there is always a region
        raise unreachable

    async def session_from(self, region: str, base: Base, request: Request) -> Credentials:
        """One new session, from this region."""
        action, sent = f"sts:{request.operation}", sent_by(base.session)
        call = Call(self._role, action, self._settings.role_arn, region, base.identity, sent)
        try:
            async with asyncio.timeout(_TIME_LIMIT):
                sts = await self.client(base.session, region, signed=request.signed)
                call = replace(call, endpoint=sts.meta.endpoint_url)
                with signing(base.session, base.credentials, self._clock.skew):
                    return await self._ask(sts, call, request)
        except _NO_ANSWER as error:
            raise refusals.translate(error, call) from None  # its text may hold an answer, and that a secret

    async def client(self, session: Any, region: str, *, signed: bool = True) -> Any:
        """A client of STS, at the private endpoint if one is set."""
        settings = self._settings
        return await self._chain.client(session, Endpoint(region, settings.sts_endpoint, settings.allow_http, signed))

    async def _ask(self, sts: Any, call: Call, request: Request) -> Credentials:
        sent = self._clock.boot()
        try:
            answer = await getattr(sts, xform_name(request.operation))(**request.parameters)
            observe_time(self._clock, answer, call.endpoint)
            return self._credentials(answer, sent)
        except ClientError as error:
            observe_refusal(self._clock, error, call.endpoint)
            raise await request.explain(error, call, sts) from None
        except _UNREADABLE:
            raise Invalid(
                f'role "{call.role}": {call.endpoint} answered 200 without credentials in it',
                "this is not what AWS STS answers: check sts_endpoint and the proxy",
            ) from None

    def _credentials(self, answer: Any, sent: float) -> Credentials:
        fields = answer["Credentials"]
        return Credentials(
            access_key_id=str(fields["AccessKeyId"]),
            secret_access_key=Secret(fields["SecretAccessKey"]),
            session_token=Secret(fields["SessionToken"]),
            expiration=fields["Expiration"].timestamp(),
            obtained=self._clock.then(sent),
            role_arn=self._settings.role_arn,
            session_arn=caller_arn(answer["AssumedRoleUser"]["Arn"]),
        )


def observe_time(clock: Clock, answer: Any, endpoint: str) -> None:
    """Tell the clock what time an answer of AWS's was made at."""
    clock.observe_date(refusals.date_of(answer), endpoint)


def observe_refusal(clock: Clock, error: ClientError, endpoint: str) -> None:
    """The same of a refusal, which may be one of the request's time."""
    clock.observe_date(refusals.date_of(error.response), endpoint, refused=refusals.is_about_time(error))


def fallback_region(role: str, role_arn: str | None) -> str:
    """Where STS is called when nobody said a region."""
    region = of_arn(role_arn).global_region
    log.info("no region is set: using STS of the partition's global one", extra={"role": role, "region": region})
    return region


async def who_am_i(sts: Any) -> str | None:
    """The ARN that a client's credentials belong to, to explain a denial; None where AWS does not say."""
    try:
        return await _caller_arn(sts)
    except (ClientError, *_NO_ANSWER, *_UNREADABLE):
        return None


async def identify(role: str, credentials: Credentials, chain: AwsChain, region: str, clock: Clock) -> str:
    """The ARN that `credentials` belong to.

    Raises:
        Denied: AWS does not accept them.
        Unreachable: Nobody could say: AWS was not reached, or had another reason.
    """
    session = await chain.fresh_session(role=role, credentials=False)
    identity = f"key …{credentials.key_hint}"
    call = Call(role, "sts:GetCallerIdentity", identity=identity, endpoint=region, sent=sent_by(session))
    try:
        async with asyncio.timeout(_WHO_AM_I_TIME_LIMIT):
            sts = await chain.client(session, Endpoint(region))
            call = replace(call, endpoint=sts.meta.endpoint_url)
            with signing(session, frozen(credentials), clock.skew):
                return await _caller_arn(sts)
    except ClientError as error:
        observe_refusal(clock, error, call.endpoint)
        if refusals.refuses_credentials(error):
            raise _not_accepted(refusals.translate(error, call, skew=clock.skew), error, call) from None
        raise Unreachable(refusals.translate(error, call).message) from None
    except _NO_ANSWER as error:
        translated = refusals.translate(error, call)
        raise Unreachable(translated.message, translated.advice) from None
    except _UNREADABLE:
        raise Unreachable(f'role "{role}": {call}: the answer is not what STS sends') from None


def _not_accepted(translated: SourceError, error: ClientError, call: Call) -> Denied:
    said = refusals.words(error, call)
    clock = refusals.is_about_time(error)
    advice = (
        translated.advice if clock else f"see where they come from: {call.identity} is none that AWS knows, or dead"
    )
    return Denied(f'role "{call.role}": AWS does not accept these credentials: {said}', advice)


async def _caller_arn(sts: Any) -> str:
    """Needs no permission. Raises ValueError where the answer is no such ARN: it is shown."""
    async with asyncio.timeout(_WHO_AM_I_TIME_LIMIT):
        return caller_arn((await sts.get_caller_identity())["Arn"])


def caller_arn(said: object) -> str:
    """What AWS says that somebody is, as it is, since it is shown and compared; ValueError where it is no such ARN."""
    if not isinstance(said, str) or not _CALLER.fullmatch(said):
        raise ValueError("no ARN")
    return said
