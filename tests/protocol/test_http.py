"""The socket side (metadata/connection.py, request_parser.py, server.py), on the daemon's loop and on asyncio's own."""

import asyncio
import json
import socket
import time
from contextlib import asynccontextmanager

import pytest

from imds_proxy.metadata import connection as http
from imds_proxy.metadata import listeners
from imds_proxy.metadata.request_parser import MAX_BODY, MAX_HEAD, MAX_TARGET
from support.plane import parse_answers, plane
from support.wire import Wire, request, until, wire

ROLE = "/latest/meta-data/iam/security-credentials/deploy"
TOKEN = "/latest/api/token"
PUT = request(TOKEN, "PUT", x_aws_ec2_metadata_token_ttl_seconds=60)
CLIENT_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(range(190))


def put(**headers) -> bytes:
    return request(TOKEN, "PUT", x_aws_ec2_metadata_token_ttl_seconds=60, **headers)


@pytest.fixture
def quick(monkeypatch):
    """Time limits that a test can wait for."""
    monkeypatch.setattr(listeners, "_SWEEP_EVERY", 0.02)
    monkeypatch.setattr(listeners, "_DRAIN_TIME", 0.3)
    monkeypatch.setattr(http, "LINGER_TIME", 0.3)


# Keeping a connection


async def test_a_connection_is_kept_and_its_answers_do_not_say_close():
    async with plane() as plane_, wire(plane_) as connection:
        for _ in range(3):
            answer = await connection.ask(request())
            assert answer.status == 401
            assert answer.headers.get("connection", "keep-alive").lower() == "keep-alive"
        assert plane_.stats.connections == 1


async def test_connection_close_is_obeyed_and_said():
    async with plane() as plane_, wire(plane_) as connection:
        answer = await connection.ask(request(connection="close"))
        assert answer.headers["connection"] == "close"
        assert await connection.rest() == b""


async def test_http_1_0_ends_after_one_answer():
    """An old client reads until the connection ends."""
    async with plane() as plane_, wire(plane_) as connection:
        await connection.send(request(version="1.0"))
        answers = parse_answers(await connection.rest(), ["GET"])
        assert [answer.status for answer in answers] == [401]


async def test_http_1_0_with_keep_alive_is_kept_and_told_so():
    async with plane() as plane_, wire(plane_) as connection:
        for _ in range(3):
            answer = await connection.ask(request(version="1.0", connection="keep-alive"))
            assert answer.headers["connection"].lower() == "keep-alive"


async def test_head_has_no_body_and_the_next_answer_is_found():
    async with plane() as plane_, wire(plane_) as connection:
        await connection.send(request(method="HEAD") + request("/latest/nothing") + request(method="HEAD"))
        head, get = await connection.answer("HEAD"), await connection.answer()
        assert int(head.headers["content-length"]) > 0
        assert (get.status, len(get.body)) == (401, int(get.headers["content-length"]))
        assert (await connection.answer("HEAD")).body == b""


# Pipelining, and how bytes come


def sequence(token: str) -> tuple[bytes, list[int]]:
    """Requests with answers that can be told apart, and the statuses in order."""
    carried = {"x_aws_ec2_metadata_token": token}
    requests = [
        (request("/", **carried), 200),
        (request("/latest/nothing", **carried), 404),
        (put(content_length=4) + b"body", 200),
        (request("/"), 401),
        (request("/", "DELETE"), 405),
        (request("/roles/deploy"), 401),
        (request(ROLE, **carried), 200),
        (put(transfer_encoding="chunked") + b"3\r\nabc\r\n0\r\n\r\n", 200),
        (request("/latest/meta-data/placement/region", **carried), 200),
    ]
    return b"".join(data for data, _ in requests), [status for _, status in requests]


