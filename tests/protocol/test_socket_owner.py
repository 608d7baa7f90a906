"""Whose process a client is (callers/socket_owner.py, audit/client_process.py): on real sockets of real users."""

import asyncio
import errno
import json
import platform
import socket
import struct
import subprocess
import sys
import textwrap
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import uvloop

from imds_proxy.audit.client_process import find_process
from imds_proxy.callers.sock_diag import CGROUP_ID, attribute
from imds_proxy.callers.socket_owner import SocketOwners, is_own_address
from support.namespace import container, inside, network_namespace, sysctl
from support.users import temporary_users

IPV4, IPV6 = "127.0.0.1", "::1"
MAPPED = "::ffff:127.0.0.1"
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close by RST

# Connects, says the inode of its socket, and then does what it is told by lines.
CLIENT = """
family, address, bound = json.loads(sys.argv[1])
client = socket.socket(family)
client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if bound:
    client.bind(tuple(bound))
client.connect(tuple(address))
print(os.fstat(client.fileno()).st_ino, flush=True)
for line in sys.stdin:
    if line == "close\\n":
        client.close()
    elif line == "reset\\n":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    elif line == "shutdown\\n":
        client.shutdown(socket.SHUT_WR)
    print("done", flush=True)
"""


@pytest.fixture(scope="module")
def users():
    with temporary_users() as made:
        yield made


@pytest.fixture(scope="module")
def user(users):
    return users.add()


@pytest.fixture(scope="module")
def another(users):
    return users.add()


@pytest.fixture
def owners():
    owners = SocketOwners()
    yield owners
    owners.close()


