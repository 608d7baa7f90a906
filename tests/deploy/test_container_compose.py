"""The compose files: an unmodified boto3 beside the daemon has the role, and each of its successors."""

import json
import shutil
import time
from contextlib import ExitStack

import pytest

from support.compose import Compose
from support.daemon import wait
from support.lab import Lab
from support.podman import ROOT

FOLDER = ROOT / "deploy/container"
BOTO3 = ROOT / ".cache/clients/boto3/lib"
APP_IMAGE = "localhost/imds-proxy-test-app:latest"
APP = """
import boto3, time
seen = None
while True:  # a job, and the next one
    session = boto3.Session(region_name="eu-west-1")
    try:
        key = session.get_credentials().get_frozen_credentials().access_key
        if key != seen:
            who = session.client("sts", endpoint_url="STS").get_caller_identity()
            print("has", key, who["Arn"], flush=True)
            seen = key
    except Exception as error:
        print("fails", type(error).__name__, error, flush=True)
    time.sleep(0.5)
"""
APP_CONTAINERFILE = """
ARG BASE
FROM ${BASE}
COPY boto3 /boto3
COPY app.py /app.py
ENV PYTHONPATH=/boto3
USER 1000:1000
CMD ["python3", "/app.py"]
"""
LONGEST_START = 30.0  # seconds


@pytest.fixture(scope="module")
def app_image(podman, image, account, tmp_path_factory):
    """An application that knows nothing of the daemon: boto3, and a loop."""
    context = tmp_path_factory.mktemp("app")
    packages = next(BOTO3.glob("python3*/site-packages"))
    shutil.copytree(packages, context / "boto3", ignore=shutil.ignore_patterns("pip*", "__pycache__"))
    (context / "app.py").write_text(APP.replace("STS", account.double.url))
    (context / "Containerfile").write_text(APP_CONTAINERFILE)
    return podman.build(context / "Containerfile", APP_IMAGE, context, BASE=podman.base())


@pytest.fixture
def folder(aws, tmp_path):
    """deploy/container as a user has it, with their role and key in it; the role is another session every 3 s."""
    copy = tmp_path / "container"
    shutil.copytree(FOLDER, copy)
    for name in ("config.toml", "config-bridge.toml"):
        text = (copy / name).read_text()
        text = text.replace("arn:aws:iam::123456789012:role/App", aws.role_arn)
        text = text.replace("[roles.app]\n", f'[roles.app]\nsts_endpoint = "{aws.double.url}"\nduration = "15m"\n')
        (copy / name).write_text(text + '\n[renewal]\nmax_age = "3s"\n')
        (copy / name).chmod(0o644)
    (copy / "secrets").mkdir()
    key = f"[default]\naws_access_key_id = {aws.key_id}\naws_secret_access_key = {aws.secret}\n"
    (copy / "secrets/aws-credentials").write_text(key)
    (copy / "secrets/aws-credentials").chmod(0o400)
    shutil.chown(copy / "secrets/aws-credentials", 65532, 65532)
    return copy


@pytest.fixture
def project(podman, image, app_image, folder, account):
    """`project(file)`: a started compose project, whose containers end with the test."""
    with ExitStack() as running:

        def start(file):
            port = int(account.double.url.rpartition(":")[2])
            labs = {"imds-proxy": running.enter_context(Lab(port)), "app": running.enter_context(Lab(port))}
            variables = {"IMDS_PROXY_IMAGE": image, "APP_IMAGE": app_image}
            project = Compose(podman, folder / file, variables, labs)
            running.callback(podman, "volume", "rm", "--force", f"{project.name}_state")
            running.callback(project.down)
            if file == "compose-bridge.yaml":
                ends = [project.address(name, "credentials") for name in ("imds-proxy", "app")]
                labs["imds-proxy"].join(ends[0], labs["app"], ends[1])
            project.up()
            return project

        yield start


def keys(podman, project):
    """The keys that the application has had, in order, each after AWS knew it."""
    lines = [line.split() for line in podman.logs(project.container("app")).splitlines()]
    assert all(line[0] == "has" for line in lines), lines
    return [line[1] for line in lines]


@pytest.mark.parametrize("file", ["compose.yaml", "compose-bridge.yaml"])
def test_an_unmodified_boto3_beside_it_has_the_role_and_its_successors(podman, project, file):
    """An application's container would have no credentials, or those of the first hour alone."""
    began = time.monotonic()
    running = project(file)
    wait(lambda: keys(podman, running), LONGEST_START, lambda: podman.logs(running.container("app")))
    took = time.monotonic() - began
    print(f"{file}: {took:.1f} s to the first credentials in the application")
    assert took < LONGEST_START
    wait(lambda: len(keys(podman, running)) >= 3, 60, lambda: podman.logs(running.container("imds-proxy")))


def test_stopped_it_ends_with_0_and_started_again_it_has_the_session_it_had(aws, podman, project):
    """Each update of the image would be taken for a crash, and need AWS."""
    running = project("compose.yaml")
    daemon = running.container("imds-proxy")
    podman("stop", running.container("app"))
    began = time.monotonic()
    podman("stop", "--time", "10", daemon)
    print(f"TERM to the end: {time.monotonic() - began:.1f} s")
    assert podman.inspect("container", daemon)["State"]["ExitCode"] == 0
    aws.double.interfere = lambda _: 500
    podman("start", daemon)
    podman.wait_healthy(daemon)  # by what is saved: STS answers nothing


def test_without_credentials_it_is_not_healthy(aws, podman, project, folder):
    """Applications that wait for it would start too early."""
    running = project("compose.yaml")
    daemon = running.container("imds-proxy")
    assert podman("healthcheck", "run", daemon, check=False).returncode == 0
    podman("stop", daemon)
    (folder / "config.toml").write_text((folder / "config.toml").read_text().replace("{hostname}", "another"))
    aws.double.interfere = lambda _: 500
    podman("start", daemon)
    podman.wait_for_log(daemon, "renewal failed")
    assert podman("healthcheck", "run", daemon, check=False).returncode != 0
    done = podman("exec", daemon, "imds-proxy", "status", "--check", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "not ready" in done.stderr


def test_another_address_on_the_bridge_has_nothing(podman, project, account):
    """Any container on the bridge would have the role of the application."""
    running = project("compose-bridge.yaml")
    podman("stop", "--time", "1", running.container("app"))
    running._labs["app"].ip("address", "add", "172.31.255.11/24", "dev", "eth0")
    running._labs["app"].ip("address", "del", "172.31.255.10/24", "dev", "eth0")
    podman("start", running.container("app"))
    said = podman.wait_for_log(running.container("app"), "fails")
    assert "NoneType" in said.splitlines()[-1]


def test_the_files_say_what_the_container_may_not(podman, project):
    """Somebody copies the file, and with it a container that may more than it needs."""
    running = project("compose.yaml")
    details = podman.inspect("container", running.container("imds-proxy"))
    assert details["HostConfig"]["ReadonlyRootfs"]
    assert not details["EffectiveCaps"]
    assert not details["BoundingCaps"]
    assert "no-new-privileges" in json.dumps(details["HostConfig"]["SecurityOpt"])
    assert details["Config"]["User"] == "65532:65532"
