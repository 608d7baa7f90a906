"""Which container gets which role: network namespaces, the real daemon, no word with AWS (roles come from files)."""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import pytest

from support.activation import LAUNCH
from support.client import LIST, PROGRAM, Client
from support.daemon import HOST, ISSUED, DaemonProcess, wait
from support.namespace import container, inside, network_namespace
from support.plane import credentials

ANYBODY = "import json, os, socket, sys\n" + PROGRAM


@pytest.fixture
def serve(tmp_path):
    """`serve(listen, grants, roles)`: a daemon in the present namespace, with a role from a file for each name."""
    with ExitStack() as running:

        def start(listen, grants, roles=("web", "jobs"), *, passed=None):
            config = HOST.replace('"127.0.0.1:PORT"', ", ".join(map(json.dumps, listen)))
            for number, role in enumerate(roles):
                path = tmp_path / f"{role}.json"
                path.write_text(document(role, f"000{number}"))
                path.chmod(0o600)
                config += f'[roles.{role}]\nsource = "file"\npath = "{path}"\n'
            for grant in grants:
                config += "[[grants]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in grant.items())
            descriptors = [str(each.fileno()) for each in (passed or {}).values()]
            daemon = DaemonProcess(
                tmp_path,
                config,
                {"LISTEN_FDS": str(len(descriptors)), "LISTEN_FDNAMES": ":".join(passed or {})},
                launcher=(sys.executable, "-c", LAUNCH, str(len(descriptors)), *descriptors),
                pass_fds=tuple(map(int, descriptors)),
            )
            return running.enter_context(daemon).wait_ready()

        yield start


def document(role, key):
    held = credentials(role, key=key)
    return json.dumps(
        {
            "Version": 1,
            "AccessKeyId": held.access_key_id,
            "SecretAccessKey": held.secret_access_key.reveal(),
            "SessionToken": held.session_token.reveal(),
            "Expiration": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(held.expiration)),
        }
    )


@contextmanager
def client(daemon, host, port, *, pid=None):
    """A client in the namespace of the process `pid`, or in the present one."""
    with ExitStack() as place:
        if pid is not None:
            place.enter_context(inside(pid))
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", ANYBODY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    with process:
        try:
            yield Client(process, daemon, host, port)
        finally:
            process.kill()


def test_a_container_gets_the_role_of_its_address_and_the_host_does_not(serve):
    """Any user of the host could take the containers' role by connecting to their gateway."""
    with network_namespace(), container("10.99.0.2/24", "10.99.0.1/24") as pid:
        daemon = serve(
            ["127.0.0.1:1338", "10.99.0.1:80"],
            [{"role": "web", "address": "10.99.0.0/24"}, {"role": "jobs", "address": "127.0.0.0/8"}],
        )
        with client(daemon, "10.99.0.1", 80, pid=pid) as inside_it, client(daemon, "10.99.0.1", 80) as on_host:
            assert inside_it.listed() == "web"
            assert inside_it.document("web")[0] == 200
            assert inside_it.document("jobs") == inside_it.document("nobodys") == (404, "not found")
            assert on_host.listed() == "jobs"
            assert on_host.document("web") == (404, "not found")


@pytest.mark.parametrize("source", ["10.99.0.1", "10.99.0.7"])
@pytest.mark.parametrize("device", ["", "lo"])
def test_a_process_of_the_host_cannot_pass_for_a_container(serve, source, device):
    """By an address out of the container's network; and bound to a device, the kernel does not find its owner."""
    with network_namespace("10.99.0.1", "10.99.0.7"):
        serve(["10.99.0.1:80"], [{"role": "web", "address": "10.99.0.0/24"}])
        with socket.socket() as evader:
            evader.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            evader.settimeout(5)
            evader.bind((source, 0))
            evader.connect(("10.99.0.1", 80))
            status, token = ask(evader, "PUT /latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 60")
            assert status == 200
            listed = ask(evader, f"GET {LIST}", f"X-aws-ec2-metadata-token: {token}")
            assert listed == (404, "no role for this caller")


def ask(connection, line, header):
    connection.sendall(f"{line} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n".encode())
    head, _, body = connection.recv(65536).decode().partition("\r\n\r\n")
    return int(head.split()[1]), body


def test_two_networks_with_the_same_addresses_are_told_apart_by_the_listener(serve):
    """One tenant's container would get the role of another's, who happens to have the same address."""
    with (
        network_namespace(),
        container("10.99.0.2/32", "10.1.0.1/32", table=101) as one,
        container("10.99.0.2/32", "10.2.0.1/32", table=102) as two,
    ):
        grants = [
            {"role": "web", "address": "10.99.0.2", "listener": "10.1.0.1:80"},
            {"role": "jobs", "address": "10.99.0.2", "listener": "10.2.0.1:80"},
        ]
        daemon = serve(["10.1.0.1:80", "10.2.0.1:80"], grants)
        with client(daemon, "10.1.0.1", 80, pid=one) as first, client(daemon, "10.2.0.1", 80, pid=two) as second:
            assert (first.listed(), second.listed()) == ("web", "jobs")
            assert first.document("jobs") == second.document("web") == (404, "not found")
            token = first.token()
            assert first.get(LIST, token)[0] == 200
            assert second.get(LIST, token)[0] == 401


