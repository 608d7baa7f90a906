"""The disk of the state directory is slow, hangs or is full: what is kept there is late, and nothing else is."""

import contextlib
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from support import launched
from support.daemon import HOST, DaemonProcess, request, wait
from support.file_server import file_server
from support.pushed_file import Writer
from support.saved import read_session, session_file

LIST = "latest/meta-data/iam/security-credentials/"
HANGS = "the state directory does not answer: session and role tokens of before hold as soon as it does"
LATE = "the state directory is open now"
SYNC = 0.9  # seconds
RENEWAL = """
[renewal]
max_age = "1s"
"""


def answered(daemon, token, path=LIST):
    """The status, 0 where nothing listens yet."""
    try:
        return request(daemon.endpoint + path, headers={"X-aws-ec2-metadata-token": token})[0]
    except OSError:
        return 0


def listening(daemon):
    wait(lambda: answered(daemon, "none") == 401, 15, "a listener")


def slowest(daemon, until, seconds=30):
    """Seconds of the slowest of all answers of both planes, up to a condition."""
    longest, ends = 0.0, time.monotonic() + seconds
    while not until():
        assert time.monotonic() < ends
        began = time.monotonic()
        assert daemon.get(LIST)[0] == 200
        assert request(daemon.admin + "/healthz")[0] == 200
        longest = max(longest, time.monotonic() - began)
        time.sleep(0.02)
    return longest


def saved_key(state):
    path = session_file(state)
    return read_session(path)["credentials"]["access_key_id"] if path.exists() else None


def role_token(daemon, token):
    return request(f"{daemon.endpoint}roles/deploy", headers={"Authorization": token})[0]


# Slow


def test_a_slow_disk_makes_no_answer_late(aws, start_daemon, tmp_path):
    """Each renewal synced two times on the event loop: with a disk that takes 1.5 s an answer took 3 s."""
    with DaemonProcess(
        tmp_path, aws.config(RENEWAL), aws.environment, launcher=launched.by("slow_disk", SYNC)
    ) as daemon:
        listening(daemon)
        early = daemon.token()  # by a key of this process alone: that of the state directory is being written
        daemon.wait_ready()
        first = wait(lambda: saved_key(daemon.state), 20, "a saved session")
        assert slowest(daemon, lambda: saved_key(daemon.state) != first) < SYNC
        daemon.wait_for_event(LATE)
        assert answered(daemon, early) == 200


# Hanging


@pytest.fixture
def server(tmp_path):
    with file_server(tmp_path) as server:
        yield server


@pytest.fixture
def local(tmp_path):
    writer = Writer(tmp_path)
    writer.rename()
    return writer


@contextlib.contextmanager
def on_server(folder, server, local):
    """A daemon that keeps its state on the server, and all else here."""
    with DaemonProcess(folder, HOST.replace('"STATE"', f'"{server.path}/state"') + local.role, {}) as daemon:
        daemon.state = server.path / "state"
        yield daemon


def test_on_a_disk_that_hangs_it_serves_renews_and_ends(tmp_path, server, local):
    """Data plane and /healthz stood still until the disk went on: systemd would kill the daemon, again and again."""
    with on_server(tmp_path, server, local) as daemon:
        daemon.wait_ready()
        wait(lambda: saved_key(daemon.state) == local.key, 10, "the saved session")
        server.hang()
        for _ in range(2):
            local.rename()
            assert slowest(daemon, lambda: daemon.credentials("deploy")["AccessKeyId"] == local.key) < 2
        daemon.process.send_signal(1)
        daemon.wait_for_event("config reloaded")
        assert slowest(daemon, daemon.ready) < 2
        assert daemon.stop(within=20) == 0


def test_a_start_on_a_disk_that_hangs_serves_and_takes_what_is_there_once_it_goes_on(tmp_path, server, local):
    """It would hang for good before it listened. Without the key of before, some clients wait for hours."""
    with on_server(tmp_path, server, local) as daemon:
        daemon.wait_ready()
        wait(lambda: saved_key(daemon.state) == local.key, 10, "the saved session")
        kept, opens = daemon.token(), (daemon.state / "tokens/deploy").read_text()
        assert role_token(daemon, opens) == 200
        daemon.stop()
        server.hang()
        daemon.start().wait_ready()
        early = daemon.token()
        assert (answered(daemon, early), answered(daemon, kept)) == (200, 401)
        assert role_token(daemon, opens) == role_token(daemon, "x" * 40) == 503
        daemon.wait_for_event(
            "the state directory does not answer: session and role tokens of before hold as soon as it does"
        )
        server.go_on()
        wait(lambda: answered(daemon, kept) == 200, 10, "the key of before")
        assert answered(daemon, early) == 200
        wait(lambda: role_token(daemon, opens) == 200, 10, "the role tokens")
        assert role_token(daemon, "x" * 40) == 401
        local.rename()
        wait(lambda: saved_key(daemon.state) == local.key, 15, "the newest session")


# Full

SMALL = 'mount --make-rprivate / && mount -t tmpfs -o size=128k,mode=700 state "$0" && exec "$@"'


@pytest.fixture
def small_disk(tmp_path):
    """A launcher that gives the process a state directory of its own, in which there is little room."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a disk of its own takes root and unshare(1)")
    (tmp_path / "state").mkdir(mode=0o700)
    return ["unshare", "--mount", "sh", "-c", SMALL, str(tmp_path / "state")]


def fill(state):
    filler = state / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    return filler


def test_after_a_full_disk_the_newest_session_is_saved_at_once_and_a_restart_takes_it(tmp_path, small_disk, local):
    """Until the next renewal a restart would take an older one: of 31 minutes of life it had 5."""
    with DaemonProcess(tmp_path, HOST + local.role, {}, launcher=small_disk) as daemon:
        daemon.wait_ready()
        state = Path(f"/proc/{daemon.process.pid}/root/{daemon.state}")
        wait(lambda: saved_key(state) == local.key, 10, "the saved session")
        filler = fill(state)
        for _ in range(2):
            local.rename()
            wait(lambda: daemon.credentials("deploy")["AccessKeyId"] == local.key, 10, "the new session")
        error = daemon.wait_for_event("a restart will need AWS")
        assert "No space left" in error["error"]
        assert error["advice"] == "free space on that file system"
        assert saved_key(state) != local.key
        filler.unlink()
        wait(lambda: saved_key(state) == local.key, 10, "the newest session")
        daemon.wait_for_event("sessions are saved again")
        assert [event["event"] for event in daemon.events()].count("a restart will need AWS") == 1
        shutil.copytree(state, tmp_path / "kept")
    local.path.unlink()
    (tmp_path / "again").mkdir()
    config = HOST.replace('"STATE"', json.dumps(str(tmp_path / "kept"))) + local.role
    with DaemonProcess(tmp_path / "again", config, {}) as daemon:
        wait(lambda: daemon.ready() and daemon.credentials("deploy")["AccessKeyId"] == local.key, 15, "what was saved")
