"""One caller's connections and requests do not come before another's (metadata/listener.py), over real sockets."""

import asyncio
import contextlib
import os
import resource
import socket
from pathlib import Path

import pytest

from imds_proxy.callers.socket_owner import Owner, SocketOwners
from imds_proxy.callers.user_database import Account, Accounts
from imds_proxy.metadata import listener, loop_shares
from support.log_lines import logged
from support.plane import parse_answers, plane
from support.wire import request, wire

HEAVY, LIGHT = "127.0.0.2", "127.0.0.1"
UIDS = {HEAVY: 1, LIGHT: 2}


@pytest.fixture(autouse=True)
def users(monkeypatch):
    """Two users, told apart by the loopback address that they come from."""
    monkeypatch.setattr(SocketOwners, "owner", lambda _self, peer, _local: Owner(UIDS[peer[0]], 1))
    monkeypatch.setattr(Accounts, "known", lambda _self, uid: Account(uid))


@pytest.fixture
def slow_work(monkeypatch):
    """Each look at the clock costs a tenth of a share, so that what fits into a turn is a matter of counting."""
    now = [0.0]

    def perf_counter():
        now[0] += loop_shares.SHARE / 10
        return now[0]

    monkeypatch.setattr(loop_shares.time, "perf_counter", perf_counter)


def connect(plane_, source: str) -> socket.socket:
    """A connection that the kernel has made; nothing of this process has looked at it yet."""
    client = socket.socket()
    client.bind((source, 0))
    client.settimeout(0.9)  # what the kernel has no room for is tried again after a second
    client.connect((plane_.host, plane_.port))
    client.settimeout(0)
    return client


async def read_all(client: socket.socket) -> bytes:
    received = b""
    while data := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 65536), 5):
        received += data
    return received


async def test_another_callers_request_comes_before_those_that_wait(slow_work):
    """Eight processes that pipeline requests without end made everybody else's first one take 213 ms."""
    async with plane() as plane_:
        asking = request("/latest/dynamic/") * 32
        heavy = [connect(plane_, HEAVY) for _ in range(40)]
        for client in heavy:
            client.send(asking)
        light = connect(plane_, LIGHT)
        light.send(request("/", connection="close"))
        answered = []
        answer = plane_.server.answer
        plane_.server.answer = lambda asked: answered.append(asked.caller.uid) or answer(asked)
        assert (await read_all(light)).startswith(b"HTTP/1.1 401")
        before = answered.index(2)
        assert before < len(answered) <= 32 * 10
        for client in (*heavy, light):
            client.close()


async def test_every_request_of_a_heavy_caller_is_answered_in_the_end(slow_work):
    """To wait is all that happens to it: a burst of a user's processes loses nothing."""
    async with plane() as plane_:
        clients = [connect(plane_, HEAVY) for _ in range(60)]
        for client in clients:
            client.send(request("/") * 20 + request("/", connection="close"))
        for client in clients:
            answers = parse_answers(await read_all(client), ["GET"] * 21)
            assert [answer.status for answer in answers] == [401] * 21
            client.close()


async def test_a_client_that_sends_no_more_gets_the_answer_that_has_to_wait(slow_work):
    """Programs such as netcat end their side after the request."""
    async with plane() as plane_:
        clients = [connect(plane_, HEAVY) for _ in range(60)]
        for client in clients:
            client.send(request("/"))
            client.shutdown(socket.SHUT_WR)
        for client in clients:
            assert (await read_all(client)).startswith(b"HTTP/1.1 401")
            client.close()
        await asyncio.sleep(0.1)
        assert plane_.stats.connections == 0


async def test_a_request_in_pieces_that_have_to_wait_is_whole(slow_work):
    async with plane() as plane_, wire(plane_) as connection:
        pieces = request("/", connection="close")
        for start in range(0, len(pieces), 10):
            await connection.send(pieces[start : start + 10])
            await asyncio.sleep(0)
        assert (await connection.answer()).status == 401


async def test_what_a_caller_connects_beyond_what_may_wait_is_closed_and_no_one_elses(monkeypatch, slow_work):
    """Three processes that connect again and again left another user twelve new connections in four seconds."""
    monkeypatch.setattr(listener, "MOST_WAITING", 20)
    async with plane() as plane_:
        heavy = [connect(plane_, HEAVY) for _ in range(200)]
        light = connect(plane_, LIGHT)
        light.send(request("/", connection="close"))
        assert (await read_all(light)).startswith(b"HTTP/1.1 401")
        await asyncio.sleep(0.1)
        assert 20 <= plane_.stats.connections < 100
        for client in (*heavy, light):
            client.close()


async def test_five_hundred_processes_of_one_user_that_start_at_once_are_all_served():
    """A batch job on many cores is no attack."""
    async with plane() as plane_:
        clients = [connect(plane_, HEAVY) for _ in range(500)]
        for client in clients:
            client.send(request("/", connection="close"))
        for client in clients:
            assert (await read_all(client)).startswith(b"HTTP/1.1 401")
            client.close()


async def test_a_connection_that_waits_at_the_end_is_closed(slow_work):
    """The daemon would not end, or the client would wait for it."""
    async with plane() as plane_:
        clients = [connect(plane_, HEAVY) for _ in range(100)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await plane_.server.close()
        for client in clients:
            with contextlib.suppress(ConnectionError):
                assert await read_all(client) == b""
            client.close()
        assert plane_.stats.connections == 0


async def test_the_listener_takes_as_many_at_once_as_the_kernel_lets_it():
    """Of six hundred processes that start at once most would be sent away for a second by the kernel."""
    async with plane() as plane_:
        clients = [connect(plane_, LIGHT) for _ in range(600)]  # without a look at the loop: all wait in the kernel
        for client in clients:
            client.close()


async def test_without_descriptors_one_line_says_so_and_nothing_is_lost():
    """The log had a traceback for each connection, and none said what to do."""
    with logged() as lines:
        await serve_without_descriptors()
    [line] = lines("cannot accept connections")
    assert "too many open files (limit " in line["error"]
    assert "LimitNOFILE" in line["advice"]


def most_used() -> int:
    """The largest number of a descriptor."""
    return max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())


async def serve_without_descriptors():
    async with plane() as plane_:
        clients = [connect(plane_, LIGHT) for _ in range(3)]
        for client in clients:
            client.send(request("/", connection="close"))
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = most_used() + 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (used, limits[1]))
        spare = []
        try:
            while True:
                spare.append(os.dup(0))
        except OSError:
            await asyncio.sleep(0.35)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for descriptor in spare:
                os.close(descriptor)
        for client in clients:
            assert (await read_all(client)).startswith(b"HTTP/1.1 401")
            client.close()
