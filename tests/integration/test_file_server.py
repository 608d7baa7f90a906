"""A file server that hangs: what is on it waits, and nothing else does."""

import json
import os
import time
from pathlib import Path

import pytest

from support.daemon import HOST, DaemonProcess, request, wait
from support.file_server import file_server
from support.pushed_file import Writer

GRANTS = """
[[grants]]
role = "local"
uid = {uid}
[[grants]]
role = "remote"
uid = {uid}
[[grants]]
role = "local"
token_file = "{token_file}"
[[files]]
role = "local"
format = "json"
path = "{output}"
[audit]
file = "{audit}"
[renewal]
max_age = "4s"
"""
TOKEN = "token-of-the-container-0123456789"
NOT_READ, NOT_WRITTEN = "could not be read within 10 s", "could not be written within 10 s"


@pytest.fixture
def server(tmp_path):
    with file_server(tmp_path) as server:
        yield server


@pytest.fixture
def local(tmp_path):
    return written(tmp_path, "local")


@pytest.fixture
def daemon(tmp_path, server, local):
    """Has a role whose file is here and one whose file is on the server, and all else on the server."""
    remote, token_file = written(server.path, "remote"), server.path / "token"
    token_file.write_text(TOKEN)
    token_file.chmod(0o600)
    there = {"token_file": token_file, "output": server.path / "output", "audit": server.path / "audit"}
    config = HOST + GRANTS.format(uid=os.geteuid(), **there) + local.role + remote.role
    with DaemonProcess(tmp_path, config, {}) as daemon:
        wait(lambda: daemon.ready() and both_ok(daemon), 20, "both roles")
        yield daemon


def written(folder, role):
    writer = Writer(folder, role=role)
    writer.rename()
    return writer


def both_ok(daemon):
    return {role["state"] for role in daemon.status()["roles"]} == {"ok"}


def failed(daemon):
    failure = daemon.role("remote")["failure"]
    return failure is not None and NOT_READ in failure["message"]


def by_token(daemon):
    answer = request(f"{daemon.endpoint}roles/local", headers={"Authorization": TOKEN})
    return json.loads(answer[2])["AccessKeyId"]


def output_failure(daemon):
    [file] = daemon.status()["files"]
    return file["failure"]["message"] if file["failure"] else ""


def threads(daemon):
    """How many there were at some moments: reading and looking begin and end all the time."""
    counts = []
    for _ in range(40):
        counts.append(len(list(Path(f"/proc/{daemon.process.pid}/task").iterdir())))
        time.sleep(0.05)
    return counts


def test_nothing_else_waits(daemon, server, local):
    """Before, one look at a file in every quarter of a second held up every answer of the daemon."""
    last = daemon.credentials("remote")["AccessKeyId"]
    server.hang()
    slowest, ends = 0.0, time.monotonic() + 40
    while time.monotonic() < ends and not failed(daemon):
        began = time.monotonic()
        assert daemon.credentials("remote")["AccessKeyId"] == last
        assert by_token(daemon)
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.05)
    assert failed(daemon)
    assert slowest < 3
    local.rename()
    wait(lambda: daemon.credentials("local")["AccessKeyId"] == local.key, 15, "the new session of the file here")
    wait(lambda: NOT_WRITTEN in output_failure(daemon), 30, NOT_WRITTEN)
    daemon.wait_for_event("the audit file is not written; its lines wait")

    before, first = threads(daemon), daemon.role("remote")["failure"]["at"]
    wait(lambda: daemon.role("remote")["failure"]["at"] != first, 30, "another try")
    assert min(threads(daemon)) <= min(before)
    server.go_on()
    wait(lambda: both_ok(daemon), 30, "the role, once its file is there again")
    output = server.path / "output"
    wait(lambda: json.loads(output.read_text())["AccessKeyId"] == local.key, 20, "the file")
    assert output_failure(daemon) == ""
    daemon.wait_for_event("the audit file is written again")


def test_the_daemon_ends_all_the_same(daemon, server):
    server.hang()
    time.sleep(6)  # a renewal is due: something reads, and something looks whether there is anything new
    assert daemon.stop(within=20) == 0


NEEDS_SERVER = """
[renewal]
max_age = "1s"
[roles.helper]
source = "process"
command = ["{there}/helper"]
timeout = "1s"
[roles.assumed]
role_arn = "arn:aws:iam::123456789012:role/x"
sts_endpoint = "http://127.0.0.1:9"
default = false
[base_key]
rotate_every = "30d"
"""


def test_a_program_and_the_shared_credentials_file_on_it_hold_up_their_roles_alone(tmp_path, server, local):
    """To start a program, or to look for a key, waited for the disk on the event loop."""
    helper, shared = server.path / "helper", server.path / "shared-credentials"
    helper.write_text(f"#!/bin/sh\ncat {local.path}\n")
    helper.chmod(0o755)
    shared.write_text(f"[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = {'x' * 40}\n")
    shared.chmod(0o600)
    config = HOST + local.role.replace("]\n", "]\ndefault = true\n", 1) + NEEDS_SERVER.format(there=server.path)
    with DaemonProcess(tmp_path, config, {"AWS_SHARED_CREDENTIALS_FILE": str(shared)}) as daemon:
        daemon.wait_for_event("credentials renewed", 2)
        server.hang()
        slowest, ends = 0.0, time.monotonic() + 40
        while time.monotonic() < ends and not cannot_start(daemon):
            began = time.monotonic()
            assert daemon.credentials("local")["AccessKeyId"]
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.05)
        assert cannot_start(daemon)
        assert slowest < 2
        assert daemon.stop(within=20) == 0
        daemon.start()  # the region is looked for in the AWS files
        daemon.wait_for_event("listening", 2)
        assert daemon.stop(within=20) == 0


def cannot_start(daemon):
    failure = daemon.role("helper")["failure"]
    return failure is not None and "could not be started within" in failure["message"]
