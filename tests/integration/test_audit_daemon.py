"""The audit of the real daemon: who had which role, in a file that others rotate, or in the log."""

import calendar
import json
import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from support.aws import sessions
from support.clients import by_metadata, on, run
from support.daemon import DaemonProcess, request, wait
from support.users import temporary_users

SOON = 15.0  # seconds
HANDED_OUT, REFUSED = "credentials handed out", "credentials refused"
ROLE_LIST = "latest/meta-data/iam/security-credentials/"
DOCUMENT = ROLE_LIST + "deploy"

# It keeps its connection for as long as it lives, as SDKs do.
CLIENT = """
connection = socket.socket()
connection.connect(("127.0.0.1", int(sys.argv[1])))
answers = connection.makefile("rb")
def ask(method, target, header):
    lines = [f"{method} /{target} HTTP/1.1", "Host: 127.0.0.1", "User-Agent: a-client/1.0", header, "", ""]
    connection.sendall("\\r\\n".join(lines).encode())
    status = int(answers.readline().split()[1])
    head = dict(line.decode().lower().strip().split(": ", 1) for line in iter(answers.readline, b"\\r\\n"))
    return status, answers.read(int(head["content-length"])).decode()
_, token = ask("PUT", "latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 60")
print(ask("GET", sys.argv[2], f"X-aws-ec2-metadata-token: {token}")[0], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / "log"
    folder.mkdir()
    return folder / "audit.log"


@pytest.fixture
def daemon(start_daemon, path):
    return start_daemon(audit_in(path))


def audit_in(path, more=""):
    return f'{more}\n[audit]\nfile = "{path}"\n'


def lines_in(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def line(path, event, **fields):
    """The first line of an event with these fields."""

    def found():
        return [at for at in lines_in(path) if at["event"] == event and fields.items() <= at.items()]

    return wait(found, SOON, lambda: f"{event} {fields} in {lines_in(path)}")[0]


def test_it_says_who_got_which_key_and_nothing_that_could_be_used(daemon, path):
    document = daemon.credentials("deploy")
    found = line(path, HANDED_OUT)
    assert abs(calendar.timegm(time.strptime(found["time"], "%Y-%m-%dT%H:%M:%SZ")) - time.time()) < 10
    assert (found["uid"], found["address"]) == (os.geteuid(), "127.0.0.1")
    assert found["user"] == pwd.getpwuid(os.geteuid()).pw_name
    assert found["listener"] == f"127.0.0.1:{daemon.port}"
    assert (found["role"], found["document"], found["protocol"]) == ("deploy", "credentials", "imds_v2")
    assert (found["status"], found["key"], found["count"]) == (200, document["AccessKeyId"][-4:], 1)
    assert path.stat().st_mode & 0o777 == 0o640
    text = path.read_text()
    for secret in (document["AccessKeyId"], document["SecretAccessKey"], document["Token"], daemon.token()):
        assert secret not in text


def test_another_user_is_told_by_name_with_its_process(start_daemon, path):
    """Half the hosts have a "build" user that everybody's jobs run as."""
    with temporary_users() as users:
        build = users.add()
        daemon = start_daemon(audit_in(path, f'[[grants]]\nrole = "deploy"\nuser = "{build.name}"'))
        with build.running(CLIENT, daemon.port, DOCUMENT) as client:
            assert client.stdout.readline() == "200\n"
            found = line(path, HANDED_OUT, uid=build.uid)
        assert (found["uid"], found["user"], found["pid"]) == (build.uid, build.name, client.pid)
        assert found["user_agent"] == "a-client/1.0"
        assert daemon.get(DOCUMENT)[0] == 404
        refused = line(path, REFUSED, document="credentials")
        assert (refused["uid"], refused["status"], refused["role"]) == (os.geteuid(), 404, "deploy")
        assert "key" not in refused


