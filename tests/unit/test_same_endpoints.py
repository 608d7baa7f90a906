"""Where AWS is called: where stock botocore would, with the data that is kept (aws/lean_endpoints.py)."""

import json
import re
from itertools import product
from pathlib import Path

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.loaders import Loader

from imds_proxy import partitions
from imds_proxy.aws.kept_clients import Endpoint
from imds_proxy.aws.lean_endpoints import SERVICES, lean_loader
from imds_proxy.aws.session import AwsChain
from imds_proxy.aws.signing_guard import signing
from imds_proxy.base_key.access_keys import KeyPair, User
from imds_proxy.base_key.iam import Iam
from imds_proxy.credentials import Secret
from imds_proxy.errors import ImdsProxyError
from imds_proxy.host.clock import Clock

CALLS = {
    "sts": ("get_caller_identity", {}),
    "iam": ("list_access_keys", {"UserName": "x"}),
    "rolesanywhere": ("list_profiles", {}),
}
VARIANTS = [{"fips": fips, "dualstack": dualstack} for fips, dualstack in product((False, True), repeat=2)]
REGIONS = [region for partition in partitions.load().values() for region in partition.regions] + [
    "eu-new-7",
    "xx-new-1",
]


class StoppedError(Exception):
    pass


@pytest.fixture(autouse=True)
def no_settings(monkeypatch, tmp_path):
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def stopping(seen):
    """A handler that notes where a signed request goes, and what region it is signed for, and sends nothing."""

    def stop(request, **_):
        seen.append(
            (request.url.partition("?")[0], re.search(rb"/\d{8}/([^/]+)/", request.headers["Authorization"])[1])
        )
        raise StoppedError

    return stop


def called(session, service, region, variant):
    """Where a request of a service goes, and the region that it is signed for; or the error that there is."""
    config = Config(use_fips_endpoint=variant["fips"], use_dualstack_endpoint=variant["dualstack"])
    operation, parameters = CALLS[service]
    seen = []
    try:
        client = session.create_client(service, region_name=region, config=config)
        client.meta.events.register("before-send", stopping(seen))
        getattr(client, operation)(**parameters)
    except StoppedError:
        return client.meta.endpoint_url, client.meta.region_name, *seen
    except BotoCoreError as error:
        return type(error).__name__, str(error)
    pytest.fail("nothing was sent")


def session(loader):
    made = botocore.session.Session()
    made.register_component("data_loader", loader)
    made.set_credentials("AKIAEXAMPLE", "x")
    return made


@pytest.mark.parametrize("service", ["sts", "iam"])
def test_every_region_and_variant_is_called_where_stock_botocore_calls_it(service):
    """A host with IPv6 only, or one that must use FIPS endpoints, would get no credentials."""
    ours, stock = session(lean_loader()), session(Loader())
    cases = [(region, variant) for region in REGIONS for variant in VARIANTS]
    differ = [case for case in cases if called(ours, service, *case) != called(stock, service, *case)]
    assert differ == []


def test_the_global_sts_is_called_where_somebody_asks_for_it(monkeypatch):
    """Old profiles have `sts_regional_endpoints = legacy`; the address that came of it is nobody's."""
    monkeypatch.setenv("AWS_STS_REGIONAL_ENDPOINTS", "legacy")
    ours, stock = session(lean_loader()), session(Loader())
    assert called(ours, "sts", "eu-west-1", VARIANTS[0])[-1] == ("https://sts.amazonaws.com/", b"us-east-1")
    for region in ("eu-west-1", "ap-east-1", "cn-north-1", "aws-global"):
        assert called(ours, "sts", region, VARIANTS[0]) == called(stock, "sts", region, VARIANTS[0])


def test_roles_anywhere_is_called_where_its_rule_set_in_botocore_says():
    """The daemon calls it without botocore, which has no CreateSession."""
    stock, ours = session(Loader()), {}
    cases = [(region, tuple(variant.items())) for region in REGIONS for variant in VARIANTS]
    theirs = {case: called(stock, "rolesanywhere", case[0], dict(case[1])) for case in cases}
    refused = {case for case, answer in theirs.items() if answer[0] == "EndpointVariantError"}
    for region, variant in set(cases) - refused:
        url = partitions.endpoint("rolesanywhere", region, partitions.Variants(**dict(variant)))
        ours[region, variant] = f"{url}/profiles", region.encode()
    assert ours == {case: theirs[case][-1] for case in ours}
    # Of these the list of endpoints has no dual stack, before the rule set is asked.
    assert {partitions.of_region(region).name for region, _ in refused} <= {"aws-iso-e", "aws-iso-f"}


def test_the_kept_data_is_botocores_own():
    """What the providers of botocore call besides (SSO, `aws login`) is where it would be, too."""
    loader = lean_loader()
    kept, path = loader.load_data_with_path("endpoints")
    assert loader.is_builtin_path(path)  # else botocore takes the endpoints for an operator's own, and no rule set
    whole = Loader().load_data("endpoints")
    for partition in whole["partitions"]:
        partition["services"] = {name: data for name, data in partition["services"].items() if name in SERVICES}
    assert kept == whole


def test_every_service_that_is_called_is_kept():
    names = ("sts", "iam", "sso", "sso-oidc", "signin")
    assert {Loader().load_service_model(name, "service-2")["metadata"]["endpointPrefix"] for name in names} == SERVICES


def test_an_operators_own_endpoints_are_taken(monkeypatch, tmp_path):
    """`~/.aws/models` is botocore's way to call another implementation of AWS."""
    whole = json.loads((Path(Loader.BUILTIN_DATA_PATH) / "endpoints.json").read_text("utf-8"))
    whole["partitions"][0]["services"]["sts"]["endpoints"]["eu-west-1"] = {"hostname": "sts.example.org"}
    (tmp_path / "endpoints.json").write_text(json.dumps(whole))
    monkeypatch.setattr(Loader, "CUSTOMER_DATA_PATH", str(tmp_path))
    for made in (session(lean_loader()), session(Loader())):
        assert called(made, "sts", "eu-west-1", VARIANTS[0])[0] == "https://sts.example.org"


SETTINGS = {
    "environment": ({"AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true"}, ""),
    "profile": ({}, "[default]\nuse_fips_endpoint = true\nuse_dualstack_endpoint = true\n"),
}


@pytest.mark.parametrize("settings", SETTINGS)
async def test_the_daemons_own_clients_follow_the_settings(settings, monkeypatch, tmp_path):
    """Those of STS and IAM are made by the daemon; both settings are of the environment or of a profile."""
    environment, profile = SETTINGS[settings]
    (tmp_path / "config").write_text(profile)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    seen = []
    chain = AwsChain()
    made = chain.session()
    sts = await chain.client(made, Endpoint("us-east-2"))
    sts.meta.events.register("before-send", stopping(seen))
    frozen = await aws_keys(made)
    with pytest.raises(StoppedError), signing(made, frozen):
        await sts.get_caller_identity()
    async with Iam("us-east-2", Clock()).caller(KeyPair("AKIAEXAMPLE", Secret("x"))) as caller:
        caller._iam.meta.events.register("before-send", stopping(seen))
        with pytest.raises((StoppedError, ImdsProxyError)):
            await caller.keys(User("arn:aws:iam::123456789012:user/host"))
    assert seen == [
        ("https://sts-fips.us-east-2.api.aws/", b"us-east-2"),
        ("https://iam-fips.global.api.aws/", b"us-east-1"),
    ]


async def aws_keys(made):
    made.set_credentials("AKIAEXAMPLE", "x")
    return await (await made.get_credentials()).get_frozen_credentials()
