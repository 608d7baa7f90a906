"""Whose listener a verb is about to use (cli/listener_owner.py): on real sockets of real users."""

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from imds_proxy.callers import socket_table
from imds_proxy.cli import listener_owner
from imds_proxy.cli.listener_owner import check_address, check_connection, check_url, unit_uids
from imds_proxy.errors import ForeignListenerError
from support.log_lines import logged
from support.namespace import container, inside, network_namespace
from support.squatter import squatting
from support.users import User, temporary_users

LO = (socket.SOL_SOCKET, socket.SO_BINDTODEVICE, "lo")
SHARED = (socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
LATE = (socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
IPV6_ONLY = (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
DUAL = (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)

ACCEPT = """
import os, socket, sys
held, gid, uid = map(int, sys.argv[1:])
held = socket.socket(fileno=held)
os.setresgid(gid, gid, gid)
os.setresuid(uid, uid, uid)
kept = []
while True:
    kept.append(held.accept())
"""


@pytest.fixture(scope="module")
def users():
    with temporary_users() as made:
        yield made.add(), made.add()


@pytest.fixture
def mallory(users):
    return users[0]


def nobody_more():
    return frozenset()


def judged(host, port, find=nobody_more):
    """What is said of a connection and of its address, and whether the two agree."""
    connecting = socket.create_connection((host, port), timeout=5)
    with connecting as connection, pytest.raises(ForeignListenerError) as refusal:
        check_connection(connection, find)
    with pytest.raises(ForeignListenerError, match="held by another user"):
        check_address(host, port, find)
    return refusal.value


def accepts(host, port, find=nobody_more):
    with socket.create_connection((host, port), timeout=5) as connection:
        check_connection(connection, find)
    check_address(host, port, find)


@pytest.mark.parametrize(
    ("at", "options", "to"),
    [
        ("127.0.0.1", [], "127.0.0.1"),
        ("0.0.0.0", [], "127.0.0.1"),
        ("::1", [], "::1"),
        ("::", [DUAL], "127.0.0.1"),
        ("::", [DUAL], "::1"),
        ("::", [IPV6_ONLY], "::1"),
        ("::ffff:127.0.0.1", [DUAL], "127.0.0.1"),
        ("127.0.0.1", [], "::ffff:127.0.0.1"),
        ("127.0.0.1", [LO], "127.0.0.1"),
        ("::", [DUAL, LO], "127.0.0.1"),
        ("::1", [LO], "::1"),
        ("127.0.0.1", [SHARED], "127.0.0.1"),
        ("127.0.0.1", [LATE], "127.0.0.1"),
    ],
)
@pytest.mark.parametrize("accepting", [0, 1 << 30])
def test_another_users_listener_is_refused(mallory, at, options, to, accepting):
    """It would hand out credentials of its own, and be sent a role's token."""
    with squatting(mallory, at, options=options, accepts=accepting) as squatter:
        error = judged(to, squatter.port)
        assert f"{mallory.name} (uid {mallory.uid})" in error.message
        assert f"ss -ltnp 'sport = :{squatter.port}'" in error.advice


@pytest.mark.parametrize("options", [[], [LO]])
def test_a_listener_that_is_closed_after_it_has_accepted_is_refused(mallory, options):
    """Of the listeners there would be nothing to see any more."""
    with squatting(mallory, options=options, accepts=1) as squatter:
        with socket.create_connection(("127.0.0.1", squatter.port), timeout=5) as connection:
            assert squatter.next() == "accepted"
            with pytest.raises(ForeignListenerError):
                check_connection(connection, nobody_more)
        assert squatter.next() == ""


def test_roots_own_and_the_units_listeners_are_the_daemons(users):
    """systemd holds the socket as root, and the service accepts as its user: neither may be taken for a stranger."""
    daemon, stranger = users
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        accepts("127.0.0.1", port)
        with accepting_as(daemon, held):
            client = socket.create_connection(("127.0.0.1", port), timeout=5)
            wait_until_accepted(client)
            with client:
                with pytest.raises(ForeignListenerError, match=str(daemon.uid)):
                    check_connection(client, nobody_more)
                with pytest.raises(ForeignListenerError, match=str(daemon.uid)):
                    check_connection(client, lambda: frozenset({stranger.uid}))
                check_connection(client, lambda: frozenset({daemon.uid}))
    with squatting(daemon) as own:
        accepts("127.0.0.1", own.port, lambda: frozenset({daemon.uid}))
        with effective(daemon):
            accepts("127.0.0.1", own.port)
        with effective(stranger), pytest.raises(ForeignListenerError):
            check_address("127.0.0.1", own.port, nobody_more)


@contextmanager
def accepting_as(user: User, held: socket.socket):
    """A process of a user that accepts what comes in on a socket of another's."""
    command = [sys.executable, "-I", "-c", ACCEPT, str(held.fileno()), str(user.gid), str(user.uid)]
    with subprocess.Popen(command, pass_fds=[held.fileno()]) as process:
        try:
            yield
        finally:
            process.kill()


@contextmanager
def effective(user: User):
    """This process as another user."""
    os.seteuid(user.uid)
    try:
        yield
    finally:
        os.seteuid(0)


def wait_until_accepted(client):
    deadline = time.monotonic() + 5
    while socket_table.accepted_by(client.getsockname(), client.getpeername()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_stranger_elsewhere_on_the_port_is_none_of_the_daemons(mallory):
    """Any user could keep everybody from their roles, with a listener that no connection to the daemon reaches."""
    with socket.create_server(("127.0.0.1", 0)) as daemon:
        port = daemon.getsockname()[1]
        with squatting(mallory, "127.0.0.2", port), squatting(mallory, "::", port, options=[IPV6_ONLY]):
            accepts("127.0.0.1", port)


def test_each_address_of_a_name_is_judged(mallory):
    with squatting(mallory) as squatter:
        with pytest.raises(ForeignListenerError):
            check_url(f"http://localhost:{squatter.port}/", nobody_more)
        check_url(f"http://127.0.0.2:{squatter.port}/", nobody_more)
        check_url("http://no-such-host.invalid/", nobody_more)
        for wrong in ("http://127.0.0.1:x/", "http://[::1/", f"localhost:{squatter.port}", ""):
            check_url(wrong, nobody_more)


def test_another_host_is_not_judged_by_a_listener_of_this_one(mallory, lines):
    """A port that is taken here as well says nothing of the one over there; and the log would fill up."""
    with network_namespace(), container("10.99.0.2/24", "10.99.0.1/24") as pid:
        with inside(pid):
            other = socket.create_server(("10.99.0.2", 0))
        port = other.getsockname()[1]
        with other, squatting(mallory, "0.0.0.0", port):
            accepts("10.99.0.2", port)
            with pytest.raises(ForeignListenerError):
                check_address("10.99.0.1", port, nobody_more)
    said = lines("cannot be judged")
    assert [line["level"] for line in said] == ["debug"] * len(said)
    assert len({line["reason"] for line in said}) == len(said) > 0


def test_where_the_kernel_does_not_tell_the_verbs_go_on(mallory, lines, monkeypatch):
    """In a sandbox that plays the kernel nothing would work any more."""

    def refuse():
        raise OSError(93, "Protocol not supported")

    monkeypatch.setattr(socket_table, "open_netlink", refuse)
    with squatting(mallory) as squatter:
        for _ in range(2):
            accepts("127.0.0.1", squatter.port)
    (line,) = lines("cannot be judged")
    assert "Protocol not supported" in line["reason"]


def test_where_nothing_listens_there_is_nothing_to_refuse():
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    check_address("127.0.0.1", port, nobody_more)


@pytest.fixture
def lines():
    listener_owner._not_judged.cache_clear()
    with logged() as found:
        yield found


@pytest.mark.parametrize(
    ("says", "uids"),
    [
        ("User=root\nUID=0\n", {0}),
        ("User=12345\nUID=[not set]\n", {12345}),
        ("User=\nUID=61234\n", {61234}),
        ("User=no-such-user-here\nUID=4294967295\n", set()),
        ("", set()),
        ("rubbish", set()),
    ],
)
def test_the_user_of_the_unit_is_what_systemd_says(tmp_path, monkeypatch, says, uids):
    """Whoever is not the daemon's user could not use it."""
    path = tmp_path / "systemctl"
    path.write_text(f"#!/bin/sh\nprintf '{says}'\n")
    path.chmod(0o755)
    monkeypatch.setattr(listener_owner, "_SYSTEMCTL", str(path))
    assert unit_uids() == uids


def test_without_systemd_there_is_no_user_of_the_unit(tmp_path, monkeypatch):
    monkeypatch.setattr(listener_owner, "_SYSTEMCTL", str(tmp_path / "none"))
    assert unit_uids() == set()
    hanging = tmp_path / "hanging"
    hanging.write_text("#!/bin/sh\nexec sleep 60\n")
    hanging.chmod(0o755)
    monkeypatch.setattr(listener_owner, "_SYSTEMCTL", str(hanging))
    monkeypatch.setattr(listener_owner, "_TIME_LIMIT", 0.2)
    assert unit_uids() == set()
