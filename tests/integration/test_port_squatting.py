"""Another user at the daemon's port, while the daemon is down: real users, real processes, the real daemon."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from support.activation import held_by_systemd, passed
from support.client import client_of
from support.daemon import request
from support.pushed_file import Writer
from support.squatter import squatting
from support.users import temporary_users

BIND = """
for port in map(int, sys.argv[1:]):
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            squatter.bind(("127.0.0.1", port))
            squatter.listen()
            print("bound", flush=True)
        except OSError as error:
            print(error.errno, flush=True)
"""


@pytest.fixture(scope="module")
def people():
    with temporary_users() as made:
        yield made.add(), made.add()


@pytest.fixture(scope="module")
def mallory(people):
    return people[0]


@pytest.fixture
def activated(aws, start_daemon):
    """`activated(config)`: a daemon whose two ports are held, and the sockets that hold them."""
    with held_by_systemd("127.0.0.1", "127.0.0.1") as sockets:

        def start(extra=""):
            port, admin = (each.getsockname()[1] for each in sockets)
            process, environment = passed(sockets)
            config = aws.config(extra).replace("PORT", str(port)).replace("ADMIN", str(admin))
            daemon = start_daemon(config=config, environment=aws.environment | environment, ready=False, **process)
            daemon.port, daemon.admin_port = port, admin
            daemon.endpoint, daemon.admin = f"http://127.0.0.1:{port}/", f"http://127.0.0.1:{admin}"
            return daemon.wait_ready()

        yield start


def test_while_systemd_holds_the_ports_a_killed_daemon_leaves_them_to_nobody(activated, mallory):
    """Between a crash and the restart any user could serve false credentials there, and show a green dashboard."""
    daemon = activated()
    key = daemon.credentials("deploy")["AccessKeyId"]
    refused, clients, stop = [], [], threading.Event()

    def keep_connecting():
        while not stop.is_set():
            try:
                clients.append(socket.create_connection(("127.0.0.1", daemon.port), timeout=5))
            except OSError as error:
                refused.append(error)
            time.sleep(0.02)

    connecting = threading.Thread(target=keep_connecting)
    connecting.start()
    try:
        daemon.stop(signal.SIGKILL)
        with mallory.running(BIND, daemon.port, daemon.admin_port) as squatter:
            assert [squatter.stdout.readline() for _ in range(2)] == ["98\n", "98\n"]  # EADDRINUSE
        waiting = socket.create_connection(("127.0.0.1", daemon.port), timeout=20)
        waiting.sendall(b"GET / HTTP/1.0\r\n\r\n")
        daemon.start().wait_ready()
    finally:
        stop.set()
        connecting.join()
        for client in clients:
            client.close()
    assert refused == []
    assert len(clients) > 5
    assert waiting.recv(100).startswith(b"HTTP/1.1 401")
    waiting.close()
    assert daemon.credentials("deploy")["AccessKeyId"] == key
    assert daemon.status()["listeners"] == [f"127.0.0.1:{daemon.port}"]


def test_a_reload_takes_a_held_listener_away_and_brings_it_back(activated, aws):
    """The socket is passed once: after a change of mind only a restart would bring it back."""
    daemon = activated()
    config = daemon.config.read_text()
    other = config.replace(f'listen = ["127.0.0.1:{daemon.port}"]', 'listen = ["127.0.0.2:0"]')
    for number, text in enumerate((other, config), 1):
        daemon.config.write_text(text)
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for_event("config reloaded", number)
        if text is other:
            (line,) = [e for e in daemon.events() if e["event"] == "a socket passed by systemd is not served"]
            assert (line["level"], line["address"]) == ("warning", f"127.0.0.1:{daemon.port}")
            assert "to [metadata] listen" in line["advice"]
    assert daemon.credentials("deploy")["AccessKeyId"] in aws.double.issued()


# What a user who took the port gets from this host's verbs

VERB = """
import ctypes, encodings.ascii, encodings.idna, importlib, json, os, resource, sys
sys.path.insert(0, sys.argv.pop(1))
verbs = ["exec", "env", "credential_process", "status", "check", "listener_owner", "main"]
lazy = ["callers.grant_warnings", "callers.kubernetes.verifier", "telemetry.log", "sources.factory", "sources.file"]
for module in [*(f"cli.{verb}" for verb in verbs), "cli.daemon_client", "config.reader", *lazy]:
    importlib.import_module(f"imds_proxy.{module}")
uid, gid = json.loads(sys.argv.pop(1))
os.setgroups([])
os.setresgid(gid, gid, gid)
os.setresuid(uid, uid, uid)
from imds_proxy.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
ROOT = Path(__file__).parents[2]
VERBS = {
    "exec": ["exec", "--role", "deploy", "CONFIG", "--", "/bin/echo", "it ran"],
    "exec of the default role": ["exec", "CONFIG", "--", "/bin/echo", "it ran"],
    "env": ["env", "CONFIG"],
    "credential-process": ["credential-process", "--role", "deploy", "CONFIG"],
    "credential-process of the default role": ["credential-process", "CONFIG"],
    "status": ["status", "CONFIG"],
    "check": ["check", "CONFIG"],
}
CONFIG = """
region = "eu-west-1"
state_dir = "{folder}/state"
[metadata]
listen = ["127.0.0.1:{port}"]
[admin]
listen = "127.0.0.1:{admin}"
[roles.deploy]
source = "file"
path = "{folder}/deploy.credentials"
"""


