"""Connections that come at once: how many wait in the kernel until they are accepted (sockets.py)."""

import selectors
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imds_proxy.host.listening_sockets import BACKLOG
from support.activation import held_by_systemd, passed
from support.webhook import AccountServer, WebhookProcess

CLIENTS = 600
TOTAL_RETRANSMITTED = slice(100, 104)
"""In struct tcp_info (linux/tcp.h): what a client's kernel had to send again, a second later, for want of room."""
ALLOWED = min(BACKLOG, int(Path("/proc/sys/net/core/somaxconn").read_text()))


def retransmitted(client):
    said = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TOTAL_RETRANSMITTED.stop)
    return int.from_bytes(said[TOTAL_RETRANSMITTED], sys.byteorder)


def backlog(port):
    """What the kernel says of the listener at a port: Send-Q."""
    shown = subprocess.run(["ss", "-ltnH", f"sport = :{port}"], capture_output=True, text=True, check=True).stdout
    (line,) = shown.splitlines()
    return int(line.split()[2])


@pytest.fixture
def activated(aws, start_daemon):
    """A daemon whose two sockets come from a unit that says Backlog=100."""
    with held_by_systemd("127.0.0.1", "127.0.0.1", backlog=100) as sockets:
        port, admin = (each.getsockname()[1] for each in sockets)
        assert backlog(port) == 100
        process, environment = passed(sockets)
        config = aws.config().replace("PORT", str(port)).replace("ADMIN", str(admin))
        daemon = start_daemon(config=config, environment=aws.environment | environment, ready=False, **process)
        daemon.port, daemon.admin_port, daemon.admin = port, admin, f"http://127.0.0.1:{admin}"
        yield daemon.wait_ready()


def test_every_listener_that_is_bound_has_room_for_a_burst(start_daemon, tmp_path):
    """Clients that find no room try again after a second: a program would take that long to start."""
    daemon = start_daemon()
    with AccountServer(tmp_path) as server, WebhookProcess(tmp_path, server) as webhook:
        ports = daemon.port, daemon.admin_port, webhook.port
        assert [backlog(port) for port in ports] == [ALLOWED] * 3


def test_every_listener_that_systemd_passes_has_it_too(activated):
    """Whatever Backlog= its unit has, of which few think."""
    assert [backlog(port) for port in (activated.port, activated.admin_port)] == [ALLOWED] * 2


def test_programs_that_ask_all_at_once_are_all_answered(activated):
    """The cron jobs of one user that begin with the minute: none of them finds the door closed."""
    answered, sent_again = [], []
    with selectors.DefaultSelector() as selector:
        begun = time.monotonic()
        for _ in range(CLIENTS):
            client = socket.socket()
            client.settimeout(0)
            client.connect_ex(("127.0.0.1", activated.port))
            selector.register(client, selectors.EVENT_WRITE)
        while selector.get_map() and time.monotonic() < begun + 20:
            for key, events in selector.select(1):
                client = key.fileobj
                if events & selectors.EVENT_WRITE:
                    client.send(b"GET / HTTP/1.0\r\n\r\n")
                    selector.modify(client, selectors.EVENT_READ)
                else:
                    answered.append(client.recv(100))
                    sent_again.append(retransmitted(client))
                    selector.unregister(client)
                    client.close()
    assert sum(answer.startswith(b"HTTP/1.1 401") for answer in answered) == CLIENTS
    assert sum(sent_again) == 0
