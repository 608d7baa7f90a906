"""What the daemon has saved, on this host and where it does not belong (renewal/saved*.py, seal.py)."""

import json
import shutil
import signal
import sys
import time

import pytest

from support.another_host import another_host
from support.aws import is_assume_role, sts_error
from support.daemon import START_TIME, wait
from support.saved import read_session, session_file

A, B = "a" * 32, "b" * 32
CREDENTIAL = "imds-proxy.state-key"
TWO_ROLES = """
default = true
[roles.{name}]
role_arn = "{role_arn}"
session_name = "{name}"
sts_endpoint = "{sts}"
default = false
"""


@pytest.fixture
def start_on(aws, start_daemon, tmp_path):
    """`start_on(name, machine_id, state=None)`: a daemon of another host, on a copy of a state directory."""

    def start(name, machine_id, state=None, *, environment=None, ready=True):
        if state is not None:
            copied = tmp_path / f"{name}-{machine_id[:4]}-state"
            shutil.copytree(state, copied)
        config = aws.config().replace('"test-host"', '"{hostname}"')
        if state is not None:
            config = config.replace('"STATE"', json.dumps(str(copied)))
        environment = aws.environment | (environment or {})
        launcher = another_host(tmp_path, name, machine_id)
        return start_daemon(config=config, environment=environment, launcher=launcher, ready=ready)

    return start


def key(daemon):
    return daemon.credentials("deploy")["AccessKeyId"]


def is_saved(daemon):
    return wait(session_file(daemon.state).exists, 5, "the saved credentials")


def said(daemon, event="saved credentials are refused", role="deploy"):
    return [line for line in daemon.events() if line["event"] == event and line["role"] == role]


def stop_aws(aws):
    aws.double.calls.clear()
    aws.double.interfere = lambda request: sts_error("Throttling") if is_assume_role(request) else None


def other_role(aws, name="other"):
    return TWO_ROLES.format(name=name, role_arn=aws.role_arn, sts=aws.double.url)


# Another host


@pytest.mark.parametrize(
    ("name", "machine_id", "event", "reason"),
    [
        ("web1", B, "saved credentials are refused", "was copied from another host"),
        ("web2", B, "saved credentials are refused", "was copied from another host"),
        ("web2", A, "saved credentials are not used", "another name of this host"),
    ],
    ids=["machine-id", "both", "hostname"],
)
def test_a_copied_state_directory_gives_no_host_the_session_of_another(aws, start_on, name, machine_id, event, reason):
    """An image made of a host, or a backup restored on another, would act under the first one's name."""
    first = start_on("web1", A)
    assert is_saved(first)
    copy = start_on(name, machine_id, first.state)
    assert key(copy) != key(first)
    assert copy.role("deploy")["session_arn"].endswith(f"/{name}")
    (line,) = said(copy, event)
    assert reason in line.get("error", line.get("reason"))
    assert ("advice" in line) is (event == "saved credentials are refused")


def test_the_same_host_has_its_session_at_once_after_a_kill(aws, start_on):
    """AWS may be down just when the host comes back."""
    daemon = start_on("web1", A)
    held = key(daemon)
    assert is_saved(daemon)
    daemon.stop(signal.SIGKILL)
    stop_aws(aws)
    daemon.start().wait_ready()
    assert key(daemon) == held
    assert not aws.double.calls


def test_a_container_keeps_its_sessions_whatever_its_machine_id(aws, start_on):
    """The id is the image's or new at each start: with the volume alone they would be lost at each."""
    container = {"container": "podman"}
    first = start_on("web1", A, environment=container)
    held = key(first)
    assert is_saved(first)
    first.stop(signal.SIGKILL)
    stop_aws(aws)
    again = start_on("web1", B, first.state, environment=container)
    assert key(again) == held
    assert not aws.double.calls


# Changes


def more_life(path):
    content = path.read_text()
    end = read_session(path)["credentials"]["expiration"]
    changed = content.replace(str(end), str(end + 30 * 86400))
    assert changed != content
    path.write_text(changed)


def cut(path):
    path.write_bytes(path.read_bytes()[:200])


def one_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("change", [more_life, cut, one_bit])
def test_a_changed_session_is_not_believed(aws, start_daemon, change):
    """A session with thirty more days would be served until long after its end."""
    daemon = start_daemon()
    held = key(daemon)
    assert is_saved(daemon)
    daemon.stop()
    change(session_file(daemon.state))
    daemon.start().wait_ready()
    assert key(daemon) != held
    assert daemon.metric('imds_proxy_credential_expiration_timestamp_seconds{role="deploy"}') < time.time() + 3700
    assert "was changed" in said(daemon)[0]["error"]


