"""`imds-proxy renew` with a real daemon, whose older sessions have been revoked at AWS."""

import json
import signal
import socket
import threading
from contextlib import contextmanager

import pytest

from imds_proxy.admin.request_check import RENEW_HEADER
from support.aws import is_assume_role, sts_error
from support.daemon import DaemonProcess, request, wait
from support.users import temporary_users

FURTHER = """
[roles.child]
role_arn = "{role_arn}"
from = "deploy"
session_name = "child"
default = false
sts_endpoint = "{sts}"
[roles.lazy]
role_arn = "{role_arn}"
serve = "on-demand"
session_name = "lazy"
default = false
sts_endpoint = "{sts}"
"""
POSTS = r"""
body = b'{"roles": []}'
lines = ["POST /renew HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}", f"{sys.argv[2]}: 1"]
head = "\r\n".join([*lines, "Connection: close", "", ""])
with socket.socket() as client:
    client.connect(("127.0.0.1", int(sys.argv[1])))
    client.sendall(head.encode() + body)
    answer = b"".join(iter(lambda: client.recv(65536), b""))
print(json.dumps(answer.decode()), flush=True)
"""


def config(account):
    return account.config("default = true\n" + FURTHER.format(role_arn=account.role_arn, sts=account.double.url))


@pytest.fixture(scope="module")
def running(account, tmp_path_factory):
    """A daemon for the tests that leave it as it was."""
    account.double.trust("Deploy", "*")
    with DaemonProcess(tmp_path_factory.mktemp("renew"), config(account), account.environment) as daemon:
        yield daemon.wait_ready()
    account.double.trust("Deploy", account.double.user_arn("host"))


@pytest.fixture
def restarted(aws, running, start_daemon):
    """A daemon that a test may end."""
    return start_daemon(config=config(aws))


def keys(daemon):
    return {role["role"]: role["key"] for role in daemon.status()["roles"]}


def saved(daemon):
    return sorted(path.stem for path in (daemon.state / "credentials").glob("*.json"))


def refused(aws):
    aws.double.interfere = lambda asked: sts_error("AccessDenied", "no", 403) if is_assume_role(asked) else None


def test_every_kept_role_has_a_new_session_parents_first(running, aws):
    """What was revoked would be served until half of its life is over."""
    before = keys(running)
    aws.double.calls.clear()
    done = running.cli("renew")
    after = keys(running)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split(" until ")[0] for line in done.stdout.splitlines()] == [
        f"deploy: renewed: {after['deploy']}",
        f"child: renewed: {after['child']}",
    ]
    assert not set(before.values()) & {after["deploy"], after["child"]}
    assert [key[-4:] for key in aws.double.used("AssumeRole")] == [aws.key_id[-4:], after["deploy"][-4:]]
    assert after["lazy"] is None, "nobody asks for it"
    assert running.wait_for_event("a renewal is asked for")["by"] == "uid 0"


def test_a_role_on_demand_that_is_named_is_renewed_and_kept(running):
    done = running.cli("renew", "lazy")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"lazy: renewed: {keys(running)['lazy']} until ")
    assert running.role("lazy")["state"] == "ok"
    assert running.role("lazy")["next_attempt"]


def test_an_unknown_role_is_a_mistake_that_names_those_that_there_are(running):
    before = keys(running)
    done = running.cli("renew", "deploy", "typo")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "imds-proxy: the daemon keeps no role typo; there are: deploy, child, lazy\n"
    assert keys(running) == before


def test_what_was_saved_is_served_by_no_restart(restarted, aws):
    """A restart would serve the revoked session for the rest of its life, and AWS refuse everything."""
    wait(lambda: saved(restarted) == ["child", "deploy"], 10, "both to be saved")
    revoked = keys(restarted)["deploy"]
    refused(aws)
    done = restarted.cli("renew", "deploy")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("deploy: not renewed (denied): sts:AssumeRole on ")
    assert f"; served: {revoked} until " in done.stderr
    assert "saved: nothing" in done.stderr
    assert "\n  → 1. does " in done.stderr
    assert restarted.role("deploy")["key"] == revoked, "what lives is served on"
    wait(lambda: saved(restarted) == ["child"], 10, "it to be dropped")
    restarted.stop(signal.SIGKILL)
    restarted.start()
    failure = restarted.failure("deploy")
    assert failure["outcome"] == "denied"
    assert restarted.role("deploy")["key"] is None


def test_the_new_session_is_what_a_restart_serves(restarted, aws):
    """The verb would protect nobody from a restart in an outage."""
    revoked = keys(restarted)
    assert restarted.cli("renew").returncode == 0
    new = keys(restarted)
    wait(lambda: saved(restarted) == ["child", "deploy"], 10, "both to be saved")
    restarted.stop(signal.SIGKILL)
    refused(aws)
    restarted.start().wait_ready()
    assert keys(restarted)["deploy"] == new["deploy"] != revoked["deploy"]


def test_a_loop_of_them_is_one_attempt_at_a_time(running, aws):
    """An operator's script would be a flood of calls to STS."""
    calls, go_on = [], threading.Event()

    def slow(asked):
        if is_assume_role(asked):
            calls.append(asked)
            go_on.wait(20)

    aws.double.interfere = slow
    headers, answers = {RENEW_HEADER: "1"}, []
    posting = [
        threading.Thread(target=lambda: answers.append(post(running.admin_port, b'{"roles": ["deploy"]}', headers)))
        for _ in range(20)
    ]
    for thread in posting:
        thread.start()
    wait(lambda: calls, 10, "the first")
    assert request(running.endpoint + "latest/meta-data/")[0] == 401, "nobody waits meanwhile"
    assert len(calls) == 1
    go_on.set()
    for thread in posting:
        thread.join(20)
    assert len(answers) == 20
    assert set(answers) == {200}
    assert len(calls) <= 2


def post(port, body, headers):
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        lines = [f"{name}: {value}" for name, value in headers.items()]
        head = ["POST /renew HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}", "Connection: close", *lines]
        client.sendall("\r\n".join([*head, "", ""]).encode() + body)
        return int(client.makefile("rb").readline().split()[1])


def test_another_user_may_not_whatever_it_may_see(aws, start_daemon):
    """Prometheus' user could have saved sessions dropped, and AWS called in a loop."""
    with temporary_users() as users:
        prometheus = users.add()
        config = aws.config().replace("[admin]", f'[admin]\nallowed_users = ["{prometheus.name}"]')
        daemon = start_daemon(config=config)
        before = keys(daemon)
        with prometheus.running(POSTS, daemon.admin_port, RENEW_HEADER) as client:
            answer = json.loads(client.stdout.readline())
    assert answer.startswith("HTTP/1.1 403 ")
    assert "only root and the daemon's user" in answer
    assert keys(daemon) == before
    assert saved(daemon) == ["deploy"]


@contextmanager
def older_daemon():
    """A control plane without `/renew`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            client, _ = listener.accept()
            with client:
                client.recv(65536)
                client.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 14\r\n\r\n404 Not Found\n")

        threading.Thread(target=answer, daemon=True).start()
        yield listener.getsockname()[1]


def test_where_there_is_no_such_daemon_it_says_so(tmp_path, aws):
    """An operator would take silence for success."""
    daemon = DaemonProcess(tmp_path, aws.config(), {})
    done = daemon.cli("renew")
    assert done.returncode == 1
    assert "no answer from" in done.stderr
    with older_daemon() as port:
        daemon.write_config(aws.config().replace(":ADMIN", f":{port}"))
        done = daemon.cli("renew")
    assert done.returncode == 1
    assert "older imds-proxy" in done.stderr
