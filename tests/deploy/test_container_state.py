"""State and keys in folders as people mount them: volumes, bind mounts, emptyDirs and Secrets of Kubernetes."""

import datetime as dt
import json
import os
import shutil
import stat
from contextlib import ExitStack

import pytest

from support.daemon import wait
from support.lab import Lab

UID = 65532
FS_GROUP = 2000
POD = "--env=KUBERNETES_SERVICE_HOST=10.96.0.1"  # which every container of a pod has
HARD = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--hostname=pod-1")
RUNNING_WITHOUT = "running without a state directory"
CONFIG = """
region = "eu-west-1"
state_dir = "/var/lib/imds-proxy"
[roles.app]
role_arn = "{role_arn}"
sts_endpoint = "{sts}"
"""
VOLUMES = {
    "of its own": (UID, UID, 0o700),
    "of root, for all": (0, 0, 0o777),
    "of root, for all, sticky": (0, 0, 0o1777),
    "emptyDir with fsGroup": (0, FS_GROUP, 0o2777),
    "persistent volume with fsGroup": (0, FS_GROUP, 0o2775),
    "of its own, for its group": (UID, FS_GROUP, 0o2770),
}


@pytest.fixture
def run(podman, image, aws, tmp_path):
    """`run(name, *options)`: a container of the daemon in a network where AWS is."""
    with ExitStack() as running:
        lab = running.enter_context(Lab(int(aws.double.url.rpartition(":")[2])))
        config, key = tmp_path / "config.toml", tmp_path / "credentials"
        config.write_text(CONFIG.format(role_arn=aws.role_arn, sts=aws.double.url))
        key.write_text(f"[default]\naws_access_key_id = {aws.key_id}\naws_secret_access_key = {aws.secret}\n")
        shutil.chown(key, UID, UID)
        key.chmod(0o400)
        always = [f"--volume={config}:/etc/imds-proxy/config.toml:ro", f"--volume={key}:/run/key:ro"]
        always += ["--env=AWS_SHARED_CREDENTIALS_FILE=/run/key", *HARD, f"--network={lab.network}", "--no-healthcheck"]

        def start(name, *options):
            running.callback(podman, "rm", "--force", "--ignore", "--time", "5", name)
            podman("run", "--detach", "--name", name, *always, *options, image)
            return name

        start.config = config
        yield start


def is_well(podman, name):
    return podman("exec", name, "imds-proxy", "status", "--check", check=False).returncode == 0


def folder(path, owner, group, mode):
    path.mkdir()
    os.chown(path, owner, group)
    path.chmod(mode)
    return path


def restart(podman, run, aws, *options):
    """Run it, end it, and run another one without AWS; the log of both."""
    first = run("first", *options)
    wait_well(podman, first)
    podman("stop", "--time", "10", first)
    assert podman.inspect("container", first)["State"]["ExitCode"] == 0
    aws.double.interfere = lambda _: 500
    wait_well(podman, run("second", *options))
    return podman.logs(first) + podman.logs("second")


def wait_well(podman, name):
    wait(lambda: is_well(podman, name), 30, lambda: podman.logs(name))


@pytest.mark.parametrize("kind", VOLUMES)
def test_a_restart_with_the_volume_needs_no_aws(podman, run, aws, tmp_path, kind):
    """A pod that is started again while AWS is away would have nothing."""
    volume = folder(tmp_path / "volume", *VOLUMES[kind])
    options = (f"--volume={volume}:/var/lib/imds-proxy", f"--group-add={FS_GROUP}", POD)
    log = restart(podman, run, aws, *options)
    assert RUNNING_WITHOUT not in log
    owner, group, mode = VOLUMES[kind]
    assert (volume.stat().st_uid, volume.stat().st_gid, stat.S_IMODE(volume.stat().st_mode)) == (owner, group, mode)
    private = volume / f"uid-{UID}" if mode & 0o022 else volume
    assert [private.stat().st_uid, stat.S_IMODE(private.stat().st_mode) & 0o777] == [UID, 0o700]
    files = [path for path in private.rglob("*") if path.is_file()]
    assert files
    assert {(path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) for path in files} == {(UID, 0o600)}
    movable = bool(mode & 0o022) and not mode & stat.S_ISVTX
    assert ("others can move the state directory away" in log) == movable