def test_the_session_of_one_role_is_not_served_as_another(aws, start_daemon):
    """Who may have one role would have the other's rights."""
    daemon = start_daemon(other_role(aws))
    paths = [session_file(daemon.state, name) for name in ("deploy", "other")]
    wait(lambda: all(path.exists() for path in paths), START_TIME, "both sessions")
    daemon.stop()
    before = {json.loads(json.loads(path.read_bytes())["content"])["credentials"]["access_key_id"] for path in paths}
    paths[0].rename(daemon.folder / "x")
    paths[1].rename(paths[0])
    (daemon.folder / "x").rename(paths[1])
    daemon.start().wait_ready()
    wait(lambda: daemon.role("other")["state"] == "ok", START_TIME, "the other role")
    now = {daemon.role(name)["key"][-4:] for name in ("deploy", "other")}
    assert not now & {held[-4:] for held in before}
    for name in ("deploy", "other"):
        assert said(daemon, role=name)[0]["error"] == "the file is of another role"


def test_a_session_of_a_version_before_costs_one_call_and_no_alarm(aws, start_daemon):
    """An upgrade is no incident."""
    daemon = start_daemon()
    assert is_saved(daemon)
    daemon.stop()
    path = session_file(daemon.state)
    old = {"fingerprint": "x", "credentials": read_session(path)["credentials"]}
    path.write_text(json.dumps(old))
    aws.double.calls.clear()
    daemon.start().wait_ready()
    assert len(aws.double.used("AssumeRole")) == 1
    assert not said(daemon)
    assert "did not authenticate" in said(daemon, "saved credentials are not used")[0]["reason"]
    wait(lambda: b'"mac"' in path.read_bytes(), 5, "a sealed file")


# A key of the service manager


@pytest.fixture
def service(aws, tmp_path):
    """The environment of a service with the key, as `LoadCredential=` gives it."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / CREDENTIAL).write_bytes(b"k" * 32)
    (folder / CREDENTIAL).chmod(0o400)
    return aws.environment | {"CREDENTIALS_DIRECTORY": str(folder)}


def test_with_a_key_the_disk_holds_no_session_in_clear_and_a_restart_has_it(aws, start_daemon, service):
    """A stolen disk or a backup would hold a live session."""
    daemon = start_daemon(environment=service)
    document = daemon.credentials("deploy")
    assert is_saved(daemon)
    kept = b"".join(path.read_bytes() for path in daemon.state.rglob("*") if path.is_file())
    assert not any(document[name].encode() in kept for name in ("AccessKeyId", "SecretAccessKey", "Token"))
    daemon.stop()
    aws.double.calls.clear()
    daemon.start().wait_ready()
    assert key(daemon) == document["AccessKeyId"]
    assert not aws.double.calls
    daemon.stop()
    del daemon.environment["CREDENTIALS_DIRECTORY"]
    daemon.start().wait_ready()
    assert key(daemon) != document["AccessKeyId"]
    assert "is encrypted, and the service manager gives no key" in said(daemon)[0]["error"]


def test_with_a_key_and_without_the_package_nothing_is_saved_and_it_serves(aws, start_daemon, service, tmp_path):
    """In clear is what the operator asked not to have."""
    missing = tmp_path / "missing/cryptography.py"
    missing.parent.mkdir()
    missing.write_text('raise ModuleNotFoundError("No module named cryptography", name="cryptography")\n')
    daemon = start_daemon()
    assert is_saved(daemon)
    daemon.stop()
    daemon.environment |= {"PYTHONPATH": str(missing.parent)} | service
    daemon.start().wait_ready()
    assert daemon.credentials("deploy")["Code"] == "Success"
    line = daemon.wait_for_event("no credentials are saved: a restart will need AWS")
    assert line["advice"] == f"{sys.executable} -m pip install 'imds-proxy[encrypted-state]'"
    assert list((daemon.state / "credentials").iterdir()) == []


# Roles that are gone


def test_the_file_of_a_dropped_role_goes_at_a_reload_and_at_a_start(aws, start_daemon):
    """The keys of a role that was taken from the host would stay on its disk."""
    daemon = start_daemon(other_role(aws))
    other = session_file(daemon.state, "other")
    for change in ("reload", "restart"):
        wait(other.exists, START_TIME, "the other role's file")
        if change == "restart":
            daemon.stop()
        daemon.write_config(aws.config())
        if change == "reload":
            daemon.process.send_signal(signal.SIGHUP)
        else:
            daemon.start()
        wait(lambda: not other.exists(), START_TIME, "its end")
        assert session_file(daemon.state).exists()
        daemon.stop()
        daemon.write_config(aws.config(other_role(aws)))
        daemon.start().wait_ready()
