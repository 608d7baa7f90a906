"""Roles that are kept only when somebody may have them, or asks for them, with a real daemon."""

import json
import os
import signal
import time

import pytest

from imds_proxy.demo.aws_double import free_port
from support import aws as sts
from support.daemon import HOST, request, wait
from support.kubernetes import Cluster
from support.network import Relay

ROLE_LIST = "latest/meta-data/iam/security-credentials/"
ON_DEMAND = 'serve = "on-demand"\n'


def role(name, aws, **settings):
    """A role's table."""
    lines = {"role_arn": aws.role_arn, "session_name": name, "sts_endpoint": aws.double.url} | settings
    return f"[roles.{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())


def grant(name, **conditions):
    lines = {"role": name} | conditions
    return "[[grants]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())


def by_container(daemon, name):
    """What the container protocol answers for a role with its token."""
    token = (daemon.state / f"tokens/{name}").read_text()
    return request(f"{daemon.endpoint}roles/{name}", headers={"Authorization": token})


def test_fifty_roles_on_demand_cost_no_call_until_one_is_asked_for(aws, start_daemon):
    """STS would be called a hundred times an hour for roles that nobody uses."""
    fifty = "".join(role(f"r{number}", aws, serve="on-demand", default=False) for number in range(50))
    daemon = start_daemon(f"default = true\n{fifty}")
    assert len(aws.double.used("AssumeRole")) == 1
    assert by_container(daemon, "r7")[0] == 503
    wait(lambda: by_container(daemon, "r7")[0] == 200, 10, "credentials at the next try")
    assert len(aws.double.used("AssumeRole")) == 2
    states = {each["role"]: each["state"] for each in daemon.status()["roles"]}
    assert (states.pop("deploy"), states.pop("r7"), set(states.values())) == ("ok", "ok", {"idle"})
    expirations = [line for line in daemon.metrics().splitlines() if "expiration_timestamp_seconds{" in line]
    assert len(expirations) == 2
    shown = daemon.cli("status")
    assert shown.returncode == 0
    assert shown.stdout.count(" idle ") == 49


def test_the_list_says_404_first_and_the_next_try_finds_it(aws, start_daemon):
    """A client would wait for AWS in its request, and give up (PROTOCOL.md 19)."""
    daemon = start_daemon(ON_DEMAND)
    assert aws.double.used("AssumeRole") == []
    began = time.monotonic()
    assert daemon.get(ROLE_LIST)[0] == 404
    assert time.monotonic() - began < 0.5
    wait(lambda: daemon.get(ROLE_LIST)[2] == b"deploy", 10, "the role in the list")
    assert daemon.credentials("deploy")["AccessKeyId"] in aws.double.issued()
    assert len(aws.double.used("AssumeRole")) == 1


@pytest.mark.parametrize("asked", [[], ["--role", "deploy"]])
@pytest.mark.parametrize("by_token", [True, False])
def test_credential_process_waits_for_a_role_that_nobody_asked_for_yet(aws, start_daemon, asked, by_token):
    """The AWS CLI asks its credential_process once: its first command of the day would fail."""
    daemon = start_daemon(ON_DEMAND)
    if not by_token:
        (daemon.state / "tokens/deploy").unlink()
    done = daemon.cli("credential-process", *asked)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["AccessKeyId"] in aws.double.issued()


def test_credential_process_says_who_may_not_have_a_role_and_does_not_wait(aws, start_daemon):
    daemon = start_daemon(grant("deploy", user="nobody"))
    (daemon.state / "tokens/deploy").unlink()
    for asked, words in (([], "has no role for this user"), (["--role", "deploy"], "is not the one this user gets")):
        began = time.monotonic()
        done = daemon.cli("credential-process", *asked)
        assert (done.returncode, done.stdout) == (1, "")
        assert words in done.stderr
        assert time.monotonic() - began < 4


def test_credential_process_says_that_a_token_is_not_the_roles(aws, start_daemon):
    """It would look like AWS's fault, and take five seconds to say so."""
    daemon = start_daemon()
    (daemon.state / "tokens/deploy").write_text("another-token-than-the-daemon-has")
    began = time.monotonic()
    done = daemon.cli("credential-process", "--role", "deploy")
    assert (done.returncode, done.stdout) == (1, "")
    assert "is not the one this user gets" in done.stderr
    assert time.monotonic() - began < 4


def test_a_restart_serves_what_was_held_without_a_call(aws, start_daemon):
    daemon = start_daemon(ON_DEMAND)
    daemon.get(ROLE_LIST)
    wait(lambda: daemon.role("deploy")["state"] == "ok", 10, "credentials")
    key = daemon.credentials("deploy")["AccessKeyId"]
    daemon.stop()
    daemon.start().wait_ready()
    assert daemon.credentials("deploy")["AccessKeyId"] == key
    assert len(aws.double.used("AssumeRole")) == 1


