"""`imds-proxy codedeploy` on a host with a broken setting, and where AWS has a fault of its own (codedeploy/api.py)."""

import os
import socket

import pytest

from imds_proxy.codedeploy import api
from imds_proxy.codedeploy.api import CodeDeploy
from imds_proxy.errors import Invalid, SourceError, Unreachable
from support.fixed_answer import fixed_answer


@pytest.fixture
def refused(monkeypatch, tmp_path):
    """`refused(NAME=VALUE…)`: the error of a call with these settings."""
    for name in os.environ:
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(api, "_CONFIG", api._CONFIG.merge(api.Config(retries={"total_max_attempts": 1})))

    def refused(**settings):
        usual = {
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_ENDPOINT_URL_CODEDEPLOY": "https://127.0.0.1:1",
            "AWS_CONFIG_FILE": str(tmp_path / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        }
        for name, value in (usual | settings).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SourceError) as caught:
            CodeDeploy(None, "eu-west-1").call("GetOnPremisesInstance", instanceName="host")
        return caught.value

    return refused


def test_what_listens_nowhere_is_unreachable(refused):
    assert isinstance(error := refused(), Unreachable)
    assert "firewall" in error.advice


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"AWS_ENDPOINT_URL_CODEDEPLOY": "localhost:4566"}, 'AWS_ENDPOINT_URL_CODEDEPLOY is "localhost:4566"'),
        ({"AWS_ENDPOINT_URL_CODEDEPLOY": "", "AWS_ENDPOINT_URL": "https://::1:1"}, "AWS_ENDPOINT_URL is"),
        ({"HTTPS_PROXY": "http://proxy:99999"}, "HTTPS_PROXY names no HTTP proxy"),
        ({"HTTPS_PROXY": "http://user:pa#ss@proxy:3128"}, "HTTPS_PROXY names no HTTP proxy"),
        ({"AWS_SECRET_ACCESS_KEY": "secret\r"}, "the secret key ends with an end of line"),
        ({"AWS_ENDPOINT_URL_CODEDEPLOY": "http://sts.example.com"}, "would be asked in the clear"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(refused, settings, words):
    """ "the operator's credentials cannot be had (ValueError)", or "check DNS"."""
    error = refused(**settings)
    assert isinstance(error, Invalid)
    assert words in error.message
    assert "DNS" not in error.advice
    assert "get-caller-identity" not in error.advice


def test_a_ca_bundle_that_is_none_is_named(refused):
    """botocore reads it once it is connected."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}"
        error = refused(AWS_CA_BUNDLE="/no/such/ca.pem", AWS_ENDPOINT_URL_CODEDEPLOY=url)
    assert isinstance(error, Invalid)
    assert "CA bundle /no/such/ca.pem cannot be used" in error.message
    assert error.advice == "correct AWS_CA_BUNDLE"


@pytest.mark.parametrize(("status", "body"), [(500, b'{"__type": "InternalFailure"}'), (502, b"<html>no"), (503, b"")])
def test_a_fault_of_codedeploys_is_no_setting_of_the_host(refused, status, body):
    with fixed_answer(status, body) as url:
        error = refused(AWS_ENDPOINT_URL_CODEDEPLOY=url)
    assert isinstance(error, Unreachable)
    assert error.advice == "nothing here: AWS has a fault of its own; run this again"