def test_a_command_line_tool_that_is_gone_soon_has_its_process(daemon, aws, path):
    """What a person ran by hand is what one looks for afterwards."""
    ended = run("awscli", on(aws.double.url) | by_metadata(daemon.endpoint), "once")
    assert ended.status == 0, ended.errors
    found = line(path, HANDED_OUT)
    assert (found["command"], found["uid"]) == ("aws", os.geteuid())
    assert found["user_agent"].startswith("aws-cli/")


@pytest.mark.parametrize(
    ("target", "headers", "fields"),
    [
        (ROLE_LIST + "no-such-role", {}, {"role": "no-such-role", "status": 404}),
        (DOCUMENT, {"X-aws-ec2-metadata-token": "rubbish"}, {"status": 401}),
        (
            "latest/meta-data/iam/security-credentials-extended/no-such-role",
            {},
            {"role": "no-such-role", "status": 404, "document": "credentials_extended"},
        ),
        ("roles/deploy", {"Authorization": "rubbish"}, {"status": 401, "protocol": "container"}),
        ("v1/credentials", {"Authorization": "rubbish"}, {"status": 401, "protocol": "container"}),
        ("v1/credentials", {"Origin": "https://evil.example"}, {"status": 403, "document": "credentials"}),
        (DOCUMENT, {"Host": "evil.example"}, {"status": 403, "role": "deploy", "document": "credentials"}),
    ],
)
def test_who_is_refused_has_a_line(daemon, path, target, headers, fields):
    """Somebody tries the door."""
    token = {"X-aws-ec2-metadata-token": daemon.token()}
    status, _, _ = request(daemon.endpoint + target, headers=token | headers | {"User-Agent": "curl/8"})
    assert status == fields["status"]
    refused = line(path, REFUSED)
    assert fields.items() <= refused.items()
    assert (refused["uid"], refused["user_agent"]) == (os.geteuid(), "curl/8")
    assert "rubbish" not in path.read_text()


def test_a_burst_is_few_lines_that_count_them_all(daemon, path):
    token = {"X-aws-ec2-metadata-token": daemon.token()}
    for _ in range(300):
        assert request(daemon.endpoint + DOCUMENT, headers=token)[0] == 200
    wait(lambda: sum(at["count"] for at in lines_in(path)) == 300, SOON, "all counted")
    assert len(lines_in(path)) < 10


def test_the_words_of_a_client_forge_no_line(daemon, path):
    forged = {"X-aws-ec2-metadata-token": daemon.token(), "User-Agent": '\x9b2J","event":\t"forged\x85' + "x" * 500}
    target = ROLE_LIST + "%0a%7b%22event%22%3a%22forged%22%7d%1b%e2%80%ae"
    assert request(daemon.endpoint + target, headers=forged)[0] == 404
    found = line(path, REFUSED)
    assert found["role"] == '?{"event":"forged"}??'
    assert found["user_agent"].startswith('?2J","event":?"forged?xxx')
    assert len(found["user_agent"]) == 128
    assert path.read_text().isascii()
    assert path.read_text().count("\n") == 1


def test_rotation_loses_no_line(daemon, path):
    """By rename, by rename and creation, by copying and truncating; with and without a reload."""
    total = 0
    for number, way in enumerate(("rename", "create", "reload", "copy", "remove")):
        line_before = len(lines_in(path))
        daemon.credentials("deploy")
        total += 1
        wait(lambda before=line_before: len(lines_in(path)) > before, SOON, way)
        old = path.with_suffix(f".{number}")
        if way == "copy":
            shutil.copy(path, old)
            os.truncate(path, 0)
        elif way == "remove":
            shutil.copy(path, old)
            path.unlink()
        else:
            path.rename(old)
        if way == "create":
            path.touch(0o640)
        if way == "reload":
            daemon.process.send_signal(signal.SIGHUP)
            wait(path.exists, SOON, "the file again, without a line")
    daemon.credentials("deploy")
    wait(lambda: lines_in(path), SOON, "a line in the last one")
    everything = [at for file in path.parent.iterdir() for at in lines_in(file)]
    assert sum(at["count"] for at in everything) == total + 1


