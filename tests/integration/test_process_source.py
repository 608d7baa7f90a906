"""`source = "process"` in the real daemon: helpers that work, helpers with a bad day, and helpers that call AWS."""

import json
import sys
import time
from dataclasses import dataclass

import pytest

from support import aws as sts
from support.clients import executable
from support.daemon import HOST, DaemonProcess, request, wait
from support.processes import alive

LIFE = 30  # seconds a session of the helpers below lives

# A helper whose first answer is good and whose later ones are what its argument says; each key is its own.
HELPER = """
import json, os, secrets, subprocess, sys, time
from datetime import UTC, datetime, timedelta

kind, folder = sys.argv[1:3]
first = not os.path.exists(f"{folder}/{kind}")

def note(name, text):
    with open(f"{folder}/{name}", "a") as file:
        print(text, file=file)

note(kind, "run")

def document(**changes):
    end = datetime.now(UTC) + timedelta(seconds=int(sys.argv[3]))
    fields = {
        "Version": 1,
        "AccessKeyId": "ASIA" + secrets.token_hex(8).upper(),
        "SecretAccessKey": secrets.token_urlsafe(30),
        "SessionToken": "IQoJb3JpZ2luX2Vj" + secrets.token_urlsafe(200),
        "Expiration": end.isoformat(timespec="seconds"),
    }
    fields |= changes
    return json.dumps({name: value for name, value in fields.items() if value is not None})

if first or kind == "good":
    print(document())
elif kind == "denied":
    print(document(), file=sys.stderr)
    sys.exit("your login has expired")
elif kind == "hang":
    child = subprocess.Popen(["sleep", "600"])
    note("children", f"{os.getpid()} {child.pid}")
    time.sleep(600)
elif kind == "drip":
    for character in document() * 100:
        print(character, end="", flush=True)
        time.sleep(0.1)
elif kind == "wrong":
    print("Please log in: https://login.example/device")
elif kind == "truncated":
    print(document()[:200])
elif kind == "dead":
    print(document(Expiration="2001-01-01T00:00:00Z"))
elif kind == "everlasting":
    print(document(Expiration="2524-01-01T00:00:00Z"))
elif kind == "missing":
    print(document(SecretAccessKey=None))
elif kind == "long-lived":
    print(document(SessionToken=None, Expiration=None))
elif kind == "large":
    print(document() + " " * (10 << 20))
elif kind == "empty":
    sys.exit(0)
elif kind == "killed":
    os.kill(os.getpid(), 9)
"""


@dataclass(frozen=True)
class BadDay:
    outcome: str
    says: str
    advice: str


BAD_DAYS = {
    "denied": BadDay("denied", "exit code 1: ", "run it by hand"),
    "hang": BadDay("unreachable", "did not end within 3 s", "must not wait for a terminal"),
    "drip": BadDay("unreachable", "did not end within 3 s", "must not wait for a terminal"),
    "wrong": BadDay("invalid", "not JSON", "process document"),
    "truncated": BadDay("invalid", "not JSON", "process document"),
    "dead": BadDay("invalid", "dead since 2001", "clock"),
    "everlasting": BadDay("invalid", "which no session has", "true expiration"),
    "missing": BadDay("invalid", "SecretAccessKey is missing", "process document"),
    "long-lived": BadDay("invalid", "long-lived keys", "assume-role"),
    "large": BadDay("invalid", "more than 1 MB", "the credentials alone"),
    "empty": BadDay("invalid", "printed nothing", "run it by hand"),
    "killed": BadDay("unreachable", "was ended by SIGKILL", "run it by hand"),
}
ROLE = """
[roles.{name}]
source = "process"
command = {command}
timeout = "{timeout}"
"""
DEFAULT = "default = true\n"


@pytest.fixture(scope="module")
def helper(tmp_path_factory):
    """`helper(kind, folder, life)`: a command of the config."""
    program = tmp_path_factory.mktemp("helper") / "helper.py"
    program.write_text(HELPER)

    def command(kind, folder, life=LIFE):
        return json.dumps([sys.executable, str(program), kind, str(folder), str(life)])

    return command


