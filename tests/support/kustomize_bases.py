"""The kustomize bases, made of what the chart renders: `{path below deploy/kubernetes/kustomize: content}`.

What is Helm's goes: its labels, the namespace, and the checksum of the config, for which kustomize has names with one.
"""

import yaml

from support.chart import documents, of_kind, template

MADE = "# Made of the chart by `make golden`.\n"
DAEMONSET_CONFIG = """\
region = "eu-west-1"

[roles.app]
role_arn = "arn:aws:iam::123456789012:role/App"
tags = "service-account"
serve = "on-demand"

[[grants]]
role = "app"
service_account = "shop/frontend"
"""
SIDECAR_CONFIG = """\
region = "eu-west-1"

[roles.app]
source = "web-identity"
role_arn = "arn:aws:iam::123456789012:role/App"
token_file = "/var/run/secrets/imds-proxy/aws/token"
"""
HELMS = ("helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/instance", "app.kubernetes.io/version")
LABEL = "imds-proxy=sidecar"
ENDPOINT = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
WORKLOADS = {
    "sidecar.yaml": ("Deployment|StatefulSet|DaemonSet|Job", ("spec", "template")),
    "sidecar-cronjob.yaml": ("CronJob", ("spec", "jobTemplate", "spec", "template")),
}
"""Patches of the component: of which kinds, and where a pod's template is in them."""


def bases():
    """All of them."""
    return {
        f"{folder}/{name}": text
        for folder, files in (("daemonset", _daemonset()), ("sidecar", _sidecar()), ("injection", _injection()))
        for name, text in files.items()
    }


def _daemonset():
    objects = documents(template(values={"config": DAEMONSET_CONFIG}))
    resources = [each for each in objects if each["kind"] != "ConfigMap"]
    files = {f"{each['kind'].lower()}.yaml": _yaml(_plain(each)) for each in resources}
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": sorted(files),
        "configMapGenerator": [{"name": "imds-proxy", "files": ["config.toml"]}],
    }
    return {"kustomization.yaml": _yaml(kustomization), "config.toml": _config(objects), **files}


def _sidecar():
    """A component: it puts the daemon beside whatever is labelled for it.

    The ConfigMap is the user's to generate: kustomize merges into none that a component brings.
    """
    values = {"mode": "sidecar", "config": SIDECAR_CONFIG, "awsToken": {"enabled": True}}
    values["sidecar"] = {"application": {"image": "application"}}
    objects = documents(template(values=values))
    pod = of_kind("Deployment", objects)["spec"]["template"]["spec"]
    (endpoint,) = (each["value"] for each in pod["containers"][0]["env"] if each["name"] == ENDPOINT)
    added = {name: pod[name] for name in ("initContainers", "volumes")}
    added["securityContext"] = {"fsGroup": pod["securityContext"]["fsGroup"]}
    component = {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "resources": ["endpoint.yaml"],
        "patches": [
            {"path": path, "target": {"kind": kinds, "labelSelector": LABEL}} for path, (kinds, _) in WORKLOADS.items()
        ],
        "replacements": [_endpoint_everywhere()],
    }
    files = {path: _yaml(_patch(where, added)) for path, (_, where) in WORKLOADS.items()}
    files["endpoint.yaml"] = _yaml(_endpoint(endpoint))
    return {"kustomization.yaml": _yaml(component), "config.toml": _config(objects), **files}


def _patch(where, pod):
    """A strategic-merge patch of a pod's template."""
    inner = {"spec": pod}
    for name in reversed(where):
        inner = {name: inner}
    return {"apiVersion": "any", "kind": "any", "metadata": {"name": "any"}, **inner}


def _endpoint(url):
    """Where a replacement takes the address from; no object of the cluster."""
    annotations = {"config.kubernetes.io/local-config": "true"}
    metadata = {"name": "imds-proxy-endpoint", "annotations": annotations}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {ENDPOINT: url}}


def _endpoint_everywhere():
    """The variable in every container of the labelled objects, however it is called: a patch would have to name it."""
    targets = [
        {
            "select": {"kind": kind, "labelSelector": LABEL},
            "fieldPaths": [".".join([*where, f"spec.containers.*.env.[name={ENDPOINT}].value"])],
            "options": {"create": True},
        }
        for kinds, where in WORKLOADS.values()
        for kind in kinds.split("|")
    ]
    source = {"kind": "ConfigMap", "name": "imds-proxy-endpoint", "fieldPath": f"data.{ENDPOINT}"}
    return {"source": source, "targets": targets}


def _injection():
    """What the chart adds for the injection policy."""
    without = documents(template(values={"config": DAEMONSET_CONFIG}))
    added = documents(template(values={"config": DAEMONSET_CONFIG, "injectionPolicy": {"enabled": True}}))
    files = {f"{each['kind'].lower()}.yaml": _yaml(_plain(each)) for each in added if each not in without}
    if not files:
        return {}
    kind = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": sorted(files)}
    return {"kustomization.yaml": _yaml(kind), **files}


def _config(objects):
    return of_kind("ConfigMap", objects)["data"]["config.toml"]


def _plain(node):
    """An object without what is Helm's."""
    if isinstance(node, list):
        return [_plain(each) for each in node]
    if not isinstance(node, dict):
        return node
    gone = {*HELMS, "checksum/config"} | ({"namespace"} if "labels" in node else set())
    kept = {name: _plain(each) for name, each in node.items() if name not in gone}
    return {name: each for name, each in kept.items() if not (name == "annotations" and not each)}


def _yaml(value):
    return MADE + yaml.safe_dump(value, sort_keys=False, width=120)
