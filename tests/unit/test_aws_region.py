"""The region that somebody named (aws/region.py)."""

import threading

import pytest
from botocore.exceptions import ConfigParseError

from imds_proxy.aws.region import named_region
from imds_proxy.aws.session import AwsChain
from imds_proxy.config.reader import parse
from imds_proxy.host.clock import Clock
from imds_proxy.sources import factory
from imds_proxy.sources.factory import SourceFactory
from support.plane import role_table


@pytest.fixture
def files(tmp_path, monkeypatch):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path


def test_the_config_comes_first_then_the_environment_then_the_profile(files, monkeypatch):
    assert named_region(None) is None
    (files / "config").write_text("[default]\nregion = eu-north-1\n")
    assert named_region(None) == "eu-north-1"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-2")
    assert named_region(None) == "eu-west-2"
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    assert named_region(None) == "eu-west-3"
    assert named_region("us-east-2") == "us-east-2"


@pytest.mark.parametrize("variable", ["AWS_PROFILE", "AWS_DEFAULT_PROFILE", None])
@pytest.mark.parametrize(
    ("config", "credentials"),
    [
        ("[profile NAME]\nregion = eu-north-1\n", ""),
        ("[profile NAME]\nregion = eu-west-1\n", "[NAME]\nregion = eu-north-1\n"),
        ("", "[NAME]\nregion = eu-north-1\n"),
        ("[profile other]\nregion = eu-west-1\n", "[NAME]\noutput = json\n"),
        ("[profile NAME]\nregion = \n", ""),
        ("[profile NAME\n", ""),
        ("[profile NAME]\nregion =\n  s3 = x\n", ""),
    ],
)
def test_a_profile_is_read_as_botocore_reads_it(files, monkeypatch, variable, config, credentials):
    """What clients are told is where this daemon itself calls AWS."""
    name = "work" if variable else "default"
    if variable:
        monkeypatch.setenv(variable, name)
    config = config.replace("profile NAME", "default") if not variable else config
    (files / "config").write_text(config.replace("NAME", name))
    (files / "credentials").write_text(credentials.replace("NAME", name))
    try:
        wanted = AwsChain().session().get_config_variable("region")
    except ConfigParseError:
        wanted = None
    assert named_region(None) == (wanted if isinstance(wanted, str) and wanted else None)


async def test_files_that_hang_do_not_hold_up_the_start(monkeypatch):
    """A home on a file server that is away: the daemon listens all the same."""
    go_on = threading.Event()
    monkeypatch.setattr(factory, "named_region", lambda _: go_on.wait(20) and "eu-west-1")
    sources = SourceFactory(Clock())
    await sources.look_for_region(parse({"roles": role_table()}, "test"), within=0.05)
    assert sources.region is None
    go_on.set()
