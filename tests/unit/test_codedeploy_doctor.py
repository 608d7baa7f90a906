"""What the doctor says of a host; the host is a folder."""

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from imds_proxy.codedeploy.agent import Host, User, users, why_unreadable
from imds_proxy.codedeploy.daemon_roles import RunningRole
from imds_proxy.codedeploy.doctor import Doctor
from imds_proxy.codedeploy.onpremises import LINUX_CREDENTIALS, LINUX_FILE, OnPremises

ARN = "arn:aws:sts::123456789012:assumed-role/Deploy/web-1"
NOW = 1893456000.0
ROLE = RunningRole("deploy", ARN, "…WXYZ", 3600.0, NOW + 3000, default=True)
KEYS = "aws_access_key_id = ASIAEXAMPLEWXYZ\naws_secret_access_key = s\naws_session_token = t\n"
STATUS = "Name:\truby\nUid:\t{0}\t{0}\t{0}\t{0}\nGid:\t{0}\t{0}\t{0}\t{0}\nGroups:\t{0} 7001 \n"


class Machine:
    """A host as the doctor likes it, but for the network: its endpoints refuse."""

    def __init__(self, root):
        self.host = Host(root)
        self.write(LINUX_FILE, OnPremises(ARN, LINUX_CREDENTIALS, "eu-west-1").text())
        self.credentials = self.write(LINUX_CREDENTIALS, f"[default]\n{KEYS}aws_expiration = 2030-01-01T00:50:00Z\n")
        self.add_process(7, "codedeploy-agent: master 7", uid=0)

    def write(self, path, text):
        place = self.host.path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        return place

    def add_process(self, pid, *command, uid):
        self.write(f"/proc/{pid}/cmdline", "\0".join((*command, "")))
        self.write(f"/proc/{pid}/status", STATUS.format(uid))

    def lines(self, roles=(ROLE,), role=None, metadata=404, now=NOW):
        known = None if roles is None else {each.name: each for each in roles}
        doctor = Doctor(known, role, host=self.host, metadata_status=lambda: metadata, now=lambda: now)
        return {finding.what.partition(":")[0]: finding for finding in doctor.findings()}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return Machine(tmp_path)


def test_a_host_that_would_deploy(machine):
    """A check that cries wolf is switched off."""
    lines = machine.lines()
    assert {name: line.level for name, line in lines.items() if name != "egress"} == dict.fromkeys(
        ("on-premises file", "session", "credentials file", "agent's access", "instance metadata", "agent"), "ok"
    )
    assert "50 more minutes" in lines["credentials file"].what
    assert "process 7, as root" in lines["agent"].what


