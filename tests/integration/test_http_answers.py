"""`source = "http"`: what its services answer, and what the operator reads of it."""

import asyncio
import json
import time

import pytest

from imds_proxy.demo.aws_double import free_port
from imds_proxy.errors import Denied, Invalid, Throttled, Unreachable
from support.credential_service import IMDS_ROLES, Session, response
from support.http_source import SHAPES, always, clear_environment, fetch, no_secret_of, refused, serving

STATUSES = [
    (400, Invalid, "check url and shape"),
    (401, Denied, "token_file"),
    (403, Denied, "token_file"),
    (404, Invalid, "correct url"),
    (405, Invalid, "correct url"),
    (429, Throttled, "retried"),
    (500, Unreachable, "log"),
    (503, Unreachable, "log"),
    (204, Invalid, "check url and shape"),
    (301, Invalid, "sends elsewhere"),
    (302, Invalid, "sends elsewhere"),
    (307, Invalid, "sends elsewhere"),
]


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    clear_environment(monkeypatch)


@pytest.fixture
def serve():
    with serving() as start:
        yield start


async def test_a_session_token_that_comes_back_as_a_roles_name_is_in_no_address(serve):
    """The name is asked for next, and the address that was asked is in the message."""
    service, token = serve("imds"), "x-aws-ec2-metadata-token"
    service.interfere = lambda asked: [response(asked.headers[token].encode())] if token in asked.headers else None
    text = await refused(Invalid, url=service.url, shape="imds")
    assert "this is no role" in text
    assert service.requests[-1].headers[token] not in text


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("status", "kind", "advice"), STATUSES)
async def test_each_status_has_its_outcome_and_advice_and_no_body_is_repeated(serve, shape, status, kind, advice):
    """An alert on the wrong outcome wakes the wrong people."""
    service, elsewhere = serve(shape), serve(shape)

    def refusing(asked):
        if shape == "imds" and "Deploy" not in asked.target:
            return None
        body = json.dumps(service.issue().document("container") | {"message": service.sessions[0].secret}).encode()
        return [response(b"" if status == 204 else body, status, location=elsewhere.url)]

    service.interfere = refusing
    text = await refused(kind, url=service.url, shape=shape)
    assert f"answered {status}" in text
    assert advice in text
    assert no_secret_of(service, text)
    assert not elsewhere.requests


async def test_an_error_code_is_repeated(serve):
    """ "AccessDeniedException" of IoT, or a container agent's, is what one searches the manual for."""
    service = serve("iot")
    service.interfere = always(response(b'{"message": "x"}', 403, x_amzn_errortype="AccessDeniedException:http://x"))
    text = await refused(Denied, url=service.url, shape="iot")
    assert "answered 403 (AccessDeniedException)" in text
    assert "iot:AssumeRoleWithCertificate" in text
    service.interfere = always(response(b'{"code": "CredentialsUnavailable"}', 503))
    assert "answered 503 (CredentialsUnavailable)" in await refused(Unreachable, url=service.url)
    service.interfere = always(response(b'{"Code": "%s"}' % service.issue().secret.encode(), 403))
    assert no_secret_of(service, await refused(Denied, url=service.url))


async def test_what_vault_says_is_repeated_without_secrets(serve):
    """`permission denied`, `wrapping token is not valid`, a role that is not there: Vault knows, and says so."""
    service = serve("vault")
    secret = service.issue().secret
    for status, kind, said in [
        (403, Denied, "1 error occurred:\n\t* permission denied\n\n"),
        (400, Invalid, "Role 'deploy' not found"),
        (503, Unreachable, "Vault is sealed"),
    ]:
        service.interfere = always(response(json.dumps({"errors": [said, f"password={secret}"]}).encode(), status))
        text = await refused(kind, url=service.url, shape="vault")
        assert f"answered {status}: {' '.join(said.split())}; " in text
        assert no_secret_of(service, text)
    service.interfere = always(response(b'{"errors": [], "warnings": ["no handler for route"]}', 404))
    assert "answered 404: no handler for route" in await refused(Invalid, url=service.url, shape="vault")


async def test_an_answer_in_xml_is_not_called_html(serve):
    """AWS's own APIs answer in XML: there is no login page to look for."""
    service = serve("container")
    service.interfere = always(response(b"<?xml version='1.0'?><AssumeRoleResponse xmlns='x'>", 200, "text/xml"))
    text = await refused(Invalid, url=service.url)
    assert "this is XML (AssumeRoleResponse), not the container document" in text
    assert "assume-role" in text
    service.interfere = always(response(b"<ErrorResponse><Error><Code>AccessDenied</Code>", 403, "text/xml"))
    assert "answered 403 (AccessDenied)" in await refused(Denied, url=service.url)


async def test_a_refusal_says_what_to_look_at(serve, tmp_path):
    token = tmp_path / "token"
    token.write_text("wrong")
    vault = serve("vault", expect=("x-vault-token", "right"))
    text = await refused(Denied, url=vault.url, shape="vault", token_file=str(token))
    assert f"is the token in {token} the right one" in text
    assert "X-Vault-Namespace" in text
    assert "wrong" not in text


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot be read"), (b"", "is empty"), (b" \n", "is empty"), (b"a\nb", "one line"), (b"a\x00b", "one line")],
)
async def test_a_token_file_that_holds_no_token_is_named(serve, tmp_path, content, words):
    """Two lines in a header would be two headers."""
    token, service = tmp_path / "token", serve("container")
    if content is not None:
        token.write_bytes(content)
    text = await refused(Invalid, url=service.url, token_file=str(token))
    assert str(token) in text
    assert words in text
    assert not service.requests


