"""Injection by a real API server: it calls the webhook, it evaluates the policies, and its token gets credentials."""

import json
import ssl
import threading
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import trustme

from support.admission import INJECTED, pod_of, token_volume, variables
from support.clients import on, run
from support.injection import applied, by_policy, by_webhook, comparable, in_effect, make
from support.kube_apiserver import KubeApiServer, RefusedByServer
from support.kubernetes import ISSUER

ROLE = "eks.amazonaws.com/role-arn"
NAMESPACES = ("shop", "imds-proxy")
REGION = {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, account):
    """Service accounts that ask: `api` well, the others for what cannot be injected."""
    with KubeApiServer(tmp_path_factory.mktemp("cluster"), admission=True) as running:
        asks = {ROLE: account.role_arn}
        accounts = {
            "api": asks | {"eks.amazonaws.com/token-expiration": "3600"},
            "sts": asks | {"eks.amazonaws.com/audience": "sts.amazonaws.com"},
            "plain": {},
            "bad-role": {ROLE: "a//b"},
            "bad-audience": asks | {"eks.amazonaws.com/audience": "two words"},
            "bad-expiration": asks | {"eks.amazonaws.com/token-expiration": "1h"},
        }
        for namespace in NAMESPACES:
            running.make_namespace(namespace)
            for name, annotations in accounts.items():
                metadata = {"name": name, "annotations": annotations}
                running.call(f"namespaces/{namespace}/serviceaccounts", metadata=metadata)
        yield running


@pytest.fixture(params=["webhook", "policy"])
def way(request, cluster, tmp_path):
    """`way(**values)`: one of the two ways of injection, in effect."""

    def begin(**values):
        return by_webhook(cluster, tmp_path, **values) if request.param == "webhook" else by_policy(cluster, **values)

    begin.name = request.param
    yield begin
    in_effect(cluster, named("plain"), named("bad-role"), injected=False)


def image(name, **more):
    return {"name": name, "image": "none", **more}


