"""From `helm install` on a real API server to credentials in an unmodified boto3: all but the kubelet is real.

What the kubelet does is in support/node.py. The node is a network namespace, with the API server and AWS in it.
"""

import json
import os
import shutil
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.chart import CHART, helm
from support.clients import executable, on, run
from support.cluster_parts import make_namespace, make_pod
from support.control_plane_tls import Pki, ask
from support.daemon import request, wait
from support.kube_apiserver import KubeApiServer
from support.kubernetes import AUDIENCE, ISSUED
from support.namespace import container, inside, network_namespace
from support.node import Node, stop_containers

POD_IP = "10.99.0.1"
FETCH = "import boto3; print(boto3.Session().get_credentials().get_frozen_credentials().access_key)"
URI = "http://169.254.170.23/v1/credentials"
INI = "[default]\naws_access_key_id = {0.key_id}\naws_secret_access_key = {0.secret}\n"
CONFIG = """
region = "eu-west-1"
[roles.app]
role_arn = "{role_arn}"
sts_endpoint = "http://{sts}"
"""
GRANT = '[[grants]]\nrole = "app"\nservice_account = "shop/frontend"\n'
FROM_SECRET = {
    "secretFiles": [{"name": "key"}],
    "env": [{"name": "AWS_SHARED_CREDENTIALS_FILE", "value": "/etc/imds-proxy/secrets/credentials"}],
}


@pytest.fixture(scope="module")
def node():
    """The network of a node; the present thread is in it, and a process of a pod's own network beside it."""
    for program in ("ip", "setpriv", "unshare"):
        assert shutil.which(program), f"{program} is missing: install iproute2 and util-linux"
    with ExitStack() as entered:
        try:
            entered.enter_context(network_namespace())
            pid = entered.enter_context(container("10.99.0.7/24", f"{POD_IP}/24"))
        except pytest.skip.Exception as missing:
            pytest.fail(f"run it as root, where networks can be made: {missing}")
        with inside(pid):
            subprocess.run(["ip", "route", "add", "default", "via", POD_IP], check=True)
        yield pid


@pytest.fixture(scope="module")
def cluster(node, tmp_path_factory):
    options = [f"--advertise-address={POD_IP}"]
    with KubeApiServer(tmp_path_factory.mktemp("cluster"), admission=True, options=options) as running:
        make_namespace(running, "imds-proxy", "privileged")
        make_namespace(running, "shop", "restricted")
        running.call("namespaces/shop/serviceaccounts", metadata={"name": "frontend"})
        yield running


@pytest.fixture
def install(aws, node, cluster, tmp_path):
    """`install(values, kind)`: the release in its namespace, and a node that runs the pod of its workload."""
    secret = {"credentials": INI.format(aws)}
    cluster.call("namespaces/imds-proxy/secrets", metadata={"name": "key"}, stringData=secret)
    config = CONFIG.format(role_arn=aws.role_arn, sts=aws.double.another_address())
    where, pods = ("--namespace", "imds-proxy"), []

    def installed(values, kind, extra=""):
        given = {"config": config + extra, "serviceAccounts": {"jwksUrl": cluster.keys_url}, **FROM_SECRET, **values}
        options = (*where, "--values", "-")
        helm("install", "aws", CHART, *options, input=json.dumps(given), kubeconfig=cluster.kubeconfig())
        workload = cluster.ask("GET", f"/apis/apps/v1/namespaces/imds-proxy/{kind}/aws-imds-proxy")
        pod = make_pod(cluster, workload, f"aws-{len(pods)}")
        pods.append(pod["metadata"]["name"])
        return Node(cluster, pod, tmp_path)

    yield installed
    helm("uninstall", "aws", *where, kubeconfig=cluster.kubeconfig())
    for path in ("secrets/key", *(f"pods/{pod}?gracePeriodSeconds=0" for pod in pods)):
        cluster.ask("DELETE", f"/api/v1/namespaces/imds-proxy/{path}")


@pytest.fixture
def running(tmp_path):
    """`running(node, name)`: a container that goes on until the end of the test, and then ends by TERM with 0."""
    started = []

    def start(node, name, **variables):
        started.append(node.start(name, tmp_path / "daemon.log", **variables))
        return started[-1]

    yield start
    stop_containers(started)


def pods_token(cluster, account="frontend"):
    token = cluster.token("shop", account, AUDIENCE)
    ISSUED.append(token)
    return token


def by_pod(tmp_path, token):
    """What injection sets."""
    (tmp_path / "token").write_text(token)
    return {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": URI,
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "token"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_REGION": "eu-west-1",
    }


