"""TLS of the control plane on the wire: who sees what by a certificate, and what a client without one cannot do."""

import asyncio
import contextlib
import json
import logging
import ssl
from functools import partial

import pytest

from imds_proxy.admin import connection as client
from imds_proxy.admin import connections, tls
from imds_proxy.config.model import AdminConfig
from support.control_plane import REMOTE, ROOT, control_plane
from support.control_plane_tls import Pki

BUILD = "127.0.0.11"
GRANTS = [{"role": "deploy", "uid": 10}]
GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
HELLO = 5 + 200
"""Bytes of which a ClientHello has more."""
REQUEST, SERVER_HELLO = ssl._TLSMessageType.CERTIFICATE_REQUEST, ssl._TLSMessageType.SERVER_HELLO


@pytest.fixture
def pki(tmp_path):
    return Pki(tmp_path)


@pytest.fixture
async def plane(pki):
    async with served(pki.admin) as made:
        yield made


@contextlib.asynccontextmanager
async def served(admin):
    """A control plane whose certificate, if it has one that can be used, has been read."""
    async with control_plane(grants=GRANTS, **admin) as plane:
        with contextlib.suppress(TimeoutError):
            await until(lambda: plane.connections.tls.in_use, 0.5)
        yield plane


async def open_(plane, context, caller=ROOT):
    name = "127.0.0.1"
    reader, writer = await asyncio.open_connection(
        *plane.address, ssl=context, server_hostname=name, local_addr=(caller, 0)
    )
    plane.writers.append(writer)
    return reader, writer


async def on(connection, path, *, last=False):
    """Status and body of a request on an open connection."""
    reader, writer = connection
    close = "Connection: close\r\n" if last else ""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{close}\r\n".encode())
    async with asyncio.timeout(5):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        body = await reader.readexactly(int(head.partition("content-length:")[2].split()[0]))
    return int(head.split()[1]), body.decode()


async def get(plane, path, context, caller=ROOT):
    return await on(await open_(plane, context, caller), path, last=True)


async def shown(plane, context):
    """The certificate that new connections are shown, as DER."""
    _, writer = await open_(plane, context)
    return writer.get_extra_info("ssl_object").getpeercert(binary_form=True)


async def refused(plane, context, caller=ROOT):
    """Whether a client gets no answer: with TLS 1.3 it learns of it only after its own part of the handshake."""
    try:
        return await get(plane, "/metrics", context, caller)
    except (OSError, asyncio.IncompleteReadError):
        return True


async def until(condition, seconds=10.0):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def until_shown(plane, pki, certificate):
    async with asyncio.timeout(10):
        while await shown(plane, pki.context()) != certificate:
            await asyncio.sleep(0.05)


def said(caplog, level=logging.INFO):
    return [record for record in caplog.records if record.levelno >= level]


# Who sees what


async def test_who_shows_a_certificate_of_the_client_ca_sees_everything(plane, pki):
    """Prometheus on another host, whose address changes, would raise no alert."""
    for caller in (REMOTE, BUILD):
        status, text = await get(plane, "/metrics", pki.prometheus(), caller)
        assert status == 200
        assert 'role="logs"' in text
        assert json.loads((await get(plane, "/status.json", pki.prometheus(), caller))[1])["limited"] is False


async def test_who_shows_none_is_seen_as_before(plane, pki):
    """A probe would need a certificate; or, without one, anybody would see everything."""
    for path in ("/healthz", "/livez"):
        assert (await get(plane, path, pki.context(), REMOTE))[0] == 200
    status, body = await get(plane, "/metrics", pki.context(), REMOTE)
    assert status == 403
    assert "client_ca" in body
    document = json.loads((await get(plane, "/status.json", pki.context(), BUILD))[1])
    assert [role["role"] for role in document["roles"]] == ["deploy"]
    assert 'role="logs"' in (await get(plane, "/metrics", pki.context(), ROOT))[1]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("bad", ["of another CA", "expired", "of the server's CA"])