def test_with_aws_away_at_the_first_request_it_gets_there_when_aws_is_back(aws, start_daemon):
    port = free_port()
    config = aws.config(ON_DEMAND).replace(aws.double.url, f"http://127.0.0.1:{port}")
    daemon = start_daemon(config=config)
    assert daemon.get(ROLE_LIST)[0] == 404
    assert daemon.failure()["outcome"] == "unreachable"
    assert request(f"{daemon.admin}/readyz")[0] == 503
    assert daemon.get(ROLE_LIST)[0] == 404
    with Relay(aws.double.url, port):
        wait(lambda: daemon.get(ROLE_LIST)[0] == 200, 30, "credentials")
    assert daemon.ready()


def test_a_role_that_no_grant_gives_is_not_obtained_until_one_does(aws, start_daemon):
    """It would cost calls, and could be had by whoever finds a way around the grants."""
    other = role("other", aws)
    config = aws.config(other) + grant("deploy", uid=os.getuid())
    daemon = start_daemon(config=config)
    assert len(aws.double.used("AssumeRole")) == 1
    assert daemon.role("other")["state"] == "unused"
    assert daemon.get(f"{ROLE_LIST}other")[:1] == daemon.get(f"{ROLE_LIST}no-such-role")[:1] == (404,)
    assert 'role="other"' not in daemon.metrics()
    daemon.write_config(config + grant("other", uid=os.getuid()))
    daemon.process.send_signal(signal.SIGHUP)
    wait(lambda: daemon.role("other")["state"] == "ok", 10, "the role that is granted now")
    assert daemon.credentials("other")["Code"] == "Success"


# Sessions of service accounts


@pytest.fixture
def cluster(tmp_path):
    cluster = Cluster()
    cluster.file = tmp_path / "keys.json"
    cluster.file.write_bytes(cluster.key_set())
    return cluster


@pytest.fixture
def pods(aws, start_daemon, cluster):
    """A daemon whose role `pods` is granted to the service accounts of the namespace `shop`."""
    accounts = f'[service_accounts]\nissuer = "{cluster.issuer}"\njwks_file = "{cluster.file}"\n'
    tables = role("pods", aws, tags="service-account") + accounts + grant("pods", service_account="shop/*")
    return start_daemon(config=HOST + tables)


def ask(daemon, token):
    return request(f"{daemon.endpoint}v1/credentials", headers={"Authorization": token})


def test_each_pod_gets_a_session_with_its_own_tags(aws, pods, cluster):
    """AWS could not tell the pods of a host from each other: neither its policies nor CloudTrail."""
    calls = []
    aws.double.interfere = lambda call: calls.append(call) if sts.is_assume_role(call) else None
    tokens = [cluster.token(), cluster.token(account="web", pod="web-1"), cluster.token(pod=None)]
    assert pods.role("pods")["state"] == "idle"
    assert [ask(pods, token)[0] for token in tokens] == [503, 503, 503]
    for token in tokens:
        wait(lambda token=token: ask(pods, token)[0] == 200, 10, "the session of a pod")
    keys = {json.loads(ask(pods, token)[2])["AccessKeyId"] for token in tokens}
    assert len(keys) == 3
    assert len(calls) == 3
    said = [tags(call) for call in calls]
    assert {"kubernetes-namespace": "shop", "kubernetes-service-account": "api"} in said
    pod = {"kubernetes-pod-name": "web-1", "kubernetes-pod-uid": "5b4f2f0e-9d5c-4a53-8a0f-3d3d3c0f7a11"}
    assert {"kubernetes-namespace": "shop", "kubernetes-service-account": "web"} | pod in said
    assert pods.role("pods")["sessions"] == 3
    assert "3 session(s) of service accounts" in pods.cli("status").stdout
    assert pods.metric('imds_proxy_renewals_total{outcome="success",role="pods"}') == 3
    assert not any("pods" in path.name for path in (pods.state / "credentials").glob("*"))


def test_the_status_says_whose_session_aws_refuses(aws, pods, cluster):
    """Of a hundred pods somebody has to find the one."""
    aws.double.interfere = lambda call: (
        sts.access_denied(call, aws.double.user_arn("host")) if "api" in tags(call).values() else None
    )
    tokens = [cluster.token(account="web", pod="web-1"), cluster.token()]
    for token in tokens:
        ask(pods, token)
    failure = pods.failure("pods")
    assert (failure["outcome"], failure["service_account"], failure["pod"]) == ("denied", "shop/api", "api-7d9f")
    assert "sts:TagSession" in failure["advice"]
    assert "pods for shop/api: denied" in pods.cli("status").stdout
    assert pods.wait_for_event("renewal failed")["service_account"] == "shop/api"
    wait(lambda: ask(pods, tokens[0])[0] == 200, 10, "the session of the other pod")
    assert ask(pods, tokens[1])[0] == 503


def tags(call):
    """The session tags of a call."""
    found = {}
    for number in range(1, 10):
        if key := sts.parameter(call, f"Tags.member.{number}.Key"):
            found[key] = sts.parameter(call, f"Tags.member.{number}.Value")
    return found