async def test_several_requests_in_one_segment_are_answered_in_order():
    async with plane() as plane_, wire(plane_) as connection:
        data, statuses = sequence(await plane_.token())
        await connection.send(data * 3)
        answers = [await connection.answer() for _ in statuses * 3]
        assert [answer.status for answer in answers] == statuses * 3
        assert answers[-1].body == b"eu-west-1"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
async def test_pieces_of_any_size_make_the_same_answers(size):
    """One byte at a time included."""
    async with plane() as plane_, wire(plane_) as connection:
        connection.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data, statuses = sequence(await plane_.token())
        for start in range(0, len(data), size):
            connection.writer.write(data[start : start + size])
            await asyncio.sleep(0)
        assert [(await connection.answer()).status for _ in statuses] == statuses


async def test_a_request_and_a_half_in_one_segment():
    async with plane() as plane_, wire(plane_) as connection:
        await connection.send(PUT + PUT[:30])
        assert (await connection.answer()).status == 200
        await connection.send(PUT[30:])
        assert (await connection.answer()).status == 200


async def test_a_client_that_shuts_its_side_down_gets_its_answers():
    async with plane() as plane_:
        received = await plane_.raw(PUT * 30)
        assert [answer.status for answer in parse_answers(received, ["PUT"] * 30)] == [200] * 30


@pytest.mark.parametrize("count", [http.MAX_PIPELINED + 1, 1000, 20_000])
async def test_of_too_many_in_one_read_the_first_are_answered_and_the_last_says_close(count):
    """A client knows by that which to send again; a reset would take all of them from it."""
    async with plane() as plane_, wire(plane_) as connection:
        sending = asyncio.create_task(connection.send(PUT * count))
        received = await connection.rest()
        await asyncio.gather(sending, return_exceptions=True)
        answers = parse_answers(received, ["PUT"] * count)
        assert {answer.status for answer in answers} == {200}
        assert answers[-1].headers["connection"] == "close"
        assert len(answers) >= http.MAX_PIPELINED


async def test_nothing_is_sent_after_the_answer_that_says_close():
    async with plane() as plane_:
        expecting = put(expect="100-continue", content_length=1) + b"x"
        received = await plane_.raw(PUT * http.MAX_PIPELINED + expecting)
        assert len(parse_answers(received, ["PUT"] * http.MAX_PIPELINED)) == http.MAX_PIPELINED


async def test_nothing_is_sent_after_a_document_that_is_none():
    """PROTOCOL.md 16: what came there would be taken for the document's answer."""
    async with plane(held=()) as plane_:
        token = await plane_.token()
        expecting = put(expect="100-continue", content_length=1) + b"x"
        assert await plane_.raw(request(ROLE, x_aws_ec2_metadata_token=token) + expecting) == b""


async def test_nothing_after_connection_close_is_answered():
    async with plane() as plane_:
        received = await plane_.raw(request(connection="close") + request())
        assert len(parse_answers(received, ["GET"])) == 1


async def test_empty_lines_before_a_request_are_passed_over():
    """RFC 9112, 2.2."""
    async with plane() as plane_, wire(plane_) as connection:
        assert (await connection.ask(b"\r\n\r\n" + PUT)).status == 200
        assert (await connection.ask(b"\r\n" + PUT)).status == 200


@pytest.mark.parametrize("space", [" ", "\t", "  \t "])
async def test_space_around_a_header_value_is_not_part_of_it(space):
    """RFC 9110, 5.5: a client that pads its headers would be told that its token, TTL or Host is wrong."""
    async with plane() as plane_:
        padded = {"x_aws_ec2_metadata_token_ttl_seconds": f"{space}60{space}", "host": f"{space}localhost{space}"}
        received = await plane_.raw(request(TOKEN, "PUT", connection="close", **padded))
        assert received.startswith(b"HTTP/1.1 200 ")
        token = {"x_aws_ec2_metadata_token": f"{space}{await plane_.token()}{space}"}
        assert (await plane_.raw(request(connection="close", **token))).startswith(b"HTTP/1.1 200 ")


# Expect, bodies


