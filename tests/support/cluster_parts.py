"""What a cluster has besides its API server, and the tests' has not: controllers' objects, other projects' kinds."""

from pathlib import Path

from support.kube_apiserver import RefusedByServer

KINDS = {
    "PodMonitor": ("monitoring.coreos.com", "podmonitors"),
    "Certificate": ("cert-manager.io", "certificates"),
    "Issuer": ("cert-manager.io", "issuers"),
}
"""Of the Prometheus operator and of cert-manager: their names alone, with any content."""
_NOT_FOUND = 404


def add_kinds(server):
    """The kinds of other projects that the chart can make objects of; waits until they are served."""
    for kind, (group, plural) in KINDS.items():
        names = {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"}
        anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": anything}}}
        version = {"name": "v1", "served": True, "storage": True, "schema": schema}
        server.ask(
            "POST",
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            {
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": {"name": f"{plural}.{group}"},
                "spec": {"group": group, "names": names, "scope": "Namespaced", "versions": [version]},
            },
        )


def make_namespace(server, name, level=None):
    """A namespace, with what controllers put into each; `level` of Pod Security is enforced and warned of."""
    labels = {f"pod-security.kubernetes.io/{mode}": level for mode in ("enforce", "warn")} if level else {}
    server.call("namespaces", metadata={"name": name, "labels": labels})
    server.call(f"namespaces/{name}/serviceaccounts", metadata={"name": "default"})
    ca = {"ca.crt": Path(server.ca_bundle).read_text()}
    server.call(f"namespaces/{name}/configmaps", metadata={"name": "kube-root-ca.crt"}, data=ca)


def make_pod(server, workload, name):
    """The pod that a controller makes of a DaemonSet's or Deployment's template, as the API server keeps it."""
    template, namespace = workload["spec"]["template"], workload["metadata"]["namespace"]
    metadata = template["metadata"] | {"name": name}
    return server.call(f"namespaces/{namespace}/pods", metadata=metadata, spec=template["spec"])


def is_there(server, path):
    """Whether the API server has an object."""
    try:
        server.ask("GET", path)
    except RefusedByServer as refused:
        if refused.status == _NOT_FOUND:
            return False
        raise
    return True
