"""What is said of the machine itself (metadata/instance_documents.py); rules 21 to 23 are in tests/protocol."""

import json

import pytest

from imds_proxy.config.model import InstanceConfig
from imds_proxy.metadata.instance_documents import HostFacts, host_facts, instance_documents, listing

FACTS = HostFacts("web-7.example", "192.0.2.7", "02:00:5e:00:53:01")


def documents(**keys):
    config = InstanceConfig.model_validate({"instance_id": "mi-0123456789abcdef0", **keys})
    return instance_documents(config, "eu-west-1", "123456789012", FACTS)


def test_without_the_table_only_region_and_zone_are_said():
    found = instance_documents(None, "eu-west-1", None)
    assert found.find("meta-data/placement/region")[0] == b"eu-west-1"
    assert found.find("meta-data/placement/availability-zone")[0] == b"eu-west-1a"
    assert found.find("meta-data") is None
    assert found.find("meta-data/placement") is None


def test_a_region_that_nobody_named_is_not_made_up():
    assert instance_documents(None, None, None).find("meta-data/placement/region") is None


def test_every_document_tells_the_same_story():
    """A client that reads the zone in one place and the region in another must not find two."""
    found = documents(availability_zone="us-gov-west-1b", tags={"Name": "web"}, local_ipv4="198.51.100.4")
    identity = json.loads(found.find("dynamic/instance-identity/document")[0])
    assert identity["region"] == "us-gov-west-1" == found.find("meta-data/placement/region")[0].decode()
    assert identity["availabilityZone"] == found.find("meta-data/placement/availability-zone")[0].decode()
    assert identity["privateIp"] == "198.51.100.4" == found.find("meta-data/local-ipv4")[0].decode()
    assert identity["instanceId"] == found.find("meta-data/instance-id")[0].decode()
    assert identity["accountId"] == "123456789012"
    assert found.find("meta-data/services/partition")[0] == b"aws-us-gov"
    assert found.find("meta-data/tags/instance")[0] == b"Name"


def test_every_listed_path_is_there():
    """A crawler such as ec2-metadata or cloud-init follows the listings."""
    found, folders, leaves = documents(user_data="#!/bin/sh"), [""], []
    while folders:
        folder = folders.pop()
        for item in found.find(folder)[0].decode().split("\n"):
            path = f"{folder}/{item}".strip("/")
            (folders if item.endswith("/") else leaves).append(path)
            if path == "meta-data/iam":
                folders.remove(path)  # the roles' part answers there
    assert leaves
    assert all(found.find(leaf) for leaf in leaves)


@pytest.mark.parametrize(
    ("zone", "region", "partition", "domain"),
    [
        ("eu-west-1c", "eu-west-1", "aws", "amazonaws.com"),
        ("cn-north-1a", "cn-north-1", "aws-cn", "amazonaws.com.cn"),
        ("us-gov-east-1a", "us-gov-east-1", "aws-us-gov", "amazonaws.com"),
        ("eusc-de-east-1a", "eusc-de-east-1", "aws-eusc", "amazonaws.eu"),
        ("us-iso-east-1a", "us-iso-east-1", "aws-iso", "c2s.ic.gov"),
        ("us-isob-east-1a", "us-isob-east-1", "aws-iso-b", "sc2s.sgov.gov"),
        ("us-west-2-lax-1a", "us-west-2", "aws", "amazonaws.com"),
        ("us-east-1-wl1-bos-wlz-1", "us-east-1", "aws", "amazonaws.com"),
    ],
)
def test_a_zone_says_region_partition_and_domain(zone, region, partition, domain):
    """A client in another partition would sign for a region, and call a domain, that are not there."""
    found = documents(availability_zone=zone)
    said = [found.find(f"meta-data/{path}")[0].decode() for path in ("placement/region", "placement/availability-zone")]
    assert said == [region, zone]
    assert json.loads(found.find("dynamic/instance-identity/document")[0])["region"] == region
    services = [found.find(f"meta-data/services/{name}")[0].decode() for name in ("partition", "domain")]
    assert services == [partition, domain]


def test_without_a_region_the_partition_is_aws():
    config = InstanceConfig.model_validate({"instance_id": "mi-0123456789abcdef0"})
    found = instance_documents(config, None, None, FACTS)
    assert found.find("meta-data/services/partition")[0] == b"aws"
    assert found.find("meta-data/placement/region") is None


def test_a_listing_ends_without_a_newline():
    assert listing(["a/b", "a/c/d", "a/c/e", "x"], "a") == b"b\nc/"


def test_this_host_has_facts():
    facts = host_facts()
    assert facts.hostname
    assert facts.local_ipv4.count(".") == 3
    assert facts.mac.count(":") == 5
