"""What goes wrong before or while a service other than STS is asked, sorted (host/http_client.py)."""

import errno

import aiohttp
import pytest

from imds_proxy.errors import Invalid, Unreachable
from imds_proxy.host.http_client import WebRequest, _translate, ask

PLACE = "https://rolesanywhere.eu-west-1.amazonaws.com/sessions"


def key(host):
    return aiohttp.client_reqrep.ConnectionKey(
        host=host, port=443, is_ssl=True, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None
    )


def not_found(host):
    return aiohttp.ClientConnectorDNSError(key(host), OSError(None, "Name or service not known"))


@pytest.mark.parametrize(
    ("error", "outcome", "words"),
    [
        (not_found("rolesanywhere.eu-wst-1.amazonaws.com"), Invalid, '"eu-wst-1" is no AWS region'),
        (not_found("rolesanywhere.eu-west-1.amazonaws.com"), Unreachable, "name not found"),
        (aiohttp.ClientConnectorError(key("x"), OSError(errno.ECONNREFUSED, "x")), Unreachable, "connection refused"),
        (aiohttp.ServerDisconnectedError(), Unreachable, "was closed"),
        (TimeoutError(), Unreachable, "no complete answer"),
        (ValueError("Newline or carriage return detected in headers"), Invalid, "cannot be asked (ValueError)"),
        (UnicodeError("label too long"), Invalid, "cannot be asked (UnicodeError)"),
        (aiohttp.InvalidURL("x"), Invalid, "cannot be asked (InvalidURL)"),
        (aiohttp.ClientResponseError(None, ()), Invalid, "is not HTTP"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_matter_of_the_network_is_not_called_unreachable(error, outcome, words):
    told = _translate(error, "host", PLACE, 5)
    assert type(told) is outcome
    assert words in told.message
    assert ("DNS" in told.advice) <= (outcome is Unreachable)


@pytest.mark.parametrize(
    "value", ["http://proxy:99999", "http://pro xy", "http://user:hunter2#@proxy:3128", "socks5://p:1"]
)
async def test_what_can_be_no_proxy_is_named_by_its_variable(monkeypatch, value):
    for name in ("https_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(Invalid, match='role "host": HTTPS_PROXY names no HTTP proxy') as raised:
        await ask("host", WebRequest("POST", PLACE), timeout=5)
    assert "hunter2" not in raised.value.message + raised.value.advice