async def test_a_bad_certificate_gets_no_answer_at_all(plane, pki, bad, version, caplog):
    """Whoever makes itself one would see everything, or fill the log; a person would look for the reason in vain."""
    make, reason = {
        "of another CA": (partial(pki.context, pki.strangers), "unable to get local issuer certificate"),
        "expired": (pki.expired, "certificate has expired"),
        "of the server's CA": (partial(pki.context, pki.servers), "self-signed certificate in certificate chain"),
    }[bad]
    context = make()
    context.minimum_version = context.maximum_version = version
    caplog.clear()
    assert await refused(plane, context, REMOTE) is True
    assert await refused(plane, context, ROOT) is True
    await until(lambda: not len(plane.connections))
    [line] = said(caplog)
    assert line.getMessage() == "a client's certificate is not accepted"
    assert (line.address, line.reason) == ("192.0.2.1", reason)
    assert (await get(plane, "/healthz", pki.context(), REMOTE))[0] == 200


@pytest.mark.parametrize("asked", [True, False])
async def test_a_certificate_is_asked_for_only_where_a_client_ca_says_whose(pki, asked):
    """A browser would ask its user for a certificate that means nothing."""
    if not asked:
        del pki.admin["client_ca"]
    messages = set()
    context = pki.prometheus()
    context._msg_callback = lambda _connection, _direction, _version, _type, message, _data: messages.add(message)
    async with served(pki.admin) as plane:
        assert (await get(plane, "/metrics", context, REMOTE))[0] == (200 if asked else 403)
    assert SERVER_HELLO in messages
    assert (REQUEST in messages) is asked


async def test_what_a_certificate_shows_ends_with_the_ca_in_the_config(plane, pki):
    """A scraper that keeps its connection would go on to see what it may no longer."""
    prometheus = await open_(plane, pki.prometheus(), REMOTE)
    assert (await on(prometheus, "/metrics"))[0] == 200
    pki.put_server()
    await until_shown(plane, pki, pki.certificate)
    assert (await on(prometheus, "/metrics"))[0] == 200
    before = plane.connections.tls.client_ca
    pki.put("client_ca", pki.strangers.cert_pem.bytes())
    await until(lambda: plane.connections.tls.client_ca != before)
    assert (await on(prometheus, "/metrics"))[0] == 403
    assert await refused(plane, pki.prometheus(), REMOTE) is True
    assert (await get(plane, "/metrics", pki.context(pki.strangers), REMOTE))[0] == 200


async def test_the_ca_counts_no_longer_once_a_reload_has_taken_it_away(plane, pki):
    """Even where the files that the new config names cannot be used."""
    prometheus = await open_(plane, pki.prometheus(), REMOTE)
    assert (await on(prometheus, "/metrics"))[0] == 200
    plane.control_plane.follow(AdminConfig(certificate="/nowhere/crt", private_key="/nowhere/key"))
    assert (await on(prometheus, "/metrics"))[0] == 403
    assert (await get(plane, "/metrics", pki.prometheus(), REMOTE))[0] == 403


async def test_older_tls_is_not_spoken(plane, pki):
    """What is read on the way would be readable to others."""
    context = pki.context()
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    assert await refused(plane, context) is True
    assert plane.connections.tls.in_use.context.minimum_version is ssl.TLSVersion.TLSv1_2


# The files


async def test_a_new_certificate_is_used_without_a_restart(plane, pki, caplog):
    """Certificates that live for a day would take a restart every day."""
    kept, old = await open_(plane, pki.context()), pki.certificate
    assert await shown(plane, pki.context()) == old
    pki.put_server()
    assert pki.certificate != old
    await until_shown(plane, pki, pki.certificate)
    assert (await on(kept, "/healthz"))[0] == 200
    assert said(caplog, logging.WARNING) == []


async def test_half_a_rotation_leaves_the_old_pair_in_use(plane, pki, caplog):
    """Between two files that are replaced one after the other every scrape would fail."""
    old = pki.certificate
    issued = pki.put_server(key=False)
    await until(lambda: said(caplog, logging.WARNING))
    [line] = said(caplog, logging.WARNING)
    assert "those before go on" in line.getMessage()
    assert "another's key" in line.error
    assert line.advice
    assert await shown(plane, pki.context()) == old
    pki.put("private_key", issued.private_key_pem.bytes())
    await until_shown(plane, pki, pki.certificate)
    assert said(caplog, logging.WARNING) == [line]