def test_any_uid_will_do(podman, run, aws, tmp_path):
    """OpenShift runs it as a uid of the namespace's range, with group 0."""
    uid = 1000680000
    volume = folder(tmp_path / "volume", 0, uid, 0o2777)
    key = tmp_path / "theirs"
    shutil.copy(tmp_path / "credentials", key)
    shutil.chown(key, uid, 0)
    options = (f"--user={uid}:0", f"--group-add={uid}", f"--volume={key}:/run/theirs:ro", POD)
    options += ("--env=AWS_SHARED_CREDENTIALS_FILE=/run/theirs", f"--volume={volume}:/var/lib/imds-proxy")
    assert RUNNING_WITHOUT not in restart(podman, run, aws, *options)
    assert (volume / f"uid-{uid}").stat().st_uid == uid


def test_a_new_named_volume_is_the_daemons(podman, run, aws):
    """The first thing that people try would lose its state at each start."""
    volume = "imds-proxy-test-state"
    podman("volume", "create", volume)
    try:
        log = restart(podman, run, aws, f"--volume={volume}:/var/lib/imds-proxy")
    finally:
        podman("rm", "--force", "--ignore", "first", "second")
        podman("volume", "rm", volume)
    assert RUNNING_WITHOUT not in log
    assert "can move" not in log


def test_a_tmpfs_is_used(podman, run, aws):
    """`exec` in the container would have no tokens."""
    name = run("first", "--tmpfs=/var/lib/imds-proxy:mode=1777,size=1m")
    wait_well(podman, name)
    assert RUNNING_WITHOUT not in podman.logs(name)
    done = podman("exec", name, "imds-proxy", "credential-process", "--role", "app")
    assert '"AccessKeyId"' in done.stdout


@pytest.mark.parametrize(
    ("owner", "mode", "options", "advice"),
    [
        (0, 0o755, (), f"chown {UID}:{UID} and chmod 700 it on the host"),
        (0, 0o755, (POD,), f"set fsGroup: {UID} in the pod's securityContext"),
        (4001, 0o777, (POD,), "mount an emptyDir there"),
    ],
)
def test_a_volume_that_cannot_be_used_is_told_with_what_to_do(podman, run, tmp_path, owner, mode, options, advice):
    """Somebody would look for chmod in a pod, and lose the state at each restart meanwhile."""
    volume = folder(tmp_path / "volume", owner, owner, mode)
    name = run("first", f"--volume={volume}:/var/lib/imds-proxy", *options)
    said = podman.wait_for_log(name, RUNNING_WITHOUT)
    assert advice in said
    assert list(volume.iterdir()) == []


def secret(path, files, group, mode):
    """A folder as the kubelet mounts a Secret: root's links into a folder whose name changes with the content."""
    folder(path, 0, group, 0o1777)
    content = folder(path / "..2026_11_28", 0, group, 0o755)
    (path / "..data").symlink_to("..2026_11_28")
    for name, text in files.items():
        (content / name).write_text(text)
        os.chown(content / name, 0, group)
        (content / name).chmod(mode)
        (path / name).symlink_to(f"..data/{name}")
    return path


PUSHED = """
[roles.pushed]
source = "file"
path = "/etc/imds-proxy/secrets/credentials.json"
default = true
"""
MOUNT = "/etc/imds-proxy/secrets"


@pytest.fixture
def pushed(run, aws):
    """A credentials document, for a role that is the only one of the config."""
    run.config.write_text('state_dir = ""\n' + PUSHED)
    until = f"{dt.datetime.now(dt.UTC) + dt.timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
    keys = {"AccessKeyId": "ASIAIOSFODNN7EXAMPLE", "SecretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEX"}
    return json.dumps({"Version": 1, **keys, "SessionToken": "token", "Expiration": until})


def test_a_secret_with_default_mode_0400_and_fs_group_is_read(podman, run, tmp_path, pushed):
    """What the advice says would not work."""
    mounted = secret(tmp_path / "secret", {"credentials.json": pushed}, FS_GROUP, 0o440)
    name = run("first", f"--volume={mounted}:{MOUNT}:ro", f"--group-add={FS_GROUP}", POD)
    wait_well(podman, name)


@pytest.mark.parametrize(
    ("mode", "says"), [(0o644, "can be read or changed by other users"), (0o400, "may not be read")]
)
def test_a_secret_with_another_mode_is_refused_with_the_advice_for_secrets(podman, run, tmp_path, pushed, mode, says):
    """Somebody would look for chmod in a pod."""
    mounted = secret(tmp_path / "secret", {"credentials.json": pushed}, 0, mode)
    said = podman.wait_for_log(run("first", f"--volume={mounted}:{MOUNT}:ro", POD), "credentials.json")
    assert says in said
    assert "defaultMode: 0400" in said
    assert f"fsGroup: {UID}" in said
    assert "chmod" not in said