OWN = image("own", env=[{"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": "http://127.0.0.1:1/"}])
VALUES = image(
    "values",
    env=[
        {"name": "AWS_REGION", "value": "us-east-1"},
        {"name": "AWS_EC2_METADATA_DISABLED", "value": "false"},
        {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ],
    volumeMounts=[{"name": "data", "mountPath": "/data"}],
)
TOKEN = {"audience": "pods.eks.amazonaws.com", "path": "eks-pod-identity-token", "expirationSeconds": 700}
THERE = {"name": "eks-pod-identity-token", "projected": {"sources": [{"serviceAccountToken": TOKEN}]}}
TAKEN = {"name": "eks-pod-identity-token", "emptyDir": {}}
MOUNTED = image(
    "mounted",
    volumeMounts=[{"name": "data", "mountPath": "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount/"}],
)
DATA = {"name": "data", "emptyDir": {"sizeLimit": "1Gi"}}
PODS = {
    "plain": pod_of("main"),
    "another-audience": pod_of("main", account="sts"),
    "does-not-ask": pod_of("main", account="plain"),
    "names-no-account": pod_of("main", account=""),
    "init-and-sidecar": pod_of("main", initContainers=[image("fetch"), image("mesh", restartPolicy="Always")]),
    "without-own-token": pod_of("main", automountServiceAccountToken=False),
    "host-network": pod_of("main", hostNetwork=True),
    "own-arrangements": pod_of(OWN, "main"),
    "all-have-their-own": pod_of(OWN),
    "values-of-its-own": pod_of(VALUES, volumes=[DATA]),
    "skips": pod_of("a", "b", "c", annotations={"eks.amazonaws.com/skip-containers": "a, c"}),
    "own-expiration": pod_of("main", annotations={"eks.amazonaws.com/token-expiration": "900"}),
    "bad-expiration-of-its-own": pod_of("main", annotations={"eks.amazonaws.com/token-expiration": "0"}),
    "windows": pod_of("main", os={"name": "windows"}),
    "windows-node": pod_of("main", nodeSelector={"kubernetes.io/os": "windows"}),
    "volume-is-there": pod_of("main", volumes=[THERE]),
    "volume-is-taken": pod_of("main", volumes=[TAKEN]),
    "path-is-taken": pod_of(MOUNTED, volumes=[DATA]),
    "unprivileged": pod_of("main", securityContext={"runAsUser": 1000, "runAsNonRoot": True, "fsGroup": 1000}),
    "opts-out": pod_of("main") | {"metadata": {"labels": {"eks.amazonaws.com/skip-pod-identity-webhook": "true"}}},
    **{name: pod_of("main", account=name) for name in ("bad-role", "bad-audience", "bad-expiration")},
}
INJECTS = {
    "plain",
    "another-audience",
    "init-and-sidecar",
    "without-own-token",
    "host-network",
    "own-arrangements",
    "values-of-its-own",
    "skips",
    "own-expiration",
    "volume-is-there",
    "unprivileged",
}


def named(name, pod=None):
    pod = pod or PODS[name]
    metadata = {key: value for key, value in pod["metadata"].items() if key != "name"}
    return pod | {"metadata": metadata | {"generateName": f"{name}-"}}


def test_webhook_and_policy_make_the_same_pods(cluster, tmp_path):
    """Whoever moves from one to the other would find out pod by pod."""
    with by_webhook(cluster, tmp_path):
        in_effect(cluster, named("plain"), named("bad-role"))
        by_call = {name: comparable(make(cluster, named(name))) for name in PODS}
    in_effect(cluster, named("plain"), named("bad-role"), injected=False)
    with by_policy(cluster):
        in_effect(cluster, named("plain"), named("bad-role"))
        by_rule = {name: comparable(make(cluster, named(name))) for name in PODS}
    assert by_call == by_rule
    injected = {
        name for name, pod in by_call.items() if variables_anywhere(pod) & INJECTED.keys() - own_variables(name)
    }
    assert injected == INJECTS


def variables_anywhere(pod):
    containers = pod["spec"]["containers"] + pod["spec"].get("initContainers", [])
    return {name for each in containers for name in variables(each) if each["name"] != "own"}


def own_variables(name):
    return {"AWS_EC2_METADATA_DISABLED"} if name == "values-of-its-own" else set()


@pytest.mark.parametrize("who", ["api", "sts"])
def test_a_token_of_an_injected_pod_gets_credentials(way, cluster, aws, start_daemon, tmp_path, who):
    """The whole of it: what an unmodified SDK finds in its environment, with the token that a kubelet puts there."""
    with way():
        in_effect(cluster, named("plain"), named("bad-role"))
        pod = make(cluster, pod_of("main", account=who, name=f"exchange-{way.name}-{who}"))
    environment, volume = variables(pod["spec"]["containers"][0]), token_volume(pod)
    token_file = tmp_path / environment["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"].removeprefix("/")
    token_file.parent.mkdir(parents=True)
    life = {"expiration": volume["expirationSeconds"]}
    token_file.write_text(cluster.token("shop", who, volume["audience"], pod=pod["metadata"]["name"], **life))
    daemon = start_daemon(of_the_cluster(cluster, tmp_path))
    here = environment | {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"].replace(
            "http://169.254.170.23/", daemon.endpoint
        ),
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token_file),
    }
    assert here.keys() == (INJECTED | REGION).keys()
    assert aws.role_arn in here["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
    ended = run("boto3", on(aws.double.url) | here, "once")
    assert ended.status == 0, ended.errors
    called = {(call.action, call.status) for call in aws.double.calls if call.key_id.startswith("ASIA")}
    assert ("GetCallerIdentity", 200) in called, aws.double.calls


def of_the_cluster(cluster, folder):
    """Config for a daemon that believes a cluster's tokens, with both audiences."""
    (folder / "own").write_text(cluster.token("imds-proxy", "plain"))
    return f"""
[[grants]]
role = "deploy"
service_account = "shop/*"
[service_accounts]
issuer = "{ISSUER}"
jwks_url = "{cluster.keys_url}"
ca_bundle = "{cluster.ca_bundle}"
token_file = "{folder / "own"}"
audience = ["pods.eks.amazonaws.com", "sts.amazonaws.com"]
"""


def test_pods_of_the_system_and_of_the_release_are_not_looked_at(way, cluster):
    """With failurePolicy Fail the webhook's own pods could not be made while none of them runs."""
    with way(failurePolicy="Fail"):
        in_effect(cluster, named("plain"), named("bad-role"))
        assert token_volume(make(cluster, named("plain"), namespace="imds-proxy")) is None


@pytest.mark.parametrize("name", ["bad-role", "bad-audience", "bad-expiration", "volume-is-taken", "path-is-taken"])
def test_what_cannot_be_injected_is_told_or_refused(way, cluster, name):
    """`kubectl apply` shows it; nobody looks for it in the log of an application later."""
    with way(onError="allow"):
        in_effect(cluster, named("plain"), named("bad-role"))
        made = comparable(make(cluster, named(name)))
        assert not variables_anywhere(made) & INJECTED.keys()
        assert "no AWS credentials are injected" in " ".join(cluster.warnings)
    in_effect(cluster, named("plain"), named("bad-role"), injected=False)
    with way(onError="deny"):
        in_effect(cluster, named("plain"), named("bad-role"))
        with pytest.raises(RefusedByServer, match="imds-proxy: ") as refused:
            make(cluster, named(name))
        assert refused.value.status in {403, 422}
        make(cluster, named("does-not-ask"))


@pytest.mark.parametrize("trouble", ["down", "another CA", "another name"])
def test_a_webhook_that_cannot_be_asked_leaves_it_to_the_failure_policy(cluster, tmp_path, trouble):
    """Ignore: nobody's pods wait for it. Fail: none is made that would have no credentials."""
    other = trustme.CA().cert_pem.bytes() if trouble == "another CA" else None
    options = {"running": trouble != "down", "ca": other}
    (tmp_path / "fail").mkdir()
    with by_webhook(cluster, tmp_path / "fail", failurePolicy="Fail", **options) as webhook:
        if trouble == "another name":
            webhook.pki.put_server("elsewhere.example")
            webhook.wait_for("the webhook has a certificate in use", 2)
        refused = refused_by(cluster)
        assert "failed calling webhook" in str(refused)
    in_effect(cluster, named("plain"), named("bad-role"), injected=False)
    (tmp_path / "ignore").mkdir()
    with by_webhook(cluster, tmp_path / "ignore", failurePolicy="Ignore", **options) as webhook:
        if trouble == "another name":
            webhook.pki.put_server("elsewhere.example")
            webhook.wait_for("the webhook has a certificate in use", 2)
        for _ in range(20):
            assert token_volume(make(cluster, named("plain"))) is None


def refused_by(cluster):
    """How a pod is refused, once it is."""
    for _ in range(300):
        try:
            make(cluster, named("plain"), dry=True)
        except RefusedByServer as error:
            return error
    raise AssertionError("pods are made")


@pytest.mark.parametrize("on_error", ["allow", "deny"])
def test_a_webhook_that_may_not_read_accounts_says_what_it_needs(cluster, tmp_path, on_error):
    with by_webhook(cluster, tmp_path, onError=on_error) as webhook:
        in_effect(cluster, named("plain"), named("bad-role"))
        cluster.ask("DELETE", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/imds-proxy-webhook")
        webhook.wait_for("pod injected")
        said = ""
        for _ in range(100):
            try:
                make(cluster, named("plain"), dry=True)
                said = " ".join(cluster.warnings)
            except RefusedByServer as error:
                said = str(error)
            if said:
                break
        assert "answered 403: let the webhook's own account get serviceaccounts" in said
        assert said.startswith("503") == (on_error == "deny")


class Mesh(BaseHTTPRequestHandler):
    """Another webhook, which adds a container to each pod."""

    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        uid, pod = review["request"]["uid"], review["request"]["object"]
        response = {"uid": uid, "allowed": True}
        if all(each["name"] != "proxy" for each in pod["spec"]["containers"]):
            patch = [{"op": "add", "path": "/spec/containers/-", "value": image("proxy")}]
            response |= {"patchType": "JSONPatch", "patch": b64encode(json.dumps(patch).encode()).decode()}
        body = json.dumps({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def mesh():
    """The configuration of a webhook that is asked after ours."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mesh)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    bundle = b64encode(authority.cert_pem.bytes()).decode()
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}
    yield {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "zz-mesh"},
        "webhooks": [
            {
                "name": "mesh.example.com",
                "clientConfig": {"url": f"https://127.0.0.1:{server.server_port}/", "caBundle": bundle},
                "rules": [rule],
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
            }
        ],
    }
    server.shutdown()
    server.server_close()


def test_a_container_that_another_webhook_adds_later_is_injected_too(way, cluster, mesh):
    """A mesh's proxy that signs requests, say; and nothing is injected twice."""
    with way(), applied(cluster, [mesh]):
        in_effect(cluster, named("plain"), named("bad-role"))
        for _ in range(100):
            pod = make(cluster, named("plain"), dry=True)
            if len(pod["spec"]["containers"]) > 1:
                break
        main, proxy = pod["spec"]["containers"]
    assert proxy["name"] == "proxy"
    assert variables(main) == variables(proxy)
    assert variables(main).keys() == (INJECTED | REGION).keys()


def test_the_log_has_a_line_for_each_injected_pod(cluster, tmp_path):
    with by_webhook(cluster, tmp_path) as webhook:
        in_effect(cluster, named("plain"), named("bad-role"))
        make(cluster, pod_of("main", name="logged"))
        lines = [line for line in webhook.events("pod injected") if line["pod"] == "logged"]
    assert [(line["namespace"], line["service_account"], line["containers"]) for line in lines] == [
        ("shop", "api", "main")
    ]
