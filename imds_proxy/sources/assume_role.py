"""AssumeRole at AWS STS ("AssumeRole" in the STS API reference).

In: the role's settings, and base credentials from the daemon's own AWS chain or another role here. Out: one session.
Errors: Denied, Throttled, Unreachable, Invalid, each saying what to do.
"""

import logging
from dataclasses import replace
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from imds_proxy.aws import refusals
from imds_proxy.aws.call import Call
from imds_proxy.aws.session import AwsChain
from imds_proxy.aws.signing_guard import current_credentials
from imds_proxy.aws.sts import Request, Sts, fallback_region, who_am_i
from imds_proxy.aws.sts_caller import BaseSource, FromChain, FromRole
from imds_proxy.config.roles import AssumeRoleConfig
from imds_proxy.credentials import Credentials
from imds_proxy.errors import SourceError
from imds_proxy.host.clock import Clock
from imds_proxy.sources.interface import CHAINED_LIMIT, Context, Source, longest_life

log = logging.getLogger(__name__)


def make(role: str, settings: AssumeRoleConfig, context: Context) -> Source:
    """The source of one role."""
    if settings.from_ and settings.duration > CHAINED_LIMIT:
        log.warning("a chained session lasts an hour at most: duration is cut to 1h", extra={"role": role})
    region = context.region or fallback_region(role, settings.role_arn)
    base = FromRole(settings.from_, context.parent) if settings.from_ else FromChain(settings.profile, region)
    return AssumeRole(role, settings, base, context.chain(), region, context.clock)


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
        self._sts = Sts(role, options, chain, region, clock)
        self._clock = clock

    async def fetch(self) -> Credentials:
        """One new session."""
        base = await self._base.base(self._role, self._chain)
        parameters = await self._sts.made(self._parameters)
        return await self._sts.session(base, Request("AssumeRole", parameters, self._explain))

    def _parameters(self) -> dict[str, Any]:
        options = self._options
        return self._sts.parameters(
            DurationSeconds=longest_life(options),
            ExternalId=options.external_id,
            Tags=[{"Key": key, "Value": value} for key, value in options.tags.items()],
            TransitiveTagKeys=list(options.transitive_tag_keys),
            SourceIdentity=options.source_identity,
        )

    async def _explain(self, error: ClientError, call: Call, sts: Any) -> SourceError:
        identity = await self._identity(call, sts) if refusals.is_not_permitted(error) else call.identity
        trust = refusals.trust_statement(identity, self._options.external_id, self._actions())
        return refusals.translate(error, replace(call, identity=identity), trust=trust, skew=self._clock.skew)

    async def _identity(self, call: Call, sts: Any) -> str:
        """Who called, as a trust policy would name it: asked of AWS where it is not known."""
        if call.identity.startswith("arn:"):
            return call.identity
        key_id = current_credentials().access_key
        arn = await self._chain.identities.arn(key_id, call.endpoint, partial(who_am_i, sts))
        return arn or call.identity

    def _actions(self) -> list[str]:
        """What the trust policy has to allow for this request."""
        options = self._options
        extra = (("sts:TagSession", options.tags), ("sts:SetSourceIdentity", options.source_identity))
        return ["sts:AssumeRole", *(action for action, asked in extra if asked)]
