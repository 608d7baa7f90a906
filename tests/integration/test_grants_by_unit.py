"""Which unit gets which role: real cgroups, processes of one user, the real daemon."""

import json
import signal
from contextlib import contextmanager

import pytest

from support.cgroups import cgroups
from support.client import LIST, client_of
from support.daemon import wait
from support.users import temporary_users

ROLE = """
[roles.logs]
role_arn = "{role_arn}"
session_name = "logs"
sts_endpoint = "{sts}"
"""
LISTEN = 'listen = ["127.0.0.1:PORT"]'
BOTH_FAMILIES = 'listen = ["0.0.0.0:PORT", "[::1]:PORT"]'
ADDRESSES = ("127.0.0.1", "::1", "::ffff:127.0.0.1")

# Each line names a connection: it is made when it is first named, unless `make NAME` has made its socket before. Says
# what the list shows on it, or the status.
KEEPER = r"""
sockets, connected = {}, set()

def answer(connection, request):
    connection.sendall(request.encode())
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return int(head.split()[1]), body.decode()

def listed(connection):
    head = "HTTP/1.1\r\nHost: localhost\r\n"
    _, token = answer(connection, f"PUT /latest/api/token {head}X-aws-ec2-metadata-token-ttl-seconds: 300\r\n\r\n")
    path = "/latest/meta-data/iam/security-credentials/"
    status, body = answer(connection, f"GET {path} {head}X-aws-ec2-metadata-token: {token}\r\n\r\n")
    return body if status == 200 else status

print(os.getpid(), flush=True)
for line in sys.stdin:
    *make, name = line.split()
    if name not in sockets:
        sockets[name] = socket.socket()
    if not make and name not in connected:
        sockets[name].connect(("127.0.0.1", int(sys.argv[1])))
        connected.add(name)
    print("made" if make else listed(sockets[name]), flush=True)
"""


@pytest.fixture(scope="module")
def user():
    with temporary_users() as made:
        yield made.add()


@pytest.fixture
def host():
    with cgroups() as made:
        yield made


def config(aws, *grants):
    tables = "".join(f'[[grants]]\nrole = "{role}"\n{key} = {json.dumps(value)}\n' for role, key, value in grants)
    role = ROLE.format(role_arn=aws.role_arn, sts=aws.double.url)
    return aws.config(role + tables).replace(LISTEN, BOTH_FAMILIES)


@contextmanager
def keeper(user, daemon):
    """`ask(line)`, and the process's id."""
    with user.running(KEEPER, daemon.port) as process:

        def ask(line):
            print(line, file=process.stdin, flush=True)
            return process.stdout.readline().strip()

        yield ask, int(process.stdout.readline())


def test_two_units_of_one_user_have_a_role_each(aws, start_daemon, user, host):
    """Services that share a user would share their roles, or need a user each."""
    one, two = host.unit("one.service"), host.unit(r"worker@a\x2db.service")
    everyones = host.unit("worker@*.service")
    daemon = start_daemon(config=config(aws, ("logs", "unit", one), ("deploy", "unit", ["nosuch.service", everyones])))
    with client_of(user, daemon) as first, client_of(user, daemon) as second, client_of(user, daemon) as third:
        host.put(first.pid, f"system.slice/{one}")
        host.put(second.pid, f"system.slice/system-worker.slice/{two}/below")
        host.put(third.pid, f"user.slice/user-{user.uid}.slice/user@{user.uid}.service/app.slice/{one}")
        token = first.token()
        for client, mine, others in ((first, "logs", "deploy"), (second, "deploy", "logs")):
            assert [client.at(address).listed() for address in ADDRESSES] == [mine] * 3
            assert client.document(mine)[0] == 200
            assert client.document(others) == (404, "not found")
            # One user's session tokens are the same for all its units, and give none the role of another.
            assert client.get(LIST, token) == (200, mine)
        assert [third.at(address).listed() for address in ADDRESSES] == [None] * 3
        assert third.get(LIST + "logs", token) == (404, "not found")

    def told():
        lines = [e for e in daemon.events() if e["event"] in {"credentials handed out", "credentials refused"}]
        found = {(e.get("unit"), e["role"], e["status"]) for e in lines if e["uid"] == user.uid and "role" in e}
        return found if len(found) >= len(wanted) else None

    wanted = {(one, "logs", 200), (one, "deploy", 404), (two, "deploy", 200), (two, "logs", 404), (None, "logs", 404)}
    assert wait(told, 5, "the audit") == wanted
    assert [role["grants"] for role in daemon.status()["roles"]] == [
        [f"unit nosuch.service or {everyones}"],
        [f"unit {one}"],
    ]


def test_a_socket_is_of_the_unit_whose_process_made_it(aws, start_daemon, user, host):
    """What a process may have does not follow it into another unit, and a new cgroup is not the one before it."""
    one, two = host.unit("one.service"), host.unit("two.service")
    daemon = start_daemon(config=config(aws, ("logs", "uid", 0)))
    with keeper(user, daemon) as (ask, pid), client_of(user, daemon) as other:
        old = host.put(pid, f"system.slice/{one}")
        assert ask("before") == "404"
        daemon.write_config(config(aws, ("logs", "unit", one), ("deploy", "unit", two)))
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for_event("config reloaded")
        assert ask("kept") == "logs"
        ask("make unused")
        host.put(pid, f"system.slice/{two}")
        assert [ask(name) for name in ("kept", "unused", "new")] == ["logs", "logs", "deploy"]

        host.end(f"system.slice/{one}")
        assert host.put(other.pid, f"system.slice/{one}") != old
        assert other.listed() == "logs"
        assert [ask(name) for name in ("kept", "new", "newer")] == ["logs", "deploy", "deploy"]
        host.leave(pid)
        assert ask("newest") == "404"


def test_where_units_cannot_be_told_a_unit_grant_fits_nobody_and_the_log_says_why(aws, start_daemon, user, host):
    """A service without its role would be a riddle; one that has it by mistake would be worse."""
    one = host.unit("one.service")
    hidden = ("unshare", "-m", "sh", "-c", f'mount -t tmpfs none {host.root} && exec "$@"', "sh")
    grants = ("logs", "unit", one), ("deploy", "uid", 0)
    daemon = start_daemon(config=config(aws, *grants), launcher=hidden)
    with client_of(user, daemon) as client:
        host.put(client.pid, f"system.slice/{one}")
        assert client.get(LIST) == (404, "no role for this caller")
        assert client.document("logs") == (404, "not found")
    said = daemon.wait_for_event("the config may not say what is meant")["remark"]
    why = (
        "grants.0.unit: no grant with a unit fits on this host: the cgroup v2 hierarchy is not mounted here as a whole"
    )
    assert said.endswith(why)
