"""What to do about a file's owner or mode, on a host, in a container and in a pod (host/access_advice.py)."""

from pathlib import Path

import pytest

from imds_proxy.config.reader import load
from imds_proxy.errors import ConfigError
from imds_proxy.host import access_advice
from imds_proxy.host.access_advice import Place, place


@pytest.mark.parametrize(
    ("environment", "there", "where"),
    [
        ({}, None, Place.HOST),
        ({"KUBERNETES_SERVICE_HOST": ""}, None, Place.HOST),
        ({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, None, Place.POD),
        ({}, "/run/secrets/kubernetes.io", Place.POD),
        ({"container": "podman"}, None, Place.CONTAINER),
        ({}, "/.dockerenv", Place.CONTAINER),
        ({"container": "podman"}, "/run/secrets/kubernetes.io", Place.POD),
    ],
)
def test_where_this_process_runs_is_known_by_what_an_engine_leaves(environment, there, where):
    """The advice would be for somewhere else."""
    assert place(environment, lambda path: path == there) is where


@pytest.fixture
def in_pod(monkeypatch):
    monkeypatch.setattr(access_advice, "place", lambda: Place.POD)


@pytest.fixture
def on_host(monkeypatch):
    monkeypatch.setattr(access_advice, "place", lambda: Place.HOST)


def every_advice():
    path = "/etc/key"
    each = (access_advice.readable(path), access_advice.private(path, 0), access_advice.private(path, 4001))
    return (*each, access_advice.unchangeable(path), access_advice.state_folder(Path("/var/lib/x")))


def test_in_a_pod_nothing_says_chmod(in_pod):
    """There is no chmod in a pod, and files of a Secret are links into a folder that changes."""
    for advice in every_advice():
        assert "chmod" not in advice
        assert "chown" not in advice


def test_in_a_pod_of_another_user_a_secret_takes_a_mode_and_a_group(in_pod, monkeypatch):
    """With either alone it is refused."""
    monkeypatch.setattr(access_advice.os, "geteuid", lambda: 65532)
    monkeypatch.setattr(access_advice.os, "getegid", lambda: 65532)
    advice = access_advice.private("/etc/key", 0)
    assert "defaultMode: 0400" in advice
    assert "fsGroup: 65532" in advice
    monkeypatch.setattr(access_advice.os, "geteuid", lambda: 0)
    assert "fsGroup" not in access_advice.private("/etc/key", 0)


def test_on_a_host_each_says_chmod_or_chown(on_host):
    """Nobody would know what to run."""
    for advice in every_advice():
        assert "chmod" in advice or "chown" in advice


def test_a_config_that_may_not_be_read_is_told_with_what_to_do(monkeypatch, on_host):
    """A config in a Secret would end as "Permission denied"."""

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ConfigError, match="Permission denied") as caught:
        load(Path("/etc/imds-proxy/config.toml"))
    assert "chmod u+r" in caught.value.mistakes[0]
