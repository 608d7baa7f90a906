"""Files that the real daemon keeps fresh: what their readers see on good days and on bad ones."""

import configparser
import json
import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from werkzeug.wrappers import Response

from support.aws import is_assume_role, sessions
from support.clients import executable
from support.daemon import DaemonProcess, clean_environment, wait
from support.saved import edit, seal_of

SOON = 15.0  # seconds: a look every two, a retry every five, and a busy machine
ROLES = ("deploy", "one", "two", "three", "four")
EVERY_SECOND = '[renewal]\nmax_age = "1s"\n'
PROFILE = re.compile(r"\[(\w+)\]")


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "outputs"
    path.mkdir()
    return path


def entry(path, role="deploy", **keys):
    """A `[[files]]` entry."""
    values = {"role": role, "path": str(path), **keys}
    return "[[files]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


def more_roles(aws):
    """Further sessions of the same role, by their own names, so that there are many renewals."""
    text = '[roles.{0}]\nrole_arn = "{1}"\nsession_name = "{0}"\nsts_endpoint = "{2}"\n'
    return "".join(text.format(role, aws.role_arn, aws.double.url) for role in ROLES[1:])


def busy_config(aws, *entries):
    return aws.config("default = true\n" + more_roles(aws) + EVERY_SECOND + "".join(entries))


def profiles(text):
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    return {name: dict(parser[name]) for name in parser.sections()}


def secrets_by_key():
    """What AWS handed out: key id to secret key and token."""
    return {s.access_key_id: (s.secret_access_key, s.session_token) for s in sessions()}


def is_whole(fields, issued):
    """Whether the three keys are those of one session."""
    return issued[fields["aws_access_key_id"]] == (fields["aws_secret_access_key"], fields["aws_session_token"])


def file_status(daemon, path):
    return next(file for file in daemon.status()["files"] if file["path"] == str(path))


def failure(daemon, path):
    return wait(lambda: file_status(daemon, path)["failure"], SOON, "a failure")


# Good days


@dataclass
class Seen:
    """What a reader has seen of one file."""

    contents: set
    modes: set
    inodes: set
    missing: int = 0


def read_on(path, stop, seen):
    while not stop.is_set():
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            seen.missing += 1
            continue
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            seen.contents.add(file.read().decode())
        seen.modes.add((stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid))
        seen.inodes.add(status.st_ino)


def test_readers_see_whole_files_only_while_they_are_rewritten_fifty_times(aws, start_daemon, folder):
    """Half a key, an empty file, or one that is not there for a moment: a deployment fails."""
    ini, process = folder / "credentials", folder / "process.json"
    entries = [entry(ini, role, profile=role, mode="0640", group=99) for role in ROLES] + [
        entry(process, format="json")
    ]
    daemon = start_daemon(config=busy_config(aws, *entries))
    wait(lambda: ini.exists() and len(profiles(ini.read_text())) == 5 and process.exists(), SOON, "all profiles")
    stop, seen = threading.Event(), {path: Seen(set(), set(), set()) for path in (ini, process)}
    readers = [threading.Thread(target=read_on, args=(path, stop, seen[path])) for path in seen]
    for reader in readers:
        reader.start()
    try:
        wait(lambda: len(seen[ini].contents) > 50 and len(seen[process].contents) > 8, 60, "rewrites")
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    issued = secrets_by_key()
    for content in seen[ini].contents:
        found = profiles(content)
        assert set(found) == set(ROLES)
        assert all(is_whole(fields, issued) for fields in found.values())
    for content in seen[process].contents:
        document = json.loads(content)
        assert issued[document["AccessKeyId"]] == (document["SecretAccessKey"], document["SessionToken"])
    assert [s.missing for s in seen.values()] == [0, 0]
    assert seen[ini].modes == {(0o640, 0, 99)}
    assert seen[process].modes == {(0o600, 0, 0)}
    wait(lambda: set(folder.iterdir()) == {ini, process}, SOON, "nothing else between two writes")
    assert daemon.metric(f'imds_proxy_file_write_failures_total{{path="{ini}"}}') == 0
    assert abs(daemon.metric(f'imds_proxy_file_written_timestamp_seconds{{path="{ini}"}}') - time.time()) < 10


