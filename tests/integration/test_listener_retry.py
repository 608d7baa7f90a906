"""Listeners that cannot be opened at first, and are opened once they can (metadata/listener_retry.py)."""

import asyncio
import json
import socket
import subprocess

import pytest

from imds_proxy.callers.peer import Callers
from imds_proxy.callers.socket_owner import SocketOwners
from imds_proxy.callers.user_database import Accounts
from imds_proxy.demo.aws_double import free_port
from imds_proxy.errors import ListenError
from imds_proxy.host.clock import Clock
from imds_proxy.metadata import listener_retry
from imds_proxy.metadata.listeners import Server
from imds_proxy.telemetry.stats import RequestStats
from support.daemon import HOST, DaemonProcess, request, wait
from support.namespace import network_namespace, sysctl
from support.pushed_file import Writer

ROLE_LIST = "latest/meta-data/iam/security-credentials/"


def readiness(daemon):
    status, _, body = request(daemon.admin + "/readyz")
    return status, json.loads(body).get("listeners_down")


def has_credentials(daemon):
    try:
        return daemon.status()["roles"][0]["key"] is not None
    except OSError:  # the control plane opens a moment after the start
        return False


def logged(daemon, event):
    return [line for line in daemon.events() if line["event"] == event]


def test_a_squatted_listener_is_named_and_opened_once_its_port_is_free(aws, start_daemon):
    """Programs that ask there would get nothing until somebody reloads, and every probe would be content."""
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        squatted = f"127.0.0.1:{squatter.getsockname()[1]}"
        config = aws.config().replace('"127.0.0.1:PORT"', f'"127.0.0.1:PORT", "{squatted}"')
        daemon = start_daemon(config=config, ready=False)
        wait(lambda: has_credentials(daemon), 20, "credentials")
        assert readiness(daemon) == (503, [squatted])
        assert daemon.status()["listeners_down"] == [squatted]
        assert daemon.status()["ready"] is False
        up = {f"127.0.0.1:{daemon.port}": 1, f"127.0.0.1:{daemon.admin_port}": 1, squatted: 0}
        series = [line for line in daemon.metrics().splitlines() if line.startswith("imds_proxy_listener_up{")]
        assert sorted(series) == sorted(f'imds_proxy_listener_up{{address="{at}"}} {up[at]:.1f}' for at in up)
        assert daemon.cli("status", "--check").returncode == 1
        assert f"nothing listens on {squatted}" in daemon.cli("status").stdout
        assert daemon.get(ROLE_LIST)[2] == b"deploy"
    daemon.wait_ready()
    assert daemon.status()["listeners"] == [f"127.0.0.1:{daemon.port}", squatted]
    assert request(f"http://{squatted}/{ROLE_LIST}")[0] == 401
    (refused,) = logged(daemon, "cannot listen")
    assert "it is tried again" in refused["advice"]
    assert logged(daemon, "listening")[-1]["address"] == squatted


def test_a_control_plane_whose_port_is_taken_comes_once_it_is_free(aws, start_daemon):
    """No probe, metric or status until somebody reloads: the host would look dead while it serves."""
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        admin = squatter.getsockname()[1]
        daemon = start_daemon(config=aws.config().replace("ADMIN", str(admin)), ready=False)
        daemon.wait_for_event("no control plane")
        wait(lambda: daemon.get(ROLE_LIST)[2] == b"deploy", 20, "the data plane alone")
    daemon.admin_port, daemon.admin = admin, f"http://127.0.0.1:{admin}"
    wait(daemon.ready, 20, "the control plane")
    assert len(logged(daemon, "no control plane")) == 1


def test_a_control_plane_that_cannot_move_is_shown_and_moves_later(aws, start_daemon):
    """What watches the new address would see nothing, and what watches the old one would not know."""
    daemon = start_daemon()
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        admin = squatter.getsockname()[1]
        daemon.write_config(aws.config().replace("ADMIN", str(admin)))
        daemon.process.send_signal(1)
        daemon.wait_for_event("no control plane")
        daemon.wait_for_event("config reloaded")
        assert daemon.metric(f'imds_proxy_listener_up{{address="127.0.0.1:{admin}"}}') == 0
        assert daemon.status()["listeners_down"] == [f"127.0.0.1:{admin}"]
        assert daemon.ready()
    old = daemon.admin_port
    daemon.admin_port, daemon.admin = admin, f"http://127.0.0.1:{admin}"
    wait(daemon.ready, 20, "the control plane at its new address")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", old), timeout=5)
    assert daemon.status()["listeners_down"] == []


