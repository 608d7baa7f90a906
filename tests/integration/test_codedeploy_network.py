"""`imds-proxy codedeploy doctor` towards a network of the test's own."""

import http.server
import json
import ssl
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager

import pytest
import trustme

from imds_proxy.codedeploy import egress, imds_probe
from imds_proxy.demo.aws_double import free_port
from imds_proxy.errors import Unreachable
from support.daemon import HOST, clean_environment
from support.namespace import network_namespace
from support.network import ConnectProxy, Listener

REGION = "eu-west-1"


class Tls(Listener):
    """A server that shakes hands, and waits for nothing."""

    def __init__(self, context):
        self._context = context
        super().__init__()

    def handle(self, connection):
        with self._context.wrap_socket(connection, server_side=True):
            pass


class Refusing(Listener):
    """A proxy that lets nobody through."""

    def handle(self, connection):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 403 Forbidden: hush\r\nContent-Length: 0\r\n\r\n")


@pytest.fixture
def company(tmp_path):
    """A CA's file, and a server's context with a certificate of it for AWS's names and for loopback."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return str(tmp_path / "ca.pem"), context


@pytest.fixture
def environment(monkeypatch, company):
    """An environment without AWS and proxies, but for the company's CA; `environment(name, value)` sets more."""
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CA_BUNDLE", company[0])
    return monkeypatch.setenv


def reached(service="sts", settings=None):
    egress.reach(egress.way(service, REGION, settings or {}))


def why_not(service="sts", settings=None):
    """Why the service is not reached."""
    with pytest.raises(Unreachable) as error:
        reached(service, settings)
    assert error.value.advice
    assert "hush" not in error.value.message + error.value.advice
    return error.value.message


# Egress


@pytest.mark.parametrize("service", egress.SERVICES)
@pytest.mark.parametrize(
    ("region", "suffix"),
    [
        ("eu-west-1", "amazonaws.com"),
        ("cn-north-1", "amazonaws.com.cn"),
        ("eusc-de-east-1", "amazonaws.eu"),
        ("xx-new-9", "amazonaws.com"),
    ],
)
def test_the_four_endpoints(environment, service, region, suffix):
    assert str(egress.way(service, region, {})) == f"{service}.{region}.{suffix}:443"


@pytest.mark.parametrize(
    ("variable", "sts", "codedeploy"),
    [
        ("AWS_USE_DUALSTACK_ENDPOINT", "sts.us-gov-west-1.api.aws", "codedeploy.us-gov-west-1.api.aws"),
        ("AWS_USE_FIPS_ENDPOINT", "sts.us-gov-west-1.amazonaws.com", "codedeploy-fips.us-gov-west-1.amazonaws.com"),
    ],
)
def test_the_endpoints_are_those_that_are_called(environment, variable, sts, codedeploy):
    """A host with IPv6 only would be told that AWS is not reached, at an address that nobody calls."""
    environment(variable, "true")
    found = [str(egress.way(service, "us-gov-west-1", {})) for service in ("sts", "codedeploy")]
    assert found == [f"{sts}:443", f"{codedeploy}:443"]


def test_a_profile_that_is_not_there_leaves_the_usual_endpoint(environment):
    environment("AWS_PROFILE", "nobody")
    assert str(egress.way("sts", "eu-west-1", {})) == "sts.eu-west-1.amazonaws.com:443"


@pytest.mark.parametrize("service", egress.SERVICES)
def test_an_endpoint_is_reached_over_tls(environment, company, service):
    with Tls(company[1]) as server:
        environment(f"AWS_ENDPOINT_URL_{service.replace('-', '_').upper()}", f"https://127.0.0.1:{server.port}")
        reached(service)


@pytest.mark.parametrize("form", ["http://127.0.0.1:{}", "127.0.0.1:{}", "http://user:hush@127.0.0.1:{}"])
def test_the_environments_proxy_is_gone_through(environment, company, form):
    """A host without a route of its own would be told that it has none."""
    with Tls(company[1]) as server, ConnectProxy() as proxy:
        environment("AWS_ENDPOINT_URL", f"https://127.0.0.1:{server.port}")
        environment("HTTPS_PROXY", form.format(proxy.port))
        reached()
        assert proxy.tunnels == [f"127.0.0.1:{server.port}"]
        assert "hush" not in str(egress.way("sts", REGION, {}))
        environment("NO_PROXY", "127.0.0.1")
        reached()
        assert len(proxy.tunnels) == 1


