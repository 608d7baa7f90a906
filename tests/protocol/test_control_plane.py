"""The control plane on the wire: who is served, what is seen, and what nobody can take from the others."""

import asyncio
import contextlib
import json
import logging
import os
import resource
import socket
import time

import pytest

from imds_proxy.admin import accepting, connections, gate
from imds_proxy.admin import connection as client
from imds_proxy.renewal.attempt import Failure
from support.control_plane import REMOTE, control_plane

PATHS = ["/", "/metrics", "/healthz", "/livez", "/readyz", "/readyz/deploy", "/status.json"]
BUILD, AGENT, STRANGER = "127.0.0.11", "127.0.0.12", "127.0.0.13"
GRANTS = [{"role": "deploy", "uid": 10}, {"role": "logs", "uid": 11}]
SECRETIVE = "AccessDenied for arn:aws:iam::123456789012:user/host"
GET = "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.fixture
async def plane():
    async with control_plane() as made:
        yield made


@pytest.fixture
async def granted():
    async with control_plane(grants=GRANTS, allowed_addresses=["192.0.2.9"]) as made:
        for role in made.roles._roles.values():
            role.keeper.failure = Failure("denied", SECRETIVE, "give user host that", 1_800_000_000.0)
        yield made


# Host, Origin, method


@pytest.mark.parametrize("path", PATHS)
async def test_a_name_that_points_here_is_not_served(plane, path):
    """A web page reads ARNs and error texts once its own name leads to this host."""
    status, _, body = await plane.get(path, host="evil.example:9338")
    assert status == 403
    assert "allowed_hosts" in body
    assert "deploy" not in body


async def test_an_allowed_name_is_served():
    """Prometheus asks by the host's name."""
    async with control_plane(allowed_hosts=["web-1.example"]) as plane:
        assert (await plane.get("/metrics", host="WEB-1.example:9338"))[0] == 200
        assert (await plane.get("/metrics", host="web-2.example:9338"))[0] == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1338"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "no-cors"},
    ],
)
async def test_pages_of_others_are_not_served(plane, headers):
    """Any web page could have this host asked, and learn from what loads and how long it takes."""
    status, answered, body = await plane.get("/status.json", **headers)
    assert status == 403
    assert "deploy" not in body
    assert not [name for name in answered if name.startswith("access-control")]