def test_each_client_signs_with_what_the_file_holds(aws, start_daemon, folder):
    """It is for programs that read nothing else."""
    files = {form: folder / form for form in ("ini", "json", "env")}
    start_daemon("".join(entry(path, format=form) for form, path in files.items()))
    wait(lambda: all(path.exists() for path in files.values()), SOON, "three files")
    key = profiles(files["ini"].read_text())["default"]["aws_access_key_id"]
    config = folder / "config"
    config.write_text(f"[default]\ncredential_process = cat {files['json']}\n")
    ways = {
        "shared credentials file": {"AWS_SHARED_CREDENTIALS_FILE": str(files["ini"])},
        "credential_process": {"AWS_CONFIG_FILE": str(config)},
        "environment": dict(line.split("=", 1) for line in files["env"].read_text().splitlines()),
    }
    for way, environment in ways.items():
        for client, program in clients().items():
            aws.double.calls.clear()
            assert says(program, on(aws) | environment).endswith("/test-host"), (way, client)
            assert aws.double.used("GetCallerIdentity") == [key], (way, client)


def clients():
    """Programs that say who they are, by the default chain alone."""
    boto3 = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])"
    cli = [executable("awscli", "aws"), "sts", "get-caller-identity", "--query", "Arn", "--output", "text"]
    return {"boto3": [executable("boto3", "python"), "-c", boto3], "awscli": cli}


def on(aws):
    """Where AWS is, for a client, and that it is not to look for credentials at an instance metadata service."""
    region = {"AWS_ENDPOINT_URL": aws.double.url, "AWS_DEFAULT_REGION": "eu-west-1"}
    return clean_environment() | region | {"AWS_EC2_METADATA_DISABLED": "true"}


def says(command, environment):
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_environment_file_as_scripts_take_it(aws, start_daemon, folder):
    """`env $(cat FILE)` and `docker --env-file` know no quotes, a shell that sources it does."""
    path = folder / "env"
    start_daemon(entry(path, format="env"))
    wait(path.exists, SOON, "the file")
    program = shlex.join(clients()["awscli"])
    for line in (f"env $(cat {path}) {program}", f"set -a; . {path}; {program}"):
        assert says(["sh", "-c", line], on(aws)).endswith("/test-host"), line


def test_what_others_have_in_an_ini_file_stays_byte_for_byte(aws, start_daemon, folder):
    path = folder / "credentials"
    foreign = (
        b"# caf\xe9\r\n[mine]\r\naws_access_key_id=AKIA\r\n\r\n; end\r\n[default]\r\nregion = x\r\n[last]\r\na = b"
    )
    path.write_bytes(foreign)
    start_daemon(entry(path))
    wait(lambda: b"ASIA" in path.read_bytes(), SOON, "the profile")
    lines = path.read_bytes().split(b"\r\n")
    ours = [line for line in lines if line.startswith(b"aws_") and b"AKIA" not in line]
    assert len(ours) == 4
    assert b"\r\n".join(line for line in lines if line not in ours) == foreign


def test_what_is_to_run_after_a_change_runs_and_its_failure_harms_nothing(aws, start_daemon, folder):
    path, ran = folder / "credentials", folder / "ran"
    after = folder / "after.sh"
    after.write_text(f"#!/bin/sh\ngrep -c aws_session_token {path} >> {ran}\ntest $(wc -l < {ran}) -gt 1 || exit 7\n")
    after.chmod(0o755)
    daemon = start_daemon(EVERY_SECOND + entry(path, after=str(after)))
    event = daemon.wait_for_event("the command after a change failed")
    assert "exit code 7" in event["error"]
    wait(lambda: len(ran.read_text().split()) >= 3, SOON, "three runs")
    assert set(ran.read_text().split()) == {"1"}
    wait(lambda: file_status(daemon, path)["warnings"] == [], SOON, "no warning")


# Starts and stops


def without_aws(request):
    return Response("", 503) if is_assume_role(request) else None


