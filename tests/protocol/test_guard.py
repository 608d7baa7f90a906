"""What is refused before anything is looked at (PROTOCOL.md 6): other sites' pages."""

import pytest

from support.plane import plane
from support.wire import request

ROLE = "/latest/meta-data/iam/security-credentials/deploy"
TTL = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
BROWSERS = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1338"},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Mode": "no-cors"},
    {"Sec-Fetch-Mode": "navigate"},
    {"Sec-Fetch-Dest": "empty"},
    {"Sec-Fetch-User": "?1"},
    {"sec-fetch-storage-access": "none"},
    {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"},
]
PREFLIGHT = {
    "Origin": "https://evil.example",
    "Access-Control-Request-Method": "PUT",
    "Access-Control-Request-Headers": "x-aws-ec2-metadata-token-ttl-seconds",
    "Access-Control-Request-Private-Network": "true",
}


@pytest.mark.parametrize("headers", BROWSERS, ids=str)
@pytest.mark.parametrize("imds_v1", [False, True])
async def test_a_browser_gets_no_token_and_no_document(headers, imds_v1):
    """Any page that an operator has open could take the host's role."""
    async with plane(metadata={"imds_v1": imds_v1}) as plane_:
        assert (await plane_.ask("/latest/api/token", "PUT", {**TTL, **headers})).status == 403
        for path in ("/", ROLE, "/roles/deploy", "/latest/nothing"):
            answer = await plane_.get(path, headers=headers)
            assert answer.status == 403
            assert b"secret" not in answer.body


async def test_what_programs_send_is_not_taken_for_a_browser():
    headers = {"User-Agent": "Mozilla/5.0", "Accept": "text/html", "Referer": "http://127.0.0.1/", "Cookie": "a=b"}
    async with plane() as plane_:
        assert (await plane_.get(ROLE, headers=headers)).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example:80",
        "metadata",
        "169.254.169.254.evil.example",
        "[localhostx",
        "xlocalhost]",
        "[evil.example]",
    ],
)
@pytest.mark.parametrize("path", ["/", ROLE, "/roles/deploy", "/latest/nothing"])
async def test_an_unknown_host_is_403_whatever_it_asks(host, path):
    """After DNS rebinding a page is of the same origin and sends no Origin."""
    async with plane(metadata={"imds_v1": True}) as plane_:
        assert (await plane_.get(path, headers={"Host": host})).status == 403


async def test_an_unknown_host_in_an_absolute_target_is_refused_too():
    async with plane(metadata={"imds_v1": True}) as plane_:
        answer = await plane_.ask(f"http://evil.example{ROLE}", headers={"Host": "evil.example"})
        assert answer.status == 403


async def test_the_refusal_tells_the_operator_what_to_do_and_repeats_nothing():
    async with plane() as plane_:
        answer = await plane_.ask("/", headers={"Host": "metadata.internal"})
        assert b"allowed_hosts" in answer.body
        assert b"internal" not in answer.body


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("OPTIONS", "/latest/api/token", PREFLIGHT),
        ("OPTIONS", ROLE, PREFLIGHT),
        ("OPTIONS", "*", PREFLIGHT),
        ("OPTIONS", "/roles/deploy", {"Access-Control-Request-Method": "GET"}),
        ("GET", ROLE, {}),
        ("GET", ROLE, {"Origin": "https://evil.example"}),
        ("GET", "/roles/deploy", {"Origin": "https://evil.example"}),
        ("PUT", "/latest/api/token", {**TTL, "Origin": "https://evil.example"}),
        ("PUT", "/latest/api/token", TTL),
        ("GET", "/latest/nothing", {}),
    ],
)
async def test_no_answer_ever_has_a_cors_header(method, path, headers):
    """One such header would let a page read what it may only send for."""
    async with plane(metadata={"imds_v1": True}) as plane_:
        answer = await plane_.ask(path, method, headers)
        assert answer.status
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert answer.status != 200 or "Origin" not in headers


async def test_only_http_1_0_may_leave_the_host_out():
    async with plane() as plane_:
        token = await plane_.token()
        old = request(ROLE, version="1.0", host=None, x_aws_ec2_metadata_token=token)
        new = request(ROLE, host=None, x_aws_ec2_metadata_token=token, connection="close")
        assert (await plane_.raw(old)).startswith(b"HTTP/1.1 200 ")
        assert (await plane_.raw(new)).startswith(b"HTTP/1.1 400 ")
