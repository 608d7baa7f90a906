"""The environment for clients (cli/sdk_environment.py)."""

from pathlib import Path
from urllib.request import proxy_bypass_environment

from imds_proxy.cli.sdk_environment import NO_PROXY, changes, container, instance_metadata, shadowing_profile

ENDPOINT = "http://127.0.0.1:1338/"


def test_what_an_sdk_would_take_first_is_unset():
    """A command that runs as somebody else because of a forgotten variable."""
    base = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_PROFILE": "me", "AWS_EC2_METADATA_DISABLED": "true", "HOME": "/h"}
    changed = changes(base, instance_metadata(ENDPOINT), None)
    assert [name for name, value in changed.items() if value is None] == [
        "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_EC2_METADATA_DISABLED",
    ]  # fmt: skip
    assert changed["AWS_EC2_METADATA_SERVICE_ENDPOINT"] == ENDPOINT


def test_a_role_of_its_own_leaves_no_way_back_to_the_hosts():
    """On a 401 Java, JS v2 and async-aws fall through to instance metadata."""
    changed = changes({}, container(ENDPOINT, "reports", Path("/s/tokens/reports")), None)
    assert changed["AWS_EC2_METADATA_DISABLED"] == "true"
    assert changed["AWS_CONTAINER_CREDENTIALS_FULL_URI"] == "http://127.0.0.1:1338/roles/reports"
    assert changed["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] == "/s/tokens/reports"


def test_no_proxy_is_added_to_and_not_replaced():
    changed = changes({"NO_PROXY": "intern.example,localhost"}, {}, None)
    for name in ("NO_PROXY", "no_proxy"):
        hosts = changed[name].split(",")
        assert hosts[0] == "intern.example"
        assert set(NO_PROXY) < set(hosts)
        assert len(hosts) == len(set(hosts))
        assert "[fd00:ec2::23]" in hosts


def test_no_client_asks_a_proxy_for_the_addresses_of_pods(monkeypatch):
    """The proxy would have the token of the role, and its answer would be believed."""
    for name, value in changes({}, {}, None).items():
        monkeypatch.setenv(name, value)
    for address in ("169.254.169.254", "169.254.170.23", "[fd00:ec2::23]"):
        assert proxy_bypass_environment(address)
    assert not proxy_bypass_environment("[fd00:ec2::24]")


def test_the_region_is_given_only_where_none_is():
    assert changes({}, {}, "eu-west-1")["AWS_REGION"] == "eu-west-1"
    assert "AWS_REGION" not in changes({"AWS_REGION": "us-east-1"}, {}, "eu-west-1")
    assert changes({"AWS_REGION": ""}, {}, "eu-west-1")["AWS_REGION"] == "eu-west-1"
    assert "AWS_REGION" not in changes({}, {}, None)


def test_a_region_that_is_there_goes_into_both_variables():
    """boto3 reads AWS_DEFAULT_REGION alone, Go and Java AWS_REGION: two programs of a job would be in two regions."""
    assert changes({"AWS_REGION": "us-east-1"}, {}, "eu-west-1")["AWS_DEFAULT_REGION"] == "us-east-1"
    assert changes({"AWS_DEFAULT_REGION": "us-east-1"}, {}, "eu-west-1")["AWS_REGION"] == "us-east-1"
    assert changes({"AWS_DEFAULT_REGION": "us-east-1"}, {}, None)["AWS_REGION"] == "us-east-1"


def test_a_default_profile_that_sdks_would_take_is_found(tmp_path):
    path = tmp_path / "credentials"
    base = {"AWS_SHARED_CREDENTIALS_FILE": str(path)}
    assert shadowing_profile(base) is None
    path.write_text("[other]\naws_access_key_id = x\n")
    assert shadowing_profile(base) is None
    path.write_text("[default]\naws_access_key_id = x%y\n")
    assert shadowing_profile(base) == path
    path.write_text("rubbish")
    assert shadowing_profile(base) is None