async def test_its_own_pages_are_served(plane):
    """A person types the address, and the page loads what it shows."""
    assert (await plane.get("/", Sec_Fetch_Site="none", Sec_Fetch_Mode="navigate"))[0] == 200
    own = {"Origin": "http://127.0.0.1:9338", "Sec_Fetch_Site": "same-origin"}
    assert (await plane.get("/status.json", **own))[0] == 200


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ("GET /healthz HTTP/1.1\r\n\r\n", 403),
        ("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n", 403),
        ("GET /healthz HTTP/1.1\r\nHost:\r\n\r\n", 403),
        ("GET /healthz HTTP/1.0\r\n\r\n", 200),
        ("GET /healthz HTTP/1.0\r\nHost: evil.example\r\n\r\n", 403),
        ("GET http://evil.example/healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
    ],
)
async def test_a_request_has_one_host(plane, request_, status):
    """Which of two is looked at would be a guess; only an old probe has none."""
    reply = await plane.wire(request_.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"))
    assert int(reply.split()[1]) == status or int(reply.split()[1]) == 400


@pytest.mark.parametrize("path", PATHS)
async def test_only_get_and_head_are_served(plane, path):
    """Something that changes the daemon would one day be reached from a web page."""
    assert (await plane.get(path, method="HEAD"))[0] in {200, 503}
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert (await plane.get(path, method=method))[0] == 405


@pytest.mark.parametrize("path", [*PATHS, "/nothing", "/readyz/nothing"])
async def test_every_answer_has_the_headers_that_keep_browsers_out(plane, path):
    """A page of others could frame it, or a cache hand it on."""
    _, headers, _ = await plane.get(path)
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["server"] == "imds-proxy"


# Who sees what


async def test_root_sees_every_role_and_why_it_fails(granted):
    """An operator has nothing else to go by."""
    document = json.loads((await granted.get("/status.json"))[2])
    assert document["limited"] is False
    assert [role["failure"]["message"] for role in document["roles"]] == [SECRETIVE] * 2
    assert SECRETIVE in (await granted.get("/readyz"))[2]
    metrics = (await granted.get("/metrics"))[2]
    assert metrics.startswith("# HELP")
    assert 'role="logs"' in metrics


async def test_another_user_sees_its_own_roles_and_no_error_text(granted):
    """Any user would learn what the host may do elsewhere, and which permission it lacks."""
    pages = {path: (await granted.get(path, BUILD))[2] for path in PATHS}
    for page in pages.values():
        assert "logs" not in page
        assert SECRETIVE not in page
        assert "give user host" not in page
    document = json.loads(pages["/status.json"])
    assert document["limited"] is True
    [role] = document["roles"]
    assert role["role"] == "deploy"
    assert role["failure"] == {"outcome": "denied", "message": "", "advice": "", "at": "2027-01-15T08:00:00Z"}
    assert document["files"] == []
    assert json.loads(pages["/readyz"]) == {"ready": False, "missing": {"deploy": "denied"}, "limited": True}
    assert json.loads(pages["/readyz/deploy"]) == {"role": "deploy", "ready": False, "why": "denied"}
    assert pages["/metrics"].splitlines()[0].startswith("# limited")
    assert "allowed_users" in pages["/metrics"].splitlines()[0]
    assert 'role="deploy"' in pages["/metrics"]


async def test_a_user_without_a_grant_sees_no_role(granted):
    """Their names would tell what there is to be had."""
    for path in PATHS:
        status, _, page = await granted.get(path, STRANGER)
        assert "logs" not in page
        if path != "/readyz/deploy":
            assert "deploy" not in page
    assert (await granted.get("/readyz/deploy", STRANGER))[0] == 404
    assert (await granted.get("/readyz/nothing", STRANGER))[::2] == (await granted.get("/readyz/deploy", STRANGER))[::2]
    assert json.loads((await granted.get("/readyz", STRANGER))[2])["ready"] is False
    assert status == 200


async def test_another_host_sees_health_alone(granted):
    """What listens on every address tells the network ARNs and error texts."""
    for path in ("/healthz", "/livez"):
        assert (await granted.get(path, REMOTE))[0] == 200
    status, _, body = await granted.get("/readyz", REMOTE)
    assert (status, json.loads(body)) == (503, {"ready": False, "limited": True})
    for path in ("/", "/metrics", "/status.json", "/readyz/deploy", "/nothing"):
        status, _, body = await granted.get(path, REMOTE)
        assert status == 403
        assert "allowed_addresses" in body
        assert "denied" not in body


async def test_a_configured_host_sees_everything(granted):
    """A Prometheus on another host would raise no alert."""
    assert 'role="logs"' in (await granted.get("/metrics", "127.0.1.9"))[2]
    assert SECRETIVE in (await granted.get("/status.json", "127.0.1.9"))[2]


async def test_what_systemd_shows_to_every_user_names_no_role_and_no_error(granted):
    """systemctl status is for everybody."""
    summary = granted.status.summary()
    assert summary.startswith("no credentials for 2 role(s): denied")
    assert "deploy" not in summary
    assert SECRETIVE not in summary


# Connections


async def test_one_user_cannot_take_the_connections_of_others(plane):
    """Two thousand idle ones would keep Prometheus and the operator out."""
    most = plane.connections._most
    mine, mine_too = await plane.open(AGENT), await plane.open(AGENT)
    held = [await plane.open(BUILD) for _ in range(most * 2)]
    await until(lambda: len(plane.connections) <= most // 2 + 2)
    assert (await plane.get("/healthz"))[0] == 200
    for reader, writer in (mine, mine_too):
        writer.write(GET.encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    assert sum(reader.at_eof() or writer.is_closing() for reader, writer in held) >= most
    for _, writer in (*held, mine, mine_too):
        writer.close()


async def test_many_users_make_room_for_one_more_and_not_for_themselves(plane):
    """Users of a container's own, thousands of them, would keep out whoever has one connection."""
    most = plane.connections._most
    operator, agent = await plane.open(), await plane.open(AGENT)
    held = [await plane.open(f"127.0.0.{number}") for number in range(20, 20 + 2 * most // 3) for _ in range(3)]
    await until(lambda: len(plane.connections) <= most)
    for reader, writer in (operator, agent):
        writer.write(GET.encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    for _, writer in (*held, operator, agent):
        writer.close()


@pytest.mark.parametrize(
    "sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n", GET.encode(), GET.encode() + b"GET /", b"\r\n"]
)
async def test_who_says_nothing_more_is_cut_off(plane, sent, monkeypatch):
    """Idle connections would stay for an hour each."""
    for limit in ("REQUEST_TIME", "IDLE_TIME", "ANSWER_TIME"):
        monkeypatch.setattr(client, limit, 0.2)
    reader, writer = await plane.open(BUILD)
    writer.write(sent)
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionError):
            await reader.read()
    assert not len(plane.connections)
    writer.close()


async def test_a_request_sent_byte_by_byte_is_cut_off(plane, monkeypatch):
    """Each byte would buy its connection another ten seconds."""
    monkeypatch.setattr(client, "REQUEST_TIME", 0.5)
    _, writer = await plane.open(BUILD)
    begun = time.monotonic()
    with contextlib.suppress(ConnectionError):
        for byte in GET.encode() * 3:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)
            if not len(plane.connections):
                break
    assert time.monotonic() - begun < 5
    assert not len(plane.connections)
    writer.close()


async def test_who_does_not_read_the_metrics_is_cut_off(monkeypatch):
    """Its megabytes would stay in this process for as long as it likes."""
    monkeypatch.setattr(client, "ANSWER_TIME", 0.5)
    async with control_plane([f"role-{number}" for number in range(2000)]) as plane:
        reader, writer = await plane.open()
        request = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        writer.transport.pause_reading()
        writer.write(request * 8)
        await until(lambda: len(plane.connections) == 1)
        await until(lambda: not len(plane.connections), 20)
        writer.transport.resume_reading()
        assert reader is not None
        writer.close()


async def test_a_connection_is_its_callers_for_a_minute(plane, monkeypatch):
    """Who has left a group would see its roles for as long as the connection is kept."""
    reader, writer = await plane.open(BUILD)
    writer.write(GET.encode())
    assert b"Connection: close" not in await reader.readuntil(b"turns\n")
    monkeypatch.setattr(client, "CALLER_TIME", -1.0)  # the loop counts whole milliseconds
    writer.write(GET.encode())
    assert b"Connection: close" in await reader.read()
    writer.close()


async def test_a_caller_in_a_loop_is_slowed_down_and_the_others_are_not(plane, monkeypatch):
    """A process that asks on and on would take the processor from the data plane."""
    monkeypatch.setattr(gate, "_SLOW_TIME", 0.2)
    plane.connections._limits._rate = 1
    reader, writer = await plane.open(AGENT)
    writer.write(GET.encode() * 8)
    reply = (await asyncio.wait_for(reader.read(), 5)).decode()
    assert 4 <= reply.count("HTTP/1.1 200") < 8
    assert reply.count("HTTP/1.1 429") == 1
    assert "Retry-After: 1" in reply
    assert (await plane.get("/healthz"))[0] == (await plane.get("/healthz", BUILD))[0] == 200


async def test_connections_in_a_loop_are_left_waiting(plane, monkeypatch):
    """Who connects and goes again would cost more than who asks."""
    monkeypatch.setattr(connections, "REFUSED_TIME", 0.2)
    plane.connections._limits._rate = 1
    request = GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
    replies = [await plane.wire(request, BUILD) for _ in range(8)]
    assert [bool(reply) for reply in replies[:4]] == [True] * 4
    assert "" in replies
    assert (await plane.get("/healthz"))[0] == 200


@pytest.mark.parametrize(
    "flood",
    [
        GET.encode() * 1000,
        b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 200_000,
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"x: y\r\n" * 50_000,
    ],
)
async def test_a_flood_of_bytes_is_cut_off(plane, flood):
    """To parse it all would hold up every other client."""
    await plane.wire(flood, BUILD)
    await until(lambda: not len(plane.connections))
    assert (await plane.get("/healthz"))[0] == 200


async def test_junk_writes_nothing_into_the_log(plane, caplog):
    """Any user could fill the disk with tracebacks, and write what it likes into them."""
    caplog.set_level(logging.DEBUG)
    for junk in (b"junk junk junk\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\0\0", b"GET /\0 HTTP/1.1\r\n"):
        await plane.wire(junk + b"\r\n\r\n", BUILD, within=15)
    assert [record for record in caplog.records if record.levelno >= logging.INFO] == []


async def test_who_goes_away_writes_nothing_into_the_log(caplog):
    """A scraper that times out would leave a traceback each time."""
    async with control_plane([f"role-{number}" for number in range(1000)]) as plane:
        for path in ("/metrics", "/status.json") * 3:
            reader, writer = await plane.open()
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            await reader.readexactly(100)
            writer.transport.abort()
            await until(lambda plane=plane: not len(plane.connections))
        await asyncio.sleep(0.2)
    assert [record for record in caplog.records if record.levelno >= logging.INFO] == []


async def test_no_file_left_is_one_line_in_the_log(plane, caplog, monkeypatch):
    """The log would be full of tracebacks, or silent, and neither says what to raise."""
    monkeypatch.setattr(accepting, "_PAUSE_AFTER_FAILURE", 0.05)
    loop, limits = asyncio.get_running_loop(), resource.getrlimit(resource.RLIMIT_NOFILE)
    for _ in range(5):
        await plane.open()
    await until(lambda: len(plane.connections) == 5)
    late = socket.socket()
    late.settimeout(0)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        await loop.sock_connect(late, plane.address)
        await asyncio.sleep(0.5)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    said = [record for record in caplog.records if "cannot accept" in record.getMessage()]
    assert len(said) == 1
    assert "too many open files (limit " in said[0].error
    assert "LimitNOFILE=" in said[0].advice
    await loop.sock_sendall(late, GET.encode())
    assert (await asyncio.wait_for(loop.sock_recv(late, 100), 5)).startswith(b"HTTP/1.1 200")
    late.close()


async def test_sixteen_scrapers_do_not_hold_the_loop():
    """The data plane's clients would wait for each of their scrapes: 288 ms they have waited."""
    async with control_plane([f"role-{number}" for number in range(300)], allowed_users=["user10"]) as plane:
        rendered, pieces = [], plane.metrics.pieces
        plane.metrics.pieces = lambda roles=None: rendered.append(time.monotonic()) or pieces(roles)
        stop, longest = asyncio.Event(), []
        scrapers = [asyncio.create_task(scrape(plane, stop)) for _ in range(16)]
        watcher = asyncio.create_task(watch(longest, stop))
        begun = time.monotonic()
        await asyncio.sleep(3)
        stop.set()
        texts = sum(await asyncio.gather(*scrapers))
        await watcher
        assert texts > 16
        assert len(rendered) <= (time.monotonic() - begun) * 2
        assert sorted(longest)[-3] < 0.02  # seconds of this thread's own time


async def scrape(plane, stop):
    """Scrapes until it is enough; how often that was."""
    reader, writer = await plane.open(BUILD)
    texts = 0
    while not stop.is_set():
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if " 200 " not in head.splitlines()[0]:
            writer.close()
            reader, writer = await plane.open(BUILD)
            continue
        length = int(head.lower().partition("content-length:")[2].split()[0])
        await reader.readexactly(length)
        texts += 1
    writer.close()
    return texts


async def watch(longest, stop):
    """How long each turn of the loop has this thread at work."""
    while not stop.is_set():
        before = time.thread_time()
        await asyncio.sleep(0)
        longest.append(time.thread_time() - before)


async def until(condition, seconds=10.0):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
