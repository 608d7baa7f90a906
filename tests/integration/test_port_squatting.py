"""Another user at the daemon's port, while the daemon is down: real users, real processes, the real daemon."""

import signal
import socket
import sys
import threading
import time
from contextlib import ExitStack, contextmanager

import pytest

from support.users import temporary_users

LAUNCH = """
import os, sys
count = int(sys.argv[1])
for number, descriptor in enumerate(sys.argv[2:2 + count]):
    os.dup2(int(descriptor), 50 + number)
for number in range(count):
    os.dup2(50 + number, 3 + number)
    os.set_inheritable(3 + number, True)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2 + count], sys.argv[2 + count:])
"""

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
def mallory():
    with temporary_users() as made:
        yield made.add()


@contextmanager
def held_by_systemd(*hosts):
    """Listening sockets that this process holds, as systemd does."""
    with ExitStack() as opened:
        yield [opened.enter_context(socket.create_server((host, 0), backlog=1024)) for host in hosts]


def passed(sockets, *, names="imds"):
    """How a daemon is started with them; one name for all, as from one unit."""
    descriptors = [each.fileno() for each in sockets]
    return {
        "launcher": (sys.executable, "-c", LAUNCH, str(len(descriptors)), *map(str, descriptors)),
        "pass_fds": tuple(descriptors),
    }, {"LISTEN_FDS": str(len(descriptors)), "LISTEN_FDNAMES": ":".join([names] * len(descriptors))}


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
