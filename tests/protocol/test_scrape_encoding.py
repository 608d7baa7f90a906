"""How `/metrics` travels: compressed for those who take that, as Prometheus does."""

import gzip

import aiohttp
import pytest

from imds_proxy.admin.pages import accepts_gzip
from support.control_plane import control_plane

PROMETHEUS = {"Accept-Encoding": "gzip", "Accept": "application/openmetrics-text;version=1.0.0;q=0.75,*/*;q=0.1"}


async def ask(plane, method="GET", **headers):
    """Status, headers and body, as they come."""
    url = f"http://127.0.0.1:{plane.address[1]}/metrics"
    async with (
        aiohttp.ClientSession(auto_decompress=False, skip_auto_headers=["Accept-Encoding"]) as session,
        session.request(method, url, headers=headers) as answer,
    ):
        return answer.status, answer.headers, await answer.read()


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ([], False),
        (["gzip"], True),
        (["deflate, GZIP;q=0.5, br"], True),
        (["br", "x-gzip"], True),
        (["gzip;q=0"], False),
        (["gzip; q=0.000"], False),
        (["gzip;q=0.001"], True),
        (["identity", "gzipped", "*"], False),
        (["", ",;,;;q=0"], False),
    ],
)
def test_who_takes_gzip(headers, wanted):
    """What a client cannot read is no answer."""
    assert accepts_gzip(headers) is wanted


async def test_prometheus_gets_the_compressed_text():
    """A thousand roles would be 800 kB four times a minute."""
    async with control_plane([f"role-{number}" for number in range(100)]) as plane:
        _, headers, plain = await ask(plane)
        assert "Content-Encoding" not in headers
        status, packed_headers, packed = await ask(plane, **PROMETHEUS)
        assert (status, packed_headers["Content-Encoding"]) == (200, "gzip")
        assert packed_headers["Content-Type"] == headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert packed_headers["Vary"] == headers["Vary"] == "Accept-Encoding"
        assert int(packed_headers["Content-Length"]) == len(packed) < len(plain) / 5
        families = [line for line in gzip.decompress(packed).splitlines() if line.startswith(b"# TYPE")]
        assert families == [line for line in plain.splitlines() if line.startswith(b"# TYPE")]


@pytest.mark.parametrize("headers", [{}, PROMETHEUS])
async def test_head_says_what_get_would_send(headers):
    """A check of the size would be of another text than what is sent."""
    async with control_plane() as plane:
        _, got, body = await ask(plane, **headers)
        status, said, nothing = await ask(plane, "HEAD", **headers)
        assert (status, nothing) == (200, b"")
        for name in ("Content-Encoding", "Content-Type", "Vary"):
            assert said.get(name) == got.get(name)
        assert abs(int(said["Content-Length"]) - len(body)) < 200  # a second has passed, perhaps
