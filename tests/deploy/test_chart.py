"""The chart, rendered: for each case of tests/deploy/values, and for values that contradict each other."""

import tarfile
import tomllib
from pathlib import PurePosixPath

import pytest
import yaml

from imds_proxy.config.reader import parse
from support.chart import CASES, CHART, documents, helm, of_kind, template
from support.chart_files import GOLDEN, stale
from support.cluster_objects import VALIDATED, validate

CONFIG = """
region = "eu-west-1"
[roles.app]
role_arn = "arn:aws:iam::123456789012:role/App"
[[grants]]
role = "app"
service_account = "shop/frontend"
"""
ODD = r'''
region = 'eu-west-1'
roles.app.role_arn = "arn:aws:iam::123456789012:role/App"   # a dotted key
[roles.app.policy]
Version = "2012-10-17"
Statement = [{ Effect = "Allow", Action = "*", Resource = "*", Condition = { Bool = { "aws:via" = true } } }]
[roles.app.policy.odd]
quotes = """quotes " and \\ and {{ .Values.mode }} and
two lines"""
"ключ" = '$(HOSTNAME) \n is no newline'
[roles."other+=,.@-"]
role_arn = "arn:aws:iam::123456789012:role/path/Other"
tags = { team = "a b", "ключ" = "ключ" }
duration = 43_200
[renewal]
max_age = 0x1000
[audit]
[[grants]]
role = "app"
service_account = "shop/*"
[[grants]]
role = "other+=,.@-"
service_account = "shop/api"
uid = 4294967294
'''


def config_of(objects):
    return tomllib.loads(of_kind("ConfigMap", objects)["data"]["config.toml"])


@pytest.mark.parametrize("case", [None, *CASES])
def test_helm_lints_it(case):
    """Who packages charts runs it, and a warning stops them."""
    values = ["--values", CASES[case]] if case else []
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART, *values)


def test_what_is_made_of_the_chart_is_of_now():
    """Golden files show a reviewer what a change does to each install; kustomize's users get what helm's do."""
    assert not stale(), "run make golden, and read what changes"


@pytest.mark.parametrize("version", VALIDATED)
def test_every_object_is_valid(version):
    """A field that Kubernetes does not know is dropped by a server: a capability that was to be dropped, say."""
    cases = [case for case in CASES if version == VALIDATED[-1] or case != "injection-policy"]
    validate([each for case in cases for each in documents((GOLDEN / f"{case}.yaml").read_text())], version)


@pytest.mark.parametrize("name", ["1e3", "true", "a" * 53])
def test_any_name_of_release_and_namespace_is_taken(name):
    """YAML takes some for numbers, and Kubernetes cuts none that is too long."""
    injects = {"webhook": {"enabled": True, "tls": {"mode": "certManager"}}, "injectionPolicy": {"enabled": True}}
    names = {"nameOverride": "0x10", "fullnameOverride": name if name != "a" * 53 else ""}
    objects = documents(template(values=daemonset(**injects, **names), release=name, namespace=name))
    objects += documents(template(values=sidecar(**names), release=name, namespace=name))
    validate(objects, VALIDATED[-1])
    assert all(len(each["metadata"]["name"]) <= 63 for each in objects if each["kind"] in {"Service", "DaemonSet"})


def test_an_unknown_field_would_be_found():
    (first, *_) = documents((GOLDEN / "daemonset.yaml").read_text())
    with pytest.raises(AssertionError, match="automountToken"):
        validate([first | {"automountToken": False}], VALIDATED[-1])


@pytest.mark.parametrize("case", CASES)
def test_the_daemon_takes_its_config(case):
    """A pod that ends at once, on every node, is how it would be found otherwise."""
    objects = documents((GOLDEN / f"{case}.yaml").read_text())
    config = config_of(objects)
    parse(config, case)
    given = yaml.safe_load(CASES[case].read_text())["config"]
    assert contains(config, tomllib.loads(given))


def contains(whole, part):
    """Whether a document has all of another one."""
    if isinstance(part, dict):
        return all(name in whole and contains(whole[name], each) for name, each in part.items())
    return whole == part


def test_any_config_comes_through():
    """The chart reads and writes it: what it would change there is changed on every node."""
    rendered = config_of(documents(template(values={"config": ODD})))
    assert contains(rendered, tomllib.loads(ODD))
    parse(rendered, "odd")


def test_another_config_replaces_the_pods():
    """The file is mounted by itself, and stays the old one in a pod that runs."""

    def checksum(config):
        objects = documents(template(values={"config": config}))
        return of_kind("DaemonSet", objects)["spec"]["template"]["metadata"]["annotations"]["checksum/config"]

    assert checksum(CONFIG) != checksum(CONFIG + 'listener = "169.254.170.23:80"\n')
    assert checksum(CONFIG) == checksum(CONFIG + "# only a comment\n")


def test_the_package_holds_the_chart_and_nothing_else(tmp_path):
    """Notes and other people's files do not belong into every cluster's release history."""
    helm("package", CHART, "--destination", tmp_path)
    (package,) = tmp_path.iterdir()
    with tarfile.open(package) as tar:
        names = {PurePosixPath(name) for name in tar.getnames()}
    suffixes = {(name.parent.name, name.suffix) for name in names}
    assert suffixes <= {
        ("imds-proxy", ".yaml"),
        ("imds-proxy", ".json"),
        ("imds-proxy", ""),
        ("templates", ".yaml"),
        ("templates", ".tpl"),
        ("templates", ".txt"),
    }
    print(f"{package.name}: {package.stat().st_size} bytes, {len(names)} files")


