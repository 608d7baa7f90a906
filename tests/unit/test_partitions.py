"""Which regions and partitions there are (partitions.py)."""

import re
import subprocess
import sys

import pytest
from pydantic import TypeAdapter, ValidationError

from imds_proxy import partitions
from imds_proxy.aws.sts import fallback_region
from imds_proxy.config.reader import parse
from imds_proxy.config.types import Region, TrustAnchorArn, Zone
from imds_proxy.errors import ConfigError
from imds_proxy.partitions import (
    check_region,
    is_known,
    load,
    nearest,
    of_arn,
    of_region,
    region_mistake,
    region_of_zone,
)
from support.plane import role_table

ALL = [(region, name) for name, partition in load().items() for region in partition.regions]


@pytest.mark.parametrize(("region", "name"), ALL)
def test_every_region_that_botocore_knows_is_one_of_its_partition(region, name):
    """A host there could write its region in no key of the config."""
    assert TypeAdapter(Region).validate_python(region) == region
    assert of_region(region).name == name
    assert is_known(region)


@pytest.mark.parametrize(
    ("region", "name"),
    [
        ("eu-new-7", "aws"),
        ("ap-southeast-12", "aws"),
        ("us-gov-south-1", "aws-us-gov"),
        ("cn-south-1", "aws-cn"),
        ("eusc-de-west-2", "aws-eusc"),
        ("us-isob-south-1", "aws-iso-b"),
    ],
)
def test_a_region_that_is_younger_than_botocore_is_its_partitions(region, name):
    """It would be refused until this host is updated."""
    assert check_region(region) == region
    assert (of_region(region).name, is_known(region)) == (name, False)


def test_a_region_that_no_partition_has_is_called_as_botocore_does():
    """The ARN knows better, where there is one."""
    assert check_region("xx-new-1") == "xx-new-1"
    assert of_region("xx-new-1").name == "aws"
    assert of_region("xx-new-1", "arn:aws-eusc:rolesanywhere:xx-new-1:123456789012:trust-anchor/x").name == "aws-eusc"
    assert of_arn("arn:aws-new:iam::123456789012:role/x").name == "aws"