async def test_expect_100_continue_is_told_to_go_on():
    """curl waits a second for it."""
    async with plane() as plane_, wire(plane_) as connection:
        assert (await connection.ask(put(expect="100-continue", content_length=3))).status == 100
        assert (await connection.ask(b"abc")).status == 200


async def test_an_http_1_0_client_is_not_sent_100_continue():
    """RFC 9110, 10.1.1: it would take it for the answer."""
    async with plane() as plane_:
        received = await plane_.raw(request(version="1.0", expect="100-continue"))
        assert received.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("size", [0, 1, 1000, MAX_BODY])
async def test_a_body_is_passed_over(size):
    async with plane() as plane_, wire(plane_) as connection:
        assert (await connection.ask(put(content_length=size) + b"x" * size)).status == 200
        assert await connection.is_open()


@pytest.mark.parametrize("pieces", [[b""], [b"a"], [b"abc", b"d" * 1000], [b"x" * 4096] * 16])
async def test_a_chunked_body_is_passed_over(pieces):
    async with plane() as plane_, wire(plane_) as connection:
        chunks = b"".join(b"%x;extension=1\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece)
        assert (await connection.ask(put(transfer_encoding="chunked") + chunks + b"0\r\n\r\n")).status == 200
        assert await connection.is_open()


async def test_what_looks_like_a_request_in_a_body_is_not_one():
    async with plane() as plane_, wire(plane_) as connection:
        await connection.send(put(content_length=len(PUT)) + PUT + request())
        assert [(await connection.answer()).status for _ in range(2)] == [200, 401]


async def test_trailer_fields_are_not_headers():
    """RFC 9110, 6.5.1: a proxy that filters headers does not see them."""
    async with plane() as plane_:
        head = request(ROLE, transfer_encoding="chunked", connection="close")
        trailer = f"0\r\nX-aws-ec2-metadata-token: {await plane_.token()}\r\n\r\n".encode()
        assert (await plane_.raw(head + trailer)).startswith((b"HTTP/1.1 401 ", b"HTTP/1.1 400 "))


# Limits


async def test_a_body_over_the_limit_is_413():
    async with plane() as plane_, wire(plane_) as connection:
        size = MAX_BODY + 1
        answer = await connection.ask(put(content_length=size) + b"x" * size)
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        assert await connection.rest() == b""


async def test_a_chunked_body_over_the_limit_is_413():
    async with plane() as plane_, wire(plane_) as connection:
        chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"
        answer = await connection.ask(put(transfer_encoding="chunked") + chunk * 20)
        assert answer.status == 413


async def test_chunks_of_almost_nothing_but_extensions_are_413():
    async with plane() as plane_, wire(plane_) as connection:
        chunk = b"1;" + b"e" * 1000 + b"\r\nx\r\n"
        assert (await connection.ask(put(transfer_encoding="chunked") + chunk * 100)).status == 413


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_client_that_keeps_sending_a_large_body_receives_the_413(framing):
    """A connection closed under its hands would be reset, and it would read an error instead of the answer."""
    async with plane() as plane_, wire(plane_) as connection:
        if framing == "length":
            await connection.send(put(content_length=8 * 2**20))
            piece = b"x" * 65536
        else:
            await connection.send(put(transfer_encoding="chunked"))
            piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        for _ in range(128):
            await connection.send(piece)
        assert (await connection.answer()).status == 413


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request("/" + "x" * MAX_TARGET), 414),
        (request("/?" + "x" * MAX_TARGET), 414),
        (request("/" * (MAX_TARGET + 1)), 414),
        (request(x_long="x" * MAX_HEAD), 431),
        (request(**{"x" * MAX_HEAD: "1"}), 431),
        (request(**{f"x{number}": "y" * 100 for number in range(200)}), 431),
        (request(**{f"x{number}": "" for number in range(4000)}), 431),
        (request(host="localhost, localhost" + "x" * MAX_HEAD), 431),
    ],
    ids=["path", "query", "slashes", "value", "name", "many", "many empty", "host"],
)
async def test_a_head_over_its_limits_is_refused_and_the_refusal_arrives(sent, status):
    async with plane() as plane_, wire(plane_) as connection:
        answer = await connection.ask(sent + b"more" * 1000)
        assert (answer.status, answer.headers["connection"]) == (status, "close")
        assert await connection.rest() == b""