class Client:
    """A process of a user's, connected."""

    def __init__(self, process):
        self._process = process
        self.pid = process.pid
        self.inode = int(process.stdout.readline())

    def does(self, what: str) -> None:
        print(what, file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "done\n"


@pytest.fixture
def connect():
    """`connect(user, address, family, bound)`: a client; ends with the test."""
    with ExitStack() as running:

        def connect(user, address, family=socket.AF_INET, bound=None):
            return Client(running.enter_context(user.running(CLIENT, json.dumps([family, address, bound]))))

        yield connect


@contextmanager
def listening(host=IPV4, port=0):
    """A listener; an IPv6 one takes IPv4 too."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, dualstack_ipv6=host == "::") as listener:
        listener.settimeout(10)
        yield listener


@pytest.fixture
def listener():
    with listening() as listener:
        yield listener


def owner_of(owners, connection):
    """Who is at the other end of an accepted connection, None if that has been reset."""
    with suppress(OSError):
        owner = owners.owner(connection.getpeername(), connection.getsockname())
        connection.getpeername()
        return owner


def accepted(listener):
    return listener.accept()[0]


@pytest.mark.parametrize(
    ("host", "family", "to"),
    [
        pytest.param(IPV4, socket.AF_INET, IPV4, id="IPv4"),
        pytest.param(IPV6, socket.AF_INET6, IPV6, id="IPv6"),
        pytest.param(IPV4, socket.AF_INET6, MAPPED, id="an IPv6 socket to IPv4, as Java's"),
        pytest.param("::", socket.AF_INET, IPV4, id="IPv4 to an IPv6 listener"),
        pytest.param("::", socket.AF_INET6, MAPPED, id="an IPv6 socket to IPv4 of an IPv6 listener"),
        pytest.param("::", socket.AF_INET6, IPV6, id="IPv6 to a listener for both"),
    ],
)
def test_a_client_is_its_user(owners, user, connect, host, family, to):
    """The role of a user is for the programs of that user, whatever kind of socket they open."""
    with listening(host) as listener:
        client = connect(user, [to, listener.getsockname()[1]], family)
        with accepted(listener) as connection:
            assert owner_of(owners, connection)[:2] == (user.uid, client.inode)


@pytest.mark.parametrize(("host", "family"), [(IPV4, socket.AF_INET), (IPV6, socket.AF_INET6)])
def test_the_cgroup_of_a_client_is_that_of_the_process_that_made_its_socket(owners, user, connect, host, family):
    """By it a unit is known; a client that was started here is in the cgroup of this process."""
    with listening(host) as listener:
        connect(user, [host, listener.getsockname()[1]], family)
        with accepted(listener) as connection:
            assert owner_of(owners, connection).cgroup == owners.own_cgroup() != 0


@pytest.mark.parametrize(
    ("attributes", "value"),
    [
        (b"", b""),
        (b"\5\0\x08\0\1\0\0\0" + b"\x0c\0\x15\0" + b"cgroupid", b"cgroupid"),
        (b"\x0c\0\x15\0" + b"cgroupid" + b"\x0c\0\x15\0" + b"another!", b"cgroupid"),
        (b"\5\0\x08\0\1\0\0\0", b""),
        (b"\x0c\0\x15", b""),
        (b"\0\0\x15\0" * 4, b""),
        (b"\3\0\x15\0" * 4, b""),
        (b"\4\0\x15\0", b""),
        (b"\xff\xff\x08\0" + b"\x0c\0\x15\0" + b"cgroupid", b""),
        (b"\x18\0\x08\0" + b"\x0c\0\x15\0" + b"cgroupid" + b"\0" * 8, b""),
    ],
)
def test_an_attribute_is_read_where_it_is_and_nowhere_else(attributes, value):
    """The bytes of another attribute could be taken for somebody's cgroup."""
    assert attribute(b"head" + attributes, 4, CGROUP_ID) == value


def test_two_users_are_told_apart(owners, user, another, connect, listener):
    clients = [connect(who, listener.getsockname()) for who in (user, another, user)]
    with ExitStack() as open_:
        found = [owner_of(owners, open_.enter_context(accepted(listener))) for _ in clients]
    assert [owner.uid for owner in found] == [user.uid, another.uid, user.uid]
    assert [owner.inode for owner in found] == [client.inode for client in clients]


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_has_closed_is_nobody(owners, user, connect, listener, how):
    """The kernel says uid 0 of a closed socket: whoever is quick would have root's role."""
    client = connect(user, listener.getsockname())
    with accepted(listener) as connection:
        peer, local = connection.getpeername(), connection.getsockname()
        client.does(how)
        assert owner_of(owners, connection) is None
        assert owners.owner(peer, local) is None


def test_a_client_in_time_wait_is_nobody(owners, user, connect, listener):
    client = connect(user, listener.getsockname())
    with accepted(listener) as connection:
        peer, local = connection.getpeername(), connection.getsockname()
        client.does("close")
    assert owners.owner(peer, local) is None


def test_a_client_that_has_sent_all_it_wants_is_still_its_user(owners, user, connect, listener):
    client = connect(user, listener.getsockname())
    with accepted(listener) as connection:
        client.does("shutdown")
        assert owner_of(owners, connection)[:2] == (user.uid, client.inode)


def test_a_client_is_known_while_the_server_closes(owners, user, connect, listener):
    client = connect(user, listener.getsockname())
    with accepted(listener) as connection:
        connection.shutdown(socket.SHUT_WR)
        assert owner_of(owners, connection)[:2] == (user.uid, client.inode)


def test_a_listener_on_the_port_of_a_client_is_not_that_client(owners, listener):
    """Where no connection fits, the kernel answers with what listens on the port, and that may be another user's."""
    local = listener.getsockname()
    for host in (IPV4, "0.0.0.0", "::"):
        with listening(host) as other:
            assert owners.owner((IPV4, other.getsockname()[1]), local) is None


def test_a_socket_that_is_only_connecting_is_not_a_client(owners):
    """It has the addresses of a connection, and whoever made it was answered by nobody."""
    with network_namespace("198.51.100.7"), socket.socket() as silent, socket.socket() as client:
        owners = SocketOwners()
        silent.bind(("198.51.100.7", 0))
        silent.listen(0)
        local = silent.getsockname()
        fillers = [_connecting(local) for _ in range(4)]
        client.settimeout(0)
        assert client.connect_ex(local) != 0
        assert owners.owner(client.getsockname(), local) is None
        for filler in fillers:
            filler.close()
        owners.close()


def _connecting(address):
    client = socket.socket()
    client.settimeout(0)
    client.connect_ex(address)
    return client


def test_a_reset_client_is_not_taken_for_the_next_one_on_its_port(owners, user, another, connect, listener):
    """The first one's request waits to be read while its port is another user's already."""
    local = listener.getsockname()
    connect(user, local, bound=[IPV4, port := _free_port()]).does("reset")
    connect(another, local, bound=[IPV4, port])
    with accepted(listener) as first, accepted(listener) as second:
        assert owner_of(owners, first) is None
        assert owner_of(owners, second).uid == another.uid
        assert owners.owner((IPV4, port), local).uid == another.uid


def _free_port():
    with listening() as listener:
        return listener.getsockname()[1]


def test_a_client_that_has_bound_its_socket_to_a_device_is_nobody(owners, listener):
    """And it is no container either: it has an address of this host."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        client.connect(listener.getsockname())
        with accepted(listener) as connection:
            assert owner_of(owners, connection) is None
            assert is_own_address(connection.getpeername()[0])


def test_a_link_local_client_is_its_user(user, connect):
    """Its address means something only together with an interface."""
    with network_namespace(), container("10.99.0.2/24", "10.99.0.1/24"), owners_here() as owners:
        address, interface = _link_local()
        with listening("::") as listener:
            client = connect(user, [address, listener.getsockname()[1], 0, interface], socket.AF_INET6)
            with accepted(listener) as connection:
                assert connection.getpeername()[3] == interface
                assert owner_of(owners, connection)[:2] == (user.uid, client.inode)
                assert is_own_address(address, interface)
        assert not is_own_address("fe80::1", interface)


def _link_local():
    for _ in range(200):  # until the kernel knows that nobody else has it
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            packed, interface, _, _, flags, name = line.split()
            if name.startswith("veth") and not int(flags, 16) & 0x40:
                return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(packed)), int(interface, 16)
        time.sleep(0.05)
    raise AssertionError("no link-local address")


@contextmanager
def owners_here():
    """In the network namespace that this thread is in at present."""
    owners = SocketOwners()
    try:
        yield owners
    finally:
        owners.close()


def test_a_container_is_nobody_and_has_an_address_that_is_not_this_hosts(user, connect):
    """It is told by its address, and must not be a user of the host who has the same number."""
    with (
        network_namespace(),
        container("10.99.0.2/24", "10.99.0.1/24") as pid,
        owners_here() as owners,
        listening("10.99.0.1") as listener,
    ):
        with inside(pid):
            connect(user, listener.getsockname())
        connect(user, listener.getsockname())
        with accepted(listener) as from_there, accepted(listener) as from_here:
            assert from_there.getpeername()[0] == "10.99.0.2"
            assert owner_of(owners, from_there) is None
            assert not is_own_address("10.99.0.2")
            assert owner_of(owners, from_here).uid == user.uid
            assert is_own_address("10.99.0.1")


def test_a_listener_of_another_namespace_is_recognised(owners, user, another, connect, listener):
    """There the same two addresses are another user's connection."""
    port, local = _free_port(), listener.getsockname()
    assert owners.shares_namespace(listener)
    with listener, network_namespace(), listening(port=local[1]) as other, owners_here() as owners_there:
        connect(another, local, bound=[IPV4, port])
        with accepted(other) as connection:
            assert owner_of(owners_there, connection).uid == another.uid
            assert owner_of(owners, connection) is None
            assert not owners.shares_namespace(other)
            assert owners_there.shares_namespace(other)
            assert not owners_there.shares_namespace(listener)


def test_what_an_earlier_question_left_is_not_the_answer_to_this_one(owners, user, another, connect, listener):
    for who in (user, another):
        connect(who, listener.getsockname())
    with accepted(listener) as first, accepted(listener) as second:
        receive, owners._netlink = owners._netlink, Deaf(owners._netlink)
        assert owner_of(owners, first) is None
        owners._netlink = receive
        assert owner_of(owners, second).uid == another.uid
        assert owner_of(owners, first).uid == user.uid


def test_an_answer_about_another_connection_is_none(owners, user, another, connect, listener):
    """Who only plays the kernel may answer with whatever it has."""
    for who in (user, another):
        connect(who, listener.getsockname())
    with accepted(listener) as first, accepted(listener) as second:
        kernel = owners._netlink
        assert owner_of(owners, first).uid == user.uid
        owners._netlink = Repeats(kernel)
        assert owner_of(owners, second).uid == another.uid
        assert owner_of(owners, second).uid == another.uid
        assert owner_of(owners, first) is None
        owners._netlink = kernel


class Repeats:
    """Gives its first answer to each question."""

    def __init__(self, netlink):
        self._netlink, self._answer = netlink, b""

    def send(self, question):
        if not self._answer:
            self._netlink.send(question)
            self._answer = self._netlink.recv(1024)
        self._sequence = question[8:12]

    def recv(self, _):
        return self._answer[:8] + self._sequence + self._answer[12:]


class Deaf:
    """A netlink socket that does not get round to reading."""

    def __init__(self, netlink):
        self.send = netlink.send

    def recv(self, _):
        raise OSError(errno.ENOBUFS, "no buffer space")


def test_a_user_whom_the_user_namespace_lacks_is_nobody(user):
    """All of them read as the same uid, so one would have the other's role."""
    report = _in_python(
        """
        libc = ctypes.CDLL(None)
        assert libc.unshare(0x10000000) == 0
        Path("/proc/self/uid_map").write_text("0 0 1")
        owners = SocketOwners()
        listener = socket.create_server(("127.0.0.1", 0))
        mine = socket.create_connection(listener.getsockname())
        own = listener.accept()[0]
        print(owners.owner(own.getpeername(), own.getsockname()).uid, listener.getsockname()[1], flush=True)
        connection = listener.accept()[0]
        peer, local = connection.getpeername(), connection.getsockname()
        print(owners.owner(peer, local))
        owners._unmapped_uid = None
        print(owners.owner(peer, local).uid)
        """
    )
    with report as process:
        own, port = map(int, process.stdout.readline().split())
        assert own == 0
        with user.running(CLIENT, json.dumps([socket.AF_INET, [IPV4, port], None])):
            assert process.stdout.readline() == "None\n"
            assert process.stdout.readline() == "65534\n"


@contextmanager
def _in_python(program):
    head = "import ctypes, socket, sys; from pathlib import Path; from imds_proxy.callers.socket_owner import *\n"
    command = [sys.executable, "-c", head + textwrap.dedent(program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


# As RestrictAddressFamilies=AF_INET AF_INET6: socket(AF_NETLINK, ...) fails with EAFNOSUPPORT.
WITHOUT_NETLINK = """
import platform, struct
call = {"x86_64": 41, "aarch64": 198}[platform.machine()]
program = b"".join(struct.pack("=HBBI", *line) for line in (
    (0x20, 0, 0, 0), (0x15, 0, 3, call), (0x20, 0, 0, 16), (0x15, 0, 1, 16), (6, 0, 0, 0x50061), (6, 0, 0, 0x7FFF0000)
))
code = ctypes.create_string_buffer(program, len(program))
filter_ = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, filter_, 0, 0) == 0
owners = SocketOwners()
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
connection = listener.accept()[0]
found = owners.owner(connection.getpeername(), connection.getsockname())
print(owners.works(), found, owners.shares_namespace(listener))
"""


def test_the_self_test_says_whether_users_can_be_told(owners):
    assert owners.works()
    owners.close()
    assert not owners.works()
    with network_namespace(), owners_here() as elsewhere:
        assert elsewhere.works()


@pytest.mark.skipif(platform.machine() not in {"x86_64", "aarch64"}, reason="the filter is for x86_64 and aarch64")
def test_the_self_test_fails_behind_a_filter_of_system_calls():
    with _in_python(WITHOUT_NETLINK) as process:
        assert process.stdout.readline() == "False None False\n"


@pytest.mark.parametrize("nonlocal_bind", [0, 1])
def test_an_own_address_is_told_from_a_containers(nonlocal_bind):
    """Also where any address can be bound, as failover setups have it."""
    with network_namespace("169.254.169.254"), container("10.99.0.2/24", "10.99.0.1/24"):
        sysctl("net/ipv4/ip_nonlocal_bind", nonlocal_bind)
        sysctl("net/ipv6/ip_nonlocal_bind", nonlocal_bind)
        own = (IPV4, "127.1.2.3", MAPPED, IPV6, "10.99.0.1", "::ffff:10.99.0.1", "169.254.169.254")
        assert [is_own_address(address) for address in own] == [True] * len(own)
        others = ("10.99.0.2", "::ffff:10.99.0.2", "192.0.2.1", "2001:db8::1", "fd00:ec2::254")
        assert [is_own_address(address) for address in others] == [False] * len(others)


def test_an_address_of_which_nothing_can_be_told_is_neither_this_hosts_nor_another(monkeypatch):
    """Else who uses up the process's descriptors could choose whether to be a container or a local process."""

    def refuse(*_):
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(socket, "socket", refuse)
    for address in (IPV4, "10.99.0.2"):
        with pytest.raises(OSError, match="too many open files"):
            is_own_address(address)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_the_socket_of_a_transport_serves(owners, user, connect, new_loop):
    async def first_owner():
        found = asyncio.get_running_loop().create_future()

        class Connected(asyncio.Protocol):
            def connection_made(self, transport):
                found.set_result(owner_of(owners, transport.get_extra_info("socket")))
                transport.close()

        server = await asyncio.get_running_loop().create_server(Connected, IPV4, 0)
        address = server.sockets[0].getsockname()
        client = await asyncio.to_thread(connect, user, address)
        async with server, asyncio.timeout(10):
            assert (await found)[:2] == (user.uid, client.inode)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(first_owner())


def test_the_process_is_found_by_its_socket(owners, user, connect, listener):
    """The audit names the program that fetched credentials."""
    clients = [connect(user, listener.getsockname()) for _ in range(2)]
    for client in clients:
        with accepted(listener) as connection:
            owner = owner_of(owners, connection)
            found = find_process(owner.uid, owner.inode)
            assert found.pid == client.pid
            assert found.command == Path(f"/proc/{client.pid}/comm").read_text().rstrip()
    assert find_process(owner.uid, 1) is None
    assert find_process(0, owner.inode) is None


def test_a_search_for_a_process_is_given_up(owners, user, connect, listener, monkeypatch):
    """A user with thousands of processes would hold up the searches for everybody else's."""
    connect(user, listener.getsockname())
    with accepted(listener) as connection:
        owner = owner_of(owners, connection)
        assert find_process(owner.uid, owner.inode)
        monkeypatch.setattr("imds_proxy.audit.client_process._PATIENCE", -1.0)
        assert find_process(owner.uid, owner.inode) is None


def test_what_a_process_calls_itself_is_one_word_in_a_log(user, listener):
    rename = """
ctypes.CDLL(None).prctl(15, b"a\\nuid=0 \\x1b[2J\\xff", 0, 0, 0)
client = socket.socket()
client.connect(tuple(json.loads(sys.argv[1])))
print(os.fstat(client.fileno()).st_ino, flush=True)
sys.stdin.read()
"""
    with user.running(rename, json.dumps(listener.getsockname())) as process:
        found = find_process(user.uid, int(process.stdout.readline()))
    assert found.command == "a?uid=0 ?[2J\N{REPLACEMENT CHARACTER}"


# Short connections, as fast as ports come free: one in ten waits for an answer, every other one is reset.
BUSY = """
port, number = map(int, sys.argv[1:])
uid, made = struct.pack("=I", os.getuid()), 0
while made < number:
    with socket.socket() as client:
        try:
            client.connect(("127.0.0.1", port))
            client.sendall(uid)
            if made % 10 == 0:
                client.recv(1)
        except OSError:  # every port is in use
            time.sleep(0.0005)
            continue
        if made % 2:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    made += 1
"""


def test_no_connection_of_ten_thousand_is_taken_for_another_users(user, another):
    """Two users share 16 ports, so that each is the one's and then the other's while requests wait to be read."""
    seen = Counter()
    with network_namespace(), owners_here() as owners, listening() as listener, ExitStack() as running:
        sysctl("net/ipv4/ip_local_port_range", "20000 20015")
        sysctl("net/ipv4/tcp_max_tw_buckets", 4)
        port = listener.getsockname()[1]
        clients = [running.enter_context(who.running(BUSY, port, 5000)) for who in (user, another)]
        listener.settimeout(0.2)
        while not seen["idle"] or any(client.poll() is None for client in clients):
            seen[_whose(owners, listener)] += 1
            if seen.total() % 50 == 0:
                time.sleep(0.002)
        assert [client.returncode for client in clients] == [0, 0]
    print(dict(seen))
    assert seen["wrong"] == 0
    assert seen["right"] > 100
    assert seen.total() - seen["idle"] > 9_900, "what is reset at once may never be accepted"


def _whose(owners, listener):
    try:
        connection, _ = listener.accept()
    except TimeoutError:
        return "idle"
    with connection, suppress(ConnectionError):
        owner = owner_of(owners, connection)
        connection.settimeout(10)
        uid = connection.recv(4)
        with suppress(ConnectionError):
            connection.sendall(b".")
        if owner is not None and uid:
            return "right" if struct.unpack("=I", uid) == (owner.uid,) else "wrong"
    return "not found"
