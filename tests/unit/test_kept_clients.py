"""What is made once for all calls of STS, and what is not (aws/kept_clients.py, tls.py)."""

import asyncio
import gc
import os
import re
import ssl
import threading
import time
from datetime import UTC, datetime

import pytest
from botocore.credentials import ReadOnlyCredentials
from botocore.parsers import ResponseParserError

from imds_proxy.aws import kept_clients, kept_sessions
from imds_proxy.aws import session as aws_chain
from imds_proxy.aws.kept_clients import Endpoint
from imds_proxy.aws.session import AwsChain
from imds_proxy.aws.signing_guard import current_credentials, sent_by, signing
from imds_proxy.errors import Unreachable
from imds_proxy.host.tls import KeptContexts
from support.certificates import Authority, put

HERE = Endpoint("eu-west-1")
FILE_SECRET = "of-the-credentials-file-0123456789abcdef"


@pytest.fixture
def files(monkeypatch, tmp_path):
    """The AWS files of a test, and no AWS setting of whoever runs it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    (tmp_path / "config").write_text("[profile work]\nregion = eu-west-1\n")
    key(tmp_path, "AKIAONE")
    return tmp_path


def key(folder, key_id):
    content = f"[work]\naws_access_key_id = {key_id}\naws_secret_access_key = {FILE_SECRET}\n"
    (folder / "credentials").write_text(content)


async def client(chain, profile="work", endpoint=HERE):
    return await chain.client(await chain.fresh_session(profile), endpoint)


async def test_a_client_is_made_once_however_many_ask(files):
    """Each attempt of an outage would cost the loop 30 ms."""
    chain = AwsChain()
    first, *others = await asyncio.gather(*(client(chain) for _ in range(5)))
    key(files, "AKIATWO")
    assert {id(each) for each in [*others, await client(chain)]} == {id(first)}


@pytest.mark.parametrize(
    "settings",
    [
        "ca_bundle = /other.pem",
        "endpoint_url = https://sts.example.org",
        "services = here\n[services here]\nsts =\n  endpoint_url = https://sts.example.org",
    ],
)
async def test_another_setting_of_the_profile_is_another_client(files, settings):
    """An operator's correction would take a restart."""
    chain = AwsChain()
    before = await client(chain)
    (files / "config").write_text(f"[profile work]\nregion = eu-west-1\n{settings}\n")
    after = await client(chain)
    assert after is not before
    if "example.org" in settings:
        assert after.meta.endpoint_url == "https://sts.example.org"


@pytest.mark.parametrize("name", ["AWS_CA_BUNDLE", "HTTPS_PROXY", "AWS_ENDPOINT_URL_STS"])
async def test_another_environment_is_another_client(files, monkeypatch, name):
    chain = AwsChain()
    before = await client(chain)
    monkeypatch.setenv(name, "https://example.org")
    assert await client(chain) is not before


async def test_a_client_that_could_not_be_made_is_tried_again(files, monkeypatch):
    """One shortage of files would be the last of a role."""
    chain, make = AwsChain(), kept_clients.asyncio.run
    monkeypatch.setattr(kept_clients.asyncio, "run", lambda coroutine: coroutine.close() or os.open("/nonexistent", 0))
    with pytest.raises(OSError, match="nonexistent"):
        await client(chain)
    monkeypatch.setattr(kept_clients.asyncio, "run", make)
    assert (await client(chain)).meta.region_name == "eu-west-1"


async def test_no_more_than_so_many_are_kept(files, monkeypatch):
    """A host with a private endpoint for each role would grow by all of them."""
    monkeypatch.setattr(kept_clients, "_MOST", 2)
    chain = AwsChain()
    urls = [f"https://sts{number}.example.org" for number in range(4)]
    made = [await client(chain, endpoint=Endpoint("eu-west-1", url)) for url in urls]
    assert len(chain._clients._kept) == 2
    assert await client(chain, endpoint=Endpoint("eu-west-1", urls[3])) is made[3]


