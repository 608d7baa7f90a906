"""TLS of the control plane on the real daemon: scrapes, rotations and reloads, the command line, a passed socket."""

import json
import socket
import ssl
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import pytest

from support.control_plane_tls import Pki, TlsDaemon, ask, eventually
from support.daemon import HOST, wait
from support.namespace import container, inside, network_namespace
from support.pushed_file import Writer
from support.squatter import squatting
from support.users import temporary_users

LAUNCH = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.set_inheritable(3, True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "admin"}
os.execv(sys.argv[2], sys.argv[2:])
"""
NEW = "the control plane has a certificate in use"
REFUSED = "a client's certificate is not accepted"
ENDED = r"alert|reset|closed|EOF"
"""What a client's TLS library says of it."""
KEPT = "the control plane's certificate, key or client CA cannot be used: those before go on"


@pytest.fixture
def pki(tmp_path):
    return Pki(tmp_path)


@pytest.fixture
def start(tmp_path, pki):
    """`start(admin)`: a running daemon with a role from a file, that serves everything it can."""
    with ExitStack() as running:

        def start(admin=None, *, listen="127.0.0.1:ADMIN", certificate=True, **process):
            daemon = TlsDaemon(tmp_path, "", {}, **process)
            daemon.context = pki.prometheus()
            configure(daemon, pki.table() if admin is None else admin, listen)
            running.enter_context(daemon)
            if certificate:
                daemon.wait_for_event(NEW)
                wait(lambda: daemon.role("deploy")["state"] == "ok", 10, "the role")
            return daemon

        yield start


def configure(daemon, admin, listen="127.0.0.1:ADMIN"):
    writer = Writer(daemon.folder, role="deploy")
    writer.rename()
    daemon.write_config(HOST.replace('listen = "127.0.0.1:ADMIN"\n', f'listen = "{listen}"\n{admin}') + writer.role)


def reload(daemon, admin, count=1):
    configure(daemon, admin)
    daemon.process.send_signal(1)
    daemon.wait_for_event("config reloaded", count)


def shown(daemon, context):
    """The certificate that a new connection is shown, as DER."""
    connection = socket.create_connection(("127.0.0.1", daemon.admin_port), timeout=5)
    with context.wrap_socket(connection, server_hostname="127.0.0.1") as secure:
        return secure.getpeercert(binary_form=True)


def refused(daemon, context):
    try:
        return ask(daemon.admin_port, "/metrics", context)[0]
    except OSError:
        return "refused"


def worse(daemon):
    """What the log has that somebody would have to look at."""
    return [event for event in daemon.events() if event["level"] in {"warning", "error", "critical"}]


# Scrapes


def test_another_host_sees_everything_with_a_certificate_and_health_without(start, pki):
    """A Prometheus elsewhere would see nothing; or anybody elsewhere everything."""
    with network_namespace(), container("10.99.0.2/24", "10.99.0.1/24") as pid:
        daemon = start(listen="10.99.0.1:ADMIN", certificate=False)
        daemon.wait_for_event(NEW)
        with inside(pid):
            eventually(lambda: ask(daemon.admin_port, "/healthz", pki.context(), "10.99.0.1")[0] == 200)
            status, _, text = ask(daemon.admin_port, "/metrics", pki.prometheus(), "10.99.0.1")
            assert status == 200
            assert b'imds_proxy_role_info{role="deploy"' in text
            for path, expected in (("/healthz", 200), ("/readyz", 200), ("/metrics", 403), ("/status.json", 403)):
                assert ask(daemon.admin_port, path, pki.context(), "10.99.0.1")[0] == expected
            for stranger in (pki.context(pki.strangers), pki.expired()):
                with pytest.raises(OSError, match=ENDED):
                    ask(daemon.admin_port, "/healthz", stranger, "10.99.0.1")
    [event] = worse(daemon)
    assert (event["event"], event["address"]) == (REFUSED, "10.99.0.2")


def test_a_scrape_is_compressed_over_tls_too(start, pki):
    """Prometheus asks for both."""
    daemon = start()
    status, headers, body = ask(daemon.admin_port, "/metrics", pki.prometheus(), headers={"Accept-Encoding": "gzip"})
    assert (status, headers["content-encoding"], body[:2]) == (200, "gzip", b"\x1f\x8b")


# Rotation and reload


