"""Talking with systemd (systemd.py)."""

import configparser
import os
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from imds_proxy.addresses import DEFAULT_ADMIN_LISTEN, DEFAULT_LISTEN
from imds_proxy.host.listening_sockets import open_listener
from imds_proxy.host.systemd import Notifier, PassedSocket, assign, passed_sockets, warn_of_unused
from support.log_lines import logged

UNITS = Path(__file__).parents[2] / "deploy/systemd"


@pytest.fixture
def heard(tmp_path):
    """A notify socket, and what came in on it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        path = tmp_path / "notify"
        listening.bind(str(path))
        listening.settimeout(1)
        yield str(path), lambda: listening.recv(4096).decode()


def test_states_are_told_as_systemd_reads_them(heard):
    path, receive = heard
    notifier = Notifier(path)
    notifier.ready("serving 1 role")
    assert receive() == "READY=1\nSTATUS=serving 1 role"
    notifier.reloading()
    assert receive().startswith("RELOADING=1\nMONOTONIC_USEC=")
    notifier.alive()
    assert receive() == "WATCHDOG=1"
    notifier.stopping()
    assert receive() == "STOPPING=1"


def test_a_status_is_one_line_whatever_it_quotes(heard):
    """A message of AWS's with a newline must not become a command to systemd."""
    path, receive = heard
    Notifier(path).status("bad\nMAINPID=1")
    assert receive() == "STATUS=bad MAINPID=1"


def test_without_systemd_nothing_happens(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().ready("x")
    Notifier("/nonexistent/notify").ready("x")


def test_the_address_is_not_left_to_children(monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
    Notifier()
    assert "NOTIFY_SOCKET" not in os.environ


@pytest.mark.parametrize(
    ("variables", "interval"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_asked(monkeypatch, variables, interval):
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Notifier("/run/notify").watchdog_interval() == interval


def test_sockets_passed_to_another_process_are_not_ours(monkeypatch):
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() + 1))
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert passed_sockets() == ()


@pytest.fixture
def passed():
    """`passed(name, host)`: a socket as systemd passes it, on a port of its own."""
    with ExitStack() as opened:

        def make(name, host="127.0.0.1", kind=socket.SOCK_STREAM):
            made = PassedSocket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
            opened.enter_context(made)
            made.bind((host, 0))
            made.name = name
            return made

        yield make


def at(listening):
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def test_a_passed_socket_serves_the_entry_with_its_address(passed):
    """The default config would bind a port that systemd holds, and fail."""
    one, other = passed("imds"), passed("imds", "::1")
    assert assign([one, other], [at(one), at(other)]) == {at(one): one, at(other): other}
    port = other.getsockname()[1]
    assert assign([one, other], [f"[0:0:0:0:0:0:0:1]:{port}"]) == {f"[0:0:0:0:0:0:0:1]:{port}": other}
    assert assign([one, other], [f"127.0.0.1:{port}", f"127.0.0.2:{one.getsockname()[1]}"]) == {}


def test_a_passed_socket_serves_the_entry_with_its_name(passed):
    """Several of one unit share a name: the first is meant, as before there were several."""
    one, other = passed("imds"), passed("imds")
    assert assign([one, other], ["systemd:imds"]) == {"systemd:imds": one}
    assert assign([one, other], ["systemd:imds", at(other)]) == {"systemd:imds": one, at(other): other}
    assert assign([one, other], ["systemd:other"]) == {}


def test_a_passed_socket_has_one_listener_of_two_names(passed):
    """A grant names a listener: a connection would have the one or the other by chance."""
    one = passed("imds")
    assert assign([one], [at(one), "systemd:imds"]) == {"systemd:imds": one}
    assert assign([one], ["systemd:imds", at(one), "systemd:imds"]) == {"systemd:imds": one}


def test_a_socket_of_another_kind_is_no_address(passed):
    datagrams = passed("imds", kind=socket.SOCK_DGRAM)
    assert assign([datagrams], [at(datagrams)]) == {}


def test_a_listener_of_a_passed_socket_is_known_as_passed(passed):
    """By its addresses alone a process of another network namespace would be taken for one of this."""
    one = passed("imds")
    with open_listener(at(one), {at(one): one}) as listener:
        assert isinstance(listener, PassedSocket)
        assert listener.getsockname() == one.getsockname()
    with open_listener("127.0.0.1:0", {}) as listener:
        assert not isinstance(listener, PassedSocket)


def test_a_passed_socket_that_nothing_serves_is_named(passed):
    """Its clients would wait until they give up, and nothing would say why."""
    one, other = passed("imds"), passed("imds")
    with logged() as lines:
        warn_of_unused([one, other], [one])
        (line,) = lines()
    assert (line["level"], line["address"]) == ("warning", at(other))
    assert f'add "{at(other)}" to [metadata] listen' in line["advice"]


class Unit(configparser.RawConfigParser):
    """A unit file, whose keys may be there several times."""

    def __init__(self, name):
        super().__init__(strict=False, allow_no_value=True)
        self.optionxform = str
        self.text = (UNITS / name).read_text()
        self.read_string(self.text)

    def all(self, key):
        return [line.partition("=")[2] for line in self.text.splitlines() if line.startswith(f"{key}=")]


def test_the_units_hold_the_default_ports_while_the_daemon_is_down():
    """Any user could take the port then, serve false credentials there, and collect the tokens that clients send."""
    service, sockets = Unit("imds-proxy.service"), Unit("imds-proxy.socket")
    assert set(sockets.all("ListenStream")) == {DEFAULT_LISTEN, DEFAULT_ADMIN_LISTEN}
    assert service["Unit"]["Requires"] == service["Install"]["Also"] == "imds-proxy.socket"
    assert "imds-proxy.socket" in service["Unit"]["After"].split() + service.all("After")
    assert sockets["Install"]["WantedBy"] == "sockets.target"
    assert "enable --now imds-proxy.socket imds-proxy.service" in (UNITS / "README.md").read_text()


def test_no_limit_of_starts_makes_systemd_close_the_sockets():
    """A daemon that ends at once, ten times over, would leave its port to whoever comes first."""
    assert Unit("imds-proxy.service")["Unit"]["StartLimitIntervalSec"] == "0"
    assert Unit("imds-proxy.socket")["Socket"]["TriggerLimitIntervalSec"] == "0"
