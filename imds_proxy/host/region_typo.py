"""Whether a host name that is not found is that of a region which does not exist.

In: the URL that was asked. Out: the region in it, and the one that was probably meant.
"""

from urllib.parse import urlsplit

from imds_proxy import partitions


def unknown_region(url: str) -> tuple[str, str] | None:
    """The region in an AWS endpoint that botocore does not know, with words on it; None where there is no such."""
    region = _region_of((urlsplit(url).hostname or "").lower())
    if region is None or "-" not in region or partitions.is_known(region):
        return None
    near = partitions.nearest(region)
    did_you_mean = f'did you mean "{near}"? ' if near else ""
    advice = (
        f"{did_you_mean}correct the region: in the config (region, sts_regions, an ARN), in AWS_REGION or"
        " AWS_DEFAULT_REGION, or in the AWS profile (region, sso_region)"
    )
    return f'its host name is not found, and "{region}" is no AWS region known here', advice


def _region_of(host: str) -> str | None:
    """The label before a domain of AWS's."""
    for partition in partitions.load().values():
        for suffix in (partition.dns_suffix, partition.dualstack_dns_suffix):
            if host.endswith(f".{suffix}"):
                return host.removesuffix(f".{suffix}").rpartition(".")[2]
    return None
