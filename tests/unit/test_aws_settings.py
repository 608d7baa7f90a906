"""The region and the endpoints that the environment or an AWS profile names (aws/settings.py)."""

import logging
import os
import subprocess
import sys

import pytest

from imds_proxy.aws.region import named_region
from imds_proxy.aws.session import AwsChain, find
from imds_proxy.aws.settings import find_variants
from imds_proxy.cli import main
from imds_proxy.codedeploy.api import CodeDeploy
from imds_proxy.config.reader import parse
from imds_proxy.errors import ConfigError, Invalid
from imds_proxy.host.clock import Clock
from imds_proxy.partitions import Variants
from imds_proxy.sources.factory import SourceFactory
from support.plane import role_table

VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE")
FLAGS = ("AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT")
SAYS = "expected a region and nothing around it: eu-west-1"
BAD = {"eu-west-1 # main": SAYS, '"eu-west-1"': SAYS, "Ireland": 'did you mean "eu-west-1"'}
ANYWHERE = "arn:aws:rolesanywhere:eu-west-1:123456789012"
IDENTITY = "01234567-89ab-cdef-0123-456789abcdef"
BY_CERTIFICATE = {
    "source": "roles-anywhere",
    "role_arn": "arn:aws:iam::123456789012:role/x",
    "trust_anchor_arn": f"{ANYWHERE}:trust-anchor/{IDENTITY}",
    "profile_arn": f"{ANYWHERE}:profile/{IDENTITY}",
    "certificate": "/none",
}