def test_a_start_without_aws_writes_what_is_saved_and_lives(aws, start_daemon, folder):
    """After a reboot while AWS is away, the agent would have no credentials though the host has."""
    path = folder / "credentials"
    daemon = start_daemon(entry(path))
    wait(path.exists, SOON, "the file")
    daemon.stop()
    before = path.read_text()
    path.unlink()
    aws.double.interfere = without_aws
    daemon.start()
    wait(path.exists, SOON, "the file again")
    assert path.read_text() == before


def test_dead_credentials_are_not_written_and_the_file_is_not_blanked(aws, start_daemon, folder):
    path = folder / "credentials"
    daemon = start_daemon(entry(path))
    wait(path.exists, SOON, "the file")
    daemon.stop()
    saved = daemon.state / "credentials/deploy.json"
    dead = {"expiration": time.time() - 60}
    edit(seal_of(daemon.state), saved, lambda document: document["credentials"].update(dead))
    path.write_text("[default]\nregion = old\n")
    aws.double.interfere = without_aws
    daemon.start()
    daemon.wait_for_event("renewal failed")
    time.sleep(1)
    assert path.read_text() == "[default]\nregion = old\n"
    assert daemon.status()["files"][0]["written"] is None


def test_ready_is_told_when_the_file_is_there(aws, folder, start_daemon):
    """The agent is started by READY and reads the file once: without it, it waits for a minute and a half."""
    path = folder / "credentials"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(folder / "notify"))
        notify.settimeout(20)
        environment = aws.environment | {"NOTIFY_SOCKET": str(folder / "notify")}
        start_daemon(entry(path), environment, ready=False)
        while b"READY=1" not in notify.recv(4096):
            pass
        assert "aws_session_token" in path.read_text()


def test_a_kill_in_the_middle_of_a_write_leaves_a_whole_file_and_the_next_start_goes_on(aws, start_daemon, folder):
    """A power cut, or the kernel out of memory."""
    path = folder / "credentials"
    entries = [entry(path, role, profile=role) for role in ROLES]
    daemon = start_daemon(config=busy_config(aws, *entries), ready=False)
    left = 0
    for _ in range(5):
        wait(lambda: path.exists() and len(profiles(path.read_text())) == 5, SOON, "all profiles")
        kill_in_a_write(daemon, folder)
        issued = secrets_by_key()
        found = profiles(path.read_text())
        assert set(found) == set(ROLES)
        assert all(is_whole(fields, issued) for fields in found.values())
        leftovers = [file for file in folder.iterdir() if file != path]
        left += len(leftovers)
        for file in leftovers:
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            os.utime(file, (1, 1))
        daemon.start()
        wait(lambda: set(folder.iterdir()) == {path}, SOON, "what a crash left is gone")
    assert left, "never killed in the middle"


def kill_in_a_write(daemon, folder):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if any(name.startswith(".") for name in os.listdir(folder)):  # noqa: PTH208 - the fastest look
            daemon.process.send_signal(signal.SIGKILL)
            daemon.process.wait(10)
            return
    raise AssertionError("no write seen")


def test_a_reload_brings_and_drops_files(aws, start_daemon, folder):
    first, second = folder / "first", folder / "second"
    daemon = start_daemon(entry(first))
    wait(first.exists, SOON, "the first")
    daemon.write_config(aws.config(entry(second, format="env", mode="0640")))
    daemon.process.send_signal(signal.SIGHUP)
    wait(second.exists, SOON, "the second")
    assert stat.S_IMODE(second.stat().st_mode) == 0o640
    assert [file["path"] for file in daemon.status()["files"]] == [str(second)]
    assert str(first) not in daemon.metrics()
    assert first.exists()


# What cannot work


def test_sessions_too_short_for_a_file_are_refused_at_start_with_the_reason(aws, start_daemon, folder):
    """The agent would sign with dead credentials, now and then."""
    daemon = start_daemon('duration = "30m"\n' + entry(folder / "credentials"), ready=False)
    assert daemon.process.wait(20) == 2
    assert "a file has to hold 30 min of life at any time" in daemon.log.read_text()