WRONG = {
    "eu-west-1 # main": "eu-west-1",
    '"eu-west-1"': "eu-west-1",
    "'eu-west-1'": "eu-west-1",
    "eu-west-1\r": "eu-west-1",
    " eu-west-1": "eu-west-1",
    "eu-west-1\n": "eu-west-1",
    "eu-west-1a": "eu-west-1",
    "us-west-2-lax-1a": "us-west-2",
    "EU-WEST-1": "eu-west-1",
    "eu_west_1": "eu-west-1",
    "Ireland": "eu-west-1",
    "Frankfurt": "eu-central-1",
    "useast1": "us-east-1",
    "eu-west-\N{FULLWIDTH DIGIT ONE}": "eu-west-1",
    "Europe": None,
    "": None,
    "x" * 100_000: None,
    "eu-west-1.attacker.example": "eu-west-1",
    "\0": None,
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_region_is_refused_with_the_one_that_is_meant(text):
    """It would become a host name that nobody answers at, or what clients sign for."""
    assert nearest(text) == WRONG[text]
    mistake = region_mistake(text)
    assert mistake.startswith("expected a region")
    assert (WRONG[text] or "eu-central-1") in mistake
    with pytest.raises(ValidationError):
        TypeAdapter(Region).validate_python(text)


def test_a_text_around_a_region_is_said_to_be_around_it():
    """Somebody who reads `did you mean "eu-west-1"?` of quotes that came with the value sees no difference."""
    assert region_mistake('"eu-west-1"') == "expected a region and nothing around it: eu-west-1"


@pytest.mark.parametrize(("typo", "meant"), [("eu-wst-1", "eu-west-1"), ("us-wset-2", "us-west-2"), ("xx-new-1", None)])
def test_a_typo_that_has_the_form_of_a_region_has_a_nearest_one(typo, meant):
    """Its host name does not resolve, which looks like an outage of DNS."""
    assert check_region(typo) == typo
    assert (is_known(typo), nearest(typo)) == (False, meant)


@pytest.mark.parametrize(
    ("zone", "region"),
    [
        ("eu-west-1a", "eu-west-1"),
        ("us-west-2-lax-1a", "us-west-2"),
        ("us-east-1-wl1-bos-wlz-1", "us-east-1"),
        ("us-gov-west-1b", "us-gov-west-1"),
        ("eusc-de-east-1a", "eusc-de-east-1"),
    ],
)
def test_a_zone_is_of_its_region(zone, region):
    assert TypeAdapter(Zone).validate_python(zone) == zone
    assert region_of_zone(zone) == region


@pytest.mark.parametrize(
    "text", ["eu-west-1", "eu-west-1A", "eu-west-1aa", "eu-west-1-", "a", "eu-west-1a\n", "", "a-" * 50_000]
)
def test_what_is_no_zone_is_refused(text):
    assert region_of_zone(text) is None
    with pytest.raises(ValidationError):
        TypeAdapter(Zone).validate_python(text)


@pytest.mark.parametrize("name", load())
def test_a_role_without_a_region_is_asked_for_in_its_own_partition(name):
    """STS of another partition knows neither the role nor the key."""
    region = fallback_region("x", f"arn:{name}:iam::123456789012:role/x")
    assert of_region(region).name == name
    assert is_known(region)


def test_every_key_of_the_config_takes_a_region_of_any_partition():
    region, identity = "eusc-de-east-1", "01234567-89ab-cdef-0123-456789abcdef"
    anywhere = f"arn:aws-eusc:rolesanywhere:{region}:123456789012"
    by_certificate = {
        "source": "roles-anywhere",
        "role_arn": "arn:aws-eusc:iam::123456789012:role/x",
        "trust_anchor_arn": f"{anywhere}:trust-anchor/{identity}",
        "profile_arn": f"{anywhere}:profile/{identity}",
        "certificate": "/etc/host.pem",
        "region": region,
    }
    roles = role_table(sts_regions=[region], default=True) | {"host": by_certificate}
    instance = {"instance_id": "mi-0123456789abcdef0", "availability_zone": f"{region}a"}
    assert parse({"region": region, "roles": roles, "instance": instance}, "t").region == region


ARN = "arn:{}:rolesanywhere:{}:123456789012:trust-anchor/01234567-89ab-cdef-0123-456789abcdef"


@pytest.mark.parametrize(
    ("partition", "region", "says"),
    [
        ("aws", "ireland", 'its region: expected a region such as "eu-central-1"; did you mean "eu-west-1"?'),
        ("aws", "us-gov-west-1", "the region us-gov-west-1 is in the partition aws-us-gov: expected arn:aws-us-gov:…"),
    ],
)
def test_the_region_of_an_arn_is_checked_too(partition, region, says):
    """It is where Roles Anywhere is called."""
    with pytest.raises(ValidationError, match=re.escape(says)):
        TypeAdapter(TrustAnchorArn).validate_python(ARN.format(partition, region))


@pytest.mark.parametrize(("partition", "region"), [("aws-eusc", "eusc-de-east-1"), ("aws-new", "xx-new-1")])
def test_the_arn_of_any_partition_is_taken(partition, region):
    arn = ARN.format(partition, region)
    assert TypeAdapter(TrustAnchorArn).validate_python(arn) == arn


def test_the_config_says_which_region_is_meant():
    with pytest.raises(ConfigError, match="region: expected a region and nothing around it: eu-west-1"):
        parse({"region": "eu-west-1 # main", "roles": role_table()}, "t")


def test_a_config_is_read_without_botocore():
    """It takes 300 ms, also of `imds-proxy env`."""
    program = "import sys\nfrom imds_proxy.config.reader import parse\nfrom imds_proxy import partitions\n"
    program += "partitions.load()\nprint('botocore' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "False\n"


def test_after_a_config_was_read_nobody_reads_a_file_for_a_partition():
    """Whoever asks for one may be on the event loop."""
    partitions.load.cache_clear()
    parse({"roles": {"deploy": {"source": "file", "path": "/run/credentials"}}}, "t")
    assert partitions.load.cache_info().currsize == 1