async def test_what_is_kept_holds_no_key_of_the_shared_files(files):
    """A daemon's memory would have the base key in it for good, used or not."""
    chain = AwsChain()
    session = await chain.fresh_session("work")
    with signing(session):
        assert (await (await session.get_credentials()).get_frozen_credentials()).secret_key == FILE_SECRET
    kept = await chain.client(session, HERE)
    del session
    await asyncio.sleep(kept_sessions.KEPT + 0.1)
    gc.collect()
    held = [each for each in gc.get_objects() if isinstance(each, dict) and each is not globals() and holds(each)]
    assert held == []
    assert kept.meta.region_name == "eu-west-1"


def holds(values):
    return any(isinstance(value, str) and value == FILE_SECRET for value in values.values())


async def test_roles_at_the_same_time_sign_each_with_its_own(files):
    """One role would be assumed by another one's key."""
    chain = AwsChain()
    seen = {}

    async def call(number):
        session = await chain.fresh_session("work", role=f"role{number}")
        sts = await chain.client(session, HERE)
        with signing(session, ReadOnlyCredentials(f"AKIA{number}", f"secret-of-{number}", None)):
            for _ in range(5):
                await asyncio.sleep(0)
                frozen = await sts._request_signer._credentials.get_frozen_credentials()
                seen.setdefault(number, set()).add((frozen.access_key, frozen.secret_key))
        return list(sent_by(session))

    assert await asyncio.gather(*map(call, range(8))) == [[]] * 8
    assert seen == {number: {(f"AKIA{number}", f"secret-of-{number}")} for number in range(8)}
    with pytest.raises(LookupError):
        current_credentials()


async def test_files_that_hang_are_told_and_leave_one_thread(files, monkeypatch):
    """The role would be renewed no more, without a word; or each attempt would leave a thread behind."""
    monkeypatch.setattr(aws_chain, "READ_WITHIN", 0.1)
    answer, chain = threading.Event(), AwsChain()
    monkeypatch.setattr(chain, "session", lambda *_, **__: answer.wait(10))
    before = set(threading.enumerate())  # some of them may end meanwhile
    for _ in range(3):
        with pytest.raises(Unreachable, match=r'role "deploy": the AWS config and credentials files could not be read'):
            await chain.fresh_session(role="deploy")
    assert len(set(threading.enumerate()) - before) == 1
    answer.set()


# TLS


def test_a_context_is_kept_until_a_file_is_another(tmp_path):
    """50 ms of a core for each attempt; or a CA that is taken back would be trusted until a restart."""
    path, contexts = put(tmp_path / "ca.pem", Authority().certificate_pem()), KeptContexts()
    first = contexts.trusting("deploy", str(path))
    assert contexts.trusting("other", str(path)) is first
    put(tmp_path / "new.pem", Authority("Another CA").certificate_pem())
    (tmp_path / "new.pem").replace(path)
    second = contexts.trusting("deploy", str(path))
    assert second is not first
    assert [dict(entry for (entry,) in ca["subject"])["commonName"] for ca in second.get_ca_certs()] == ["Another CA"]


def test_a_context_of_the_system_is_kept_too():
    contexts = KeptContexts()
    assert contexts.trusting("deploy") is contexts.trusting("other")


def test_a_context_that_could_not_be_made_is_not_kept():
    contexts, fails = KeptContexts(), [OSError("no"), None]

    def make():
        if error := fails.pop(0):
            raise error
        return ssl.create_default_context()

    with pytest.raises(OSError, match="no"):
        contexts.get((None,), make)
    assert contexts.get((None,), make)


@pytest.mark.parametrize("skew", [0.0, 7200.0, -7200.0])
async def test_requests_are_signed_with_awss_time(files, skew):
    """A host whose clock is off by more than five minutes would have no credentials until somebody sets it."""
    chain, sent = AwsChain(), []

    async def answer(reader, writer):
        sent.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    session = await chain.fresh_session("work")
    sts = await chain.client(session, Endpoint("eu-west-1", url, allow_http=True))
    with signing(session, ReadOnlyCredentials("AKIA", "secret", "token"), skew), pytest.raises(ResponseParserError):
        await sts.get_caller_identity()
    server.close()
    await server.wait_closed()
    stamp = re.search(r"(?i)x-amz-date: (\S+)", sent[0])[1]
    at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    assert at == pytest.approx(time.time() + skew, abs=30)
    assert f"/{stamp[:8]}/eu-west-1/sts/aws4_request" in sent[0]
    assert len(re.findall("(?i)^x-amz-security-token:", sent[0], re.MULTILINE)) == 1
