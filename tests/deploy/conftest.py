"""What the tests of deploy/ share. What is missing fails here: nothing skips itself."""

import datetime as dt
import subprocess

import pytest

import imds_proxy
from support.podman import ROOT, Podman

IMAGE = "localhost/imds-proxy:test"


@pytest.fixture(scope="session")
def podman():
    """A podman whose containers and mounts end with the tests."""
    with Podman() as running:
        yield running


@pytest.fixture(scope="session")
def image(podman):
    """The image of deploy/container, built from this working tree as its README says."""
    revision = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    labels = {
        "VERSION": imds_proxy.__version__,
        "REVISION": revision.strip() or "none",
        "CREATED": f"{dt.datetime.now(dt.UTC):%Y-%m-%d}",  # a day: the layers after it are made again when it changes
        "SOURCE": "https://example.com/imds-proxy",
    }
    return podman.build(ROOT / "deploy/container/Containerfile", IMAGE, ROOT, BASE=podman.base(), **labels)
