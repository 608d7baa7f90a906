"""deploy/container/README.md, followed: its own lines, in its order, in a shell."""

import os
import re
import shutil
import subprocess

import pytest

import imds_proxy
from support.daemon import wait
from support.lab import Lab
from support.podman import ROOT

README = (ROOT / "deploy/container/README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
APP = """
import boto3
print("has", boto3.Session(region_name="eu-west-1").get_credentials().get_frozen_credentials().access_key)
"""


@pytest.fixture
def shell(podman, image, account, aws, tmp_path):
    """`shell(lines)`: run in a copy of this repository, by a user whose `podman` is the one of these tests."""
    copy, home = tmp_path / "imds-proxy", tmp_path / "home"
    for name in ("deploy/container", "imds_proxy"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "secrets"))
    for name in (".dockerignore", "LICENSE", "README.md", "pyproject.toml", "requirements-extras.txt"):
        shutil.copy(ROOT / name, copy / name)
    (home / ".aws").mkdir(parents=True)
    key = f"[default]\naws_access_key_id = {aws.key_id}\naws_secret_access_key = {aws.secret}\n"
    (home / ".aws/credentials").write_text(key)
    config = copy / "deploy/container/config.toml"
    text = config.read_text().replace("arn:aws:iam::123456789012:role/App", aws.role_arn)
    config.write_text(text.replace("[roles.app]\n", f'[roles.app]\nsts_endpoint = "{aws.double.url}"\n'))
    config.chmod(0o644)
    with Lab(int(account.double.url.rpartition(":")[2])) as lab:
        programs = podman.as_program(tmp_path / "bin", network=lab.network, base=podman.base())
        environment = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(home), "TMPDIR": "/tmp"}
        folder = [copy]

        def run(lines):
            command = ["bash", "-eu", "-c", f"{lines}\npwd >&2"]
            done = subprocess.run(
                command, cwd=folder[0], env=environment, capture_output=True, text=True, timeout=500, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
            folder[0] = done.stderr.split()[-1]
            return done

        yield run
        podman("rm", "--force", "--ignore", "--time", "5", "imds-proxy")
        podman("volume", "rm", "--force", "imds-proxy-state")


def test_it_works_when_followed(podman, shell, tmp_path):
    """Who follows it would end with an error, or with a container that has no credentials."""
    build, prepare, run, compose, rest = BLOCKS
    shell(build)
    shell(prepare)
    daemon, beside = run.split("podman run --rm ")
    shell(daemon)
    wait(lambda: podman("healthcheck", "run", "imds-proxy", check=False).returncode == 0, 30, "healthy")
    packages = next((ROOT / ".cache/clients/boto3/lib").glob("python3*/site-packages"))
    (tmp_path / "app.py").write_text(APP)
    options = f"--volume={packages}:/boto3:ro --volume={tmp_path}/app.py:/app.py:ro --env=PYTHONPATH=/boto3 "
    command = f"podman run --rm {options}{beside}".replace("YOUR-IMAGE", f"{podman.base()} python3 /app.py")
    assert shell(command).stdout.startswith("has ASIA")
    done = shell(rest)
    assert f"imds-proxy {imds_proxy.__version__}, up since" in done.stdout
    assert podman.inspect("container", "imds-proxy")["State"]["ExitCode"] == 0
    assert all("docker compose" in line for line in compose.splitlines())  # what test_container_compose.py runs


def test_the_compose_files_and_arguments_that_it_names_are_there():
    """Somebody would look for a file that is not in the folder."""
    for name in re.findall(r"[\w-]+\.(?:yaml|toml)", README):
        assert (ROOT / "deploy/container" / name).exists() or (ROOT / name).exists(), name
    arguments = set(re.findall(r"^ARG (\w+)", (ROOT / "deploy/container/Containerfile").read_text(), re.MULTILINE))
    assert {name for name in arguments if f"`{name}`" not in README and f"{name}=" not in README} == set()


def test_each_program_that_this_page_takes_is_one_of_the_tests():
    """A new command in the page would not be tried."""
    first = {line.split()[0] for block in BLOCKS for line in block.splitlines() if not line.startswith(" ")}
    assert first <= {"podman", "cd", "mkdir", "install", "APP_IMAGE=YOUR-IMAGE"}
