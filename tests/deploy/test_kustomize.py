"""The kustomize bases: each builds, and the component puts the daemon beside what is labelled for it alone."""

import copy
import json
import os
import tomllib

import pytest
import yaml

from imds_proxy.config.reader import parse
from support.chart import documents, kubectl, of_kind
from support.chart_files import KUSTOMIZE
from support.cluster_objects import VALIDATED, validate

POD = {
    "restartPolicy": "OnFailure",
    "securityContext": {"fsGroup": 1000, "runAsNonRoot": True},
    "initContainers": [{"name": "migrate", "image": "app"}],
    "containers": [
        {"name": "web", "image": "app", "env": [{"name": "MODE", "value": "fast"}], "volumeMounts": []},
        {"name": "metrics", "image": "app", "ports": [{"name": "metrics", "containerPort": 9090}]},
    ],
    "volumes": [{"name": "config", "emptyDir": {}}, {"name": "state", "emptyDir": {}}],
}
KINDS = {
    "Deployment": ("apps/v1", ("template",)),
    "StatefulSet": ("apps/v1", ("template",)),
    "DaemonSet": ("apps/v1", ("template",)),
    "Job": ("batch/v1", ("template",)),
    "CronJob": ("batch/v1", ("jobTemplate", "spec", "template")),
}
OVERLAY = {"components": ["component"], "configMapGenerator": [{"name": "imds-proxy", "files": ["config.toml"]}]}


def workload(kind, *, labelled=True):
    version, where = KINDS[kind]
    pod = copy.deepcopy(POD) | ({} if kind in {"Job", "CronJob"} else {"restartPolicy": "Always"})
    labels = {"app": "shop"}
    inner = {"metadata": {"labels": labels}, "spec": pod}
    for name in reversed(where):
        inner = {name: inner}
    metadata = {"name": f"shop-{kind.lower()}", "labels": {"imds-proxy": "sidecar"} if labelled else {}}
    more = {"selector": {"matchLabels": labels}} if version == "apps/v1" else {}
    more |= {"serviceName": "shop"} if kind == "StatefulSet" else {}
    more |= {"schedule": "0 0 * * *"} if kind == "CronJob" else {}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": inner | more}


def built(folder, objects, overlay=None):
    """What kustomize makes of objects with the component, in a user's folder."""
    (folder / "app.yaml").write_text(yaml.safe_dump_all(objects))
    (folder / "component").symlink_to(os.path.relpath(KUSTOMIZE / "sidecar", folder))
    (folder / "config.toml").write_text((KUSTOMIZE / "sidecar/config.toml").read_text())
    kustomization = {"resources": ["app.yaml"], **OVERLAY, **(overlay or {})}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return documents(kubectl("kustomize", "--load-restrictor", "LoadRestrictionsNone", folder))


def pod_of(each):
    for name in KINDS[each["kind"]][1]:
        each = each[name] if name in each else each["spec"][name]
    return each["spec"]


def test_the_base_of_the_daemonset_takes_another_config(tmp_path):
    """A name with a checksum of it replaces the pods."""
    config = (KUSTOMIZE / "daemonset/config.toml").read_text().replace("shop/frontend", "shop/api")
    (tmp_path / "config.toml").write_text(config)
    base = os.path.relpath(KUSTOMIZE / "daemonset", tmp_path)
    merged = {"name": "imds-proxy", "behavior": "merge", "files": ["config.toml"]}
    kustomization = {"namespace": "imds-proxy", "resources": [base], "configMapGenerator": [merged]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    objects = documents(kubectl("kustomize", tmp_path))
    config_map = of_kind("ConfigMap", objects)
    assert config_map["data"]["config.toml"] == config
    volumes = of_kind("DaemonSet", objects)["spec"]["template"]["spec"]["volumes"]
    assert volumes[0]["configMap"]["name"] == config_map["metadata"]["name"] != "imds-proxy"
    validate(objects, VALIDATED[-1])


@pytest.mark.parametrize("folder", ["daemonset", "sidecar"])
def test_the_daemon_takes_the_config_of_a_base(folder):
    """It is what a user's own begins as."""
    parse(tomllib.loads((KUSTOMIZE / folder / "config.toml").read_text()), folder)


def test_the_injection_policy_builds():
    objects = documents(kubectl("kustomize", KUSTOMIZE / "injection"))
    assert {"MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"} <= {each["kind"] for each in objects}
    validate(objects, VALIDATED[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_the_component_puts_the_daemon_beside_any_workload(tmp_path, kind):
    """Before its other init containers; each container is led to it, and nothing of what there was is lost."""
    objects = built(tmp_path, [workload(kind)])
    validate(objects, VALIDATED[-1])
    pod = pod_of(of_kind(kind, objects))
    assert [each["name"] for each in pod["initContainers"]] == ["imds-proxy", "migrate"]
    assert pod["initContainers"][0]["restartPolicy"] == "Always"
    endpoint = {"name": "AWS_EC2_METADATA_SERVICE_ENDPOINT", "value": "http://127.0.0.1:1338/"}
    assert [each["env"] for each in pod["containers"]] == [[{"name": "MODE", "value": "fast"}, endpoint], [endpoint]]
    assert {"config", "state", "imds-proxy-config", "imds-proxy-state"} <= {each["name"] for each in pod["volumes"]}
    config_map = of_kind("ConfigMap", objects)
    assert config_map["metadata"]["name"] in json.dumps(pod["volumes"])
    assert pod["securityContext"]["runAsNonRoot"] is True


def test_what_is_not_labelled_stays_as_it_is(tmp_path):
    """An application without the label would wait for a daemon whose config is not for it."""
    other = workload("Deployment", labelled=False)
    objects = built(tmp_path, [workload("StatefulSet"), other])
    assert pod_of(of_kind("Deployment", objects)) == pod_of(other)


def test_an_applications_own_group_can_be_kept(tmp_path):
    """By a patch of the user's, which comes after the component's."""
    patch = {"target": {"kind": "Deployment"}}
    patch["patch"] = '[{"op": "replace", "path": "/spec/template/spec/securityContext/fsGroup", "value": 1000}]'
    objects = built(tmp_path, [workload("Deployment")], {"patches": [patch]})
    assert pod_of(of_kind("Deployment", objects))["securityContext"]["fsGroup"] == 1000