@pytest.mark.parametrize("name", ["certificate", "private_key", "client_ca"])
async def test_a_file_that_is_missing_at_the_start_is_waited_for(pki, name, caplog):
    """What brings the certificate may come later. Until then nobody is served, in plain text least of all."""
    path = pki.folder / f"{name}.pem"
    path.rename(path.with_suffix(".later"))
    async with served(pki.admin) as plane:
        await until(lambda: said(caplog, logging.ERROR))
        [line] = said(caplog, logging.ERROR)
        assert line.getMessage() == "no control plane"
        assert str(path) in line.error
        assert line.advice
        assert await plane.wire(GET) == ""
        assert await refused(plane, pki.context()) is True
        path.with_suffix(".later").rename(path)
        await until(lambda: plane.connections.tls.in_use)
        assert (await get(plane, "/healthz", pki.context()))[0] == 200
        assert said(caplog, logging.ERROR) == [line]


@pytest.mark.parametrize(
    ("name", "mode", "advice"),
    [("private_key", 0o644, "chmod 6"), ("private_key", 0o622, "chmod 6"), ("client_ca", 0o666, "chmod 644")],
)
async def test_a_file_that_is_open_to_others_is_refused_until_it_is_not(pki, name, mode, advice, caplog):
    """Who has read the key can pass for this host; who can write the CA sees everything."""
    path = pki.folder / f"{name}.pem"
    path.chmod(mode)
    async with served(pki.admin) as plane:
        await until(lambda: said(caplog, logging.ERROR))
        [line] = said(caplog, logging.ERROR)
        assert advice in line.advice
        assert await refused(plane, pki.prometheus()) is True
        path.chmod(0o600)
        await until(lambda: plane.connections.tls.in_use)
        assert (await get(plane, "/metrics", pki.prometheus(), REMOTE))[0] == 200