@pytest.mark.parametrize(
    "sent",
    [
        request("/latest/" + "x" * (MAX_TARGET - 8)),
        request(x_long="x" * (MAX_HEAD - 100)),
        request(**{"x" * 10000: "1"}),
        request(**{f"x{number}": "y" * 100 for number in range(100)}),
    ],
    ids=["path", "value", "name", "many"],
)
async def test_a_head_just_within_its_limits_is_answered(sent):
    async with plane() as plane_, wire(plane_) as connection:
        assert (await connection.ask(sent)).status == 401
        assert await connection.is_open()


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nx: ", b"GET / HTTP/1.1\r\nHost: localhost\r\nx"])
async def test_a_head_that_never_ends_is_refused_before_it_costs_memory(start):
    async with plane() as plane_, wire(plane_) as connection:
        await connection.send(start)
        for _ in range(40):
            await connection.send(b"x" * 4096)
        assert (await connection.answer()).status in {400, 413, 414, 431}


async def test_the_limits_are_each_requests_and_not_the_connections():
    async with plane() as plane_, wire(plane_) as connection:
        for _ in range(20):
            assert (await connection.ask(put(content_length=60000) + b"x" * 60000)).status == 200
            assert (await connection.ask(request(x_long="x" * 10000))).status == 401


# Time


async def closed_after(connection: Wire) -> float:
    """How long until the server ends this connection, and nothing came on it."""
    began = time.monotonic()
    assert await connection.rest() == b""
    return time.monotonic() - began


async def test_a_head_that_dribbles_in_is_cut_off(monkeypatch, quick):
    """A thousand such clients would hold every connection there is."""
    monkeypatch.setattr(http, "REQUEST_TIME", 0.3)
    async with plane() as plane_, wire(plane_) as connection:

        async def dribble() -> None:
            for byte in request(x_long="x" * 5000):
                await connection.send(bytes([byte]))
                await asyncio.sleep(0.02)

        dribbling = asyncio.create_task(dribble())
        assert 0.1 < await closed_after(connection) < 1.5
        dribbling.cancel()
        await asyncio.gather(dribbling, return_exceptions=True)


async def test_a_body_that_dribbles_in_is_cut_off(monkeypatch, quick):
    monkeypatch.setattr(http, "REQUEST_TIME", 0.3)
    async with plane() as plane_, wire(plane_) as connection:
        await connection.send(put(content_length=100))
        assert 0.1 < await closed_after(connection) < 1.5


async def test_a_client_that_connects_and_says_nothing_is_cut_off(monkeypatch, quick):
    monkeypatch.setattr(http, "REQUEST_TIME", 0.3)
    async with plane() as plane_, wire(plane_) as connection:
        assert 0.1 < await closed_after(connection) < 1.5


async def test_empty_lines_do_not_put_the_cut_off(monkeypatch, quick):
    monkeypatch.setattr(http, "REQUEST_TIME", 0.3)
    async with plane() as plane_, wire(plane_) as connection:

        async def dribble() -> None:
            while True:
                await connection.send(b"\r\n")
                await asyncio.sleep(0.02)

        dribbling = asyncio.create_task(dribble())
        assert await closed_after(connection) < 1.5
        dribbling.cancel()
        await asyncio.gather(dribbling, return_exceptions=True)


async def test_an_idle_connection_is_closed_after_its_time(monkeypatch, quick):
    monkeypatch.setattr(http, "IDLE_TIME", 0.3)
    async with plane() as plane_, wire(plane_) as connection:
        await connection.ask(request())
        assert 0.1 < await closed_after(connection) < 1.5
        await until(lambda: plane_.stats.connections == 0)


