"""Every exception that botocore, aiohttp and ssl have for a call without an answer is sorted (aws/no_answer.py)."""

import errno
import ssl
from string import Formatter

import aiohttp
import pytest
from aiohttp import http_exceptions
from botocore import exceptions as boto
from yarl import URL

from imds_proxy.aws.call import Call
from imds_proxy.aws.refusals import chain_error, translate
from imds_proxy.errors import Denied, Invalid, Unreachable

CALL = Call("deploy", "sts:AssumeRole", "arn:aws:iam::123456789012:role/Deploy", "https://sts.eu-west-1.amazonaws.com")
ON_THE_NETWORK = {
    "CapacityNotAvailableError",
    "ConnectTimeoutError",
    "ConnectionClosedError",
    "ConnectionError",
    "EndpointConnectionError",
    "IncompleteReadError",
    "ProxyConnectionError",
    "ReadTimeoutError",
    "ResponseStreamingError",
    "SSLError",
}
"""What may go by itself. Whoever adds to it says so here."""


def all_kinds(base):
    for kind in base.__subclasses__():
        yield kind
        yield from all_kinds(kind)


def made(kind):
    """One of that kind, with something for everything that its text wants."""
    if kind is boto.WaiterError:
        return kind("x", "x", {})
    names = {name: "x" for _, name, _, _ in Formatter().parse(kind.fmt) if name}
    return kind(**{"error": ValueError("x"), "operation_name": "x", "reason": "x", **names})


KINDS = sorted(
    {
        kind
        for base in (boto.BotoCoreError, boto.HTTPClientError)
        for kind in all_kinds(base)
        if kind.__module__ == boto.__name__  # boto3 has some of its own
    },
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_nothing_but_the_network_is_called_unreachable(kind):
    """What is a setting of the host goes on failing for ever, while somebody looks at the firewall."""
    for told in (translate(made(kind), CALL), chain_error(made(kind), CALL, None)):
        assert (type(told) is Unreachable) == (kind.__name__ in ON_THE_NETWORK)
        assert told.advice
        assert "firewall" not in told.advice or kind.__name__ in ON_THE_NETWORK


def key(host="sts.eu-west-1.amazonaws.com"):
    return aiohttp.client_reqrep.ConnectionKey(
        host=host, port=443, is_ssl=True, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None
    )


REQUEST = aiohttp.RequestInfo(URL(CALL.endpoint), "POST", {}, URL(CALL.endpoint))
CAUSES = [
    (aiohttp.ClientOSError(errno.ECONNRESET, "x"), Unreachable),
    (aiohttp.ServerDisconnectedError(), Unreachable),
    (aiohttp.ClientPayloadError("x"), Unreachable),
    (aiohttp.ClientResponseError(REQUEST, ()), Unreachable),
    (aiohttp.ClientConnectorError(key(), OSError(errno.ENETUNREACH, "x")), Unreachable),
    (http_exceptions.BadStatusLine("x"), Unreachable),
    (http_exceptions.LineTooLong("x"), Unreachable),
    (ssl.SSLError(1, "[SSL: APPLICATION_DATA_AFTER_CLOSE_NOTIFY] x"), Unreachable),
    (ConnectionAbortedError(), Unreachable),
    (EOFError(), Unreachable),
    (TimeoutError(), Unreachable),
    (aiohttp.InvalidURL("http://proxy:99999"), Invalid),
    (aiohttp.NonHttpUrlClientError("ftp://x"), Invalid),
    (ValueError("Newline or carriage return detected in headers"), Invalid),
    (UnicodeError("label too long"), Invalid),
    (TypeError("x"), Invalid),
    (AssertionError(), Invalid),
]


@pytest.mark.parametrize(("cause", "outcome"), CAUSES, ids=lambda value: type(value).__name__)
def test_what_botocore_has_no_name_for_is_sorted_by_its_cause(cause, outcome):
    assert type(translate(boto.HTTPClientError(error=cause), CALL)) is outcome


@pytest.mark.parametrize(
    ("error", "outcome", "words"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/etc/token"), Invalid, "/etc/token cannot be"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "/etc/token"), Invalid, "/etc/token cannot be read"),
        (PermissionError(errno.EACCES, "Permission denied", "/etc/token"), Denied, "/etc/token may not be read"),
        (PermissionError(errno.EPERM, "Operation not permitted"), Unreachable, "Operation not permitted"),
    ],
)
def test_a_file_is_no_matter_of_the_network(error, outcome, words):
    """ "check DNS" for a file that is missing."""
    told = chain_error(error, CALL, None)
    assert type(told) is outcome
    assert words in told.message


def not_found(url, host):
    cause = aiohttp.ClientConnectorDNSError(key(host), OSError(None, "Name or service not known"))
    return translate(boto.EndpointConnectionError(endpoint_url=url, error=cause), CALL)


@pytest.mark.parametrize(
    ("host", "region", "meant"),
    [
        ("sts.eu-wst-1.amazonaws.com", "eu-wst-1", "eu-west-1"),
        ("portal.sso.eu-west1.amazonaws.com", "eu-west1", "eu-west-1"),
        ("sts.cn-nrth-1.amazonaws.com.cn", "cn-nrth-1", "cn-north-1"),
    ],
)
def test_a_region_that_is_mistyped_is_said_to_be_that(host, region, meant):
    """The name of its host is not found, and DNS is well."""
    told = not_found(f"https://{host}/", host)
    assert type(told) is Invalid
    assert f'"{region}" is no AWS region' in told.message
    assert f'did you mean "{meant}"?' in told.advice


@pytest.mark.parametrize(
    "host",
    ["sts.eu-west-1.amazonaws.com", "sts.amazonaws.com", "sts.internal.example.com", "STS.EU-WEST-1.amazonaws.com"],
)
def test_a_name_that_is_not_found_is_a_matter_of_dns_otherwise(host):
    told = not_found(f"https://{host}/", host)
    assert type(told) is Unreachable
    assert "(name not found)" in told.message


def test_a_proxy_whose_name_is_not_found_is_named():
    told = not_found("https://sts.eu-west-1.amazonaws.com/", "proxy.example")
    assert type(told) is Unreachable
    assert "the name of the proxy proxy.example is not found" in told.message
    assert "HTTPS_PROXY" in told.advice


def test_a_file_of_cas_that_botocore_itself_reads_is_told_of_as_one(monkeypatch):
    """It wraps the error in one of HTTP, without the file's name."""
    monkeypatch.setenv("AWS_CA_BUNDLE", "/etc/no-ca.pem")
    told = translate(boto.HTTPClientError(error=FileNotFoundError(errno.ENOENT, "No such file or directory")), CALL)
    assert type(told) is Invalid
    assert "CA bundle /etc/no-ca.pem cannot be used: No such file" in told.message
    assert told.advice == "correct AWS_CA_BUNDLE"
