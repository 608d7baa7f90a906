"""Injection on a real API server: the chart's objects there, and pods made by it."""

import base64
import contextlib
import copy
import json

from support.admission import token_volume
from support.chart import NAMESPACE, documents, of_kind, template
from support.daemon import wait
from support.kube_apiserver import RefusedByServer
from support.kubernetes import ISSUED
from support.webhook import WebhookProcess

CONFIG = """
region = "eu-west-1"
[roles.app]
role_arn = "arn:aws:iam::123456789012:role/App"
[[grants]]
role = "app"
service_account = "shop/*"
"""
_REGISTRATION = "/apis/admissionregistration.k8s.io/v1"
_PATHS = {
    "ServiceAccount": f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "MutatingWebhookConfiguration": f"{_REGISTRATION}/mutatingwebhookconfigurations",
    "MutatingAdmissionPolicy": f"{_REGISTRATION}/mutatingadmissionpolicies",
    "MutatingAdmissionPolicyBinding": f"{_REGISTRATION}/mutatingadmissionpolicybindings",
    "ValidatingAdmissionPolicy": f"{_REGISTRATION}/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": f"{_REGISTRATION}/validatingadmissionpolicybindings",
}
_ACCESS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding")
TAKES_EFFECT = 30.0
"""Seconds until the API server has seen a new configuration."""


def rendered(**values):
    """The chart's objects of the kinds above."""
    objects = documents(template(values={"config": CONFIG, **values}))
    return [each for each in objects if each["kind"] in _PATHS]


@contextlib.contextmanager
def applied(cluster, objects):
    """Objects on the server, and gone after it."""
    try:
        for each in objects:
            cluster.ask("POST", _PATHS[each["kind"]], each)
        yield
    finally:
        for each in objects:
            with contextlib.suppress(RefusedByServer):
                cluster.ask("DELETE", f"{_PATHS[each['kind']]}/{each['metadata']['name']}")


@contextlib.contextmanager
def by_webhook(cluster, folder, *, running=True, ca=None, **values):
    """The webhook as the chart configures it, asked by the API server.

    What is not the chart's: the API server asks at a URL of this host, because no node runs that a Service could lead
    to; certificate, token and CAs are at paths of this host.

    Args:
        cluster: The API server.
        folder: For its files.
        running: Whether it runs.
        ca: PEM that the API server trusts, in place of the right one.
        values: Of `webhook`.
    """
    values = {"enabled": True, "tls": {"caBundle": "QQ=="}, "region": "eu-west-1"} | values
    objects = documents(template(values={"config": CONFIG, "webhook": values}))
    name = of_kind("MutatingWebhookConfiguration", objects)["metadata"]["name"]
    access = [each for each in objects if each["kind"] in _ACCESS and each["metadata"]["name"] == name]
    with applied(cluster, access):
        deployment = of_kind("Deployment", [each for each in objects if each["metadata"]["name"] == name])
        [container] = deployment["spec"]["template"]["spec"]["containers"]
        token = cluster.token(NAMESPACE, name)
        ISSUED.append(token)
        webhook = WebhookProcess(folder, cluster, token=token, **_options(container))
        configuration = copy.deepcopy(of_kind("MutatingWebhookConfiguration", objects))
        trusted = base64.b64encode(ca or webhook.ca_pem).decode()
        configuration["webhooks"][0]["clientConfig"] = {"url": webhook.url, "caBundle": trusted}
        with webhook if running else contextlib.nullcontext(), applied(cluster, [configuration]):
            yield webhook


@contextlib.contextmanager
def by_policy(cluster, **values):
    """The admission policies of the chart; `values` are of `webhook`, which are the policies', too."""
    objects = rendered(injectionPolicy={"enabled": True}, webhook={"region": "eu-west-1"} | values)
    with applied(cluster, [each for each in objects if "Policy" in each["kind"]]):
        yield


def make(cluster, pod, *, namespace="shop", dry=False):
    """The pod as the API server has made it; raises RefusedByServer."""
    path = f"/api/v1/namespaces/{namespace}/pods{'?dryRun=All' if dry else ''}"
    return cluster.ask("POST", path, pod)


def in_effect(cluster, good, bad, *, injected=True):
    """Wait until a pod is injected, and one that cannot be is told or refused; or neither is any more."""

    def seen():
        try:
            has_token = token_volume(make(cluster, good, dry=True)) is not None
            make(cluster, bad, dry=True)
        except RefusedByServer:
            return injected
        return (has_token, bool(cluster.warnings)) == (injected, injected)

    wait(seen, TAKES_EFFECT, f"injected: {injected}")


def comparable(pod):
    """What is the same for two pods that are made alike."""
    text = json.dumps({"spec": pod["spec"], "annotations": pod["metadata"].get("annotations")}, sort_keys=True)
    for volume in pod["spec"].get("volumes", []):
        if volume["name"].startswith("kube-api-access-"):
            text = text.replace(volume["name"], "kube-api-access")
    return json.loads(text)


def _options(container):
    """What the chart's container gets on its command line, but for places."""
    assert container["args"][0] == "webhook"
    given = dict(each.removeprefix("--").split("=", 1) for each in container["args"][1:])
    places = {"listen", "certificate", "private-key", "log-level"}
    return {name.replace("-", "_"): value for name, value in given.items() if name not in places}