@pytest.fixture
def files(monkeypatch, tmp_path):
    """The folder of `config` and `credentials`, with no setting in the environment."""
    for name in (*VARIABLES, *FLAGS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    return tmp_path


def config(region=None, **role):
    return parse({"roles": role_table(**role)} | ({"region": region} if region else {}), "t")


def mistake():
    with pytest.raises(ConfigError) as raised:
        named_region(None)
    return raised.value.message


# The region


@pytest.mark.parametrize("variable", ["AWS_REGION", "AWS_DEFAULT_REGION"])
@pytest.mark.parametrize("text", [*BAD, "eu-west-1\r"])
def test_a_variable_that_holds_no_region_is_named(files, monkeypatch, variable, text):
    """An EnvironmentFile takes a comment and quotes for a part of the value; clients were told that as their region."""
    monkeypatch.setenv(variable, text)
    assert mistake() == f"{variable}: {SAYS}" or mistake().startswith(f"{variable}: expected a region such as")
    assert "eu-west-1" in mistake()


@pytest.mark.parametrize("text", BAD)
@pytest.mark.parametrize(("file", "section"), [("config", "profile work"), ("credentials", "work")])
def test_a_profile_that_holds_no_region_is_named_with_its_file(files, monkeypatch, file, section, text):
    monkeypatch.setenv("AWS_PROFILE", "work")
    (files / "config").write_text("[profile work]\noutput = json\n")
    (files / file).write_text(f"[{section}]\nregion = {text}\n")
    assert mistake().startswith(f'region of profile "work" in {files / file}: ')
    assert BAD[text] in mistake()


@pytest.mark.parametrize("blank", ["", " "])
def test_an_empty_variable_is_none(files, monkeypatch, blank):
    """botocore takes an empty AWS_DEFAULT_REGION for the region, and not that of the profile."""
    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(variable, blank)
    (files / "config").write_text("[default]\nregion =\n")
    assert named_region(None) is None
    (files / "config").write_text("[default]\nregion = eu-north-1\n")
    assert named_region(None) == "eu-north-1"


def test_who_names_the_region_goes_before_whom(files, monkeypatch):
    found = []
    (files / "config").write_text("[default]\nregion = eu-north-1\n")
    (files / "credentials").write_text("[default]\nregion = eu-south-1\n")
    found.append(named_region(None))
    for variable, region in (("AWS_DEFAULT_REGION", "eu-west-2"), ("AWS_REGION", "eu-west-3")):
        monkeypatch.setenv(variable, region)
        found.append(named_region(None))
    found.append(named_region("eu-central-1"))
    assert found == ["eu-south-1", "eu-west-2", "eu-west-3", "eu-central-1"]


async def test_the_roles_that_need_the_region_say_what_is_wrong_and_clients_are_told_none(files, monkeypatch, caplog):
    """A daemon that stopped for it would take the other roles with it."""
    monkeypatch.setenv("AWS_REGION", "Ireland")
    made = config()
    factory = SourceFactory(Clock())
    factory.prepare(made)
    assert factory.region is None
    with pytest.raises(Invalid, match=r'role "deploy": AWS_REGION: expected .* mean "eu-west-1"') as raised:
        await factory.make("deploy", made.roles["deploy"], lambda: None).fetch()
    assert raised.value.advice == "correct it there, or set region in the config"
    assert "AWS_REGION: expected a region" in str([record.__dict__ for record in caplog.records])
    elsewhere = config(sts_regions=["eu-west-1"])
    assert type(factory.make("deploy", elsewhere.roles["deploy"], lambda: None)).__name__ == "AssumeRole"
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    factory.prepare(made)
    assert factory.region == "eu-west-1"
    assert type(factory.make("deploy", made.roles["deploy"], lambda: None)).__name__ == "AssumeRole"


@pytest.mark.parametrize(("region", "nearest"), [("eu-wst-1", "eu-west-1"), ("eu-west-1", None)])
def test_a_region_that_botocore_does_not_know_is_said(files, monkeypatch, caplog, region, nearest):
    """A name that does not resolve looks like an outage of DNS."""
    monkeypatch.setenv("AWS_REGION", region)
    with caplog.at_level(logging.WARNING):
        SourceFactory(Clock()).prepare(config())
    assert [record.nearest for record in caplog.records] == ([nearest] if nearest else [])


ASSUMES = "[profile base]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = x\n[profile work]\n"
ROLE = "role_arn = arn:aws:iam::123456789012:role/x\nsource_profile = base\n"


async def test_a_roles_own_profile_that_calls_sts_is_checked(files):
    """Its calls go to the region of the profile, and not to the one of the config."""
    (files / "config").write_text(f"{ASSUMES}{ROLE}region = Ireland\n")
    with pytest.raises(
        Invalid, match=r'role "deploy": AWS credentials: region of profile "work" in .*config: expected'
    ):
        await find(AwsChain(), "deploy", "work", "eu-central-1")


async def test_a_region_that_nothing_is_called_in_stops_no_role(files, monkeypatch):
    """The config names the region of STS; a host whose AWS_DEFAULT_REGION is wrong has worked so far."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", '"eu-west-1"')
    found = await find(AwsChain(), "deploy", None, "eu-central-1")
    assert found.session.get_config_variable("region") == "eu-central-1"


async def test_an_empty_variable_does_not_take_the_profiles_region(files, monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "")
    (files / "config").write_text("[default]\nregion = eu-north-1\n")
    found = await find(AwsChain(), "deploy", None, "eu-central-1")
    assert found.session.get_config_variable("region") == "eu-north-1"


def test_an_operators_region_is_checked(files, monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "Ireland")
    with pytest.raises(ConfigError, match="AWS_DEFAULT_REGION: expected a region"):
        CodeDeploy(None, None)


@pytest.mark.parametrize("verb", [["serve", "--role-arn", "x"], ["codedeploy", "register", "--instance-name", "x"]])
def test_a_region_of_the_command_line_is_checked(verb, capsys, monkeypatch):
    monkeypatch.setattr("imds_proxy.host.process_hardening.harden", lambda: None)  # of this process, for good
    assert main.main([*verb, "--region", "Ireland"]) == 2
    assert '--region: expected a region such as "eu-central-1"; did you mean "eu-west-1"?' in capsys.readouterr().err


# The endpoints


def anywhere(region=None):
    made = parse(
        {"region": "eu-west-1", "roles": {"host": BY_CERTIFICATE | ({"region": region} if region else {})}}, "t"
    )
    factory = SourceFactory(Clock())
    factory.prepare(made)
    return factory.make("host", made.roles["host"], lambda: None)._endpoint


@pytest.mark.parametrize(
    ("fips", "dualstack", "host"),
    [
        ("true", "false", "rolesanywhere-fips.eu-west-1.amazonaws.com"),
        ("False", "TRUE", "rolesanywhere.eu-west-1.api.aws"),
        ("true", "true", "rolesanywhere-fips.eu-west-1.api.aws"),
        ("1", "", "rolesanywhere.eu-west-1.amazonaws.com"),  # as botocore reads it
    ],
)
def test_roles_anywhere_follows_the_environment_and_the_profile(files, monkeypatch, fips, dualstack, host):
    """A host with IPv6 only reaches no other endpoint; where FIPS is demanded, no other may be called."""
    (files / "config").write_text(f"[default]\nuse_fips_endpoint = {fips}\nuse_dualstack_endpoint = {dualstack}\n")
    assert anywhere() == f"https://{host}"
    (files / "config").write_text("[default]\nuse_fips_endpoint = true\nuse_dualstack_endpoint = true\n")
    for name, value in zip(FLAGS, (fips, dualstack), strict=True):
        monkeypatch.setenv(name, value)
    assert anywhere() == f"https://{host}"


def test_roles_anywhere_is_called_in_the_domain_of_its_region(files):
    assert anywhere("eusc-de-east-1") == "https://rolesanywhere.eusc-de-east-1.amazonaws.eu"
    assert anywhere("us-iso-east-1") == "https://rolesanywhere.us-iso-east-1.c2s.ic.gov"


def test_a_file_that_cannot_be_used_chooses_no_endpoint(files):
    """What is read of a pipe is gone; and no daemon ends for a setting of endpoints."""
    (files / "config").write_text("use_fips_endpoint = true\n[")
    os.mkfifo(files / "credentials")
    assert find_variants(AwsChain) == Variants()
    (files / "config").unlink()
    (files / "config").mkdir()
    assert find_variants(AwsChain) == Variants()


def test_a_host_with_a_certificate_alone_pays_for_no_botocore(files):
    """It costs 300 ms and 11 MB; a profile is read only where it may say something of endpoints."""
    (files / "config").write_text("[default]\nregion = eu-north-1\n")
    program = f"""
import sys
from imds_proxy.host.clock import Clock
from imds_proxy.config.reader import parse
from imds_proxy.sources.factory import SourceFactory
config = parse({{"region": "eu-west-1", "roles": {{"host": {BY_CERTIFICATE}}}}}, "t")
factory = SourceFactory(Clock())
factory.prepare(config)
factory.make("host", config.roles["host"], lambda: None)
print("botocore" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "False\n"