def test_addresses_that_come_after_the_start_are_served(tmp_path):
    """Link-local addresses that another unit adds, and IPv6 where it is enabled late; without IPv6 a host is ready."""
    writer = Writer(tmp_path)
    writer.rename()
    listen = ["127.0.0.1:PORT", "169.254.169.254:80", "[::1]:PORT"]
    config = HOST.replace('["127.0.0.1:PORT"]', json.dumps(listen)) + writer.role
    with network_namespace():
        sysctl("net/ipv6/conf/lo/disable_ipv6", 1)
        with DaemonProcess(tmp_path, config, {}) as daemon:
            ipv6 = f"[::1]:{daemon.port}"
            wait(lambda: has_credentials(daemon), 20, "credentials")
            assert readiness(daemon) == (503, ["169.254.169.254:80"])
            assert sorted(daemon.status()["listeners_down"]) == ["169.254.169.254:80", ipv6]
            subprocess.run(["ip", "address", "add", "169.254.169.254/32", "dev", "lo"], check=True)
            daemon.wait_ready()
            assert daemon.status()["listeners_down"] == [ipv6]
            assert request(f"http://169.254.169.254/{ROLE_LIST}")[0] == 401
            sysctl("net/ipv6/conf/lo/disable_ipv6", 0)
            wait(lambda: daemon.status()["listeners_down"] == [], 40, "IPv6")
            assert request(f"http://{ipv6}/{ROLE_LIST}")[0] == 401
            assert len(logged(daemon, "cannot listen")) == 2


# In this process, without the waits


@pytest.fixture
async def server(monkeypatch):
    monkeypatch.setattr(listener_retry, "wait_after_failure", lambda *_, **__: 0.005)
    callers = Callers(SocketOwners(), Accounts())
    server = Server(RequestStats(), Clock(), callers)
    yield server
    await server.close()
    callers.close()
    assert retries() == []


class Squatter:
    def __init__(self):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.name = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.close = self._socket.close


@pytest.fixture
def squatter():
    made = Squatter()
    yield made
    made.close()


def retries():
    return [task for task in asyncio.all_tasks() if task.get_name() == "retry a listener"]


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_reload_without_the_listener_ends_its_retries(server, squatter):
    """It would come back after it was taken out of the config."""
    await server.listen(["127.0.0.1:0", squatter.name], 1, {})
    assert len(retries()) == 1
    await server.listen(["127.0.0.1:0"], 1, {})
    assert retries() == []
    assert server.not_open() == []


async def test_a_listener_that_moves_to_a_taken_port_moves_once_that_is_free(server, squatter):
    """The old one would stay open for good beside what the config says."""
    old = f"127.0.0.1:{free_port()}"
    await server.listen([old], 1, {})
    with pytest.raises(ListenError):
        await server.listen([squatter.name], 1, {})
    assert server.listeners == {squatter.name: None, old: old}
    squatter.close()
    await until(lambda: server.listeners == {squatter.name: squatter.name})


async def test_at_the_start_without_any_listener_nothing_is_tried_again(server, squatter):
    """The daemon ends, and systemd starts it again."""
    with pytest.raises(ListenError) as raised:
        await server.listen([squatter.name], 1, {})
    assert raised.value.advice == "there is nothing to serve on"
    assert retries() == []


async def test_a_reason_is_logged_once_and_another_one_too(server, squatter, monkeypatch, caplog):
    """Every minute a line would bury the others; a new reason asks for something else to be done."""
    attempts, opened = [], Server._open

    def count(self, name, passed):
        attempts.append(name)
        if len(attempts) == 10:
            raise ListenError("another reason")
        opened(self, name, passed)

    monkeypatch.setattr(Server, "_open", count)
    await server.listen(["127.0.0.1:0", squatter.name], 1, {})
    await until(lambda: len(attempts) > 20)
    squatter.close()
    await until(lambda: server.not_open() == [])
    lines = [line.error for line in caplog.records if line.getMessage() == "cannot listen"]
    taken = f"listener {squatter.name}: Address already in use"
    assert lines == [taken, "another reason", taken]


async def test_a_socket_that_systemd_did_not_pass_is_not_tried_again(server):
    """It cannot come any more: the log would promise what never happens."""
    await server.listen(["127.0.0.1:0", "systemd:imds"], 1, {})
    assert server.not_open() == ["systemd:imds"]
    assert retries() == []