def test_a_socket_passed_from_another_namespace_gives_nobody_the_hosts_users(serve):
    """In there the same addresses and ports belong to others: a container would be taken for the host's root."""
    with network_namespace(), container("10.99.0.2/24", "10.99.0.1/24") as pid:
        with inside(pid):
            passed = socket.create_server(("127.0.0.1", 1338))
        grants = [{"role": "web", "user": "root"}, {"role": "jobs", "listener": "systemd:pod"}]
        daemon = serve(["127.0.0.1:1338", "systemd:pod"], grants, passed={"pod": passed})
        passed.close()
        with socket.socket() as roots:
            roots.bind(("127.0.0.1", 40123))
            roots.connect(("127.0.0.1", 1338))
            with client(daemon, "127.0.0.1", 1338) as on_host:
                assert on_host.listed() == "web"
            with inside(pid), socket.socket() as others:
                others.bind(("127.0.0.1", 40123))
                others.connect(("127.0.0.1", 1338))
                others.settimeout(5)
                _, token = ask(others, "PUT /latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 60")
                assert ask(others, f"GET {LIST}", f"X-aws-ec2-metadata-token: {token}") == (200, "jobs")
                assert ask(others, f"GET {LIST}web", f"X-aws-ec2-metadata-token: {token}")[0] == 404


@pytest.fixture
def two_containers(serve, tmp_path):
    """A container with a network and a token file of its own, and one with another of both; and their tokens."""
    with (
        network_namespace(),
        container("10.99.0.2/24", "10.99.0.1/24") as one,
        container("10.98.0.2/24", "10.98.0.1/24") as two,
    ):
        files = {role: tmp_path / f"{role}.token" for role in ("web", "jobs")}
        files["jobs"].write_text("a-token-that-was-there-before")
        files["jobs"].chmod(0o600)
        daemon = serve(
            ["10.99.0.1:80", "10.98.0.1:80"],
            [
                {"role": "web", "token_file": str(files["web"]), "address": "10.99.0.0/24"},
                {"role": "jobs", "token_file": str(files["jobs"])},
            ],
        )
        with (daemon.folder / ISSUED).open("a") as issued:
            issued.writelines(path.read_text() + "\n" for path in files.values())
        with client(daemon, "10.99.0.1", 80, pid=one) as first, client(daemon, "10.98.0.1", 80, pid=two) as second:
            yield daemon, files, first, second


def had(who, role, token):
    status, body = who.ask(f"/roles/{role}", headers={"Authorization": token})
    return status, json.loads(body)


def test_a_token_file_is_one_containers_and_no_others(two_containers):
    """A role mounted into one container could be had from every other on the same network."""
    _, files, first, second = two_containers
    assert oct(files["web"].stat().st_mode & 0o777) == "0o600"
    web, jobs = (files[role].read_text() for role in ("web", "jobs"))
    assert not web.endswith("\n")
    assert had(first, "web", web)[0] == had(first, "jobs", jobs)[0] == 200
    refused = had(first, "nobodys", web)
    assert refused[0] == 401
    assert had(first, "web", jobs) == had(first, "jobs", web) == refused
    assert had(second, "web", web) == refused  # the grant's address has to fit as well
    assert first.get(LIST)[0] == 404  # over instance metadata the token counts for nothing


def test_a_rotated_token_opens_its_role_at_once_and_the_old_one_for_a_minute(two_containers):
    """A container in the middle of its work would lose its role, and look for the host's."""
    daemon, files, first, second = two_containers
    old, others = (files[role].read_text() for role in ("web", "jobs"))
    done = daemon.cli("rotate-tokens", "web")
    new = files["web"].read_text()
    with (daemon.folder / ISSUED).open("a") as issued:
        issued.write(new + "\n")
    assert (done.returncode, done.stdout) == (0, f"{files['web']}: rotated (web)\n"), done.stderr
    assert [had(first, "web", token)[0] for token in (new, old)] == [200, 200]
    assert new != old
    assert had(second, "web", new)[0] == 401
    assert files["jobs"].read_text() == others
    assert daemon.cli("rotate-tokens", "wbe").returncode == 2


def test_the_audit_says_which_token_file_was_shown(two_containers):
    """Of a token that leaked one has to know which, and who tries it."""
    daemon, files, first, second = two_containers
    assert had(first, "web", files["web"].read_text())[0] == 200
    assert had(second, "web", files["web"].read_text())[0] == 401

    def told(event):
        lines = [e for e in daemon.events() if e["event"] == f"credentials {event}"]
        return [(e["role"], e["token_file"], e["address"]) for e in lines]

    for event, address in (("handed out", "10.99.0.2"), ("refused", "10.98.0.2")):
        wait(lambda event=event: told(event), 5, event)
        assert told(event) == [("web", str(files["web"]), address)]


def test_nobody_who_has_no_grant_falls_back_on_the_hosts_role_at_a_link_local_address(serve):
    """A workload that was refused its own role would go on with the host's (PROTOCOL.md 28)."""
    with network_namespace("169.254.169.254"), container("10.99.0.2/24", "10.99.0.1/24") as pid:
        with inside(pid):
            subprocess.run(["ip", "route", "add", "169.254.169.254", "via", "10.99.0.1"], check=True)
        daemon = serve(["169.254.169.254:80"], [{"role": "web", "user": "root"}], roles=("web",))
        assert os.geteuid() == 0
        with client(daemon, "169.254.169.254", 80) as on_host, client(daemon, "169.254.169.254", 80, pid=pid) as pod:
            assert on_host.listed() == "web"
            status, _ = pod.ask("/latest/api/token", "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
            assert status == 200
            assert pod.get(LIST) == (404, "no role for this caller")
            assert pod.document("web") == (404, "not found")