async def test_vaults_iam_users_are_refused(serve):
    """Their keys live until Vault revokes them, and SDKs would sign without a token."""
    service = serve("vault")
    document = Session().document("vault")
    document["data"] |= {"security_token": None, "session_token": None}
    service.interfere = always(response(json.dumps(document).encode()))
    assert "long-lived keys" in await refused(Invalid, url=service.url, shape="vault")


async def test_instance_metadata_without_a_role_says_so_and_is_tried_again(serve):
    """Another imds-proxy that has no credentials yet."""
    service = serve("imds")
    service.interfere = lambda asked: [response(b"none", 404)] if asked.target == f"{IMDS_ROLES}/" else None
    text = await refused(Unreachable, url=service.url, shape="imds")
    assert "it has no credentials to hand out at this time" in text
    service.imds_v2 = False
    assert "url is the service's base" in await refused(Invalid, url=service.url, shape="imds")


@pytest.mark.parametrize("body", [b"", b"two words\n", b"../../roles/x", b"a\xff", b"x" * 65])
async def test_a_role_list_that_is_none_is_refused(serve, body):
    """What stands there goes into the next address."""
    service = serve("imds")
    service.interfere = lambda asked: [response(body, 200)] if asked.target == f"{IMDS_ROLES}/" else None
    assert "this is no role" in await refused(Invalid, url=service.url, shape="imds")
    assert len(service.requests) == 2


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_login_page_is_told_from_credentials(serve, shape):
    """Captive portals, single sign-on and error pages answer 200."""
    service = serve(shape)
    for page in (response(b"<!doctype html>...", 200, "application/json"), response(b"hello", 200, "Text/HTML")):
        service.interfere = always(page)
        assert "this is HTML" in await refused(Invalid, url=service.url, shape=shape)


def hanging(_):
    time.sleep(3)
    yield b""


def hanging_after_the_head(asked):
    yield response(b"", 200, content_length=100)
    yield from hanging(asked)


def dripping(_):
    yield response(b"", 200, content_length=1000)
    for _ in range(60):
        time.sleep(0.05)
        yield b" "


@pytest.mark.parametrize("shape", ["container", "imds"])
@pytest.mark.parametrize("bad", [hanging, hanging_after_the_head, dripping])
async def test_a_service_that_takes_its_time_is_given_up(serve, shape, bad):
    """A byte a second would hold a renewal for hours; the steps of instance metadata share one limit."""
    service = serve(shape)
    service.interfere = lambda asked: None if asked.target == "/latest/api/token" else bad(asked)
    began = time.monotonic()
    assert "no complete answer within 1 s" in await refused(Unreachable, url=service.url, shape=shape, timeout=1)
    assert time.monotonic() - began < 2


async def test_the_steps_of_instance_metadata_share_one_limit(serve):
    """Three steps of nearly ten seconds each would be half a minute."""
    service = serve("imds")

    def slow(_):
        time.sleep(0.7)

    service.interfere = slow
    began = time.monotonic()
    await refused(Unreachable, url=service.url, shape="imds", timeout=1)
    assert time.monotonic() - began < 1.5


@pytest.mark.parametrize("framing", [{}, {"content_length": 10_000_000}, {"transfer_encoding": "chunked"}])
async def test_an_answer_without_an_end_is_not_read(serve, framing):
    """Ten megabytes for each role and renewal, or as many as somebody likes to send."""
    service = serve("container")
    piece = b" " * 65536
    piece = b"10000\r\n" + piece + b"\r\n" if "transfer_encoding" in framing else piece
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    head += b"".join(f"{name.replace('_', '-')}: {value}\r\n".encode() for name, value in framing.items()) + b"\r\n"

    def endless(_):
        yield head
        for _ in range(1600):
            yield piece

    service.interfere = endless
    assert "more than 1 MB" in await refused(Invalid, url=service.url)
    await asyncio.sleep(0.2)
    assert 1_000_000 < service.sent < 40_000_000  # of 100 MB; beyond the first, what the kernel's buffers take


BROKEN = {
    "nothing": (b"", Unreachable, "the connection was closed"),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-", Unreachable, "the connection was closed"),
    "half a body": (response(b'{"Acc', 200, content_length=500), Unreachable, "the connection was closed"),
    "half a document": (response(b'{"AccessKeyId": "ASIA'), Invalid, "21 bytes that are not JSON"),
    "another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", Invalid, "not HTTP"),
    "an endless header": (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100_000 + b"\r\n\r\n", Invalid, "not HTTP"),
    "no body": (response(b""), Invalid, "nothing"),
    "compressed": (response(b"\x1f\x8b\x08\x00" * 9, 200, content_encoding="gzip"), Invalid, "not JSON"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_an_answer_that_is_broken_is_told_from_a_refusal(serve, name):
    answer, kind, words = BROKEN[name]
    service = serve("container")
    service.interfere = always(answer)
    assert words in await refused(kind, url=service.url)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("life", "words"), [(-60, "dead since|lease_duration"), (9e9, "a life of 1041.. days")])
async def test_credentials_that_are_dead_or_live_for_centuries_are_refused(serve, shape, life, words):
    service = serve(shape, life=life)
    with pytest.raises(Invalid, match=words):
        await fetch(url=service.url, shape=shape)


async def test_a_host_that_is_not_there_is_told_from_one_that_refuses(tmp_path):
    url = f"http://127.0.0.1:{free_port()}/role?token=hidden"
    text = await refused(Unreachable, url=url)
    assert "no connection: connection refused" in text
    assert "hidden" not in text
    assert "no connection" in await refused(Unreachable, url="https://credentials.invalid/role")
