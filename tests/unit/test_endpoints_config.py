"""Endpoints of AWS in plain HTTP: refused beyond this host, wherever they come from."""

import http.server
import threading

import pytest

from imds_proxy.aws.session import AwsChain
from imds_proxy.aws.sts_caller import FromChain
from imds_proxy.codedeploy.api import CodeDeploy
from imds_proxy.config.reader import parse
from imds_proxy.config.roles import AssumeRoleConfig
from imds_proxy.errors import ConfigError, Invalid, SourceError
from imds_proxy.host.clock import Clock
from imds_proxy.sources.assume_role import AssumeRole
from support.namespace import network_namespace
from support.roles_anywhere import PROFILE, ROLE, TRUST_ANCHOR

ANYWHERE = {
    "source": "roles-anywhere",
    "trust_anchor_arn": TRUST_ANCHOR,
    "profile_arn": PROFILE,
    "certificate": "/etc/pki/host.pem",
}
TABLES = {
    "assume-role": ({}, "sts_endpoint"),
    "web-identity": ({"source": "web-identity", "token_file": "/run/token"}, "sts_endpoint"),
    "roles-anywhere": (ANYWHERE, "endpoint"),
}
ELSEWHERE = [
    "http://sts.example.com",
    "http://10.0.0.1:8080/",
    "http://0.0.0.0",
    "http://gateway",
    "http://127.0.0.1.nip.io",
]
HERE = ["http://127.0.0.1:4566", "http://localhost:4566", "http://[::1]:1/", "http://169.254.1.1"]
NAMED = "192.0.2.1"


def role(source, **settings):
    table, key = TABLES[source]
    settings = {key if name == "endpoint" else name: value for name, value in settings.items()}
    return parse({"roles": {"deploy": {"role_arn": ROLE, **table, **settings}}}, "t").roles["deploy"]


@pytest.mark.parametrize("source", TABLES)
@pytest.mark.parametrize("endpoint", ELSEWHERE)
def test_an_endpoint_in_the_clear_beyond_this_host_is_refused(source, endpoint):
    """Every host on the way would read the credentials in the answer, or put its own in their place."""
    with pytest.raises(ConfigError) as caught:
        role(source, endpoint=endpoint)
    wrong = f"roles.deploy: {TABLES[source][1]} would send secrets in the clear: use https, or set allow_http = true"
    assert caught.value.mistakes == (wrong,)
    assert role(source, endpoint=endpoint, allow_http=True).allow_http
    assert role(source, endpoint=endpoint.replace("http:", "https:"))


@pytest.mark.parametrize("source", TABLES)
@pytest.mark.parametrize("endpoint", HERE)
def test_an_endpoint_of_this_host_may_be_plain(source, endpoint):
    assert role(source, endpoint=endpoint)


@pytest.mark.parametrize("source", TABLES)
def test_allow_http_without_an_endpoint_is_a_mistake(source):
    """It does not hold for what the environment or an AWS profile names."""
    with pytest.raises(ConfigError, match=f"allow_http is for {TABLES[source][1]}"):
        role(source, allow_http=True)


def test_allow_http_changes_no_session():
    """Saved credentials would be of no use any more."""
    table = {"roles": {"deploy": {"role_arn": ROLE, "sts_endpoint": "https://sts.example.com"}}}
    fingerprint = parse(table, "t").fingerprint("deploy")
    table["roles"]["deploy"]["allow_http"] = True
    assert parse(table, "t").fingerprint("deploy") == fingerprint


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """Credentials, and `environment(config, **variables)` for what names an endpoint."""
    config = tmp_path / "config"
    variables = {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_CONFIG_FILE": str(config)}
    variables["AWS_SHARED_CREDENTIALS_FILE"] = str(tmp_path / "credentials")
    for name in ("HTTP_PROXY", "http_proxy", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)

    def say(profile="", **more):
        config.write_text(f"[default]\nregion = eu-west-1\n{profile}\n")
        for name, value in (variables | more).items():
            monkeypatch.setenv(name, value)

    say()
    return say


@pytest.fixture
def reached():
    """What a server at an address of a network was asked; it denies everything."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(self.path)
            self.rfile.read(int(self.headers["Content-Length"]))
            body = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with network_namespace(NAMED), http.server.ThreadingHTTPServer((NAMED, 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        try:
            yield asked, f"http://{NAMED}:{server.server_port}"
        finally:
            server.shutdown()


async def refused(**settings):
    options = AssumeRoleConfig.model_validate({"role_arn": ROLE, **settings})
    with pytest.raises(SourceError) as caught:
        await AssumeRole("deploy", options, FromChain(options.profile), AwsChain(), "eu-west-1", Clock()).fetch()
    return caught.value


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS"])
async def test_an_endpoint_in_the_clear_of_the_environment_is_refused_by_its_name(environment, reached, variable):
    """A line of an environment file that somebody needed once would undo what the config demands."""
    asked, url = reached
    environment(**{variable: url + "/path?query"})
    error = await refused()
    assert type(error) is Invalid
    assert error.message.endswith(f"{url} ({variable}) would be asked in the clear")
    assert error.advice.startswith("let it begin with https:")
    assert asked == []


async def test_an_endpoint_in_the_clear_of_a_profile_is_refused(environment, reached):
    asked, url = reached
    environment(f"endpoint_url = {url}")
    error = await refused()
    assert type(error) is Invalid
    assert "(endpoint_url of the AWS profile)" in error.message
    assert asked == []


async def test_allow_http_lets_one_role_ask_its_own_endpoint(environment, reached):
    """A gateway of a lab has no certificate."""
    asked, url = reached
    error = await refused(sts_endpoint=url, allow_http=True)
    assert error.outcome == "denied"
    assert asked[0] == "/"


async def test_allow_http_of_a_role_is_not_for_what_its_own_credentials_come_from(environment, reached):
    """The profile's role would be assumed in the clear, and those credentials are the more powerful ones."""
    asked, url = reached
    profile = f"role_arn = {ROLE}\ncredential_source = Environment\nendpoint_url = {url}"
    environment(f"[profile base]\nregion = eu-west-1\n{profile}")
    error = await refused(sts_endpoint=url, allow_http=True, profile="base")
    assert type(error) is Invalid
    assert "in the clear" in error.message
    assert asked == []


def test_an_operators_call_is_not_sent_in_the_clear_either(environment, reached):
    asked, url = reached
    environment(AWS_ENDPOINT_URL_CODEDEPLOY=url)
    with pytest.raises(Invalid, match=r"AWS_ENDPOINT_URL_CODEDEPLOY\) would be asked in the clear"):
        CodeDeploy(None, "eu-west-1").call("GetOnPremisesInstance", instanceName="x")
    assert asked == []