async def test_a_request_begins_the_idle_time_again(monkeypatch, quick):
    monkeypatch.setattr(http, "IDLE_TIME", 0.4)
    async with plane() as plane_, wire(plane_) as connection:
        for _ in range(5):
            assert (await connection.ask(request())).status == 401
            await asyncio.sleep(0.2)


async def test_a_refused_client_that_does_not_close_is_closed(quick):
    async with plane() as plane_, wire(plane_) as connection:
        await connection.send(b"garbage\r\n\r\n")
        await connection.rest()
        await until(lambda: plane_.stats.connections == 0, 1.5)


# The cap on connections


@pytest.fixture
async def clients():
    """`await clients(plane, count)`: connections in this order, each idle after one request; gone after the test."""
    opened = []

    async def connect(plane_, count: int) -> list[Wire]:
        for _ in range(count):
            opened.append(Wire(*await plane_.connect()))
            assert (await opened[-1].ask(request())).status == 401
            await asyncio.sleep(0.005)
        return opened[-count:]

    yield connect
    for connection in opened:
        connection.writer.transport.abort()


async def test_over_the_cap_the_longest_idle_makes_room(monkeypatch, clients):
    """The program whose SDK just connected would find no room because of one that keeps its connection for nothing."""
    monkeypatch.setattr(listeners, "MAX_CONNECTIONS", 3)
    async with plane() as plane_:
        first, second, third = await clients(plane_, 3)
        assert await first.is_open()  # which makes the second one the longest idle
        async with wire(plane_) as fourth:
            assert await fourth.is_open()
            assert await second.rest() == b""
            assert [await connection.is_open() for connection in (first, third)] == [True, True]


async def test_over_the_cap_busy_connections_stay(monkeypatch, clients):
    monkeypatch.setattr(listeners, "MAX_CONNECTIONS", 3)
    async with plane() as plane_:
        busy, idle, busy_too = await clients(plane_, 3)
        await busy.send(PUT[:-10])
        await busy_too.send(PUT[:-10])
        await asyncio.sleep(0.02)
        async with wire(plane_) as new:
            assert await new.is_open()
            assert await idle.rest() == b""
            for connection in (busy, busy_too):
                assert (await connection.ask(PUT[-10:])).status == 200


async def test_where_all_are_busy_the_new_one_goes(monkeypatch, clients):
    monkeypatch.setattr(listeners, "MAX_CONNECTIONS", 2)
    async with plane() as plane_:
        opened = await clients(plane_, 2)
        for connection in opened:
            await connection.send(PUT[:-10])
        await asyncio.sleep(0.02)
        async with wire(plane_) as new:
            assert await new.rest() == b""
        for connection in opened:
            assert (await connection.ask(PUT[-10:])).status == 200


async def test_a_new_connection_is_not_the_one_that_was_idle_longest(monkeypatch, clients):
    """In a burst of clients each would take the place of the one before, which has only just connected."""
    monkeypatch.setattr(listeners, "MAX_CONNECTIONS", 3)
    async with plane() as plane_:
        await clients(plane_, 3)
        async with wire(plane_) as first, wire(plane_) as second:
            await asyncio.sleep(0.05)
            assert await second.is_open()
            assert await first.is_open()


async def test_a_burst_of_connections_does_not_pass_the_cap(monkeypatch, clients):
    """Past it the process runs out of files, and then nobody is served."""
    monkeypatch.setattr(listeners, "MAX_CONNECTIONS", 4)
    async with plane() as plane_:
        await clients(plane_, 4)
        burst = await asyncio.gather(*(plane_.connect() for _ in range(20)))
        try:
            await asyncio.sleep(0.1)
            assert plane_.stats.connections <= 4
        finally:
            for _, writer in burst:
                writer.transport.abort()


# Clients that do not read