def test_every_fail_says_what_to_do(tmp_path, monkeypatch):
    """A line that only says no."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    machine = Machine(tmp_path)
    machine.write(LINUX_FILE, OnPremises(ARN + "x", LINUX_CREDENTIALS, "eu-west-1").text())
    machine.credentials.unlink()
    machine.host.path("/proc/7/cmdline").unlink()
    failed = [line for line in machine.lines(metadata=200).values() if line.level == "FAIL"]
    assert len(failed) == 6
    assert all(line.advice for line in failed)


def test_without_the_file_the_rest_is_still_looked_at(machine):
    machine.host.path(LINUX_FILE).unlink()
    levels = {name: line.level for name, line in machine.lines().items()}
    assert levels == {
        "on-premises file": "FAIL",
        "session": "warn",
        "credentials file": "ok",
        "agent's access": "ok",
        "instance metadata": "ok",
        "egress": "warn",
        "agent": "ok",
    }


def test_the_agents_own_config_may_name_another_file(machine):
    machine.host.path(LINUX_FILE).rename(machine.host.path("/etc/other.yml"))
    machine.write("/etc/codedeploy-agent/conf/codedeployagent.yml", ":on_premises_config_file: /etc/other.yml\n")
    assert machine.lines()["on-premises file"].level == "ok"


@pytest.mark.parametrize(
    ("roles", "role", "level", "says"),
    [
        ((ROLE,), None, "ok", 'is role "deploy"'),
        ((ROLE,), "deploy", "ok", 'is role "deploy"'),
        ((RunningRole("deploy", ARN + "x", "…WXYZ", 3600.0, NOW, default=True),), None, "FAIL", ARN + "x"),
        ((RunningRole("deploy", None, None, None, None, default=True),), None, "FAIL", "without a session"),
        ((ROLE, RunningRole("b", ARN + "x", "…B", 3600.0, NOW, default=False)), "b", "FAIL", 'role "b" is'),
        ((RunningRole("a", ARN + "x", "…A", 3600.0, NOW, default=True), ROLE), None, "ok", 'is role "deploy"'),
        ((), None, "FAIL", "no role is it"),
        (None, None, "FAIL", "the daemon does not answer"),
    ],
)
def test_the_files_arn_against_the_running_roles(machine, roles, role, level, says):
    """An agent that is another session than the one AWS knows polls for nobody."""
    line = machine.lines(roles, role)["session"]
    assert (line.level, says in line.what) == (level, True)


@pytest.mark.parametrize(
    ("minutes", "level"), [(50, "ok"), (31, "ok"), (29, "warn"), (26, "warn"), (24, "FAIL"), (0, "FAIL"), (-9, "FAIL")]
)
def test_credentials_that_end_before_the_agent_reads_again(machine, minutes, level):
    """The agent believes what it has read, whatever has become of it."""
    assert machine.lines(now=NOW + 3000 - minutes * 60)["credentials file"].level == level


def test_a_file_that_another_writer_leaves_without_an_end(machine):
    """Then the daemon knows, as long as it is its key."""
    machine.credentials.write_text(f"[default]\n{KEYS}")
    assert "50 more minutes" in machine.lines()["credentials file"].what
    assert machine.lines(None)["credentials file"].level == "warn"


def test_a_file_that_is_no_longer_kept(machine):
    """Its key still lives, but it is not the one the daemon holds: nobody will write the next one."""
    machine.credentials.write_text(f"[default]\n{KEYS}".replace("WXYZ", "OLD1"))
    line = machine.lines()["credentials file"]
    assert (line.level, "…OLD1" in line.what, "…WXYZ" in line.what) == ("FAIL", True, True)
    assert "ASIAEXAMPLE" not in line.what


def test_a_metadata_service_makes_the_host_look_like_ec2(machine):
    assert machine.lines(metadata=200)["instance metadata"].level == "FAIL"
    assert machine.lines(metadata=None)["instance metadata"].level == "ok"
    assert machine.lines(metadata=401)["instance metadata"].level == "ok"


# Who the agent is, and what it may read


@pytest.mark.parametrize(
    ("command", "is_agent"),
    [
        (["codedeploy-agent: master 7"], True),
        (["codedeploy-agent: InstanceAgent::Plugins::CodeDeployPlugin::CommandPoller of master 7"], True),
        (["/opt/codedeploy-agent/bin/codedeploy-agent", "start"], True),
        (["ruby", "/opt/codedeploy-agent/lib/codedeploy-agent.rb", "start"], True),
        (["/usr/bin/ruby3.1", "/opt/codedeploy-agent/bin/codedeploy-agent"], True),
        (["vim", "/var/log/aws/codedeploy-agent/codedeploy-agent.log"], False),
        (["journalctl", "-u", "codedeploy-agent"], False),
        (["ruby", "-e", "codedeploy-agent"], False),
        ([""], False),
    ],
)
def test_which_processes_are_the_agent(tmp_path, command, is_agent):
    """An editor open on its log is not an agent."""
    machine = Machine(tmp_path)
    machine.host.path("/proc/7/cmdline").unlink()
    machine.add_process(8, *command, uid=1234)
    assert users(machine.host) == ({8: User(1234, frozenset({1234, 7001}))} if is_agent else {})


def test_a_real_process_is_found(tmp_path):
    """The kernel's own format."""
    with subprocess.Popen(["bash", "-c", "exec -a 'codedeploy-agent: master 1' sleep 30"]) as process:
        try:
            found = {}
            while process.pid not in found:
                found = users(Host())
            assert found[process.pid].uid == os.geteuid()
        finally:
            process.kill()


OWNER = 4000 if os.geteuid() == 0 else os.geteuid()
GROUP = 4000 if os.geteuid() == 0 else os.getegid()
THE_OWNER, A_MEMBER, SOMEBODY = User(OWNER, frozenset({GROUP})), User(4001, frozenset({GROUP})), User(4001, frozenset())


@pytest.mark.parametrize(
    ("mode", "folder", "user", "readable"),
    [
        (0o600, 0o755, User(0, frozenset()), True),
        (0o600, 0o755, THE_OWNER, True),
        (0o600, 0o755, SOMEBODY, False),
        (0o040, 0o755, THE_OWNER, False),
        (0o640, 0o755, A_MEMBER, True),
        (0o604, 0o755, A_MEMBER, False),
        (0o604, 0o755, SOMEBODY, True),
        (0o604, 0o700, SOMEBODY, False),
        (0o604, 0o711, SOMEBODY, True),
    ],
)
def test_the_kernels_rule_for_reading(mode, folder, user, readable):
    """Root's view of a file says nothing about an agent that runs as somebody else."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # pytest's own folders let nobody else through
        place, path = Path(name), Path(name) / "credentials"
        path.write_text("x")
        for each, bits in ((path, mode), (place, folder)):
            os.chown(each, OWNER, GROUP)
            each.chmod(bits)
        assert (why_unreadable(path, user) is None) == readable


def test_the_agents_user_that_may_not_read_is_named(machine):
    machine.add_process(9, "codedeploy-agent: poller", uid=4001)
    machine.credentials.chmod(0o600)
    line = machine.lines()["agent's access"]
    assert line.level == "FAIL"
    assert "uid 4001" in line.what
    assert "[[files]]" in line.advice
