"""From a service account's annotation to credentials, with the variables as they are injected: all but the kubelet is
real. The API server finds the webhook by its Service; what a kubelet does is in support/node.py.
"""

import json
import os
import re
import subprocess

import pytest
import yaml

from imds_proxy.webhook.annotations import Defaults, injection
from imds_proxy.webhook.patch import patch_of
from imds_proxy.webhook.pod import read_pod
from support.admission import TOKEN_FILE, patched, pod_of, token_volume, variables
from support.chart import HELM, KUBECTL, KUBERNETES, ROOT, helm, run
from support.clients import executable
from support.cluster_parts import make_namespace, make_pod
from support.daemon import wait
from support.injection import in_effect, make
from support.kube_apiserver import KubeApiServer
from support.kubernetes import ISSUED
from support.namespace import container, inside, network_namespace
from support.node import Node, stop_containers

NODE_IP, POD_IP = "10.99.0.1", "10.99.0.7"
NAME = "imds-proxy-webhook"
PAGE = KUBERNETES / "INJECTION.md"
WHERE = ("--namespace", "imds-proxy")
CONFIG = """
[roles.app]
role_arn = "{role_arn}"
sts_endpoint = "http://{sts}"
[[grants]]
role = "app"
service_account = "shop/*"
"""
FETCH = """
import boto3, os
from pathlib import Path
folder = Path(os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"])
folder.parent.mkdir(parents=True)
folder.write_text(os.environ.pop("TOKEN"))
print(boto3.Session().get_credentials().get_frozen_credentials().access_key)
"""
"""A program in the pod; it first puts the token where its kubelet does."""


@pytest.fixture(scope="module")
def pod_network():
    """A process in the network of a pod; the present thread is in that of its node."""
    with network_namespace(), container(f"{POD_IP}/24", f"{NODE_IP}/24") as pid:
        with inside(pid):
            subprocess.run(["ip", "route", "add", "default", "via", NODE_IP], check=True)
        yield pid


@pytest.fixture(scope="module")
def cluster(pod_network, tmp_path_factory):
    # A Service's endpoints are asked themselves: no kube-proxy runs that would lead its address there.
    options = [f"--advertise-address={NODE_IP}", "--enable-aggregator-routing=true"]
    with KubeApiServer(tmp_path_factory.mktemp("cluster"), admission=True, options=options) as running:
        make_namespace(running, "imds-proxy", "privileged")
        make_namespace(running, "shop", "restricted")
        yield running


@pytest.fixture(scope="module")
def installed(account, cluster, tmp_path_factory):
    """The release, as the page says."""
    for name, arn in (("api", account.role_arn), ("bad", "a//b"), ("else", "arn:aws:iam::123456789012:role/Other")):
        metadata = {"name": name, "annotations": {"eks.amazonaws.com/role-arn": arn}}
        cluster.call("namespaces/shop/serviceaccounts", metadata=metadata)
    folder = tmp_path_factory.mktemp("install")
    values = {
        "config": CONFIG.format(role_arn=account.role_arn, sts=account.double.another_address()),
        "serviceAccounts": {"jwksUrl": cluster.keys_url},
        "env": [{"name": name, "value": value} for name, value in account.environment.items()],
        "webhook": {"failurePolicy": "Fail", "onError": "deny"},
    }
    (folder / "values.yaml").write_text(json.dumps(values))
    (folder / "deploy").symlink_to(ROOT / "deploy")
    path = f"{HELM.parent}:{KUBECTL.parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "KUBECONFIG": str(cluster.kubeconfig()), "HOME": str(folder)}
    run("bash", "-euc", block("sh"), env=environment, cwd=folder)
    yield
    helm("uninstall", "imds-proxy", *WHERE, kubeconfig=cluster.kubeconfig())


