"""Talking with systemd (systemd.py)."""

import os
import socket

import pytest

from imds_proxy.systemd import Notifier, passed_sockets


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
    assert passed_sockets() == {}