@pytest.fixture(scope="module")
def victim(people):
    return people[1]


@pytest.fixture
def place():
    """A folder that other users may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def verb(user, config, arguments):
    """A verb as a user who may read neither this interpreter nor this repository."""
    at = arguments.index("CONFIG")
    arguments = [*arguments[:at], "--config", config, *arguments[at + 1 :]]
    command = [sys.executable, "-I", "-c", VERB, ROOT, json.dumps([user.uid, user.gid]), *arguments]
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    return subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def configure(place, user, port, admin):
    """A config, and a role's token that the user may read, as the daemon's own user may."""
    tokens = place / "state/tokens"
    tokens.mkdir(parents=True)
    (tokens / "deploy").write_text(secrets.token_urlsafe(32))
    writer = Writer(place)
    writer.rename()
    for path in (place / "state", tokens, tokens / "deploy", writer.path):
        os.chown(path, user.uid, user.gid)
    config = place / "config.toml"
    config.write_text(CONFIG.format(folder=place, port=port, admin=admin))
    return config


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_refuses_the_listener_of_another_user(place, mallory, victim, name):
    """It would send a role's token there, hand a program to false credentials, or show a green dashboard."""
    with squatting(mallory) as squatter, squatting(mallory) as dashboard:
        config = configure(place, victim, squatter.port, dashboard.port)
        (place / "deploy.credentials").unlink()  # check would go on to AWS with them
        done = verb(victim, config, VERBS[name])
        assert [each.everything() for each in (squatter, dashboard)] == ["", ""]
    assert done.returncode == 1, done
    said = done.stdout if name == "check" else done.stderr
    ports = {"status": [dashboard.port], "check": [squatter.port, dashboard.port]}.get(name, [squatter.port])
    for port in ports:
        assert f"127.0.0.1:{port} is held by another user: {mallory.name} (uid {mallory.uid})" in said
        assert f"ss -ltnp 'sport = :{port}'" in said
    assert "it ran" not in done.stdout
    assert "Traceback" not in done.stderr


def test_check_fails_for_the_listener_of_another_user_alone(aws, start_daemon, mallory):
    """A pipeline would go on with a host whose port somebody has taken."""
    daemon = start_daemon()
    assert daemon.cli("check").returncode == 0
    daemon.stop()
    assert daemon.cli("check").returncode == 0
    with squatting(mallory, port=daemon.admin_port) as squatter:
        done = daemon.cli("check")
        assert squatter.everything() == ""
    assert done.returncode == 1
    assert f"listener 127.0.0.1:{daemon.admin_port}: " in done.stdout
    assert "deploy  ok: " in done.stdout


def test_the_verbs_use_the_listener_of_root_and_of_their_own_user(place, aws, start_daemon, victim):
    """Nobody but root could use the daemon."""
    daemon = start_daemon()
    config = configure(place, victim, daemon.port, daemon.admin_port)
    for name in ("exec of the default role", "env", "credential-process of the default role", "status"):
        done = verb(victim, config, VERBS[name])
        assert done.returncode == 0, (name, done)
    with squatting(victim) as own:
        config.write_text(CONFIG.format(folder=place, port=own.port, admin=daemon.admin_port))
        done = verb(victim, config, VERBS["credential-process"])
        assert "the daemon has no credentials" in done.stderr


def test_a_token_that_a_squatter_was_sent_opens_nothing_for_the_squatter(aws, start_daemon, mallory):
    """Whoever waits at the port of a daemon that was killed would have root's role for ever."""
    daemon = start_daemon('[[grants]]\nrole = "deploy"\nuid = 0\n')
    token = (daemon.state / "tokens/deploy").read_text()
    shown = {"Authorization": token}
    assert request(f"{daemon.endpoint}roles/deploy", headers=shown)[0] == 200
    daemon.stop(signal.SIGKILL)
    with squatting(mallory, port=daemon.port) as squatter:
        # A container sends its token to whatever listens there.
        assert request(f"{daemon.endpoint}roles/deploy", headers=shown)[0] == 404
        assert token in squatter.next()
    daemon.start().wait_ready()
    with client_of(mallory, daemon) as thief:
        answers = [thief.ask(f"/roles/{role}", headers=shown) for role in ("deploy", "nonexistent")]
        assert answers[0] == answers[1]
        assert answers[0][0] == 401
    assert request(f"{daemon.endpoint}roles/deploy", headers=shown)[0] == 200
    (warning,) = [e for e in daemon.events() if e["event"].startswith("a role's own token came from another user")]
    assert (warning["role"], warning["uid"]) == ("deploy", mallory.uid)
    assert "token_file" in warning["advice"]