def block(kind, which=0):
    """A block of the page's."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)[which]


@pytest.fixture
def start(cluster, tmp_path):
    """`start(kind, name, container, **variables)`: a pod of a workload on the node, a container of it running."""
    started = []

    def begin(kind, name, container, **own):
        workload = cluster.ask("GET", f"/apis/apps/v1/namespaces/imds-proxy/{kind}/{name}")
        pod = make_pod(cluster, workload, f"{name}-{len(started)}")
        pod["spec"].setdefault("initContainers", [])
        folder = tmp_path / name
        folder.mkdir()
        node = Node(cluster, pod, folder)
        for first in pod["spec"]["initContainers"]:
            assert node.start(first["name"], folder / "first.log").wait(30) == 0, (folder / "first.log").read_text()
        started.append(node.start(container, folder / "log", **own))
        wait(lambda: node.probe(container, "readinessProbe", NODE_IP) == 200, 30, (folder / "log").read_text)
        assert node.probe(container, "livenessProbe", NODE_IP) == 200

    yield begin
    stop_containers(started)


def fetch(pid, environment, token):
    """The key id that boto3 finds in a pod: its network, and a /run of its own."""
    own = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "TOKEN": token} | environment
    enter = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs own /run && exec "$@"', "sh"]
    with inside(pid):
        return subprocess.run(
            [*enter, executable("boto3", "python"), "-c", FETCH],
            env=own,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def restricted(account, **more):
    """A pod that the strictest level of Pod Security lets in."""
    rights = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return pod_of({"name": "main", "image": "app", "securityContext": rights}, account=account, **more)


def test_an_annotation_leads_an_unmodified_sdk_to_its_role(aws, cluster, pod_network, installed, start, tmp_path):
    """The way of the page, from the annotation on; nothing that is injected is changed."""
    address, _, port = cluster.url.removeprefix("https://").partition(":")
    start("deployments", NAME, "webhook", KUBERNETES_SERVICE_HOST=address, KUBERNETES_SERVICE_PORT=port)
    metadata = {"name": "by-hand", "labels": {"kubernetes.io/service-name": NAME}}
    endpoint = {"addresses": [NODE_IP], "conditions": {"ready": True}}
    ports = [{"name": "https", "port": 8443, "protocol": "TCP"}]
    slices = "/apis/discovery.k8s.io/v1/namespaces/imds-proxy/endpointslices"
    cluster.ask("POST", slices, {"metadata": metadata, "addressType": "IPv4", "endpoints": [endpoint], "ports": ports})
    in_effect(cluster, restricted("api"), restricted("bad"))
    start("daemonsets", "imds-proxy", "imds-proxy")

    pod = make(cluster, restricted("api", name="api-1"))
    environment, volume = variables(pod["spec"]["containers"][0]), token_volume(pod)
    assert environment["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] == TOKEN_FILE
    token = cluster.token("shop", "api", volume["audience"], pod="api-1", expiration=volume["expirationSeconds"])
    ISSUED.append(token)
    done = fetch(pod_network, environment, token)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ASIA")

    other = make(cluster, restricted("else", name="else-1"))
    token = cluster.token("shop", "else", volume["audience"], pod="else-1")
    ISSUED.append(token)
    done = fetch(pod_network, variables(other["spec"]["containers"][0]), token)
    assert (done.returncode, "403" in done.stderr) == (1, True)
    assert token not in (tmp_path / NAME / "log").read_text()


def test_the_page_shows_what_is_injected(tmp_path):
    account = yaml.safe_load(block("yaml"))["metadata"]["annotations"]
    shown = yaml.safe_load(block("yaml", 1))
    pod = read_pod(pod_of("main"))
    operations = patch_of(pod, injection(account, {}, Defaults(region="eu-west-1"))).operations
    made = patched(pod_of("main"), operations)["spec"]
    assert made["volumes"] == shown["volumes"]
    assert [each | {"image": "none"} for each in shown["containers"]] == made["containers"]


def test_the_webhooks_pods_are_let_in_by_the_strictest_level(cluster, installed):
    """Clusters that enforce it would have a webhook that never starts."""
    workload = cluster.ask("GET", f"/apis/apps/v1/namespaces/imds-proxy/deployments/{NAME}")
    template = workload["spec"]["template"]
    spec = template["spec"] | {"serviceAccountName": "api"}
    body = {"metadata": {"name": "strict", "labels": {"eks.amazonaws.com/skip-pod-identity-webhook": "true"}}}
    cluster.ask("POST", "/api/v1/namespaces/shop/pods?dryRun=All", body | {"spec": spec})
    assert not [each for each in cluster.warnings if "PodSecurity" in each]