@asynccontextmanager
async def silent_reader(plane_):
    """`await send(data)` of a client that never reads; False once the server takes no more, or has cut it off."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(0)
        await loop.sock_connect(client, (plane_.host, plane_.port))

        async def send(data: bytes) -> bool:
            left = memoryview(data)
            deadline = loop.time() + 0.5
            while left and loop.time() < deadline:
                try:
                    left = left[client.send(left) :]
                except BlockingIOError:
                    await asyncio.sleep(0.005)
                except ConnectionError:
                    return False
                await asyncio.sleep(0)
            return not left

        yield send


def unread(plane_) -> int:
    """Bytes of answers that wait in the server for clients to read them."""
    return sum(c._transport.get_write_buffer_size() for c in plane_.server.connections if hasattr(c, "_transport"))


async def leave_some_unread(plane_, send) -> None:
    """Ask for so much that some of the answers wait in the server, and not so much that it cuts the client off."""
    asking = request(ROLE, x_aws_ec2_metadata_token=await plane_.token()) * 20
    while unread(plane_) == 0:
        answered = plane_.stats.answers.total()
        assert await send(asking)
        await until(lambda answered=answered: plane_.stats.answers.total() == answered + 20)
    assert 0 < unread(plane_) <= http.MAX_UNREAD


async def test_a_client_that_never_reads_costs_a_bounded_amount_of_memory(quick):
    """One program that pipelines and never reads would take the daemon's memory, and with it everyone's role."""
    async with plane() as plane_, silent_reader(plane_) as send:
        asking = request(ROLE, x_aws_ec2_metadata_token=await plane_.token()) * 1000
        for _ in range(200):
            assert unread(plane_) <= http.MAX_UNREAD
            if not await send(asking):
                break
        assert (await plane_.get(ROLE)).status == 200
        assert unread(plane_) <= http.MAX_UNREAD
        await until(lambda: plane_.stats.connections == 0, 2.0)


async def test_a_client_that_never_reads_is_gone_after_its_time(monkeypatch, quick):
    """Closing waits for it to read: each such connection would be held until the process ends."""
    monkeypatch.setattr(http, "IDLE_TIME", 0.2)
    monkeypatch.setattr(http, "REQUEST_TIME", 0.2)
    async with plane() as plane_, silent_reader(plane_) as send:
        await leave_some_unread(plane_, send)
        await until(lambda: plane_.stats.connections == 0, 1.5)


async def test_a_client_that_never_reads_does_not_outlive_the_close(quick):
    """After the close nothing is open: what is left has answers, and so secrets, in memory."""
    async with plane() as plane_, silent_reader(plane_) as send:
        await leave_some_unread(plane_, send)
        await plane_.server.close()
        await until(lambda: plane_.stats.connections == 0, 1.0)


async def test_a_client_that_never_reads_makes_room_too(monkeypatch, clients):
    monkeypatch.setattr(listeners, "MAX_CONNECTIONS", 2)
    async with plane() as plane_, silent_reader(plane_) as send:
        await leave_some_unread(plane_, send)
        await clients(plane_, 6)
        await asyncio.sleep(0.1)
        assert plane_.stats.connections <= 2


async def test_a_client_that_reads_late_gets_every_answer():
    async with plane() as plane_, wire(plane_) as connection:
        asking = request(ROLE, x_aws_ec2_metadata_token=await plane_.token()) * 30
        for _ in range(5):
            await connection.send(asking)
            await asyncio.sleep(0.05)
        assert [(await connection.answer()).status for _ in range(150)] == [200] * 150


# The end


async def test_a_request_that_is_half_sent_at_the_close_is_answered(quick):
    """A restart would cost a client its fetch, and Ruby and the C runtime keep such a failure for minutes."""
    async with plane() as plane_, wire(plane_) as connection:
        await connection.send(PUT[:-10])
        await asyncio.sleep(0.02)
        closing = asyncio.create_task(plane_.server.close())
        await asyncio.sleep(0.05)
        answer = await connection.ask(PUT[-10:])
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await connection.rest() == b""
        await closing


async def test_idle_connections_end_at_once_and_new_ones_are_refused():
    async with plane() as plane_, wire(plane_) as idle:
        await idle.ask(request())
        address = (plane_.host, plane_.port)
        await plane_.server.close()
        assert await idle.rest() == b""
        with pytest.raises(ConnectionError):
            await asyncio.open_connection(*address)


async def test_a_client_that_never_completes_does_not_hold_the_close_up(quick):
    async with plane() as plane_, wire(plane_) as connection:
        await connection.send(PUT[:-10])
        await asyncio.sleep(0.02)
        began = time.monotonic()
        await plane_.server.close()
        assert time.monotonic() - began < 1.0
        assert await connection.rest() == b""


# Upgrades, CONNECT


OFFER = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2_settings": "AAEAAEAAAAIAAAAAAAMAAAAA"}


@pytest.mark.parametrize("length", [{}, {"content_length": 0}])
async def test_an_offer_of_h2c_is_answered_as_an_ordinary_request(length):
    """Java's HttpClient offers it with its first request, and then uses the connection."""
    async with plane() as plane_, wire(plane_) as connection:
        assert (await connection.ask(put(**OFFER, **length))).status == 200
        for _ in range(3):
            assert (await connection.ask(request())).status == 401


