"""From a connection to its caller (callers/peer.py), on sockets of this process."""

import asyncio
import os
import socket
import struct

import pytest

from imds_proxy.callers.grant_token_files import TokenFiles
from imds_proxy.callers.peer import Callers
from imds_proxy.callers.socket_owner import Owner, SocketOwners
from imds_proxy.callers.user_database import Account, Accounts
from imds_proxy.metadata import connection as http
from imds_proxy.metadata import listeners
from imds_proxy.metadata.request_parser import MAX_BODY
from support.plane import plane
from support.wire import request, wire

HERE = "127.0.0.1:1338"


@pytest.fixture
async def callers():
    made = Callers(SocketOwners(), Accounts())
    yield made
    made.close()


@pytest.fixture
def connected():
    """A client, and the server's side of its connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        client.bind(("127.0.0.9", 0))  # where nothing else takes its port once it is free
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            yield client, accepted


class Transport:
    """As a loop makes one of a connection that it has accepted: it remembers the addresses."""

    def __init__(self, connection):
        self._extra = {
            "peername": connection.getpeername(),
            "sockname": connection.getsockname(),
            "socket": connection,
        }

    def get_extra_info(self, name):
        return self._extra[name]


async def test_who_has_reset_the_connection_is_not_the_next_one_on_its_port(callers, connected):
    """That one would stand in the audit for what another has asked."""
    client, accepted = connected
    place, told = callers.place(accepted, HERE), []
    transport, bound = Transport(accepted), client.getsockname()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    with socket.socket() as next_one:
        next_one.bind(bound)
        next_one.connect(accepted.getsockname())
        with pytest.raises(OSError, match="not connected"):
            callers.identify(transport, place, lambda *who: told.append(who))
        await asyncio.sleep(0.1)
        assert told == []


async def test_a_process_of_this_host_is_its_user_at_loopback(callers, connected):
    client, accepted = connected
    told = asyncio.get_running_loop().create_future()
    place = callers.place(accepted, HERE)
    callers.identify(Transport(accepted), place, lambda *who: told.set_result(who))
    caller, inode = await told
    assert (caller.uid, caller.address, caller.listener) == (os.geteuid(), "127.0.0.1", HERE)
    assert inode == os.fstat(client.fileno()).st_ino
    again = []
    callers.identify(Transport(accepted), place, lambda *who: again.append(who))
    assert again == [(caller, inode)]  # at once: the user is known by now


@pytest.fixture
def release(monkeypatch):
    """Every user is new, and is known once this is set."""
    release = asyncio.Event()

    async def slow(_self, uid):
        await release.wait()
        return Account(uid, "root", frozenset({0}), frozenset({"root"}))

    monkeypatch.setattr(Accounts, "known", lambda _self, _uid: None)
    monkeypatch.setattr(Accounts, "of", slow)
    return release


async def test_a_request_that_comes_before_its_user_is_known_waits_and_is_answered(release):
    """The first request of every user would fail, or be answered as nobody's."""
    async with plane(grants=[{"role": "deploy", "group": "root"}]) as plane_, wire(plane_) as connection:
        headers = {"x_aws_ec2_metadata_token_ttl_seconds": "60"}
        await connection.send(request("/latest/api/token", "PUT", **headers) * 2)
        answering = asyncio.create_task(connection.answer("PUT"))
        await asyncio.sleep(0.1)
        assert not answering.done()
        release.set()
        assert (await answering).status == (await connection.answer("PUT")).status == 200


async def test_a_large_first_request_of_a_new_user_loses_nothing(release):
    """What is sent meanwhile stays with the kernel; all of it is answered in order."""
    asyncio.get_running_loop().call_later(0.1, release.set)
    async with plane() as plane_:
        body = b"x" * (MAX_BODY - 1)
        answer = await plane_.ask("/", "POST", body=body)
        assert answer.status == 405


async def test_a_client_that_leaves_before_its_user_is_known_leaves_nothing_behind(release):
    async with plane() as plane_:
        async with wire(plane_) as connection:
            await connection.send(request("/"))
        release.set()
        await asyncio.sleep(0.3)
        assert plane_.stats.connections == 0


async def test_a_request_whose_user_is_not_known_yet_is_answered_before_the_daemon_ends(release):
    """A restart would cost somebody an answer that is owed already."""
    async with plane() as plane_, wire(plane_) as connection:
        await connection.send(request("/"))
        await asyncio.sleep(0.1)
        closing = asyncio.create_task(plane_.server.close())
        asyncio.get_running_loop().call_later(0.1, release.set)
        answer = await connection.answer()
        assert (answer.status, answer.headers["connection"]) == (401, "close")
        await closing


async def test_the_kernel_is_asked_once_for_each_connection(monkeypatch):
    """Asked again later, it would tell of whoever has the client's address by then."""
    asked, owner = [], SocketOwners.owner
    monkeypatch.setattr(SocketOwners, "owner", lambda *args: asked.append(args) or owner(*args))
    async with plane() as plane_:
        for _ in range(2):
            async with wire(plane_) as connection:
                for _ in range(3):
                    assert (await connection.ask(request("/"))).status == 401
    assert len(asked) == 2


async def test_a_connection_is_its_callers_for_a_minute(monkeypatch):
    """Who was taken out of a group would keep its role for as long as a connection is kept busy."""
    monkeypatch.setattr(http, "CALLER_TIME", 0.3)
    async with plane() as plane_, wire(plane_) as connection:
        assert "connection" not in (await connection.ask(request("/"))).headers
        await asyncio.sleep(0.4)
        assert (await connection.ask(request("/"))).headers["connection"] == "close"
        assert await connection.rest() == b""


async def test_nobody_shuts_the_others_out_with_requests_that_never_end(monkeypatch):
    """One user's thousand begun requests would be all that the daemon has room for."""
    monkeypatch.setattr(listeners, "MAX_CONNECTIONS", 3)
    whose = iter([1, 1, 1, 2])
    monkeypatch.setattr(SocketOwners, "owner", lambda *_: Owner(next(whose), 1))
    monkeypatch.setattr(Accounts, "known", lambda _self, uid: Account(uid))
    async with plane() as plane_, wire(plane_) as first, wire(plane_) as second, wire(plane_) as third:
        for connection in (first, second, third):
            await connection.send(b"G")
            await asyncio.sleep(0.02)
        async with wire(plane_) as other:
            assert (await other.ask(request("/"))).status == 401
            assert await first.rest() == b""


async def test_until_the_token_files_are_read_a_token_is_not_a_wrong_one(monkeypatch):
    """A 401 sends JavaScript v2 and Java v2 on to instance metadata, and to the host's role there."""
    monkeypatch.setattr(TokenFiles, "ready", False)
    async with plane() as plane_:
        answers = [await plane_.ask(f"/roles/{role}", headers={"Authorization": "x"}) for role in ("deploy", "nobodys")]
        assert [answer.status for answer in answers] == [503, 503]
        assert answers[0].body == answers[1].body
        assert (await plane_.get_container("deploy")).status == 200
