"""Whatever bytes come (metadata/connection.py, request_parser.py and what they ask), in-process and without sockets."""

import asyncio
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.callers.caller import Caller
from imds_proxy.config.reader import parse
from imds_proxy.host.clock import Clock
from imds_proxy.metadata.connection import HttpProtocol
from imds_proxy.metadata.request_parser import MAX_BODY, MAX_HEAD, MAX_TARGET
from imds_proxy.metadata.session_tokens import SessionTokens
from imds_proxy.renewal.keeper import Keeper
from imds_proxy.telemetry.stats import RenewalStats, RequestStats
from support.fuzzing import examples
from support.plane import CONTAINER_TOKEN, KEY, credentials, role_table
from support.plane import build as build_plane
from support.wire import request

NOW = 1_800_000_000.0
CALLER = Caller("127.0.0.1", "127.0.0.1:1338", b"uid 0", uid=0)
TOKEN = SessionTokens(KEY).issue(21600, CALLER.principal, NOW)
FORGED = SessionTokens(b"x" * 32).issue(21600, CALLER.principal, NOW)
ROLE = "/latest/meta-data/iam/security-credentials/deploy"
STATUSES = {200, 400, 401, 403, 404, 405, 413, 414, 431}
MALFORMED = {414: 400, 431: 400}
HELD = credentials("deploy", now=NOW)
SECRETS = [HELD.secret_access_key.reveal().encode(), HELD.session_token.reveal().encode()]
ROOM = 64 * 1024
"""Bytes of one read that may be looked at before a limit is acted on."""

EXAMPLES = examples(300)
FEWER = examples(100)


class Transport:
    """Notes what is written and how it ended; nobody reads."""

    def __init__(self):
        self.written = b""
        self.ended = False

    def write(self, data):
        assert not self.ended, "written after the end"
        self.written += data

    def write_eof(self):
        self.ended = True

    close = abort = write_eof

    def is_closing(self):
        return self.ended

    def get_write_buffer_size(self):
        return 0


class Endpoint:
    """A listener without a socket, in front of a real data plane."""

    draining = False

    def __init__(self, answer):
        self.answer = answer
        self.stats = RequestStats()
        self.asked = []

    def opened(self, connection, _arrived):
        connection.identified(CALLER, 0)

    def closed(self, connection):
        pass

    def run(self, _principal, work):
        work()
        return True

    def limit_hops(self, _transport):
        pass

    def http_date(self):
        return "Fri, 15 Jan 2027 08:00:00 GMT"


@pytest.fixture(scope="module")
def answer():
    """What a data plane with one role answers."""

    async def build():
        unlimited = {"rate_limit": 0}
        config = parse({"region": "eu-west-1", "roles": role_table(), "metadata": unlimited}, "test")
        keeper = Keeper("deploy", clock=Clock(lambda: NOW), stats=RenewalStats())
        keeper.adopt(HELD, due=False)
        return (await build_plane(config, {"deploy": keeper}, clock=Clock(lambda: NOW))).answer

    return asyncio.run(build())


def converse(answer, pieces: list[bytes]) -> bytes:
    """What one connection is sent in answer to `pieces`, with everything checked that holds at any time."""
    transport = Transport()
    protocol = HttpProtocol(Endpoint(answer), CALLER)
    protocol.connection_made(transport)
    for piece in pieces:
        if transport.ended:
            break
        protocol.data_received(piece)
        assert not protocol._out
        parser = protocol._parser
        assert len(parser._target) <= MAX_TARGET + ROOM
        assert sum(len(name) + len(value) for name, value in parser._headers.items()) <= MAX_HEAD
        assert parser._fed <= MAX_HEAD + MAX_BODY + ROOM or transport.ended
    protocol.eof_received()
    protocol.connection_lost(None)
    return transport.written


def statuses(written: bytes) -> list[int]:
    """The statuses of the answers; fails on anything in between."""
    found = []
    while written:
        head, end, written = written.partition(b"\r\n\r\n")
        assert end
        match = re.match(rb"HTTP/1\.1 (\d{3}) [A-Za-z -]+(\r\n|$)", head)
        assert match, head
        if match[1] == b"100":
            continue
        length = re.search(rb"\r\nContent-Length: (\d+)(\r\n|$)", head)
        assert length, head
        found.append(int(match[1]))
        if not written.startswith(b"HTTP/1.1 "):  # else the answer to HEAD
            assert len(written) >= int(length[1]) or not written
            written = written[int(length[1]) :]
    return found


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(places)]


def valid(token: str) -> list[bytes]:
    """Requests of every kind."""
    carried = {"x_aws_ec2_metadata_token": token}
    ttl = {"x_aws_ec2_metadata_token_ttl_seconds": 60}
    authorized = {"authorization": CONTAINER_TOKEN + "deploy"} if token == TOKEN else {"authorization": "wrong"}
    return [
        request("/", **carried),
        request(ROLE, **carried),
        request(ROLE, "HEAD", **carried),
        request(f"http://localhost/{ROLE}?x=%2F", **carried),
        request(ROLE, version="1.0", host=None, **carried),
        request(ROLE, version="1.0", connection="keep-alive", **carried),
        request("/roles/deploy", **authorized),
        request("/latest/meta-data/iam/security-credentials-extended/%64eploy", **carried),
        request("/latest/api/token", "PUT", **ttl),
        request("/latest/api/token", "PUT", content_length=3, expect="100-continue", **ttl) + b"abc",
        request("/latest/api/token", "PUT", transfer_encoding="chunked", **ttl) + b"3;a=b\r\nabc\r\n0\r\nt: u\r\n\r\n",
        request("/latest/api/token", "PUT", connection="Upgrade", upgrade="h2c", **ttl),
        request("sts.amazonaws.com:443", "CONNECT"),
        request("*", "OPTIONS"),
        request(ROLE, connection="close", **carried),
        request(ROLE, host="evil.example", **carried),
    ]