@pytest.mark.parametrize("pause", [0, 0.02])
@pytest.mark.parametrize(
    ("framing", "body"),
    [
        ({"content_length": 10}, b"x" * 10),
        ({"content_length": len(PUT)}, PUT),
        ({"transfer_encoding": "chunked"}, b"%x\r\n%s\r\n0\r\n\r\n" % (len(PUT), PUT)),
    ],
    ids=["not a request", "a request", "chunked"],
)
async def test_the_body_of_an_offer_of_h2c_is_not_taken_for_a_request(framing, body, pause):
    """Who can choose a body would choose a request: the connection goes on after the body, or says that it ends."""
    async with plane() as plane_, wire(plane_) as connection:
        await connection.send(put(**OFFER, **framing))
        await asyncio.sleep(pause)
        await connection.send(body)
        answer = await connection.answer()
        assert answer.status == 200
        if answer.headers.get("connection") == "close":
            assert await connection.rest() == b""
        else:
            assert (await connection.ask(request())).status == 401


async def test_an_offer_of_h2c_in_the_middle_of_a_pipeline():
    offer = put(connection="Upgrade", upgrade="h2c")
    async with plane() as plane_, wire(plane_) as connection:
        await connection.send((request() + offer + request()) * 5)
        assert [(await connection.answer()).status for _ in range(15)] == [401, 200, 401] * 5


async def test_an_offer_of_a_websocket_is_an_ordinary_request():
    async with plane() as plane_, wire(plane_) as connection:
        assert (await connection.ask(request(connection="Upgrade", upgrade="websocket"))).status == 401
        assert await connection.is_open()


async def test_connect_is_405():
    """A client whose proxy settings point here."""
    async with plane() as plane_, wire(plane_) as connection:
        answer = await connection.ask(request("sts.amazonaws.com:443", "CONNECT", host="127.0.0.1"))
        assert answer.status == 405


# What is not a request