def fetch(pid, environment):
    """The key id that boto3 finds in the pod's network."""
    base = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    with inside(pid):
        return subprocess.run(
            [executable("boto3", "python"), "-c", FETCH],
            env=base | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def ready(node, name, which="readinessProbe"):
    return lambda: node.probe(name, which, POD_IP) == 200


def test_a_pod_has_the_role_that_a_grant_gives_its_service_account(aws, node, cluster, install, running, tmp_path):
    """The way of the README, with nothing but what the chart has made."""
    begin = time.monotonic()
    host = install({}, "daemonsets", GRANT)
    installed = time.monotonic() - begin
    added = host.start("add-addresses", tmp_path / "add-addresses.log")
    assert added.wait(30) == 0, (tmp_path / "add-addresses.log").read_text()
    running(host, "imds-proxy")
    wait(ready(host, "imds-proxy"), 30, (tmp_path / "daemon.log").read_text)
    done = fetch(node, by_pod(tmp_path, pods_token(cluster)))
    assert done.returncode == 0, done.stderr
    print(f"helm install: {installed:.1f} s; to the credentials in the pod: {time.monotonic() - begin:.1f} s")
    assert host.probe("imds-proxy", "livenessProbe", POD_IP) == 200
    calls = run("boto3", on(f"http://{aws.double.another_address()}") | by_pod(tmp_path, pods_token(cluster)), "once")
    assert calls.status == 0, calls.errors
    assert done.stdout.strip() in {call.key_id for call in aws.double.calls if call.action != "AssumeRole"}
    refused = fetch(node, by_pod(tmp_path, pods_token(cluster, "default")))
    assert refused.returncode != 0
    for state in (tmp_path / "imds-proxy-state").rglob("*.json"):
        assert state.stat().st_mode & 0o077 == 0


def test_an_application_has_the_role_from_the_daemon_beside_it(aws, install, running, tmp_path):
    """Without a right, as another user than root, with the key from a Secret that its group may read."""
    values = {"mode": "sidecar", "sidecar": {"application": {"image": "app"}}}
    pod = install(values, "deployments")
    running(pod, "imds-proxy")
    wait(ready(pod, "imds-proxy", "startupProbe"), 30, (tmp_path / "daemon.log").read_text)
    assert pod.probe("imds-proxy", "livenessProbe", POD_IP) == 200
    own = {each["name"]: each["value"] for each in pod.containers["application"]["env"]}
    ended = run("boto3", on(f"http://{aws.double.another_address()}") | own, "once")
    assert ended.status == 0, ended.errors
    (state,) = (tmp_path / "imds-proxy-state").iterdir()
    assert (state.stat().st_uid, state.stat().st_mode & 0o777) == (65532, 0o700)


def test_metrics_are_for_a_prometheus_that_shows_a_certificate(node, cluster, install, running, tmp_path):
    """Another host, and any pod, learns whether the daemon is healthy; not which roles and accounts there are."""
    pki = Pki(tmp_path)
    files = zip(("tls.crt", "tls.key", "ca.crt"), pki.admin.values(), strict=True)
    secret = {name: Path(path).read_text() for name, path in files}
    cluster.call("namespaces/imds-proxy/secrets", metadata={"name": "tls"}, stringData=secret)
    tls = {"tls": {"secretName": "tls"}, "clientCa": {"secretName": "tls"}}
    host = install({"metrics": {"enabled": True, **tls}}, "daemonsets", GRANT)
    assert host.start("add-addresses", tmp_path / "add-addresses.log").wait(30) == 0
    running(host, "imds-proxy")
    wait(ready(host, "imds-proxy"), 30, (tmp_path / "daemon.log").read_text)

    with inside(node):
        paths = ("/metrics", "/healthz")
        assert [ask(9338, path, pki.prometheus(), POD_IP)[0] for path in paths] == [200, 200]
        assert [ask(9338, path, pki.context(), POD_IP)[0] for path in paths] == [403, 200]


def test_a_node_without_ipv4_is_served_and_probed(install, running, tmp_path):
    """The kubelet asks at the loopback address of the family that the control plane listens on."""
    metrics = {"enabled": True, "address": "::", "allowedAddresses": ["fd00:20::/64"]}
    host = install({"metrics": metrics, "daemonset": {"addresses": ["fd00:ec2::23"]}}, "daemonsets", GRANT)
    assert host.start("add-addresses", tmp_path / "add-addresses.log").wait(30) == 0
    running(host, "imds-proxy")
    wait(ready(host, "imds-proxy"), 30, (tmp_path / "daemon.log").read_text)
    assert host.probe("imds-proxy", "livenessProbe", POD_IP) == 200
    assert request("http://[fd00:ec2::23]:80/v1/credentials")[0] in {401, 403}