SPICE = [
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\x00",
    b"\xff",
    b" ",
    b":",
    b"%",
    b"//",
    b"Host: localhost\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Upgrade: h2c\r\nConnection: Upgrade\r\n",
    b"Expect: 100-continue\r\n",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"0\r\n\r\n",
    b"x" * 3000,
    b"x" * 20_000,
]
junk = st.binary(max_size=20) | st.sampled_from(SPICE)
cuts = st.lists(st.integers(0, 4000), max_size=12)


@st.composite
def mutated(draw, token: str) -> bytes:
    """A pipeline of valid requests, into which, out of which and over which something was written."""
    data = b"".join(draw(st.lists(st.sampled_from(valid(token)), min_size=1, max_size=4)))
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 30)))
        data = data[:start] + draw(junk | st.just(data[start:end] * 2)) + data[end:]
    return data


def test_the_right_token_has_credentials(answer):
    """Else the tests below would show nothing."""
    assert all(secret in converse(answer, [valid(TOKEN)[1]]) for secret in SECRETS)


@EXAMPLES
@given(st.lists(st.binary(max_size=300) | st.sampled_from(SPICE), max_size=12))
def test_arbitrary_bytes_are_refused_in_good_form(answer, pieces):
    """One stray byte would take a connection's exception to the log, and its client an answer."""
    written = converse(answer, [piece for piece in pieces if piece])
    assert set(statuses(written)) <= STATUSES
    assert not any(secret in written for secret in SECRETS)


@EXAMPLES
@given(mutated(TOKEN), cuts)
def test_mutated_requests_are_answered_in_good_form(answer, data, cuts):
    """500 would be an exception on the way of an answer."""
    assert set(statuses(converse(answer, in_pieces(data, cuts)))) <= STATUSES


@EXAMPLES
@given(mutated(FORGED), cuts)
def test_no_mutation_has_credentials_without_a_right_token(answer, data, cuts):
    """Whoever finds one has the host's role."""
    written = converse(answer, in_pieces(data, cuts))
    assert set(statuses(written)) <= STATUSES
    assert not any(secret in written for secret in SECRETS)


@EXAMPLES
@given(st.text("ABCabc019-_+/= \t", max_size=40) | st.text(max_size=40) | st.just(FORGED), st.integers(0, 31))
def test_no_made_up_token_is_right(answer, text, place):
    for made_up in (text, text[:place] + TOKEN[place + 1 :]):
        sent = made_up.strip().encode("utf-8", "replace")
        head = request(ROLE).replace(b"\r\n\r\n", b"\r\nX-aws-ec2-metadata-token: " + sent + b"\r\n\r\n")
        assert made_up == TOKEN or not any(secret in converse(answer, [head]) for secret in SECRETS)


@EXAMPLES
@given(st.lists(st.integers(0, 15), min_size=1, max_size=6), cuts)
def test_valid_requests_are_answered_alike_however_they_are_cut(answer, chosen, cuts):
    """TCP keeps no boundaries: an answer that depends on them fails for one client in a thousand."""
    data = b"".join(valid(TOKEN)[index] for index in chosen)
    assert converse(answer, in_pieces(data, cuts)) == converse(answer, [data])


@FEWER
@given(mutated(TOKEN), cuts)
def test_mutated_requests_are_answered_alike_however_they_are_cut(answer, data, cuts):
    """Of a request that is malformed in two ways the cut decides which is seen first: then both are refusals."""
    cut, whole = statuses(converse(answer, in_pieces(data, cuts))), statuses(converse(answer, [data]))
    assert [MALFORMED.get(status, status) for status in cut] == [MALFORMED.get(status, status) for status in whole]


@FEWER
@given(st.sampled_from(valid(TOKEN)), st.integers(0, 400), st.binary(min_size=1, max_size=3), st.integers(100, 2000))
def test_no_endless_request_is_held(answer, start, at, repeated, times):
    """Memory that clients can fill is memory that the other clients lose."""
    pieces = [start[:at]] + [repeated * 500] * times
    transport = Transport()
    protocol = HttpProtocol(Endpoint(answer), CALLER)
    protocol.connection_made(transport)
    for piece in pieces:
        protocol.data_received(piece)
        parser = protocol._parser
        held = len(parser._target) + sum(len(name) + len(value) for name, value in parser._headers.items())
        assert held <= MAX_TARGET + MAX_HEAD + 2 * 1500
    assert len(transport.written) < 2**20


@FEWER
@given(st.text(max_size=60), st.sampled_from(["GET", "HEAD", "PUT", "POST", "OPTIONS", "TRACE"]))
def test_any_path_is_found_or_not(answer, text, method):
    target = "/" + "".join(f"%{byte:02X}" if byte % 3 else chr(byte) for byte in text.encode("utf-8", "replace"))
    written = converse(answer, [request(target, method, x_aws_ec2_metadata_token=TOKEN)])
    assert set(statuses(written)) <= STATUSES
