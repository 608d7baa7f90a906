"""PROTOCOL.md 7 to 12: session tokens (IMDSv2)."""

import asyncio
import string
import tracemalloc

import pytest

from imds_proxy.host.clock import Clock
from imds_proxy.host.state_dir import open_state_dir
from imds_proxy.metadata.session_tokens import SessionTokens, load_or_make_key
from support.namespace import ANOTHER_HOST, PacketLog, container, inside
from support.plane import ANY_ADDRESS, CONTAINER_TOKEN, plane
from support.wire import request, wire

TOKEN = "/latest/api/token"
LIST = "/latest/meta-data/iam/security-credentials/"
DOCUMENT = LIST + "deploy"
TTL = "X-aws-ec2-metadata-token-ttl-seconds"
CARRIED = "X-aws-ec2-metadata-token"
FORGED = "AQBrAP98gVrTUVmkx8IUB4sPbsx503D5"
BAD_TOKENS = (
    "",
    "x",
    "null",
    FORGED,
    FORGED + "A",
    FORGED[:-1],
    "=" * 32,
    "A" * 32,
    "\xff" * 32,
    "A" * 8000,
    CONTAINER_TOKEN + "deploy",
)
LINK_LOCAL_LISTENERS = ("169.254.169.254:80", "[fd00:ec2::254]:80")
DEFAULT_HOPS = 64


@pytest.mark.parametrize("ttl", [1, 10, 60, 300, 600, 21599, 21600])
async def test_rule_07_every_ttl_in_range_is_given_as_asked(ttl, wall):
    async with plane(clock=Clock(wall)) as plane_:
        answer = await plane_.ask(TOKEN, "PUT", {TTL: ttl})
        assert (answer.status, answer.headers[TTL.lower()]) == (200, str(ttl))
        headers = {CARRIED: answer.body.decode()}
        wall.now += ttl - 0.5
        assert (await plane_.ask("/", headers=headers)).status == 200
        wall.now += 0.5
        assert (await plane_.ask("/", headers=headers)).status == 401


@pytest.mark.parametrize("ttl", [1, 10])
async def test_rule_07_a_ttl_holds_in_full_whenever_in_a_second_it_begins(ttl, wall):
    """A token of one second, asked for late in a second, would be dead before its first use."""
    wall.now += 0.9
    async with plane(clock=Clock(wall)) as plane_:
        headers = {CARRIED: await plane_.token(ttl)}
        wall.now += ttl - 0.5
        assert (await plane_.ask("/", headers=headers)).status == 200


@pytest.mark.parametrize("ttl", [None, "", "0", "-1", "21601", "99999", "1e3", "1.5", "0x10", "ten", "60s", "9" * 400])
async def test_rule_07_a_ttl_missing_or_out_of_range_is_400(ttl):
    async with plane() as plane_:
        answer = await plane_.ask(TOKEN, "PUT", {TTL: ttl})
        assert (answer.status, answer.headers["content-type"]) == (400, "text/plain")


