"""The control plane of the real daemon, with real users who mean no good."""

import json
import os
import time
from pathlib import Path

import pytest

from imds_proxy.cli.status import render
from support.client import client_of
from support.daemon import request, wait
from support.users import temporary_users

CROWD = r"""
limits = (ctypes.c_ulong * 2)()
ctypes.CDLL(None).getrlimit(7, limits)
limits[0] = limits[1]
ctypes.CDLL(None).setrlimit(7, limits)
held = []
for _ in range(min(int(sys.argv[2]), limits[1] - 50)):
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex(("127.0.0.1", int(sys.argv[1])))
    held.append(client)
print(json.dumps(len(held)), flush=True)
sys.stdin.readline()
"""
SCRAPERS = r"""
def scrape():
    scrapers = [socket.socket() for _ in range(16)]
    for scraper in scrapers:
        scraper.connect(("127.0.0.1", int(sys.argv[1])))
        scraper.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    for scraper in scrapers:
        try:
            while scraper.recv(65536):
                pass
        except ConnectionError:
            pass
        scraper.close()
scrape()
print(json.dumps(os.getpid()), flush=True)
while True:
    scrape()
"""


@pytest.fixture(scope="module")
def people():
    """Two users without any right."""
    with temporary_users() as made:
        yield made.add(), made.add()


@pytest.mark.parametrize("files", [64, 1024])
def test_thousands_of_idle_connections_cost_the_others_nothing(aws, start_daemon, people, files):
    """One user without any right would stop every client and every renewal of the host."""
    stranger, _ = people
    daemon = start_daemon("[renewal]\nmax_age = 2\n", launcher=("prlimit", f"--nofile={files}:{files}"))
    with stranger.running(CROWD, daemon.admin_port, 4200) as crowd:
        held = json.loads(crowd.stdout.readline())
        assert held >= 1000
        before = daemon.role("deploy")
        statuses = [daemon.get("latest/meta-data/iam/security-credentials/deploy")[0] for _ in range(141)]
        assert statuses == [200] * 141  # with as many requests for a token
        wait(lambda: daemon.role("deploy")["key"] != before["key"], 20, "a renewal")
        assert request(f"{daemon.admin}/healthz")[0] == 200
        assert daemon.metric('imds_proxy_renewals_total{outcome="unreachable",role="deploy"}') == 0
        assert len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir())) < 200
    said = [event for event in daemon.events() if event["event"] == "too many connections to the control plane"]
    assert [event["caller"] for event in said] == [f"uid {stranger.uid}"]


def test_each_user_sees_what_it_may(aws, start_daemon, people):
    """Any user could read what the host may do at AWS, and why it fails."""
    build, prometheus = people
    roles = f'[roles.secret]\nrole_arn = "{aws.role_arn}"\nsts_endpoint = "{aws.double.url}"\nprofile = "nowhere"\n'
    grants = f'[[grants]]\nrole = "deploy"\nuser = "{build.name}"\n[[grants]]\nrole = "secret"\nuser = "root"\n'
    config = aws.config(roles + grants).replace("[admin]", f'[admin]\nallowed_users = ["{prometheus.name}"]')
    daemon = start_daemon(config=config, ready=False)
    failure = daemon.failure("secret")
    wait(lambda: daemon.role("deploy")["state"] == "ok", 10, "the role")
    with client_of(build, daemon, port=daemon.admin_port) as client:
        document = json.loads(client.ask("/status.json")[1])
        assert [role["role"] for role in document["roles"]] == ["deploy"]
        assert document["limited"] is True
        for path in ("/metrics", "/status.json", "/readyz", "/readyz/secret", "/"):
            body = client.ask(path)[1]
            assert "secret" not in body
            assert failure["message"] not in body
    with client_of(prometheus, daemon, port=daemon.admin_port) as client:
        assert 'role="secret"' in client.ask("/metrics")[1]
        assert json.loads(client.ask("/status.json")[1]) | {"time": 0} == daemon.status() | {"time": 0}
    assert failure["message"] in daemon.cli("status").stdout


def test_status_of_another_user_says_that_it_is_not_everything(aws, start_daemon, people):
    """It would look as if nothing were wrong."""
    build, _ = people
    daemon = start_daemon()
    with client_of(build, daemon, port=daemon.admin_port) as client:
        shown = render(json.loads(client.ask("/status.json")[1]), as_json=False)
    assert "deploy" in shown
    assert "allowed_users" in shown
    assert "allowed_users" not in daemon.cli("status").stdout


def test_the_control_plane_on_every_address_is_remarked_on(aws, start_daemon):
    """The operator would look for the reason in Prometheus."""
    daemon = start_daemon(config=aws.config().replace("127.0.0.1:ADMIN", "0.0.0.0:ADMIN"))
    remark = daemon.wait_for_event("the config may not say what is meant")["remark"]
    assert ": admin.listen: other hosts see only whether the daemon is healthy" in remark
    assert "allowed_addresses" in daemon.cli("check").stdout


def test_metrics_in_a_loop_do_not_slow_the_data_plane(aws, start_daemon, people):
    """Sixteen connections of any user made every client wait for a quarter of a second."""
    stranger, _ = people
    daemon = start_daemon()
    with stranger.running(SCRAPERS, daemon.admin_port) as scrapers:
        assert json.loads(scrapers.stdout.readline()) == scrapers.pid
        time.sleep(1)
        used = cpu(daemon)
        begun = time.monotonic()
        for _ in range(100):
            assert daemon.get("latest/meta-data/iam/security-credentials/deploy")[0] == 200
        time.sleep(max(0.0, 2 - (time.monotonic() - begun)))
        assert scrapers.poll() is None
        assert (cpu(daemon) - used) / (time.monotonic() - begun) < 0.6  # of a processor


def cpu(daemon):
    """Seconds of processor time that the daemon has used."""
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