def test_the_agents_own_proxy_and_endpoint_hold_for_what_the_agent_calls(environment, company):
    """The agent looks into its config, and not into the daemon's environment."""
    with Tls(company[1]) as server, ConnectProxy() as proxy:
        environment("AWS_ENDPOINT_URL", "https://127.0.0.1:9")
        settings = {"proxy_uri": proxy.url, "deploy_control_endpoint": f"https://127.0.0.1:{server.port}"}
        reached("codedeploy-commands", settings)
        assert proxy.tunnels == [f"127.0.0.1:{server.port}"]
        assert "Connection refused" in why_not("sts", settings)


def test_what_stands_in_the_way_is_named(environment, company):
    """A firewall, a proxy and a certificate are mended by different people."""
    environment("AWS_ENDPOINT_URL", f"https://127.0.0.1:{free_port()}")
    assert "Connection refused" in why_not()
    with Refusing() as proxy:
        environment("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        assert "the proxy refuses (403)" in why_not()
    assert "Connection refused" in why_not()
    environment("NO_PROXY", "*")
    with Tls(company[1]) as server:
        environment("AWS_ENDPOINT_URL", f"https://localhost:{server.port}")
        assert "certificate is not accepted" in why_not()
        environment("AWS_CA_BUNDLE", "/nonexistent")
        assert "AWS_CA_BUNDLE cannot be read" in why_not()


@pytest.mark.parametrize("url", ["127.0.0.1", "ftp://x", "https://", "https://x:99999", "https://user:hush@"])
def test_an_endpoint_that_is_none_is_said_so(environment, url):
    environment("AWS_ENDPOINT_URL_STS", url)
    assert "AWS_ENDPOINT_URL_STS" in why_not()


# Instance metadata


def test_the_daemon_itself_does_not_look_like_ec2(start_daemon):
    """The agent would poll a region that is not its own."""
    assert imds_probe.status(("127.0.0.1", start_daemon().port)) == 404


def test_a_daemon_that_says_it_is_an_instance_does(start_daemon):
    """Asked as the agent asks: a session token first."""
    assert (
        imds_probe.status(("127.0.0.1", start_daemon('[instance]\ninstance_id = "i-0123456789abcdef0"\n').port)) == 200
    )


def test_nobody_there_is_no_answer():
    assert imds_probe.status(("127.0.0.1", free_port())) is None


# The whole verb


class _Web(http.server.BaseHTTPRequestHandler):
    """`/status.json`, and 404 for the rest."""

    def do_GET(self):
        body = self.server.status if self.path == "/status.json" else b""
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self):
        self.send_error(404)

    def log_message(self, *_):
        pass


@contextmanager
def web(address, status=b""):
    with http.server.ThreadingHTTPServer(address, _Web) as server:
        server.status = status
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_the_verb_says_line_by_line_and_exits_with_1_until_all_is_well(start_daemon, company, tmp_path):
    """A provisioning script that goes on, and a host that never deploys."""
    daemon = start_daemon(f'[[files]]\nrole = "deploy"\npath = "{tmp_path}/credentials"\n')
    status = daemon.status()
    arn = status["roles"][0]["session_arn"]
    file = tmp_path / "file.yml"
    file.write_text(f"iam_session_arn: {arn}\naws_credentials_file: {tmp_path}/credentials\nregion: {REGION}\n")
    with ExitStack() as stack:
        stack.enter_context(network_namespace("169.254.169.254"))
        stack.enter_context(web(("169.254.169.254", 80)))
        admin = stack.enter_context(web(("127.0.0.1", 0), json.dumps(status).encode()))
        server = stack.enter_context(Tls(company[1]))
        config = tmp_path / "config.toml"
        config.write_text(
            HOST.replace("PORT", "1").replace("ADMIN", str(admin)).replace("STATE", "")
            + '[roles.deploy]\nrole_arn = "arn:aws:iam::123456789012:role/Deploy"\n'
        )

        def doctor():
            command = [sys.executable, "-m", "imds_proxy", "codedeploy", "doctor", "--config", config]
            endpoint = {"AWS_ENDPOINT_URL": f"https://127.0.0.1:{server.port}", "AWS_CA_BUNDLE": company[0]}
            done = subprocess.run(
                [*command, "--onpremises-file", file],
                env=clean_environment() | endpoint,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            (tmp_path / "doctor.log").write_text(done.stdout + done.stderr)
            assert not done.stderr
            return done

        without = doctor()
        assert without.returncode == 1
        assert [line.split()[0] for line in without.stdout.splitlines() if line[0] != " "][-2:] == ["FAIL", "This"]
        agent = subprocess.Popen(["bash", "-c", "exec -a 'codedeploy-agent: master 1' sleep 60"])
        try:
            well = doctor()
        finally:
            agent.kill()
            agent.wait()
    assert well.returncode == 0, well.stdout
    lines = well.stdout.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == ["ok"] * 10
    assert lines[-1] == "This host would deploy."
    assert [line.split(": ")[1] for line in lines if "egress" in line] == list(egress.SERVICES)