def config(helper, folder, *names, timeout="10s", extra="", life=LIFE):
    roles = [ROLE.format(name=name, command=helper(name, folder, life), timeout=timeout) for name in names]
    return HOST + extra + DEFAULT.join([roles[0], "".join(roles[1:])])


def outcomes(daemon, role):
    """How often each outcome was counted for a role, of those that were."""
    lines = [line for line in daemon.metrics().splitlines() if line.startswith("imds_proxy_renewals_total{")]
    found = {line.split('"')[1]: float(line.split()[-1]) for line in lines if f'role="{role}"' in line}
    return {outcome: count for outcome, count in found.items() if count}


def key(daemon, role):
    """The key id that is served for a role, whether it is the default one or not."""
    token = (daemon.state / "tokens" / role).read_text()
    status, _, body = request(f"{daemon.endpoint}roles/{role}", headers={"Authorization": token})
    assert status == 200, body
    return json.loads(body)["AccessKeyId"]


@pytest.fixture(scope="module")
def bad_day(helper, tmp_path_factory):
    """A daemon with a role for each bad day, once every role has had its own; and the key that each had before."""
    folder = tmp_path_factory.mktemp("state")
    text = config(helper, folder, *BAD_DAYS, timeout="3s", extra='[renewal]\nmax_age = "6s"\n')
    with DaemonProcess(tmp_path_factory.mktemp("daemon"), text, {}) as daemon:
        daemon.wait_ready()
        wait(lambda: all(daemon.role(kind)["state"] == "ok" for kind in BAD_DAYS), 10, "every role's credentials")
        held = {kind: key(daemon, kind) for kind in BAD_DAYS}
        wait(lambda: all(daemon.role(kind)["failure"] for kind in BAD_DAYS), 20, "every role's failure")
        served = {kind: key(daemon, kind) for kind in BAD_DAYS}
        failures = {kind: daemon.role(kind)["failure"] for kind in BAD_DAYS}
        counted = {kind: outcomes(daemon, kind) for kind in BAD_DAYS}
        ended = [pid for line in (folder / "children").read_text().splitlines() for pid in line.split()]
        left = [pid for pid in ended[:2] if alive(pid)]
    return held, served, failures, counted, left, daemon.log.read_text()


@pytest.mark.parametrize("kind", BAD_DAYS)
def test_on_a_bad_day_the_last_good_credentials_stay(bad_day, kind):
    """A helper's bad hour would be an outage."""
    held, served, *_ = bad_day
    assert served[kind] == held[kind]


@pytest.mark.parametrize("kind", BAD_DAYS)
def test_each_bad_day_is_told_by_its_class_and_in_words_that_help(bad_day, kind):
    """Whoever is woken up would have to guess."""
    *_, failures, counted, _, _ = bad_day
    wanted, found = BAD_DAYS[kind], failures[kind]
    assert found["outcome"] == wanted.outcome
    assert counted[kind][wanted.outcome] >= 1
    assert f'role "{kind}"' in found["message"]
    assert sys.executable in found["message"] or "the source handed out" in found["message"]
    assert wanted.says in found["message"]
    assert wanted.advice in found["advice"]


def test_a_helper_that_hung_is_gone_with_its_child(bad_day):
    """Each renewal would leave two processes behind."""
    *_, left, _ = bad_day
    assert left == []


def test_the_words_of_a_helper_are_kept_and_its_secrets_are_not(bad_day):
    _, _, failures, _, _, log = bad_day
    assert failures["denied"]["message"].endswith("your login has expired")
    assert '"SessionToken": "***"' in failures["denied"]["message"]
    assert "IQoJb3JpZ2luX2Vj" not in log
    assert "Traceback" not in log


def test_a_helper_is_run_again_ahead_of_time(helper, start_daemon, tmp_path):
    daemon = start_daemon(config=config(helper, tmp_path, "good", life=4), environment={})
    keys = {daemon.credentials("good")["AccessKeyId"]}
    until = time.monotonic() + 6
    while time.monotonic() < until:
        keys.add(daemon.credentials("good")["AccessKeyId"])  # there always are some
        time.sleep(0.1)
    assert len(keys) >= 3
    assert outcomes(daemon, "good").keys() == {"success"}