@pytest.mark.parametrize(
    "sent",
    [
        b"garbage\r\n\r\n",
        b"\x00" * 100,
        bytes(range(128, 256)) * 4,
        CLIENT_HELLO,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"get / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: local\x00host\r\n\r\n",
        b"GET / HTTP/1.1\r\nHo\x00st: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n: nameless\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\rX: y\r\n\r\n",
        request(content_length=-1),
        request(content_length="1, 2"),
        request(content_length="0x10"),
        request(content_length=2**64),
        request(content_length=0, Content_length=1),
        request(content_length=3, transfer_encoding="chunked"),
        request(transfer_encoding="gzip"),
        request(transfer_encoding="chunked") + b"xyz\r\n",
        request(transfer_encoding="chunked") + b"-1\r\n",
        request(transfer_encoding="chunked") + b"fffffffffffffffff\r\n",
        request(host=None),
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        request(host="localhost", HOST="evil.example"),
    ],
    ids=lambda sent: ascii(sent[:40]),
)
async def test_what_is_not_a_request_is_400_and_the_end(sent):
    """A client that speaks something else is told so in words, and its bytes are not searched for a request."""
    async with plane() as plane_, wire(plane_) as connection:
        answer = await connection.ask(sent)
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert 0 < len(answer.body) < 100
        assert await connection.rest() == b""


async def test_what_came_before_garbage_is_answered_first():
    async with plane() as plane_:
        received = await plane_.raw(PUT + request() + b"\x00\x00\x00\r\n\r\n" + PUT)
        assert [answer.status for answer in parse_answers(received, ["PUT", "GET", ""])] == [200, 401, 400]


@pytest.mark.parametrize("size", [1, 100_000, 1_000_000])
async def test_garbage_of_any_size_is_told_so_without_a_reset(size):
    async with plane() as plane_, wire(plane_) as connection:
        await connection.send(b"\x16" * size)
        assert (await connection.answer()).status == 400


async def test_a_connection_that_ends_in_the_middle_of_a_request_leaves_nothing():
    async with plane() as plane_:
        for end in range(0, len(PUT), 7):
            assert await plane_.raw(PUT[:end]) == b""
        await until(lambda: plane_.stats.connections == 0)


# Targets


@pytest.mark.parametrize(
    "target",
    [
        f"http://127.0.0.1{ROLE}",
        f"http://169.254.169.254:80{ROLE}",
        f"http://localhost//{ROLE}",
        f"HTTP://localhost{ROLE}",
    ],
)
async def test_an_absolute_target_is_its_path(target):
    """As a client sends it that takes this for its proxy; servers must accept it (RFC 9112, 3.2.2)."""
    async with plane() as plane_:
        assert json.loads((await plane_.get(target)).body)["Code"] == "Success"


@pytest.mark.parametrize("target", ["http://localhost", "http://localhost/", "/?", "/?x=/latest"])
async def test_targets_that_are_the_root(target):
    async with plane() as plane_:
        assert (await plane_.get(target)).status == 200


async def test_a_query_is_not_part_of_the_path():
    async with plane() as plane_:
        assert (await plane_.get(f"{ROLE}?x=%2Fy&z=//")).status == 200


@pytest.mark.parametrize(
    "target",
    [
        "/%",
        "/%2",
        "/%zz",
        "/latest/%FF%FE",
        "/latest/meta-data/%00",
        "/%25%32%46",
        "/..%2f..%2fetc%2fpasswd",
        "/%E2%82",
    ],
)
async def test_percent_encoding_that_is_none_is_404(target):
    async with plane() as plane_, wire(plane_) as connection:
        token = await plane_.token()
        assert (await connection.ask(request(target, x_aws_ec2_metadata_token=token))).status == 404
        assert await connection.is_open()


@pytest.mark.parametrize(
    "target", ["/latest/../latest/meta-data/placement/region", "/latest/./meta-data/placement/region"]
)
async def test_dots_are_names_and_not_steps(target):
    async with plane() as plane_:
        assert (await plane_.get(target)).status == 404


async def test_a_defect_in_an_answer_costs_that_answer_alone(caplog):
    """An exception would close the connection, and its text may hold a secret."""

    def defective(_):
        raise RuntimeError("session-token/of+the+test==")

    async with plane() as plane_, wire(plane_) as connection:
        right, plane_.server.answer = plane_.server.answer, defective
        answer = await connection.ask(request())
        assert (answer.status, b"test" in answer.body) == (500, False)
        plane_.server.answer = right
        assert (await connection.ask(request())).status == 401
