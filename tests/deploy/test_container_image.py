"""The image of deploy/container: what is in it, what is not, and as whom it runs."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import imds_proxy
from support.podman import ROOT

SBOM = "/opt/imds-proxy/share/sbom.cdx.json"
CONTAINERFILE = ROOT / "deploy/container/Containerfile"
LARGEST = 160  # MB over its base
PYTHON = "/opt/imds-proxy/bin/python3"
STRICT = (
    "--rm",
    "--network=none",
    "--read-only",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    "--no-healthcheck",
)
WRITABLE = """
import os
found = []
for folder, folders, files in os.walk("/"):
    if folder == "/":
        folders[:] = [name for name in folders if name not in {"proc", "sys", "dev"}]
    for name in [*folders, *files]:
        path = os.path.join(folder, name)
        if not os.path.islink(path) and os.access(path, os.W_OK):
            found.append(path)
print("\\n".join(found))
"""
INSTALLED = """
import importlib.metadata, re
print("\\n".join(re.sub("[-_.]+", "-", d.name).lower() + "==" + d.version for d in importlib.metadata.distributions()))
"""


def python(podman, image, program, *options):
    """What a program prints in a container of the image."""
    return podman("run", *(options or STRICT), f"--entrypoint={PYTHON}", image, "-I", "-c", program).stdout.split()


def locked():
    lines = (ROOT / "requirements-extras.txt").read_text().splitlines()
    return {match[1]: match[2] for line in lines if (match := re.match(r"([a-z0-9-]+)==([^ ;]+)", line))}


def test_hadolint_finds_nothing():
    """A known mistake of container files would be in the one that people copy."""
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, CONTAINERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert "hadolint ignore" not in CONTAINERFILE.read_text()


def test_it_runs_read_only_without_capabilities_and_without_a_shell(podman, image):
    """A hardened host could not run it."""
    no_shell = [f"--volume=/dev/null:/usr/bin/{shell}:ro" for shell in ("dash", "bash")]
    assert podman("run", *STRICT, *no_shell, image, "--version").stdout == f"imds-proxy {imds_proxy.__version__}\n"
    assert podman("run", *STRICT, *no_shell, "--entrypoint=/bin/sh", image, "-c", ":", check=False).returncode != 0


def test_it_runs_as_its_own_user(podman, image):
    """It would run as root where nobody says otherwise."""
    config = podman.inspect("image", image)["Config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["/opt/imds-proxy/bin/imds-proxy"]
    assert podman.inspect("image", image)["Healthcheck"]["Test"] == [
        "CMD",
        "/opt/imds-proxy/bin/imds-proxy",
        "status",
        "--check",
    ]
    assert python(podman, image, "import os; print(os.getuid(), os.getgid(), *os.getgroups())") == ["65532"] * 3


def test_its_user_can_change_nothing_but_the_state(podman, image):
    """Who gets into the daemon would leave something in its program."""
    options = [option for option in STRICT if option != "--read-only"]
    writable = python(podman, image, WRITABLE, *options)
    sticky = {"/tmp", "/var/tmp", "/run/lock"}  # of the base; not there to be written in a read-only container
    assert set(writable) - sticky == {"/var/lib/imds-proxy"}


def test_every_extra_that_the_deployments_use_is_in_it(podman, image):
    """A config that is right would fail at the first pod or certificate."""
    python(podman, image, "import cryptography, jwt, pyroute2, imds_proxy.renewal.encryption")


def test_labels_say_what_it_is(podman, image):
    """Nobody could tell which version runs, or where it is from."""
    labels = podman.inspect("image", image)["Config"]["Labels"]
    prefix = "org.opencontainers.image."
    named = {key.removeprefix(prefix): value for key, value in labels.items() if key.startswith(prefix)}
    assert set(named) >= {"title", "description", "version", "revision", "created", "source", "licenses"}
    assert named["version"] == imds_proxy.__version__
    assert "unknown" not in named.values()
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    assert named["revision"] == (head.strip() or "none")


def test_nothing_in_it_tells_of_where_it_was_built(podman, image):
    """Credentials of a package index, or names of an internal network, would be published with it."""
    history = podman("history", "--no-trunc", "--format=json", image).stdout
    said = history + json.dumps(podman.inspect("image", image)["Config"])
    of_pip = [value for name, value in os.environ.items() if name.startswith("PIP_") and len(value) > 3]
    for secret in (socket.gethostname(), str(ROOT), "ca.crt", *of_pip):
        assert secret not in said
    there = "import os; print(*[p for p in ('/etc/pip.conf', '/run/secrets/ca.pem', '/build', '/tools', '/wheel') "
    assert python(podman, image, there + "if os.path.exists(p)])") == []


def test_the_bill_of_materials_is_what_the_lock_file_says_and_what_is_installed(podman, image):
    """A scanner would look for the faults of other versions."""
    text = podman("run", *STRICT, f"--entrypoint={PYTHON}", image, "-c", f"print(open('{SBOM}').read(), end='')").stdout
    sbom = json.loads(text)
    assert sbom["bomFormat"] == "CycloneDX"
    assert (sbom["metadata"]["component"]["name"], sbom["metadata"]["component"]["version"]) == (
        "imds-proxy",
        imds_proxy.__version__,
    )
    listed = {each["name"]: each["version"] for each in sbom["components"]}
    assert listed == locked()
    installed = dict(line.split("==") for line in python(podman, image, INSTALLED))
    assert installed.pop("imds-proxy") == imds_proxy.__version__
    assert installed.items() <= listed.items()
    assert not {"timestamp", "serialNumber"} & (sbom.keys() | sbom["metadata"].keys())  # the same at each build


def test_it_is_small(podman, image):
    """Every node would wait for it."""
    size = podman.inspect("image", image)["Size"]
    over_base = size - podman.inspect("image", podman.base())["Size"]
    print(f"image: {size / 1e6:.0f} MB, {over_base / 1e6:.0f} MB over its base")
    assert over_base < LARGEST * 1e6
