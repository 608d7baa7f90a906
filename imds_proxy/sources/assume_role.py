"""AssumeRole at AWS STS ("AssumeRole" in the STS API reference).

In: the role's settings, and base credentials from the daemon's own AWS chain. Out: one session. Errors: Denied,
Throttled, Unreachable, Invalid, each saying what to do.
"""

import asyncio
import contextlib
import logging
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any, Final

from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from imds_proxy.clock import Clock
from imds_proxy.config_roles import AssumeRoleConfig
from imds_proxy.credentials import Credentials, Secret
from imds_proxy.errors import Invalid, SourceError, Unreachable
from imds_proxy.sources import session_name, sts_errors
from imds_proxy.sources.aws_chain import AwsChain
from imds_proxy.sources.base import BaseSource, FromChain, FromRole
from imds_proxy.sources.interface import Context, Source
from imds_proxy.sources.sts_errors import Call

log = logging.getLogger(__name__)

# One attempt per region: renewal has its own backoff, and runs long before anything expires.
_CLIENT: Final = {
    "connect_timeout": 5,
    "read_timeout": 10,
    "retries": {"total_max_attempts": 1},
    "defaults_mode": "legacy",  # "auto" would ask the instance metadata for its region
}
_TIME_LIMIT = 20.0
_WHOAMI_TIME_LIMIT = 5.0


CHAINED_LIMIT: Final = 3600
"""AWS gives a chained session an hour at most, and refuses to give any where more is asked for."""


_PARTITION_REGIONS: Final = {"aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"}


def make(role: str, settings: AssumeRoleConfig, context: Context) -> Source:
    """The source of one role."""
    if settings.from_ and settings.duration > CHAINED_LIMIT:
        log.warning("a chained session lasts an hour at most: duration is cut to 1h", extra={"role": role})
    base = FromRole(settings.from_, context.parent) if settings.from_ else FromChain(settings.profile)
    region = context.region or fallback_region(role, settings.role_arn)
    return AssumeRole(role, settings, base, context.chain(), region, context.clock)


def fallback_region(role: str, role_arn: str) -> str:
    """Where STS is called when nobody said a region."""
    region = _PARTITION_REGIONS.get(role_arn.split(":")[1], "us-east-1")
    log.info("no region is set: using STS of the partition's first one", extra={"role": role, "region": region})
    return region


class AssumeRole(Source):
    """One role's source.

    Args:
        role: The name it has in the config.
        options: Its settings.
        base: Whose credentials call STS.
        chain: Makes AWS sessions.
        region: The region of the STS endpoint, unless the settings name others.
        clock: Told what time AWS says it is.
    """

    def __init__(
        self, role: str, options: AssumeRoleConfig, base: BaseSource, chain: AwsChain, region: str, clock: Clock
    ) -> None:
        self._role = role
        self._options = options
        self._base = base
        self._chain = chain
        self._regions = options.sts_regions or (region,)
        self._clock = clock

    async def fetch(self) -> Credentials:
        """One new session, from the first region that answers."""
        unreachable: SourceError | None = None
        for region in self._regions:
            try:
                return await self._fetch_from(region)
            except Unreachable as error:
                unreachable = unreachable or error
                log.debug("STS did not answer", extra={"role": self._role, "region": region, "error": error.message})
        assert unreachable is not None  # noqa: S101 - there is always a region
        raise unreachable

    async def _fetch_from(self, region: str) -> Credentials:
        call = Call(self._role, "sts:AssumeRole", self._options.role_arn, region, "unknown identity")
        try:
            async with asyncio.timeout(_TIME_LIMIT):
                base = await self._base.base(self._role, self._chain)
                call = replace(call, identity=base.identity)
                async with self._client(base.session, region) as sts:
                    call = replace(call, endpoint=sts.meta.endpoint_url)
                    return await self._assume(sts, call)
        except (BotoCoreError, ResponseParserError, OSError, TimeoutError) as error:
            raise sts_errors.translate(error, call) from None  # its text may hold an answer, and that a secret

    async def _assume(self, sts: Any, call: Call) -> Credentials:
        try:
            answer = await sts.assume_role(**self._request())
        except ClientError as error:
            self._observe_time(error.response)
            identity = await _who_am_i(sts) or call.identity
            trust = sts_errors.trust_statement(identity, self._options.external_id, self._actions())
            call = replace(call, identity=identity)
            raise sts_errors.translate(error, call, trust=trust, skew=self._clock.skew) from error
        self._observe_time(answer)
        return self._credentials(answer, call)

    def _client(self, session: Any, region: str) -> Any:
        return session.create_client(
            "sts", region_name=region, endpoint_url=self._options.sts_endpoint, config=AioConfig(**_CLIENT)
        )

    def _request(self) -> dict[str, Any]:
        options = self._options
        parameters = {
            "RoleArn": options.role_arn,
            "RoleSessionName": session_name.render(options.session_name),
            "DurationSeconds": min(options.duration, CHAINED_LIMIT) if options.from_ else options.duration,
            "ExternalId": options.external_id,
            "Policy": options.policy,
            "PolicyArns": [{"arn": arn} for arn in options.policy_arns],
            "Tags": [{"Key": key, "Value": value} for key, value in options.tags.items()],
            "TransitiveTagKeys": list(options.transitive_tag_keys),
            "SourceIdentity": options.source_identity,
        }
        return {name: value for name, value in parameters.items() if value}

    def _actions(self) -> list[str]:
        """What the trust policy has to allow for this request."""
        options = self._options
        extra = (("sts:TagSession", options.tags), ("sts:SetSourceIdentity", options.source_identity))
        return ["sts:AssumeRole", *(action for action, asked in extra if asked)]

    def _credentials(self, answer: Any, call: Call) -> Credentials:
        try:
            fields = answer["Credentials"]
            return Credentials(
                access_key_id=str(fields["AccessKeyId"]),
                secret_access_key=Secret(fields["SecretAccessKey"]),
                session_token=Secret(fields["SessionToken"]),
                expiration=fields["Expiration"].timestamp(),
                obtained=self._clock.wall(),
                role_arn=self._options.role_arn,
                session_arn=str(answer["AssumedRoleUser"]["Arn"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise Invalid(
                f'role "{call.role}": {call.endpoint} answered 200 without credentials in it',
                "this is not what AWS STS answers: check sts_endpoint and the proxy",
            ) from None

    def _observe_time(self, answer: Any) -> None:
        date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        with contextlib.suppress(TypeError, ValueError):
            self._clock.observe(parsedate_to_datetime(date).timestamp())


async def _who_am_i(sts: Any) -> str | None:
    """The ARN the base credentials belong to; needs no permission, and is only asked to explain a denial."""
    try:
        async with asyncio.timeout(_WHOAMI_TIME_LIMIT):
            answer = await sts.get_caller_identity()
            return str(answer["Arn"])
    except (BotoCoreError, ClientError, ResponseParserError, OSError, TimeoutError, KeyError):
        return None
