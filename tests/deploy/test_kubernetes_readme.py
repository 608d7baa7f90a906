"""deploy/kubernetes/README.md, followed on a real API server, as far as that goes without a kubelet."""

import json
import shutil
import tomllib
from pathlib import Path

import pytest
import yaml

from imds_proxy.config.reader import parse
from support.chart import HELM, KUBECTL, KUBERNETES
from support.cluster_parts import add_kinds, is_there
from support.control_plane_tls import Pki
from support.daemon import wait
from support.kube_apiserver import KubeApiServer
from support.readme_page import commands, files, follow

README = (KUBERNETES / "README.md").read_text()
NEEDS_KUBELET = (" rollout status ", " logs ")
KEY = "[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = example\n"
ARN = "arn:aws:iam::123456789012:role/Frontend"
APP = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "app", "labels": {"imds-proxy": "sidecar"}},
    "spec": {
        "selector": {"matchLabels": {"app": "app"}},
        "template": {"metadata": {"labels": {"app": "app"}}, "spec": {"containers": [{"name": "app", "image": "app"}]}},
    },
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with KubeApiServer(tmp_path_factory.mktemp("cluster"), admission=True) as running:
        add_kinds(running)
        yield running


@pytest.fixture
def folder(tmp_path):
    """This folder as a reader has it, with the files that the page shows, and those that are the reader's own."""
    here = tmp_path / "kubernetes"
    shutil.copytree(KUBERNETES, here)
    pki = Pki(tmp_path)
    pem = (Path(path).read_text() for path in pki.admin.values())
    own = dict(zip(("metrics.crt", "metrics.key", "ca.crt"), pem, strict=True))
    own |= {"credentials": KEY, "app/deployment.yaml": yaml.safe_dump(APP)}
    for name, content in {**files(README), **own}.items():
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_text(content)
    return here


def test_the_page_can_be_followed_from_the_first_command_to_the_last(cluster, folder):
    """Who installs this for the first time copies it line by line."""
    programs = {"kubectl": KUBECTL, "helm": HELM}
    printed = {}
    for line in commands(README):
        if any(each in line for each in NEEDS_KUBELET):
            continue
        if "injected.yaml" in line:
            wait(lambda: injects(cluster), 30, "the API server's use of the new policy")
        if "helm uninstall web" in line:
            assert_installed(cluster)
        if "delete namespace" in line:
            line += " --wait=false"  # noqa: PLW2901 - what ends namespaces is a controller
        printed[line] = follow(line, folder, programs, KUBECONFIG=str(cluster.kubeconfig()))
    shown = json.loads(next(text for line, text in printed.items() if "jsonpath" in line))
    assert {
        "name": "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "value": f"http://169.254.170.23/v1/credentials/{ARN}",
    } in shown
    built = next(text for line, text in printed.items() if line == "kubectl kustomize cluster")
    assert "image: registry.example.com/imds-proxy:" in built
    assert not is_there(cluster, "/apis/apps/v1/namespaces/imds-proxy/daemonsets/imds-proxy")
    assert not is_there(cluster, "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies/imds-proxy-injection")


def injects(cluster):
    """Whether a pod would get variables now."""
    spec = {"serviceAccountName": "frontend", "containers": [{"name": "aws", "image": "aws"}]}
    path = "/api/v1/namespaces/shop/pods?dryRun=All"
    pod = cluster.ask("POST", path, {"metadata": {"name": "would"}, "spec": spec})
    return "env" in pod["spec"]["containers"][0]


def assert_installed(cluster):
    """All that the page has made, before its last part takes it away."""
    own = "namespaces/imds-proxy"
    configs = {"imds-proxy": "imds-proxy", "web": "web-imds-proxy"}
    for namespace, name in configs.items():
        data = cluster.ask("GET", f"/api/v1/namespaces/{namespace}/configmaps/{name}")["data"]
        configs[namespace] = parse(tomllib.loads(data["config.toml"]), name)
    assert configs["imds-proxy"].admin.client_ca == "/etc/imds-proxy/tls/client-ca.crt"
    assert is_there(cluster, f"/apis/monitoring.coreos.com/v1/{own}/podmonitors/imds-proxy")
    assert is_there(cluster, f"/apis/apps/v1/{own}/daemonsets/imds-proxy")
    assert cluster.ask("GET", "/api/v1/namespaces/shop/pods/first")["status"]["phase"] == "Pending"


def test_every_shown_file_is_used():
    """A file that no command names was meant for one that is missing."""
    lines = " ".join(commands(README))
    for name in files(README):
        assert name in lines or name.partition("/")[0] in lines, name
