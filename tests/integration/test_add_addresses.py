"""`add-addresses`, and pods that reach a daemon there: network namespaces, a real SDK, no word with AWS."""

import json
import os
import socket
import subprocess
import sys

import pytest

from support.clients import executable
from support.daemon import HOST, DaemonProcess, clean_environment, wait
from support.kubernetes import AUDIENCE, ISSUER, Cluster
from support.namespace import LINK_LOCAL, container, inside, network_namespace, sysctl
from support.pushed_file import Writer

ADDED = "169.254.170.23: added to lo\nfd00:ec2::23: added to lo\n"
STS = "sts.amazonaws.com"
ARN = "arn:aws:iam::123456789012:role/path/app+x=y,z.@-w"
WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
FETCH = "import boto3; print(boto3.Session().get_credentials().get_frozen_credentials().access_key)"
FETCH_ASYNC = """
import asyncio
from aiobotocore.session import get_session
async def main():
    credentials = await get_session().get_credentials()
    print((await credentials.get_frozen_credentials()).access_key)
asyncio.run(main())
"""


def add(*arguments, launcher=()):
    command = [*launcher, sys.executable, "-W", "error", "-m", "imds_proxy", "add-addresses", *arguments]
    return subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=60, check=False)


def shown(*arguments):
    done = subprocess.run(["ip", "-json", "address", *arguments], capture_output=True, text=True, check=True)
    return {each["local"]: each for link in json.loads(done.stdout) for each in link.get("addr_info", ())}


def source_towards(target):
    """What the kernel would send from; None where it has nothing to send from."""
    done = subprocess.run(["ip", "-json", "route", "get", target], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)[0].get("prefsrc")


# What it does to the network


def test_it_adds_both_addresses_and_a_second_time_nothing():
    """An init container runs at each start of its pod, and the addresses of the last one are still there."""
    with network_namespace():
        assert (add().returncode, add().returncode) == (0, 0)
        subprocess.run(["ip", "address", "flush", "dev", "lo"], check=True)
        first, second = add(), add()
        assert (first.returncode, first.stdout, first.stderr) == (0, ADDED, "")
        assert (second.returncode, second.stdout) == (0, ADDED.replace("added to lo", "is on lo already"))
        found = shown()
        assert (found["169.254.170.23"]["prefixlen"], found["169.254.170.23"]["scope"]) == (32, "host")
        assert found["fd00:ec2::23"]["prefixlen"] == 128
        assert "tentative" not in found["fd00:ec2::23"]


def test_this_host_sends_from_any_other_address_first():
    """A node whose uplink has no address of a scope would ask other hosts to answer 169.254.170.23."""
    with network_namespace(), container("10.99.0.2/24", "10.99.0.1/24") as pid:
        assert add().returncode == 0
        uplink = f"veth{pid}"
        ip("address", "add", "2001:db8::1/64", "dev", uplink, "nodad")
        ip("-6", "route", "add", "default", "via", "2001:db8::7")
        assert source_towards("fd00:ec2::99") == source_towards("2001:db8:1::5") == "2001:db8::1"
        ip("address", "del", "2001:db8::1/64", "dev", uplink)
        ip("address", "add", "2001:db8::1/128", "dev", "lo", "nodad")  # as of a host that is routed to
        ip("-6", "route", "replace", "default", "dev", uplink)
        assert source_towards("fd00:ec2::99") == source_towards("2001:db8:1::5") == "2001:db8::1"
        ip("address", "flush", "dev", uplink)
        ip("route", "replace", "default", "dev", uplink)
        assert source_towards("198.51.100.1") is None


def test_on_another_interface_the_daemon_can_listen_at_once():
    """While IPv6 looks for a duplicate of an address, nothing can; the daemon starts a moment later."""
    with network_namespace(), container("10.99.0.2/24", "10.99.0.1/24") as pid:
        assert add("--interface", f"veth{pid}").returncode == 0
        with socket.socket(socket.AF_INET6) as listener:
            listener.bind(("fd00:ec2::23", 80))
        assert set(shown("show", "dev", f"veth{pid}")) >= {"169.254.170.23", "fd00:ec2::23"}


def test_an_address_on_another_interface_is_left_there():
    """The agent of EKS has it on one of its own."""
    with network_namespace(), container("10.99.0.2/24", "169.254.170.23/32") as pid:
        done = add()
        assert done.stdout == f"169.254.170.23: is on veth{pid} already\nfd00:ec2::23: added to lo\n"
        assert add("--interface", f"veth{pid}", "169.254.170.2").returncode == 0
        assert "169.254.170.2" in shown("show", "dev", f"veth{pid}")


def test_without_ipv6_the_other_address_is_there():
    """Many nodes have it disabled; a pod that never starts would be worse than one address."""
    with network_namespace():
        sysctl("net/ipv6/conf/lo/disable_ipv6", 1)
        done = add()
        assert (done.returncode, done.stdout) == (0, "169.254.170.23: added to lo\n")
        assert done.stderr == "imds-proxy: warning: fd00:ec2::23 is not added: IPv6 is disabled here\n"
        alone = add("fd00:ec2::23")
        assert (alone.returncode, alone.stdout) == (1, "")
        assert "none of the addresses is there" in alone.stderr


