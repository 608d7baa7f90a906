"""Unmodified SDKs and the AWS CLI take the role up, by every way they know, and its successors.

A client passes when AWS saw a call signed with the key that the daemon serves, and verified it. These are the clients
that install in seconds; `make conformance` has all of them, and sessions of an hour.
"""

import http.client
import subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from support.clients import by_container, by_metadata, executable, on, run
from support.daemon import DaemonProcess, wait

STS, S3 = "GetCallerIdentity", "GET /"
ROTATING = 'duration = "15m"\n[renewal]\nmax_age = "2s"\n'
ROTATION_TIME = 20.0
LONG_LIVED = ("boto3", "aiobotocore")  # the AWS CLI is a process per call

each_client = pytest.mark.parametrize("client", [*LONG_LIVED, "awscli"])
BEFORE_SESSION_TOKENS = Path(__file__).parents[1] / "clients/imds_v1_client.py"


@pytest.fixture(scope="module")
def daemon(account, tmp_path_factory):
    """A daemon with IMDSv1 on, whose session lives for an hour."""
    config = account.config().replace("[metadata]\n", "[metadata]\nimds_v1 = true\n")
    with DaemonProcess(tmp_path_factory.mktemp("steady"), config, account.environment) as process:
        yield process.wait_ready()


@pytest.fixture(scope="module")
def rotating(account, tmp_path_factory):
    """A daemon that has another session every two seconds."""
    folder = tmp_path_factory.mktemp("rotating")
    with DaemonProcess(folder, account.config(ROTATING), account.environment) as process:
        yield process.wait_ready()


def succeed(client, environment, *arguments):
    ended = run(client, environment, *(arguments or ("once",)))
    assert ended.status == 0, (ended.output, ended.errors)


def run_before_session_tokens(environment):
    """The program that knows no session token; its errors, or "" where it went well."""
    command = [executable("boto3", "python"), BEFORE_SESSION_TOKENS, "once"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False).stderr


def keys_seen(aws) -> list[str]:
    """The keys of the client's verified calls, in order and once each; fails if AWS refused one."""
    refused = [call for call in aws.double.calls if call.status != 200]
    assert not refused
    return list(dict.fromkeys(aws.double.used(STS) + aws.double.used(S3)))


def assert_signed_with_the_key_served(aws, daemon):
    key = daemon.credentials("deploy")["AccessKeyId"]
    assert aws.double.used(STS) == aws.double.used(S3) == [key]
    assert keys_seen(aws) == [key]


def wait_for_rotation(daemon):
    """The daemon serves another key than a moment ago."""
    before = daemon.role("deploy")["key"]
    wait(lambda: daemon.role("deploy")["key"] != before, ROTATION_TIME, "rotation")


@each_client
def test_a_client_signs_with_the_role_by_imdsv2(aws, daemon, client):
    """Nothing works: this is what the daemon is for."""
    by_v1 = daemon.metrics().count('protocol="imds_v1"')
    succeed(client, on(aws.double.url) | by_metadata(daemon.endpoint))
    assert_signed_with_the_key_served(aws, daemon)
    assert daemon.metrics().count('protocol="imds_v1"') == by_v1


@each_client
def test_a_client_signs_with_the_role_by_the_container_protocol(aws, daemon, client):
    """A workload with a role of its own would have none."""
    succeed(client, on(aws.double.url) | by_container(daemon, "deploy"))
    assert_signed_with_the_key_served(aws, daemon)
    assert daemon.metric('imds_proxy_requests_total{document="credentials",protocol="container",status="200"}') >= 1


@each_client
def test_a_client_that_falls_back_to_imdsv1_signs_with_the_role_when_it_is_on(aws, daemon, client):
    """SDKs older than session tokens, for which the operator has switched it on."""
    with BeforeSessionTokens(daemon) as old:
        succeed(client, on(aws.double.url) | by_metadata(old.url))
    assert_signed_with_the_key_served(aws, daemon)
    assert daemon.metric('imds_proxy_requests_total{document="credentials",protocol="imds_v1",status="200"}') >= 1


def test_a_program_without_session_tokens_signs_with_the_role_when_imdsv1_is_on(aws, daemon):
    """s3fs of Debian 12 would find no credentials."""
    assert run_before_session_tokens(on(aws.double.url) | by_metadata(daemon.endpoint)) == ""
    assert_signed_with_the_key_served(aws, daemon)


def test_where_imdsv1_is_off_a_program_without_session_tokens_finds_nothing(aws, rotating):
    """A switch that is off by default has to be off: a forged request without a token must bring nothing."""
    assert "401" in run_before_session_tokens(on(aws.double.url) | by_metadata(rotating.endpoint))
    assert not aws.double.used(STS)


@each_client
def test_new_processes_take_the_successor_after_a_rotation(aws, rotating, client):
    """Jobs started after a rotation would sign with the old session until it ends, and then not at all."""
    environment = on(aws.double.url) | by_metadata(rotating.endpoint)
    succeed(client, environment)
    wait_for_rotation(rotating)
    succeed(client, environment)
    assert len(keys_seen(aws)) >= 2


@pytest.mark.parametrize("client", LONG_LIVED)
def test_a_long_lived_client_follows_rotations(aws, rotating, client):
    """A server process would sign with its first session until that ends.

    By the container protocol an SDK asks at every signing where less than 15 minutes are left.
    """
    succeed(client, on(aws.double.url) | by_container(rotating, "deploy"), "loop", "0.5", "16")
    assert len(keys_seen(aws)) >= 3


def test_a_client_that_keeps_its_session_is_not_cut_off_by_a_rotation(aws, start_daemon):
    """Every SDK keeps its credentials for minutes after their successors are there."""
    daemon = start_daemon('[renewal]\nmax_age = "2s"\n')
    succeed("boto3", on(aws.double.url) | by_metadata(daemon.endpoint), "loop", "0.5", "10")
    assert len(keys_seen(aws)) == 1
    assert keys_seen(aws) != [daemon.credentials("deploy")["AccessKeyId"]]


class BeforeSessionTokens:
    """The metadata service as it was before 2019: no path for tokens; all else is the daemon's."""

    def __init__(self, daemon: DaemonProcess):
        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self):
                self.answer(405, b"")

            def do_GET(self):
                connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=5)
                connection.request("GET", self.path)
                answer = connection.getresponse()
                self.answer(answer.status, answer.read())
                connection.close()

            def answer(self, status, body):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self):
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