def test_the_daemon_stops_at_once_while_a_helper_hangs(helper, start_daemon, tmp_path):
    """systemd would kill it after its own time limit, and leave the helper behind."""
    text = config(helper, tmp_path, "hang", timeout="5m", extra='[renewal]\nmax_age = "1s"\n')
    daemon = start_daemon(config=text, environment={})
    wait((tmp_path / "children").exists, 10, "a helper that hangs")
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < 2
    pids = (tmp_path / "children").read_text().split()
    wait(lambda: not any(map(alive, pids)), 2, "the end of the helper")
    assert len(pids) == 2


def test_a_helper_that_reads_its_environment_finds_no_way_back_to_the_daemon(start_daemon, tmp_path):
    """It would ask the daemon for the credentials that the daemon asks it for."""
    script = f"env > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/environment; exit 1"
    command = json.dumps(["/bin/sh", "-c", script])
    environment = {
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1338/",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1338/roles/x",
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "HELPER_SETTING": "kept",
    }
    text = HOST + ROLE.format(name="deploy", command=command, timeout="5s")
    start_daemon(config=text, environment=environment, ready=False)
    wait((tmp_path / "environment").exists, 20, "a run of the helper")
    found = dict(line.split("=", 1) for line in (tmp_path / "environment").read_text().splitlines() if "=" in line)
    assert found["HELPER_SETTING"] == "kept"
    assert found["AWS_EC2_METADATA_DISABLED"] == "true"
    assert not [name for name in environment if name in found and name != "HELPER_SETTING"]


def test_check_says_what_a_failing_helper_said(start_daemon, helper, tmp_path):
    """Whoever sets up a host would have to start the daemon to see."""
    failing = ROLE.format(name="failing", command=json.dumps("sh -c 'echo not logged in >&2; exit 3'"), timeout="5s")
    daemon = start_daemon(config=config(helper, tmp_path, "good", extra="") + failing, environment={}, ready=False)
    done = daemon.cli("check")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert 'failing  denied: role "failing": command sh ended with exit code 3: not logged in' in lines
    assert any(line.strip().startswith("→ run it by hand") for line in lines)
    assert any(line.startswith("good ") for line in lines)


# A helper that calls AWS

CORPORATE = """
import json, sys, boto3

sts = boto3.client("sts")
found = sts.assume_role(RoleArn=sys.argv[1], RoleSessionName="corporate")["Credentials"]
print("assumed", sys.argv[1], file=sys.stderr)
json.dump({"Version": 1, **found}, sys.stdout, default=lambda moment: moment.isoformat())
"""


def test_a_helper_on_awss_own_sdk_works_unchanged(aws, start_daemon):
    """What a site has in its profiles as `credential_process` would have to be rewritten."""
    command = f"{executable('boto3', 'python')} -c '{CORPORATE}' {aws.role_arn}"
    environment = aws.environment | {"AWS_ENDPOINT_URL_STS": aws.double.url, "AWS_DEFAULT_REGION": "eu-west-1"}
    text = HOST + ROLE.format(name="deploy", command=json.dumps(command), timeout="1m")
    daemon = start_daemon(config=text, environment=environment)
    assert daemon.credentials("deploy")["AccessKeyId"] in aws.double.issued()
    assert daemon.role("deploy")["state"] == "ok"


def test_a_helper_that_aws_refuses_says_why(aws, start_daemon):
    """`AccessDenied` is what somebody has to act on."""
    command = [executable("boto3", "python"), "-c", CORPORATE, aws.role_arn]
    environment = aws.environment | {"AWS_ENDPOINT_URL_STS": aws.double.url, "AWS_DEFAULT_REGION": "eu-west-1"}
    aws.double.interfere = lambda call: sts.access_denied(call, "arn:aws:iam::123456789012:user/host")
    text = HOST + ROLE.format(name="deploy", command=json.dumps(command), timeout="1m")
    failure = start_daemon(config=text, environment=environment, ready=False).failure()
    assert failure["outcome"] == "denied"
    assert "AccessDenied" in failure["message"]
    assert "arn:aws:iam::123456789012:user/host" in failure["message"]