def test_without_the_capability_it_says_which():
    """And where it goes in the pod."""
    with network_namespace():
        done = add(launcher=WITHOUT_RIGHTS)
        assert (done.returncode, done.stdout) == (1, "")
        assert "takes the capability CAP_NET_ADMIN" in done.stderr
        assert "securityContext: {runAsUser: 0, capabilities: {drop: [ALL], add: [NET_ADMIN]}}" in done.stderr
        assert "Traceback" not in done.stderr
        assert add(launcher=("setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all")).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["10.96.0.1"], 2, "could not be reached from here any more"),
        (["8.8.8.8"], 2, "could not be reached from here any more"),
        (["fd00:10:96::1"], 2, "could not be reached from here any more"),
        (["fe80::1"], 2, "could not be reached from here any more"),
        (["0.0.0.0"], 2, "could not be reached from here any more"),
        (["::ffff:169.254.170.23"], 2, "could not be reached from here any more"),
        (["fd00:ec2::23%lo"], 2, "is no IP address"),
        (["localhost"], 2, "is no IP address"),
        ([""], 2, "is no IP address"),
        (["169.254.170.23/16"], 2, "write 169.254.170.23"),
        (["169.254.169.254"], 2, "--hide-cloud-services"),
        (["fd00:ec2::254"], 2, "--hide-cloud-services"),
        (["169.254.169.253", "169.254.170.23"], 2, "--hide-cloud-services"),
        (["--interface", "eth9"], 1, "there is no interface eth9 here"),
        (["--interface", ""], 1, "there is no interface"),
    ],
    ids=str,
)
def test_what_would_cut_the_node_off_is_refused(arguments, code, words):
    """An address of a service of the cluster, or of the cloud, would lead to this host from then on."""
    with network_namespace():
        before = shown()
        done = add(*arguments)
        assert (done.returncode, done.stdout) == (code, "")
        assert words in done.stderr
        assert shown() == before


def test_a_metadata_address_is_added_where_that_is_meant():
    with network_namespace():
        assert add("--hide-cloud-services", *LINK_LOCAL).returncode == 0
        assert set(LINK_LOCAL) <= set(shown())


def test_an_interface_that_is_down_is_named():
    with network_namespace():
        subprocess.run(["ip", "link", "set", "lo", "down"], check=True)
        done = add()
        assert done.returncode == 1
        assert "the interface lo is down\n  → ip link set lo up" in done.stderr


MISSING = """
import sys
class Missing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "pyroute2": raise ModuleNotFoundError("not there", name="pyroute2")
sys.meta_path.insert(0, Missing())
from imds_proxy.cli.main import main
sys.exit(main(["add-addresses"]))
"""


def test_a_missing_package_is_named():
    done = subprocess.run([sys.executable, "-c", MISSING], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "needs the Python package pyroute2" in done.stderr
    assert f"{sys.executable} -m pip install 'imds-proxy[kubernetes]'" in done.stderr


# Pods


@pytest.fixture
def cluster(tmp_path):
    made = Cluster()
    (tmp_path / "jwks.json").write_bytes(made.key_set())
    return made


@pytest.fixture
def config(tmp_path, cluster):
    """Of a daemon on both addresses, with a role for shop/api; ends in `[service_accounts]`."""
    writer = Writer(tmp_path)
    writer.rename()
    listen = '"169.254.170.23:80", "[fd00:ec2::23]:80"'
    host, role = HOST.replace('"127.0.0.1:PORT"', listen), f'{writer.role}role_arn = "{ARN}"\n'
    grants = '[[grants]]\nrole = "deploy"\nservice_account = "shop/api"\n'
    accounts = f'[service_accounts]\nissuer = "{ISSUER}"\njwks_file = "{tmp_path / "jwks.json"}"\n'
    return host + role + grants + accounts


@pytest.fixture
def daemon_on(tmp_path, config):
    """Takes what else goes into `[service_accounts]`, and starts the daemon in the present namespace."""
    running = []

    def start(settings="", *, ready=True):
        daemon = DaemonProcess(tmp_path, config + settings, {})
        running.append(daemon.start())
        return daemon.wait_ready() if ready else daemon

    yield start
    for daemon in running:
        daemon.stop()


@pytest.fixture
def pod(tmp_path):
    """The process id of a network that has nothing but its own addresses and a default gateway, as a pod's has."""
    with network_namespace(), container("10.244.0.7/24", "10.244.0.1/24") as pid:
        assert add().returncode == 0
        ip("address", "add", "fd00:10:244::1/64", "dev", f"veth{pid}", "nodad")
        with inside(pid):
            ip("address", "add", "fd00:10:244::7/64", "dev", "eth0", "nodad")
            ip("route", "add", "default", "via", "10.244.0.1")
            ip("-6", "route", "add", "default", "via", "fd00:10:244::1")
        yield pid


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


def in_pod(pid, tmp_path, uri, token, *command):
    """What a program prints that is started there with what injection sets."""
    (tmp_path / "token").write_text(token)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": uri,
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "token"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_REGION": "eu-west-1",
    }
    with inside(pid):
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