@pytest.mark.parametrize("forwarded", ["203.0.113.9", "127.0.0.1", "", "unknown, 10.0.0.1"])
async def test_rule_07_x_forwarded_for_is_403(forwarded):
    """A reverse proxy open to the network would hand out tokens."""
    async with plane() as plane_:
        answer = await plane_.ask(TOKEN, "PUT", {TTL: 60, "X-Forwarded-For": forwarded})
        assert answer.status == 403


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b""),
        ({"Content-Length": "0"}, b""),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"a=b"),
        ({"Transfer-Encoding": "chunked"}, b""),
        ({CARRIED: "dead"}, b""),
        ({"User-Agent": "aws-sdk-go-v2/1.0", "Accept": "*/*", "Accept-Encoding": "gzip"}, b""),
        ({"Connection": "keep-alive, Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAEAAEAA"}, b""),
        ({"x-aws-ec2-metadata-token-ttl-seconds": "60", TTL: None}, b""),
        ({"X-AWS-EC2-METADATA-TOKEN-TTL-SECONDS": "60", TTL: None}, b""),
    ],
)
@pytest.mark.parametrize("imds_v1", [False, True])
async def test_rule_07_otherwise_it_succeeds(headers, body, imds_v1):
    """Rust, object_store, minio-go and GDAL have no v1 to fall back to."""
    async with plane(metadata={"imds_v1": imds_v1}) as plane_:
        if "Transfer-Encoding" in headers:
            head = request(TOKEN, "PUT", x_aws_ec2_metadata_token_ttl_seconds=60, connection="close", **headers)
            assert (await plane_.raw(head + b"0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        else:
            answer = await plane_.ask(TOKEN, "PUT", {TTL: 60, **headers}, body=body)
            assert answer.status == 200


async def test_rule_07_it_succeeds_while_there_are_no_credentials():
    async with plane(held=()) as plane_:
        assert len(await plane_.token()) > 0


@pytest.mark.parametrize("ttl", [1, 300, 21600])
async def test_rule_08_answer_carries_ttl_header(ttl):
    """Without it Rust, Go, Ruby, rclone and Terraform have no token at all."""
    async with plane() as plane_:
        sent = await plane_.raw(request(TOKEN, "PUT", x_aws_ec2_metadata_token_ttl_seconds=ttl, connection="close"))
        assert (
            f"\r\nX-Aws-Ec2-Metadata-Token-Ttl-Seconds: {ttl}\r\n".encode() in sent.partition(b"\r\n\r\n")[0] + b"\r\n"
        )


async def test_rule_08_the_token_is_header_safe_ascii_without_a_newline():
    """A newline breaks 27 of 32 clients: they send the body as a header."""
    safe = set(string.ascii_letters + string.digits + "-_=.~+/")
    async with plane() as plane_:
        for ttl in range(1, 200):
            token = await plane_.token(ttl)
            assert token
            assert set(token) <= safe


@pytest.mark.parametrize(
    "path", ["", LIST, DOCUMENT, "/latest/meta-data/placement/region", "/latest/meta-data/iam/info"]
)
async def test_rule_08_a_get_with_a_token_tells_the_seconds_left(path, wall):
    async with plane(clock=Clock(wall)) as plane_:
        headers = {CARRIED: await plane_.token(300)}
        for elapsed, left in ((0, "300"), (100, "200"), (199, "1")):
            wall.now += elapsed
            answer = await plane_.ask(path or "/", headers=headers)
            assert (answer.status, answer.headers[TTL.lower()]) == (200, left)


async def test_rule_08_a_404_to_a_token_tells_the_seconds_left_too():
    async with plane() as plane_:
        answer = await plane_.get("/latest/meta-data/nothing")
        assert answer.status == 404
        assert 298 <= int(answer.headers[TTL.lower()]) <= 300


async def test_rule_09_a_token_outlives_the_process_that_gave_it(tmp_path):
    """The Rust SDK repeats a dead token for up to six hours after a restart."""
    async with plane() as before:
        token = await before.token()
    async with plane() as after:
        assert (await after.ask(DOCUMENT, headers={CARRIED: token})).status == 200


def test_rule_09_the_key_is_kept_across_restarts(tmp_path):
    keys = [load_or_make_key(open_state_dir(tmp_path / "state")) for _ in range(2)]
    token = SessionTokens(keys[0]).issue(300, b"local", 1e9)
    assert SessionTokens(keys[1]).seconds_left(token, b"local", 1e9) == 300
    assert len(keys[0]) >= 32


async def test_rule_09_a_flood_of_tokens_evicts_none_and_costs_no_memory():
    """One careless client would cost every other one its token, or the daemon its memory."""
    flood = request(TOKEN, "PUT", x_aws_ec2_metadata_token_ttl_seconds=21600) * 25
    async with plane(metadata={"rate_limit": 0}) as plane_, wire(plane_) as connection:
        first = await plane_.token(300)

        async def hundred() -> None:
            for _ in range(4):
                await connection.send(flood)
                for _ in range(25):
                    assert (await connection.answer("PUT")).status == 200

        await hundred()
        tracemalloc.start()
        try:
            await hundred()
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(20):
                await hundred()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert grown < 2000 * 16
        assert (await plane_.ask(DOCUMENT, headers={CARRIED: first})).status == 200


async def test_rule_09_no_character_of_a_token_can_be_changed():
    """A client would make itself a token with a longer life, or of another caller."""
    async with plane() as plane_, wire(plane_) as connection:
        token = await plane_.token()
        for place, character in enumerate(token):
            other = "A" if character != "A" else "B"
            changed = token[:place] + other + token[place + 1 :]
            answer = await connection.ask(request("/", x_aws_ec2_metadata_token=changed))
            assert answer.status == 401, place


async def test_rule_09_a_token_is_its_callers_alone(namespace):
    """A token that leaked from one host of a network would be good on every other."""
    with container(f"{ANOTHER_HOST}/24", "198.51.100.1/24") as pid:
        async with plane(metadata={"listen": ["198.51.100.1:80"]}, grants=ANY_ADDRESS) as plane_:
            ours = await plane_.token()
            with inside(pid):
                theirs = await plane_.token()
                assert (await plane_.ask(LIST, headers={CARRIED: theirs})).status == 200
                assert (await plane_.ask(LIST, headers={CARRIED: ours})).status == 401
            assert (await plane_.ask(LIST, headers={CARRIED: theirs})).status == 401
            assert (await plane_.ask(LIST, headers={CARRIED: ours})).status == 200


@pytest.mark.parametrize(
    "path", ["/", LIST, DOCUMENT, "/latest/nothing", "/nothing", "/latest/meta-data/placement/region"]
)
@pytest.mark.parametrize("imds_v1", [False, True])
async def test_rule_10_a_bad_token_is_401_everywhere_even_where_v1_is_allowed(path, imds_v1):
    """Go, Ruby, C and JS fetch a new token on 401 only."""
    async with plane(metadata={"imds_v1": imds_v1}) as plane_:
        for bad in BAD_TOKENS:
            sent = request(path, connection="close", x_aws_ec2_metadata_token=bad)
            assert (await plane_.raw(sent)).startswith(b"HTTP/1.1 401 "), bad


@pytest.mark.parametrize("imds_v1", [False, True])
async def test_rule_10_an_expired_token_is_401(imds_v1, wall):
    async with plane(clock=Clock(wall), metadata={"imds_v1": imds_v1}) as plane_:
        headers = {CARRIED: await plane_.token(60)}
        wall.now += 60
        for path in (LIST, DOCUMENT, "/latest/nothing"):
            assert (await plane_.ask(path, headers=headers)).status == 401


@pytest.mark.parametrize("path", ["/", LIST, DOCUMENT, "/latest/nothing", "/latest/meta-data/placement/region"])
async def test_rule_10_no_token_while_v1_is_off_is_401(path):
    async with plane() as plane_:
        answer = await plane_.ask(path)
        assert answer.status == 401
        assert b"secret" not in answer.body


@pytest.mark.parametrize("held", [("deploy",), ()])
async def test_rule_10_a_bad_token_is_401_with_and_without_credentials(held):
    async with plane(held=held) as plane_:
        for path in (LIST, DOCUMENT):
            assert (await plane_.ask(path, headers={CARRIED: FORGED})).status == 401


async def test_rule_11_imdsv1_is_off_by_default():
    async with plane() as plane_:
        assert (await plane_.ask(DOCUMENT)).status == 401


async def test_rule_11_imdsv1_can_be_switched_on():
    """s3fs 1.90 of Debian 12 and async-aws 1.18 know no tokens."""
    async with plane(metadata={"imds_v1": True}) as plane_:
        assert (await plane_.ask(LIST)).body == b"deploy"
        answer = await plane_.ask(DOCUMENT)
        assert answer.status == 200
        assert TTL.lower() not in answer.headers
        assert (await plane_.get(DOCUMENT)).status == 200


async def hops_before_and_after_a_token(address: str, grants=(), **settings) -> tuple[set[int], set[int], set[int]]:
    """The hops of the answers to a request without a token, to the PUT, and to what follows on that connection."""
    settings = {"listen": [address], **settings}
    async with plane(metadata=settings, grants=list(grants)) as everywhere:
        there = everywhere.through(address.replace("0.0.0.0", "169.254.169.254"))
        with PacketLog() as packets:
            async with wire(there) as connection:
                await connection.ask(request("/"))
                before = packets.hops(there.port)
                answer = await connection.ask(request(TOKEN, "PUT", x_aws_ec2_metadata_token_ttl_seconds=60), "PUT")
                token_answer = packets.hops(there.port)
                await connection.ask(request("/", x_aws_ec2_metadata_token=answer.body.decode()))
                await asyncio.sleep(0)
                return before, token_answer, packets.hops(there.port)


@pytest.mark.parametrize("address", LINK_LOCAL_LISTENERS)
async def test_rule_12_a_token_answer_travels_one_hop_from_a_link_local_address(namespace, address):
    """A container behind a bridge, or a host that routes, would get a token that was not meant for it."""
    before, token_answer, after = await hops_before_and_after_a_token(address)
    assert (before, token_answer, after) == ({DEFAULT_HOPS}, {1}, {1})


@pytest.mark.parametrize("address", LINK_LOCAL_LISTENERS)
@pytest.mark.parametrize("hop_limit", [2, 5])
async def test_rule_12_the_hop_limit_is_configurable(namespace, address, hop_limit):
    """Containers need 2."""
    _, token_answer, after = await hops_before_and_after_a_token(address, hop_limit=hop_limit)
    assert (token_answer, after) == ({hop_limit}, {hop_limit})


@pytest.mark.parametrize("address", ["127.0.0.1:1338", "[::1]:1338"])
async def test_rule_12_no_hop_limit_is_set_on_loopback(namespace, address):
    """A published port (docker -p, kubectl port-forward) adds a hop."""
    hops = await hops_before_and_after_a_token(address)
    assert hops == ({DEFAULT_HOPS},) * 3


async def test_rule_12_the_limit_goes_by_the_address_asked_and_not_by_the_listeners(namespace):
    """A daemon that listens on 0.0.0.0:80 answers at 169.254.169.254 as well."""
    _, token_answer, _ = await hops_before_and_after_a_token("0.0.0.0:80", ANY_ADDRESS)
    assert token_answer == {1}