def test_the_shared_credentials_file_is_refused_at_start_with_the_reason(aws, start_daemon):
    daemon = start_daemon(entry("/root/.aws/credentials"), ready=False)
    assert daemon.process.wait(20) == 2
    assert "the CodeDeploy agent reads only once" in daemon.log.read_text()


# Bad days


MOUNTED = """
mkdir -p "$FOLDER" && mount -t tmpfs -o size=64k,mode=700 files "$FOLDER" || exit 77
exec "$@"
"""


@pytest.fixture
def on_a_disk_of_its_own(aws, folder, tmp_path_factory):
    """A daemon whose file is on a file system of 64 kB, in a mount namespace: it, the path, and that seen from here."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("no right to make a mount namespace")
    environment = aws.environment | {"FOLDER": str(folder)}
    config = aws.config(EVERY_SECOND + entry(folder / "credentials"))
    launcher = ("unshare", "--mount", "sh", "-c", MOUNTED, "sh")
    with DaemonProcess(tmp_path_factory.mktemp("disk"), config, environment, launcher=launcher) as daemon:
        inside = Path(f"/proc/{daemon.process.pid}/root{folder}")
        daemon.wait_ready()
        wait((inside / "credentials").exists, SOON, "the file")
        assert not (folder / "credentials").exists()
        yield daemon, folder / "credentials", inside


def settle_until_failing(daemon, path, inside, words):
    """The bad day has begun: what is told, and that the old file is whole."""
    found = wait(lambda: (f := file_status(daemon, path)["failure"]) and words in f["message"] and f, SOON, words)
    before = (inside / "credentials").read_text()
    failures = f'imds_proxy_file_write_failures_total{{path="{path}"}}'
    counted = daemon.metric(failures)
    assert counted > 0
    wait(lambda: daemon.metric(failures) > counted, SOON, "another try")
    assert (inside / "credentials").read_text() == before
    assert is_whole(profiles(before)["default"], secrets_by_key())
    assert any(words in event.get("error", "") for event in daemon.events() if event["event"].startswith("file not"))
    done = daemon.cli("status")
    assert found["message"] in done.stdout
    assert f"→ {found['advice']}" in done.stdout
    return before, found


def assert_it_goes_on(daemon, path, inside, before):
    wait(lambda: file_status(daemon, path)["failure"] is None, SOON, "no failure")
    wait(lambda: (inside / "credentials").read_text() != before, SOON, "a new file")
    wait(lambda: not [file for file in inside.iterdir() if file.name.startswith(".")], SOON, "nothing left behind")


def test_a_full_disk_leaves_the_old_file_whole_and_is_told_of(on_a_disk_of_its_own):
    daemon, path, inside = on_a_disk_of_its_own
    with (inside / "filler").open("wb", buffering=0) as filler:
        while True:
            try:
                filler.write(b"x" * 512)
            except OSError:
                break
    before, found = settle_until_failing(daemon, path, inside, "No space left on device")
    assert found["advice"] == "free space on that file system"
    (inside / "filler").unlink()
    assert_it_goes_on(daemon, path, inside, before)


def test_a_read_only_file_system_leaves_the_old_file_whole_and_is_told_of(on_a_disk_of_its_own):
    daemon, path, inside = on_a_disk_of_its_own
    remount(daemon, path.parent, "ro")
    before, found = settle_until_failing(daemon, path, inside, "Read-only file system")
    assert "ReadWritePaths=" in found["advice"]
    remount(daemon, path.parent, "rw")
    assert_it_goes_on(daemon, path, inside, before)


def remount(daemon, folder, way):
    command = ["nsenter", "--mount", f"--target={daemon.process.pid}", "mount", "-o", f"remount,{way}", str(folder)]
    subprocess.run(command, check=True, timeout=10)


def test_a_folder_that_is_removed_and_restored_has_its_file_again(aws, start_daemon, folder):
    path = folder / "credentials"
    daemon = start_daemon(entry(path))
    wait(path.exists, SOON, "the file")
    shutil.rmtree(folder)
    assert failure(daemon, path)["message"] == f"{path} cannot be written: No such file or directory"
    folder.mkdir()
    wait(path.exists, SOON, "the file again")
    assert is_whole(profiles(path.read_text())["default"], secrets_by_key())


def test_an_unknown_owner_is_told_of_and_everything_else_goes_on(aws, start_daemon, folder):
    path, other = folder / "credentials", folder / "other"
    path.write_text("[default]\nregion = old\n")
    daemon = start_daemon(entry(path, owner="codedeploy-not-there") + entry(other, format="json"))
    found = failure(daemon, path)
    assert found["message"] == f'{path} cannot be written: there is no user "codedeploy-not-there" on this host'
    assert found["advice"] == "create it, or correct owner"
    assert path.read_text() == "[default]\nregion = old\n"
    wait(other.exists, SOON, "the other file")
    assert daemon.credentials("deploy")["AccessKeyId"] == json.loads(other.read_text())["AccessKeyId"]
    daemon.write_config(aws.config(entry(path, owner="nobody")))
    daemon.process.send_signal(signal.SIGHUP)
    wait(lambda: "ASIA" in path.read_text(), SOON, "the file")
    assert path.owner() == "nobody"


def test_a_daemon_that_may_not_give_files_away_says_so(aws, start_daemon, folder):
    """Nobody would know that a service as the unit runs it cannot, and what to do."""
    path, own = folder / "credentials", folder / "own"
    launcher = ("setpriv", "--bounding-set=-chown", "--inh-caps=-all")
    daemon = start_daemon(entry(path, owner="nobody") + entry(own, owner="root"), launcher=launcher)
    found = failure(daemon, path)
    assert found["message"] == f"{path} cannot be written: Operation not permitted"
    assert "CAP_CHOWN" in found["advice"]
    wait(own.exists, SOON, "the file that is its own user's")
    assert list(folder.iterdir()) == [own]


def test_a_link_within_the_folder_is_followed_and_one_out_of_it_refused(aws, start_daemon, folder):
    """A user who may write the folder would have root replace any file."""
    outside = folder.parent / "outside"
    outside.write_text("[default]\nregion = theirs\n")
    (folder / "inner").symlink_to("real")
    (folder / "outer").symlink_to(outside)
    daemon = start_daemon(entry(folder / "inner") + entry(folder / "outer"))
    wait((folder / "real").exists, SOON, "the file that the link is to")
    assert (folder / "inner").is_symlink()
    assert "symbolic link out of its folder" in failure(daemon, folder / "outer")["message"]
    assert outside.read_text() == "[default]\nregion = theirs\n"


def test_sessions_of_a_command_that_turn_out_too_short_are_told_of(aws, start_daemon, folder):
    """How long they live is known with the first of them alone."""
    document = {"Version": 1, "AccessKeyId": "ASIASHORTSESSION", "SecretAccessKey": "k" * 40, "SessionToken": "t" * 40}
    document["Expiration"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 20 * 60))
    (folder / "document").write_text(json.dumps(document))
    role = f'[roles.short]\nsource = "process"\ncommand = ["cat", "{folder}/document"]\n'
    daemon = start_daemon("default = true\n" + role + entry(folder / "credentials", "short"))
    event = daemon.wait_for_event("sessions are too short for a file, which has to hold 30 minutes of life at any time")
    assert (event["role"], event["minutes"]) == ("short", 20)
    assert "live 20 min" in file_status(daemon, folder / "credentials")["warnings"][0]
    assert "live 20 min" in daemon.cli("status").stdout


def test_nothing_of_a_file_is_in_the_environment_or_arguments_of_the_daemon(aws, start_daemon, folder):
    path = folder / "credentials"
    daemon = start_daemon(entry(path))
    wait(path.exists, SOON, "the file")
    token = profiles(path.read_text())["default"]["aws_session_token"].encode()
    for name in ("environ", "cmdline"):
        assert token not in Path(f"/proc/{daemon.process.pid}/{name}").read_bytes()
    assert token not in daemon.log.read_bytes() + json.dumps(daemon.status()).encode() + daemon.metrics().encode()
