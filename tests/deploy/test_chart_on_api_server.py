"""The chart on a real API server: every case applied, installed by helm, and what Pod Security says to its pods.

There is no kubelet and no controller: pods are made here, and stay pending.
"""

import copy
import json

import pytest
import yaml

from support.chart import CASES, CHART, documents, helm, kubectl, of_kind
from support.chart_files import GOLDEN, KUSTOMIZE
from support.cluster_parts import add_kinds, is_there, make_namespace, make_pod
from support.kube_apiserver import KubeApiServer, RefusedByServer

DAEMONSET = "/apis/apps/v1/namespaces/imds-proxy/daemonsets/imds-proxy"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with KubeApiServer(tmp_path_factory.mktemp("cluster"), admission=True) as running:
        add_kinds(running)
        make_namespace(running, "imds-proxy", "privileged")
        make_namespace(running, "restricted", "restricted")
        yield running


@pytest.fixture
def on(cluster):
    """For `kubectl` and `helm`: where the cluster is."""
    return {"kubeconfig": cluster.kubeconfig()}


def golden(case):
    return documents((GOLDEN / f"{case}.yaml").read_text())


def has(whole, part):
    """Whether an object of the server has everything that was applied; it adds defaults."""
    if isinstance(part, dict):
        return all(has(whole.get(name), each) for name, each in part.items() if each not in ({}, [], None))
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(has, whole, part))
    return whole == part


@pytest.mark.parametrize("case", CASES)
def test_every_case_is_applied(on, case):
    """Server-side and strictly: nothing is refused or dropped, and what is there is what is written."""
    path = GOLDEN / f"{case}.yaml"
    apply = ("apply", "--server-side", "--validate=strict", "-f", path)
    first = kubectl(*apply, **on)
    assert len(first.splitlines()) == len(golden(case))
    assert kubectl("diff", "--server-side", "-f", path, **on) == ""
    for each in golden(case):
        where = ["-n", each["metadata"].get("namespace", "default")]
        kept = json.loads(kubectl("get", each["kind"], each["metadata"]["name"], "-o", "json", *where, **on))
        assert has(kept["spec"] if "spec" in each else kept, each.get("spec", each))
    kubectl("delete", "--wait=false", "-f", path, **on)


def pods(objects):
    """Each workload of rendered objects, in the restricted namespace."""
    for each in copy.deepcopy(objects):
        if each["kind"] in {"DaemonSet", "Deployment"}:
            each["metadata"]["namespace"] = "restricted"
            each["spec"]["template"]["spec"]["serviceAccountName"] = "default"
            yield each


@pytest.mark.parametrize("case", ["sidecar", "sidecar-secret-key", "webhook"])
def test_pod_security_restricted_takes_sidecar_and_webhook(cluster, case):
    """Namespaces of applications enforce it: the daemon beside an application must not be what keeps a pod out."""
    for workload in pods([each for each in golden(case) if each["kind"] == "Deployment"]):
        pod = make_pod(cluster, workload, f"{case}-0")
        assert cluster.warnings == []
        assert pod["status"]["phase"] == "Pending"


def test_pod_security_restricted_refuses_the_daemonset(cluster):
    """So the README says which label its namespace needs; and so the test above can fail."""
    (workload,) = pods(golden("daemonset"))
    with pytest.raises(RefusedByServer, match=r"violates PodSecurity.*host namespaces"):
        make_pod(cluster, workload, "daemonset-0")


def test_the_api_server_takes_the_daemonsets_pod(cluster, on):
    """With its priority class, in a namespace of its own; what it adds to the pod is nothing but defaults."""
    kubectl("apply", "--server-side", "-f", GOLDEN / "daemonset.yaml", **on)
    pod = make_pod(cluster, of_kind("DaemonSet", golden("daemonset")), "daemonset-0")
    assert cluster.warnings == []
    assert pod["spec"]["priority"] == 2000001000
    assert [each["name"] for each in pod["spec"]["volumes"]] == [
        f"imds-proxy-{n}" for n in ("config", "state", "api-server")
    ]
    kubectl("delete", "--wait=false", "-f", GOLDEN / "daemonset.yaml", **on)


def test_helm_installs_upgrades_and_uninstalls(cluster, on, tmp_path):
    """A release that helm cannot change or take away is there for good."""
    values = yaml.safe_load(CASES["daemonset"].read_text())
    where = ("--namespace", "imds-proxy", "--values", "-")
    helm("install", "imds-proxy", CHART, *where, input=json.dumps(values), **on)
    before = cluster.ask("GET", DAEMONSET)["spec"]["template"]["metadata"]["annotations"]
    values["config"] += '\n[[grants]]\nrole = "app"\nservice_account = "shop/api"\n'
    values |= {"injectionPolicy": {"enabled": True}}
    helm("upgrade", "imds-proxy", CHART, *where, input=json.dumps(values), **on)
    assert cluster.ask("GET", DAEMONSET)["spec"]["template"]["metadata"]["annotations"] != before
    policy = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies/imds-proxy-injection"
    assert is_there(cluster, policy)
    helm("uninstall", "imds-proxy", "--namespace", "imds-proxy", **on)
    assert not is_there(cluster, DAEMONSET)
    assert not is_there(cluster, policy)


def test_an_install_without_its_values_changes_nothing(cluster, on):
    with pytest.raises(AssertionError, match="say at least one role"):
        helm("install", "imds-proxy", CHART, "--namespace", "imds-proxy", **on)
    assert not is_there(cluster, DAEMONSET)


def test_the_kustomize_base_is_applied(cluster, on):
    kubectl("apply", "--server-side", "--validate=strict", "-n", "imds-proxy", "-k", KUSTOMIZE / "daemonset", **on)
    assert is_there(cluster, DAEMONSET)
    kubectl("delete", "--wait=false", "-n", "imds-proxy", "-k", KUSTOMIZE / "daemonset", **on)
