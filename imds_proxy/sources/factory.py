"""Config to source. Source modules are imported here and nowhere else, each when it is first needed."""

import logging
import os
from collections.abc import Callable

from imds_proxy.clock import Clock
from imds_proxy.config import RoleConfig
from imds_proxy.credentials import Credentials
from imds_proxy.sources.assume_role import CHAINED_LIMIT, AssumeRole
from imds_proxy.sources.aws_chain import AwsChain
from imds_proxy.sources.base import FromChain, FromRole
from imds_proxy.sources.interface import Source

log = logging.getLogger(__name__)

_PARTITION_REGIONS = {"aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"}


class SourceFactory:
    """Makes sources that share one AWS chain.

    Args:
        clock: Told what time AWS says it is.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._chain = AwsChain()

    def region(self, configured: str | None) -> str | None:
        """The region that somebody named: the config, the environment or the AWS profile; None where nobody did."""
        return configured or os.environ.get("AWS_REGION") or self._chain.region()

    def make(
        self, name: str, settings: RoleConfig, parent: Callable[[], Credentials | None], *, region: str | None
    ) -> Source:
        """The source of one role; `parent` gives the credentials of the role it is assumed from, if there is one."""
        region = region or _fallback_region(name, settings.role_arn)
        if settings.from_ and settings.duration > CHAINED_LIMIT:
            log.warning("a chained session lasts an hour at most: duration is cut to 1h", extra={"role": name})
        base = FromRole(settings.from_, parent) if settings.from_ else FromChain(settings.profile)
        return AssumeRole(name, settings, base, self._chain, region, self._clock)


def _fallback_region(name: str, role_arn: str) -> str:
    region = _PARTITION_REGIONS.get(role_arn.split(":")[1], "us-east-1")
    log.info("no region is set: using STS of the partition's first one", extra={"role": name, "region": region})
    return region