def test_a_rotation_of_the_certificate_takes_no_restart(start, pki):
    """Certificates that live for a day would take a restart every day."""
    daemon = start()
    kept = socket.create_connection(("127.0.0.1", daemon.admin_port), timeout=5)
    with pki.context().wrap_socket(kept, server_hostname="127.0.0.1") as kept:
        pki.put_server()
        begun = time.monotonic()
        wait(lambda: shown(daemon, pki.context()) == pki.certificate, 10, "the new certificate")
        assert time.monotonic() - begun < 3
        kept.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert kept.recv(100).startswith(b"HTTP/1.1 200")
    old, issued = pki.certificate, pki.put_server(key=False)
    event = daemon.wait_for_event(KEPT)
    assert "another's key" in event["error"]
    assert event["advice"]
    assert shown(daemon, pki.context()) == old
    pki.put("private_key", issued.private_key_pem.bytes())
    wait(lambda: shown(daemon, pki.context()) == pki.certificate, 10, "the new pair")
    assert [event["event"] for event in worse(daemon)] == [KEPT]


def test_a_session_of_another_ca_is_not_taken_up_again(start, pki):
    """With a ticket from before, a client would go on without showing its certificate to the new CA."""
    daemon = start()
    context = pki.prometheus()
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def connect(session=None):
        connection = socket.create_connection(("127.0.0.1", daemon.admin_port), timeout=5)
        return context.wrap_socket(connection, server_hostname="127.0.0.1", session=session)

    with connect() as first:
        session = first.session
    with connect(session) as second:
        assert second.session_reused
    pki.put("client_ca", pki.strangers.cert_pem.bytes())
    daemon.wait_for_event(NEW, 2)
    with pytest.raises(OSError, match=ENDED):
        connect(session)


def test_a_reload_begins_changes_and_ends_tls(start, pki):
    """Each would take a restart, and every client of the data plane would notice."""
    daemon = start("", certificate=False)
    wait(lambda: plain(daemon) == 200, 10, "plain text")
    reload(daemon, pki.table())
    daemon.wait_for_event(NEW)
    assert ask(daemon.admin_port, "/metrics", pki.prometheus())[0] == 200
    assert plain(daemon) == "refused"
    reload(daemon, pki.table(without=["client_ca"]), 2)
    daemon.wait_for_event(NEW, 2)
    assert refused(daemon, pki.context(pki.strangers)) == 200  # nobody asks for it
    reload(daemon, 'certificate = "/nowhere/crt"\nprivate_key = "/nowhere/key"\n', 3)
    assert daemon.wait_for_event(KEPT)["error"].startswith("[admin] certificate /nowhere/crt")
    assert shown(daemon, pki.context()) == pki.certificate
    reload(daemon, "", 4)
    assert plain(daemon) == 200
    configure(daemon, f'certificate = "{pki.admin["certificate"]}"\n')
    daemon.process.send_signal(1)
    assert "go together" in daemon.wait_for_event("the config was not reloaded; the old one stays")["error"]
    assert plain(daemon) == 200


def plain(daemon):
    try:
        return (
            subprocess.run(
                ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"{daemon.admin}/metrics"],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            ).stdout
            and 200
        )
    except subprocess.CalledProcessError:
        return "refused"


def test_without_its_certificate_there_is_no_control_plane_and_everything_else(start, pki):
    """A certificate that comes late would keep every program of the host from its credentials."""
    (tmp := pki.folder / "certificate.pem").rename(pki.folder / "later.pem")
    daemon = start(certificate=False)
    event = daemon.wait_for_event("no control plane")
    assert str(tmp) in event["error"]
    assert event["advice"]
    # Until the role has credentials, its document is a connection that ends.
    eventually(lambda: daemon.get("latest/meta-data/iam/security-credentials/deploy")[0] == 200)
    assert refused(daemon, pki.prometheus()) == "refused"
    (pki.folder / "later.pem").rename(tmp)
    daemon.wait_for_event(NEW)
    assert daemon.role("deploy")["state"] == "ok"


def test_a_socket_that_systemd_passed_is_served_with_tls(start, pki):
    """Who holds the port by systemd would be served in plain text, or not at all."""
    with socket.create_server(("127.0.0.1", 0)) as passed:
        launcher = (sys.executable, "-c", LAUNCH, str(passed.fileno()))
        daemon = start(listen="systemd:admin", certificate=False, launcher=launcher, pass_fds=(passed.fileno(),))
        daemon.wait_for_event(NEW)
        port = passed.getsockname()[1]
    assert ask(port, "/metrics", pki.prometheus())[0] == 200
    assert ask(port, "/healthz", pki.context())[0] == 200
    with pytest.raises(OSError, match=ENDED):
        ask(port, "/healthz", pki.context(pki.strangers))