@pytest.mark.parametrize("content", [b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
@pytest.mark.parametrize("name", ["certificate", "private_key", "client_ca"])
async def test_a_torn_file_leaves_what_was_read_before(plane, pki, name, content, caplog):
    """A tool that writes in place would end the scrapes."""
    old = pki.certificate
    pki.put(name, content)
    await until(lambda: said(caplog, logging.WARNING))
    [line] = said(caplog, logging.WARNING)
    assert f"{name}.pem" in line.error
    assert "defect" not in line.advice
    assert await shown(plane, pki.context()) == old
    assert (await get(plane, "/metrics", pki.prometheus(), REMOTE))[0] == 200


async def test_a_client_ca_that_is_none_is_refused(plane, pki, caplog):
    """With a client's own certificate in its place no client would be accepted, and nobody told why."""
    pki.put("client_ca", pki.clients.issue_cert("prometheus.example").cert_chain_pems[0].bytes())
    await until(lambda: said(caplog, logging.WARNING))
    assert "holds no CA certificate" in said(caplog, logging.WARNING)[0].error
    assert (await get(plane, "/metrics", pki.prometheus(), REMOTE))[0] == 200


async def test_what_could_not_be_read_for_another_reason_is_tried_again(pki, monkeypatch):
    """A folder that was closed to the daemon changes nothing of the file in it when it is opened."""
    monkeypatch.setattr(tls, "_AGAIN", 0.2)
    really, tried = tls.read, []
    monkeypatch.setattr(tls, "read", lambda files: really(files) if tried else tried.append(1) or 1 / 0)
    async with served(pki.admin) as plane:
        await until(lambda: plane.connections.tls.in_use, 2)


# A change of the config


async def test_tls_begins_with_a_reload_and_nothing_goes_on_in_plain_text(pki):
    """A client would be read by others for as long as it keeps its connection."""
    async with control_plane() as plane:
        reader, writer = await plane.open()
        writer.write(GET)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        plane.control_plane.follow(AdminConfig(**pki.admin))
        with contextlib.suppress(ConnectionError):
            assert b"200" not in (await asyncio.wait_for(reader.read(), 5)).partition(b"turns\n")[2]
        await until(lambda: plane.connections.tls.in_use)
        assert await plane.wire(GET) == ""
        assert (await get(plane, "/healthz", pki.context()))[0] == 200
        plane.control_plane.follow(AdminConfig())
        assert (await plane.get("/healthz"))[0] == 200
        idle = await plane.open()
        await until(lambda: len(plane.connections) == 1)
        next(iter(plane.connections._all)).deadline = 0.0  # and who says nothing is still cut off
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(idle[0].read(), 5) == b""


async def test_other_files_are_followed(plane, pki, tmp_path, caplog):
    """The old paths would go on to be looked at."""
    (tmp_path / "other").mkdir()
    other = Pki(tmp_path / "other")
    plane.control_plane.follow(AdminConfig(**other.admin))
    assert await shown(plane, pki.context()) == pki.certificate
    await until(lambda: said(caplog))
    assert await shown(plane, other.context()) == other.certificate
    assert (await get(plane, "/metrics", other.prometheus(), REMOTE))[0] == 200


# What a client cannot do


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01", "half a ClientHello"])
async def test_a_handshake_that_does_not_end_is_cut_off(plane, pki, sent, monkeypatch, caplog):
    """Each would hold a connection for as long as its client likes."""
    monkeypatch.setattr(client, "REQUEST_TIME", 0.5)
    reader, writer = await plane.open(BUILD)
    writer.write(client_hello(pki)[:HELLO] if sent == "half a ClientHello" else sent)
    await until(lambda: len(plane.connections) == 1)
    assert (await get(plane, "/healthz", pki.context()))[0] == 200
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionError):
            await reader.read()
    await until(lambda: not len(plane.connections), 3)
    assert said(caplog, logging.WARNING) == []


def client_hello(pki):
    outgoing = ssl.MemoryBIO()
    client = pki.context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello = outgoing.read()
    assert len(hello) > HELLO
    return hello


@pytest.mark.parametrize("junk", [GET, b"\x16\x03\x01\xff\xff" + b"\0" * 70_000, b"\0" * 200_000, b"SSH-2.0-x\r\n"])
async def test_what_is_no_tls_is_cut_off_and_told_to_nobody(plane, pki, junk, caplog):
    """Any user could fill the disk with tracebacks; a person with curl would wait for nothing."""
    caplog.clear()
    await plane.wire(junk, BUILD)
    await until(lambda: not len(plane.connections))
    assert said(caplog) == []
    assert (await get(plane, "/healthz", pki.context()))[0] == 200


async def test_one_user_in_handshakes_cannot_keep_the_others_out(plane, pki):
    """Two thousand that never end would keep Prometheus and the operator out."""
    most = plane.connections._most
    operator = await open_(plane, pki.context())
    prometheus = await open_(plane, pki.prometheus(), "127.0.1.9")
    held = [await plane.open(BUILD) for _ in range(most * 2)]
    held += [await plane.open(REMOTE) for _ in range(most * 2)]
    await until(lambda: len(plane.connections) <= most)
    for connection in (operator, prometheus):
        assert (await on(connection, "/metrics"))[0] == 200
    assert (await get(plane, "/metrics", pki.prometheus(), "127.0.1.9"))[0] == 200
    for _, writer in held:
        writer.close()


async def test_handshakes_in_a_loop_are_left_waiting(plane, pki, monkeypatch):
    """Each takes the loop from every client of the data plane."""
    monkeypatch.setattr(connections, "REFUSED_TIME", 0.2)
    plane.connections._handshakes._rate = 1
    replies = [await refused(plane, pki.context(), BUILD) for _ in range(6)]
    assert [reply is True for reply in replies[:4]] == [False] * 4
    assert True in replies
    assert (await get(plane, "/healthz", pki.context()))[0] == 200


async def test_who_does_not_read_the_metrics_over_tls_is_cut_off(pki, monkeypatch):
    """Its megabytes would stay in this process for as long as it likes."""
    monkeypatch.setattr(client, "ANSWER_TIME", 0.5)
    async with control_plane([f"role-{number}" for number in range(2000)], **pki.admin) as plane:
        await until(lambda: plane.connections.tls.in_use)
        _, writer = await open_(plane, pki.context())
        writer.transport.pause_reading()
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 8)
        [connection] = plane.connections._all
        await until(lambda: connection._transport)
        longest = 0

        def gone():
            nonlocal longest
            longest = max(longest, connection._transport.get_write_buffer_size())
            return not len(plane.connections)

        await until(gone, 20)
        assert longest < 400_000
        writer.transport.resume_reading()
        writer.transport.abort()


async def test_the_whole_of_a_large_answer_comes_over_tls(pki):
    """The last bytes would be cut off with the connection."""
    names = [f"role-{number}" for number in range(2000)]
    async with control_plane(names, **pki.admin) as plane:
        await until(lambda: plane.connections.tls.in_use)
        status, text = await get(plane, "/metrics", pki.context())
        assert status == 200
        assert all(f'role_info{{role="{name}"' in text for name in names[-3:])
