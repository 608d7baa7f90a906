"""AWS's partitions and regions, from botocore's own data: the one place that knows which there are.

`botocore/data/partitions.json` comes with every release of botocore, so a new region or partition comes with an update
of it. botocore itself is not imported for it (that takes 300 ms). The file is read once; whoever is on the event loop
calls `load` beside it first.
"""

import difflib
import importlib.util
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

DEFAULT: Final = "aws"
# The form that every region of every partition has. One that botocore does not know may be younger than it.
_FORM: Final = re.compile(r"[a-z]{2,8}(?:-[a-z]{2,16}){1,4}-[0-9]{1,2}", re.ASCII)
# A zone: "eu-west-1a"; a Local Zone, "us-west-2-lax-1a"; a Wavelength Zone, "us-east-1-wl1-bos-wlz-1".
_ZONE: Final = re.compile(rf"({_FORM.pattern})(?:[a-z]|-[a-z][a-z0-9]{{1,15}}(?:-[a-z0-9]{{1,16}}){{0,6}})", re.ASCII)
_WORD: Final = re.compile(r"[a-z0-9-]+", re.ASCII)
_SHORTEST_PLACE: Final = 4  # letters of what is looked for in a region's description, such as "Ireland"
_LONGEST: Final = 64  # characters of what a nearest region is looked for
EXPECTED: Final = 'expected a region such as "eu-central-1"'
EXPECTED_ZONE: Final = 'expected a zone such as "eu-west-1a", "us-west-2-lax-1a" or "us-east-1-wl1-bos-wlz-1"'


@dataclass(frozen=True, slots=True)
class Variants:
    """Which of AWS's endpoints are called: `use_fips_endpoint` and `use_dualstack_endpoint` of the AWS SDKs."""

    fips: bool = False
    dualstack: bool = False


USUAL: Final = Variants()


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition.

    Args:
        name: As in an ARN: "aws-cn".
        dns_suffix: Of endpoints: "amazonaws.com.cn".
        dualstack_dns_suffix: Of those that are reached over IPv6 too.
        global_region: The region that stands for all of it, where AWS is asked if nobody names one.
        regions: Those that botocore knows, with what AWS calls them: "Europe (Ireland)".
        pattern: What its regions look like, those to come included.
    """

    name: str
    dns_suffix: str
    dualstack_dns_suffix: str
    global_region: str
    regions: Mapping[str, str]
    pattern: re.Pattern[str]

    def has(self, region: str) -> bool:
        """Whether the region is one of it, or looks like one."""
        return region in self.regions or bool(_FORM.fullmatch(region) and self.pattern.fullmatch(region))


@cache
def load() -> Mapping[str, Partition]:
    """All partitions by name. Reads a file the first time."""
    botocore = importlib.util.find_spec("botocore")
    assert botocore is not None  # noqa: S101 - the package requires it
    assert botocore.origin is not None  # noqa: S101 - it is no namespace package
    data = json.loads((Path(botocore.origin).parent / "data" / "partitions.json").read_bytes())
    return {entry["id"]: _partition(entry) for entry in data["partitions"]}


def _partition(entry: dict[str, Any]) -> Partition:
    outputs = entry["outputs"]
    return Partition(
        name=outputs["name"],
        dns_suffix=outputs["dnsSuffix"],
        dualstack_dns_suffix=outputs["dualStackDnsSuffix"],
        global_region=outputs["implicitGlobalRegion"],
        regions={region: about.get("description", "") for region, about in entry["regions"].items()},
        pattern=re.compile(entry["regionRegex"], re.ASCII),
    )


def of_region(region: str | None, arn: str | None = None) -> Partition:
    """The partition of a region; of one that botocore does not know, that of an ARN there; else, as in SDKs, aws."""
    fitting = (partition for partition in load().values() if region is not None and partition.has(region))
    return next(fitting, None) or of_arn(arn)


def of_arn(arn: str | None) -> Partition:
    """The partition that an ARN names; aws where there is no ARN, or botocore does not know the partition."""
    return load().get(arn.split(":")[1] if arn else DEFAULT, load()[DEFAULT])


def endpoint(service: str, region: str, variants: Variants, arn: str | None = None) -> str:
    """The URL of a regional service that has an endpoint of the usual form, as its rule set in botocore says it."""
    partition = of_region(region, arn)
    suffix = partition.dualstack_dns_suffix if variants.dualstack else partition.dns_suffix
    return f"https://{service}{'-fips' if variants.fips else ''}.{region}.{suffix}"


def region_of_zone(zone: str) -> str | None:
    """The region that a zone is in: an Availability Zone, a Local Zone or a Wavelength Zone; None where it is none."""
    match = _ZONE.fullmatch(zone)
    return match[1] if match else None


def region_mistake(text: str) -> str | None:
    """What is wrong with a text that should be a region: what was expected, and which may be meant; None: nothing.

    One that no partition has is taken, as botocore does: it may be younger than this host's botocore. `is_known` tells.
    """
    if _FORM.fullmatch(text) or is_known(text):
        return None
    if (near := nearest(text)) is None:
        return EXPECTED
    around = near in text  # quotes, a comment, a zone's letter
    return f"expected a region and nothing around it: {near}" if around else f'{EXPECTED}; did you mean "{near}"?'


def check_region(text: str) -> str:
    """The text as it is. Raises ValueError with what is wrong."""
    if mistake := region_mistake(text):
        raise ValueError(mistake)
    return text


def check_zone(text: str) -> str:
    """The same of a zone."""
    if region_of_zone(text) is None:
        raise ValueError(EXPECTED_ZONE)
    return text


def is_known(region: str) -> bool:
    """Whether botocore has this very region."""
    return any(region in partition.regions for partition in load().values())


def nearest(text: str) -> str | None:
    """The region that is meant by a text that is none, or is none that botocore knows; None where nothing is near."""
    text = unicodedata.normalize("NFKC", text[:_LONGEST]).strip().lower()
    known = {region: place.lower() for partition in load().values() for region, place in partition.regions.items()}
    words = _WORD.findall(text.replace("_", "-"))
    if inside := [region for region in known for word in words if word == region or region_of_zone(word) == region]:
        return inside[0]
    places = [region for region, place in known.items() if len(text) >= _SHORTEST_PLACE and text in place]
    if len(places) == 1:
        return places[0]
    return next(iter(difflib.get_close_matches(text, known, n=1, cutoff=0.8)), None)