# What clients cannot do


def test_what_is_no_handshake_hurts_nobody(start, pki):
    """One user could keep Prometheus out, hold up the data plane, or fill the log."""
    daemon = start()
    with many(daemon, 200) as held:
        for number, connection in enumerate(held):
            connection.sendall([b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 1000][number % 3])
        for _ in range(20):
            assert daemon.get("latest/meta-data/iam/security-credentials/deploy")[0] == 200
        # The test's own user is over its rate of handshakes: it is served as soon as that allows one.
        eventually(lambda: ask(daemon.admin_port, "/metrics", pki.prometheus())[0] == 200, 5)
        deadline = time.monotonic() + 20
        wait(lambda: all(ended(connection) for connection in held), 20, "every one to be cut off")
        assert time.monotonic() < deadline
    assert [event["event"] for event in worse(daemon)] in ([], ["too many connections to the control plane"])


@contextmanager
def many(daemon, count):
    with ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", daemon.admin_port), timeout=0.05))
            for _ in range(count)
        ]


def ended(connection):
    try:
        while connection.recv(1000):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


# The command line


def test_status_takes_the_one_certificate_of_the_config(start, pki):
    """It would have to be told of a CA, and the address of the config is in few certificates."""
    daemon = start()
    issued = pki.put_server("web-1.example")
    wait(lambda: shown(daemon, unchecked()) == pki.certificate, 10, "the new certificate")
    done = daemon.cli("status")
    assert (done.returncode, "deploy" in done.stdout) == (0, True), done.stderr
    assert issued is not None
    old = (pki.folder / "certificate.pem").read_bytes()
    pki.put_server("web-1.example", key=False)
    done = daemon.cli("status")
    assert done.returncode == 1
    assert "certificate is not the one in" in done.stderr
    assert "its log says why" in done.stderr
    pki.put("certificate", old, 0o644)
    daemon.write_config(daemon.config.read_text().replace(f'certificate = "{pki.admin["certificate"]}"', ""))


def unchecked():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def test_status_goes_by_the_systems_cas_where_the_file_cannot_be_read(start, pki):
    """A user without a right to the folder would see nothing of its own roles."""
    daemon = start()
    pki.servers.cert_pem.write_to_path(str(pki.folder / "company.pem"))
    text = daemon.config.read_text()
    daemon.config.write_text(text.replace("certificate.pem", "not-there.pem"))
    done = daemon.cli("status", env=daemon.environment | {"SSL_CERT_FILE": str(pki.folder / "company.pem")})
    assert done.returncode == 0, done.stderr
    done = daemon.cli("status", env=daemon.environment | {"SSL_CERT_FILE": str(pki.folder / "client_ca.pem")})
    assert done.returncode == 1
    assert "its certificate is not accepted: " in done.stderr


def test_status_says_so_where_tls_is_not_spoken(start, pki):
    """The config is newer than the daemon that runs: a reload is missing."""
    daemon = start("", certificate=False)
    wait(lambda: plain(daemon) == 200, 10, "plain text")
    configure(daemon, pki.table())
    done = daemon.cli("status")
    assert done.returncode == 1
    assert "TLS failed: wrong version number" in done.stderr


def test_status_says_nothing_to_another_users_listener(pki, tmp_path):
    """Even a handshake would tell who asks, and let the other answer."""
    with temporary_users() as people, squatting(people.add()) as squatter:
        daemon = TlsDaemon(tmp_path, "", {})
        daemon.admin_port = squatter.port
        configure(daemon, pki.table())
        done = daemon.cli("status")
        assert done.returncode == 1
        assert "is held by another user" in done.stderr
        assert squatter.everything() == ""


def test_check_reads_the_files_as_the_daemon_does(start, pki):
    """The mistake would show in Prometheus, as a target that is down."""
    daemon = start()
    done = daemon.cli("check")
    assert (done.returncode, "[admin]" in done.stdout) == (0, False), done.stdout + done.stderr
    (pki.folder / "private_key.pem").chmod(0o644)
    done = daemon.cli("check")
    assert done.returncode == 1
    assert "[admin] key" in done.stdout
    assert "chmod 600" in done.stdout
    assert json.loads(daemon.cli("status", "--json").stdout)["limited"] is False