URIS = [
    "http://169.254.170.23/v1/credentials",
    f"http://169.254.170.23/v1/credentials/{ARN}",
    f"http://[fd00:ec2::23]/v1/credentials/{ARN}",
    "http://169.254.170.23/v1/credentials/deploy",
]
SDKS = {
    "boto3": (executable("boto3", "python"), "-c", FETCH),
    "aiobotocore": (executable("aiobotocore", "python"), "-c", FETCH_ASYNC),
    "awscli": (executable("awscli", "aws"), "configure", "list"),
}


@pytest.mark.parametrize("sdk", SDKS)
def test_an_sdk_in_a_pod_has_the_role_it_asks_for(daemon_on, pod, cluster, tmp_path, sdk):
    """By the address of EKS, through the default gateway, with the annotation's ARN as it stands in the URI."""
    daemon = daemon_on()
    for uri in URIS:
        done = in_pod(pod, tmp_path, uri, cluster.token(), *SDKS[sdk])
        assert done.returncode == 0, done.stderr
        assert json.loads((tmp_path / "deploy.credentials").read_text())["AccessKeyId"][-4:] in done.stdout
    wait(lambda: sum(line["count"] for line in handed_out(daemon)) == len(URIS), 10, "the audit")
    seen = {(line["address"], line["service_account"], line.get("uid")) for line in handed_out(daemon)}
    assert seen == {("10.244.0.7", "shop/api", None), ("fd00:10:244::7", "shop/api", None)}


def handed_out(daemon):
    return [event for event in daemon.events() if event["event"] == "credentials handed out"]


def test_an_account_whose_annotation_and_grant_differ_is_refused_with_words(daemon_on, pod, cluster, tmp_path):
    """Whoever runs the cluster reads which account asks for what, and what it is granted."""
    daemon = daemon_on()
    other = ARN.replace("/app", "/other")
    uri = f"http://169.254.170.23/v1/credentials/{other}"
    done = in_pod(pod, tmp_path, uri, cluster.token(), *SDKS["boto3"])
    assert done.returncode != 0
    assert "annotation asks for another role" in done.stderr
    warning = daemon.wait_for_event("a service account asks for another role than it is granted: refused")
    assert (warning["service_account"], warning["asks_for"], warning["granted"]) == ("shop/api", other, "deploy")
    refused = daemon.wait_for_event("credentials refused")
    assert refused["reason"] == f"asks for {other}; granted: deploy"
    assert (refused["status"], refused["address"], refused["pod"]) == (403, "10.244.0.7", "api-7d9f")
    assert len([e for e in daemon.events() if e["event"].startswith("a service account asks")]) == 1


def test_a_token_of_either_audience_is_taken_where_both_are_configured(daemon_on, pod, cluster, tmp_path):
    daemon = daemon_on(f'audience = ["{AUDIENCE}", "{STS}"]\n')
    for audience in (AUDIENCE, STS, [STS, "vault"]):
        done = in_pod(pod, tmp_path, URIS[1], cluster.token(aud=audience), *SDKS["boto3"])
        assert done.returncode == 0, done.stderr
    assert in_pod(pod, tmp_path, URIS[1], cluster.token(aud="vault"), *SDKS["boto3"]).returncode != 0
    assert daemon.wait_for_event("credentials refused")["reason"] == "the token is for another audience"


def test_without_the_addresses_the_daemon_ends_and_says_what_to_run(tmp_path, config):
    """Where the init container did not run, the pod shows it instead of being ready and serving nobody."""
    with network_namespace(), DaemonProcess(tmp_path, config, {}) as daemon:
        assert daemon.process.wait(20) == 1
        assert {"imds-proxy add-addresses, or ip address add"} == {
            event["advice"].partition(": ")[2][:43] for event in daemon.events() if event["event"] == "cannot listen"
        }


def test_with_one_of_the_addresses_the_daemon_serves_there(daemon_on):
    """Half of the clusters have no IPv6; the other one is opened once it is there."""
    with network_namespace():
        assert add("169.254.170.23").returncode == 0
        daemon = daemon_on(ready=False)
        assert daemon.wait_for_event("cannot listen")["error"].startswith("listener [fd00:ec2::23]:80: ")
        assert daemon.wait_for_event("listening")["address"] == "169.254.170.23:80"
        assert add().returncode == 0
        assert daemon.wait_for_event("listening", 2)["address"] == "[fd00:ec2::23]:80"


def test_nothing_imports_the_package_but_the_verb():
    """Every start of the daemon would take half a second longer."""
    script = "import imds_proxy.daemon, imds_proxy.cli.add_addresses, imds_proxy.cli.serve, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert "pyroute2" not in done.stdout.split()