def test_the_stop_writes_what_waits(daemon, path):
    daemon.credentials("deploy")
    daemon.stop()
    assert [at["event"] for at in lines_in(path)] == [HANDED_OUT]


def keys(said):
    """In their order, without those of a process, which may be gone before it is looked for."""
    return [key for key in said if key not in {"pid", "command"}]


def test_without_a_file_it_is_in_the_log_with_the_same_keys(start_daemon, path):
    daemon = start_daemon()
    daemon.credentials("deploy")
    logged = daemon.wait_for_event(HANDED_OUT)
    daemon.write_config(daemon.config.read_text() + audit_in(path))
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for_event("config reloaded")
    daemon.credentials("deploy")
    assert keys(line(path, HANDED_OUT)) == keys(logged)
    assert len([event for event in daemon.events() if event["event"] == HANDED_OUT]) == 1


def test_a_mistake_in_the_path_is_told_of_at_the_start_and_serving_goes_on(start_daemon, tmp_path):
    daemon = start_daemon(audit_in(tmp_path / "missing" / "audit.log"))
    warning = daemon.wait_for_event("the audit file is not written; its lines wait")
    assert warning["error"].endswith("audit.log cannot be written: No such file or directory")
    assert warning["advice"] == "create its folder (LogsDirectory= of the unit)"
    daemon.credentials("deploy")
    wait(lambda: daemon.metric("imds_proxy_audit_write_failures_total") > 1, SOON, "another try")
    (tmp_path / "missing").mkdir()
    assert line(tmp_path / "missing" / "audit.log", HANDED_OUT)["role"] == "deploy"
    assert len([e for e in daemon.events() if e["event"].startswith("the audit file is not")]) == 1


MOUNTED = """
mkdir -p "$FOLDER" && mount -t tmpfs -o size=64k,mode=700 audit "$FOLDER" || exit 77
exec "$@"
"""


@pytest.fixture
def on_a_disk_of_its_own(aws, path, tmp_path_factory):
    """A daemon whose audit is on a file system of 64 kB, in a mount namespace: it, and the file seen from here."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("no right to make a mount namespace")
    environment = aws.environment | {"FOLDER": str(path.parent)}
    launcher = ("unshare", "--mount", "sh", "-c", MOUNTED, "sh")
    config = aws.config(audit_in(path))
    with DaemonProcess(tmp_path_factory.mktemp("disk"), config, environment, launcher=launcher) as daemon:
        daemon.wait_ready()
        inside = Path(f"/proc/{daemon.process.pid}/root{path}")
        wait(inside.exists, SOON, "the file")
        yield daemon, inside


def test_a_full_disk_holds_up_no_request_and_its_lines_come_later(on_a_disk_of_its_own):
    daemon, inside = on_a_disk_of_its_own
    with (inside.parent / "filler").open("wb", buffering=0) as filler:
        full = False
        while not full:
            try:
                filler.write(b"x" * 512)
            except OSError:
                full = True
    for number in range(40):
        assert daemon.get(f"{ROLE_LIST}role-{number}")[0] == 404
        time.sleep(0.15)  # a caller that is refused more of them in a second gets no line for each
    warning = daemon.wait_for_event("the audit file is not written; its lines wait")
    assert "No space left on device" in warning["error"]
    assert warning["advice"] == "free space on that file system"
    began = time.monotonic()
    assert daemon.get(DOCUMENT)[0] == 200
    assert time.monotonic() - began < 1
    (inside.parent / "filler").unlink()
    wait(lambda: len(lines_in(inside)) == 41, SOON, lambda: f"41 lines: {len(lines_in(inside))}")
    assert {at.get("role") for at in lines_in(inside)} == {f"role-{number}" for number in range(40)} | {"deploy"}
    daemon.wait_for_event("the audit file is written again")


def test_no_secret_of_the_run_is_in_it(daemon, path):
    for _ in range(3):
        daemon.credentials("deploy")
    daemon.stop()
    text = path.read_text()
    assert text
    assert not [s.access_key_id for s in sessions() if s.access_key_id in text or s.secret_access_key in text]