def daemonset(**values):
    return {"config": CONFIG, **values}


def sidecar(**values):
    return {"mode": "sidecar", "config": CONFIG, "sidecar": {"application": {"image": "app"}}, **values}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "say at least one role"),
        ({"config": "roles = 1 2"}, "config is not valid TOML: toml: line 1"),
        ({"config": CONFIG.partition("[[")[0]}, r"say in \[\[grants\]\] which service_account"),
        (daemonset(config=f'state_dir = "/tmp/x"\n{CONFIG}'), "state_dir is /var/lib/imds-proxy"),
        (
            daemonset(config=f'{CONFIG}[metadata]\nlisten = ["0.0.0.0:80"]\n'),
            r"\[metadata\] listen is made by the chart",
        ),
        (
            daemonset(config=f'{CONFIG}[admin]\nlisten = "0.0.0.0:1"\n'),
            "set the value metrics.address and metrics.port",
        ),
        (daemonset(config=f'{CONFIG}[service_accounts]\nissuer = "x"\n'), "set the value serviceAccounts.issuer"),
        (daemonset(metrics={"enabled": True}), "say who sees them"),
        (daemonset(metrics={"enabled": True, "tls": {"secretName": "tls"}}), "say who sees them"),
        (daemonset(metrics={"enabled": True, "clientCa": {"secretName": "ca"}}), "needs metrics.tls.secretName"),
        (daemonset(metrics={"clientCa": {"secretName": "a", "configMapName": "b"}}), "not both"),
        (daemonset(metrics={"allowedAddresses": ["10.0.0.1"]}), "do nothing while metrics.enabled is false"),
        (daemonset(metrics={"podMonitor": {"enabled": True}}), "do nothing while metrics.enabled is false"),
        (daemonset(metrics={"enabled": True, "allowedAddresses": ["10.0.0.1", "::/0"]}), "::/0 is every network"),
        (daemonset(metrics={"port": 80}), "give them different ones"),
        ({"mode": "sidecar", "config": CONFIG}, "sidecar.application.image: say which application"),
        (sidecar(state={"type": "hostPath"}), "hostPath needs mode: daemonset"),
        (daemonset(daemonset={"dnsPolicy": "Default"}), "write the API server's address there"),
        (
            daemonset(injectionPolicy={"enabled": True}, webhook={"audience": "vault"}),
            "none of serviceAccounts.audiences",
        ),
        (sidecar(webhook={"enabled": True}), "they need mode: daemonset"),
        (sidecar(injectionPolicy={"enabled": True}), "they need mode: daemonset"),
    ],
)
def test_values_that_contradict_each_other_are_told(values, words):
    """Before anything is installed, and in a sentence."""
    with pytest.raises(AssertionError, match=words):
        template(values=values)


def test_the_injection_policy_is_refused_where_the_cluster_is_too_old_for_it():
    with pytest.raises(AssertionError, match=r"needs Kubernetes 1.36, and this is v1.35.0"):
        template(values=daemonset(injectionPolicy={"enabled": True}), kube_version="1.35.0")


@pytest.mark.parametrize("case", CASES)
def test_the_documents_are_never_the_whole_networks(case):
    """Metrics name roles, accounts and files: on an address that others reach, someone is named who sees them."""
    admin = config_of(documents((GOLDEN / f"{case}.yaml").read_text()))["admin"]
    if not admin["listen"].startswith("127.0.0.1:"):
        wide = {"0.0.0.0/0", "::/0"}
        assert admin.keys() & {"allowed_addresses", "client_ca"} or "sidecar" in case
        assert not wide & set(admin.get("allowed_addresses", []))


def containers(objects):
    for each in objects:
        if each["kind"] in {"DaemonSet", "Deployment"}:
            pod = each["spec"]["template"]["spec"]
            yield from (
                (each["kind"], pod, container)
                for part in ("initContainers", "containers")
                for container in pod.get(part, [])
            )


@pytest.mark.parametrize("case", CASES)
def test_no_container_has_more_rights_than_it_needs(case):
    """NET_ADMIN on a node reroutes every pod's traffic: the container that has it ends before the daemon starts."""
    added = {"add-addresses": ["NET_ADMIN"]}
    for kind, pod, container in containers(documents((GOLDEN / f"{case}.yaml").read_text())):
        rights = container["securityContext"]
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["capabilities"]["drop"] == ["ALL"]
        own = ["NET_BIND_SERVICE"] if (kind, container["name"]) == ("DaemonSet", "imds-proxy") else []
        assert rights["capabilities"].get("add", []) == added.get(container["name"], own)
        if container["name"] != "application":
            assert rights["readOnlyRootFilesystem"] is True
            assert container["resources"]["requests"]["memory"]
            assert container["resources"]["limits"]["memory"]
        assert pod["automountServiceAccountToken"] is False


@pytest.mark.parametrize("case", CASES)
def test_what_secrets_hold_is_the_daemons_alone_to_read(case):
    """With Kubernetes' own 0644 every process of the pod reads a key, which the daemon refuses where it can."""
    for each in documents((GOLDEN / f"{case}.yaml").read_text()):
        if each["kind"] in {"DaemonSet", "Deployment"}:
            volumes = each["spec"]["template"]["spec"]["volumes"]
            mounted = [volume.get("projected") or volume.get("secret") for volume in volumes]
            assert {mount["defaultMode"] for mount in mounted if mount} <= {0o400}
