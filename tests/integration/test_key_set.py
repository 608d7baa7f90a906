"""The cluster's keys, fresh from its API server or a file (callers/kubernetes/jwks_refresh.py, verifier.py)."""

import asyncio
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import trustme

from imds_proxy.callers.kubernetes import jwks_refresh
from imds_proxy.callers.kubernetes.verifier import KeysMissing, NotAccepted, ServiceAccounts
from imds_proxy.config.grants import ServiceAccountsConfig
from imds_proxy.demo.aws_double import free_port
from support.certificates import put
from support.clients import on, run
from support.daemon import request, wait
from support.http_source import clear_environment
from support.kubernetes import ISSUER, TABLES, ApiServer, Cluster, Key, by_pod, response
from support.log_lines import logged


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    clear_environment(monkeypatch)


@pytest.fixture
def lines():
    with logged() as found:
        yield found


@pytest.fixture
def cluster():
    return Cluster()


@pytest.fixture
def server(cluster, tmp_path):
    with ApiServer(cluster, tmp_path) as running:
        yield running


@pytest.fixture
async def follow():
    """`follow(**settings)`: the daemon's side with that table; the same one again for a reload."""
    accounts = ServiceAccounts()

    async def start(**settings):
        table = ServiceAccountsConfig(**{"issuer": ISSUER} | settings) if settings else None
        await accounts.follow(SimpleNamespace(service_accounts=table))
        return accounts

    yield start
    await accounts.close()


def verdict(accounts, token):
    try:
        return str(accounts.verify(token, time.time()))
    except (KeysMissing, NotAccepted) as error:
        return type(error).__name__


async def until(accounts, token, wanted="shop/api", seconds=5.0):
    """Ask as SDKs do, again and again, until the answer is that."""
    async with asyncio.timeout(seconds):
        while verdict(accounts, token) != wanted:
            await asyncio.sleep(0.02)


async def told(lines, event="not fetched"):
    async with asyncio.timeout(20):
        while not lines(event):
            await asyncio.sleep(0.02)
    return lines(event)[0]


# From the API server


async def test_a_pod_is_known_once_the_keys_are_here(follow, server, cluster, lines):
    """Over HTTPS with the cluster's own CA; the first caller does not wait for it, and is told to come again."""
    accounts = await follow(jwks_url=server.url, ca_bundle=server.ca_bundle)
    token = cluster.token()
    assert verdict(accounts, token) == "KeysMissing"
    await until(accounts, token)
    (line,) = lines()
    assert (line["keys"], line["ignored"], line["origin"]) == (1, 0, server.url)
    assert server.requests[0].startswith("GET /openid/v1/jwks HTTP/1.1\r\n")
    assert "Authorization" not in server.requests[0]


async def test_the_daemons_own_token_is_read_at_every_fetch(follow, server, cluster, tmp_path, lines):
    """Kubernetes writes another one every hour; and one put there after a refusal is tried at once."""
    token_file = tmp_path / "token"
    token_file.write_text("yesterdays-token\n")
    server.token = "todays-token"
    accounts = await follow(jwks_url=server.url, ca_bundle=server.ca_bundle, token_file=str(token_file))
    line = await told(lines)
    assert "403" in line["error"]
    assert "system:service-account-issuer-discovery" in line["advice"]
    put(token_file, b"todays-token\n", 0o644)
    await until(accounts, cluster.token())
    assert not [each for each in ("yesterdays-token", "todays-token") if each in str(lines())]


async def test_a_new_key_is_fetched_when_a_token_names_it(follow, server, cluster, monkeypatch):
    """An API server that was given a new key signs with it at once."""
    monkeypatch.setattr(jwks_refresh, "APART", 0.3)
    accounts = await follow(jwks_url=server.url, ca_bundle=server.ca_bundle)
    old = cluster.token()
    await until(accounts, old)
    cluster.keys.append(Key("ES256"))
    new = cluster.token()
    assert verdict(accounts, new) == "KeysMissing"
    await until(accounts, new)
    assert verdict(accounts, old) == "shop/api"
    assert len(server.requests) == 2
    cluster.keys = [Key()]  # both are withdrawn
    await until(accounts, cluster.token())
    assert "shop/api" not in {verdict(accounts, old), verdict(accounts, new)}
    await until(accounts, old, "NotAccepted")
    await until(accounts, new, "NotAccepted")


async def test_a_withdrawn_key_ends_with_the_next_fetch(follow, server, cluster, monkeypatch, lines):
    """Somebody has stolen it; nobody has to ask for that."""
    monkeypatch.setattr(jwks_refresh, "EVERY", 0.5)
    accounts = await follow(jwks_url=server.url, ca_bundle=server.ca_bundle)
    old = cluster.token()
    await until(accounts, old)
    cluster.keys = [Key()]
    await until(accounts, old, "KeysMissing")
    cluster.keys = []
    await told(lambda event: [each for each in lines(event) if not each["keys"]], "fetched")
    assert lines("fetched")[-1]["level"] == "warning"


async def test_a_flood_of_unknown_keys_makes_one_fetch_in_its_time(follow, server, cluster, monkeypatch):
    """Else anybody who can reach this host could make it ask the API server without end."""
    monkeypatch.setattr(jwks_refresh, "APART", 1.0)
    accounts = await follow(jwks_url=server.url, ca_bundle=server.ca_bundle)
    await until(accounts, cluster.token())
    ends = asyncio.get_running_loop().time() + 2.5
    number = 0
    while asyncio.get_running_loop().time() < ends:
        for _ in range(50):
            number += 1
            assert verdict(accounts, cluster.token(header={"kid": f"unknown-{number}"})) == "KeysMissing"
        await asyncio.sleep(0.01)
    assert number > 500
    assert 2 <= len(server.requests) <= 4
    assert len(accounts._keys._wanted) + len(accounts._keys._absent) <= 200
    assert verdict(accounts, cluster.token()) == "shop/api"


async def test_a_token_of_a_key_that_is_nowhere_is_refused_in_the_end(follow, server, cluster, monkeypatch):
    """Not told for ever to come again; but looked for again, should the key be published late."""
    monkeypatch.setattr(jwks_refresh, "APART", 0.3)
    accounts = await follow(jwks_url=server.url, ca_bundle=server.ca_bundle)
    await until(accounts, cluster.token())
    late = Key()
    token = cluster.token(key=late)
    await until(accounts, token, "NotAccepted")
    assert verdict(accounts, token) == "NotAccepted"
    cluster.keys.append(late)
    await until(accounts, token)


async def test_a_server_that_is_down_at_the_start_is_asked_again(follow, cluster, tmp_path, lines):
    port, authority = free_port(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "cluster-ca.pem")
    url = f"https://127.0.0.1:{port}/openid/v1/jwks"
    accounts = await follow(jwks_url=url, ca_bundle=str(tmp_path / "cluster-ca.pem"))
    line = await told(lines)
    assert f"{url}: no connection: connection refused" in line["error"]
    assert "role" not in line["error"]
    assert (line["level"], line["held"]) == ("error", False)
    with ApiServer(cluster, tmp_path, port=port, authority=authority):
        await until(accounts, cluster.token(), seconds=20)
    assert lines("fetched")[-1]["level"] == "info"
    assert [each["level"] for each in lines("not fetched")].count("error") == 1  # said once, however often it is tried


def redirect(connection):
    connection.sendall(response(b"", "302 Found", headers="Location: https://127.0.0.1:9/keys\r\n"))


def html(connection):
    connection.sendall(response(b"<html>Log in</html>", content_type="text/html"))


def drip(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(1000):
        connection.sendall(b" ")
        time.sleep(0.1)


def endless(connection):
    connection.sendall(response(b"x" * (2 << 20)))


def error(connection):
    connection.sendall(response(b"{}", "500 Internal Server Error"))


def silent(connection):
    connection.recv(1)


BAD = {
    redirect: "sends elsewhere",
    html: "no JSON Web Key Set",
    drip: "no complete answer within",
    endless: "more than 1 MB",
    error: "answered 500",
    silent: "no complete answer within",
}


@pytest.mark.parametrize("bad", BAD, ids=lambda each: each.__name__)
async def test_on_a_bad_day_the_keys_that_are_held_stay(follow, server, cluster, lines, monkeypatch, bad):
    """Nobody loses a role because the API server is being upgraded; and it is told once."""
    monkeypatch.setattr(jwks_refresh, "EVERY", 0.2)
    monkeypatch.setattr(jwks_refresh, "_TIME_LIMIT", 1.0)
    accounts = await follow(jwks_url=server.url, ca_bundle=server.ca_bundle)
    await until(accounts, cluster.token())
    server.interfere = bad
    line = await told(lines)
    assert BAD[bad] in line["error"]
    assert (line["level"], bool(line["advice"]), line["held"]) == ("error", True, True)
    assert verdict(accounts, cluster.token()) == "shop/api"
    server.interfere = None
    cluster.keys.append(Key("ES256"))
    await until(accounts, cluster.token(), seconds=20)
    assert lines("fetched")[-1]["keys"] == 2


async def test_a_server_that_nobody_vouches_for_is_not_believed(follow, server, cluster, tmp_path, lines):
    """Who answers there decides whom this host believes."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "other-ca.pem")
    accounts = await follow(jwks_url=server.url, ca_bundle=str(tmp_path / "other-ca.pem"))
    line = await told(lines)
    assert "certificate is not accepted" in line["error"]
    assert "ca_bundle" in line["advice"]
    assert verdict(accounts, cluster.token()) == "KeysMissing"
    assert server.requests == []


async def test_no_token_is_in_a_log(follow, server, cluster, lines, monkeypatch):
    """Neither a pod's, nor one that was refused."""
    monkeypatch.setattr(jwks_refresh, "APART", 0.1)
    accounts = await follow(jwks_url=server.url, ca_bundle=server.ca_bundle)
    tokens = [cluster.token(), cluster.token(key=Key()), cluster.token(life=-99), cluster.token() + "x"]
    await until(accounts, tokens[0])
    for token in tokens:
        verdict(accounts, token)
        await asyncio.sleep(0.3)
    server.interfere = error
    verdict(accounts, tokens[1])
    await told(lines)
    text = str(lines())
    assert not [part for token in tokens for part in token.split(".") if part in text]


# From a file


async def test_keys_in_a_file_are_read_again_when_it_changes(follow, cluster, tmp_path):
    """Put there by whoever manages the host, or by Kubernetes' link swap."""
    path = tmp_path / "jwks.json"
    put(path, cluster.key_set(), 0o644)
    accounts = await follow(jwks_file=str(path))
    old = cluster.token()
    await until(accounts, old)
    cluster.keys = [Key("ES384")]
    put(path, cluster.key_set(), 0o644)
    await until(accounts, cluster.token())
    assert verdict(accounts, old) == "KeysMissing"
    path.unlink()
    await asyncio.sleep(1)
    assert verdict(accounts, cluster.token()) == "shop/api"


async def test_a_file_that_is_missing_is_waited_for(follow, cluster, tmp_path, lines):
    path = tmp_path / "jwks.json"
    accounts = await follow(jwks_file=str(path))
    assert str(path) in (await told(lines))["error"]
    put(path, cluster.key_set(), 0o644)
    await until(accounts, cluster.token())


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o646])
async def test_a_file_that_others_may_change_is_refused(follow, cluster, tmp_path, lines, mode):
    """Whoever writes there could be any pod."""
    path = tmp_path / "jwks.json"
    put(path, cluster.key_set(), mode)
    accounts = await follow(jwks_file=str(path))
    line = await told(lines)
    assert "other users" in line["error"]
    assert f"chmod 644 {path}" in line["advice"]
    assert verdict(accounts, cluster.token()) == "KeysMissing"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
async def test_a_file_of_somebody_elses_is_refused(follow, cluster, tmp_path, lines):
    path = Path(put(tmp_path / "jwks.json", cluster.key_set(), 0o644))
    os.chown(path, 12345, 12345)
    await follow(jwks_file=str(path))
    assert "other users" in (await told(lines))["error"]


# Reloads


async def test_a_reload_keeps_the_keys_of_the_same_issuer(follow, server, cluster):
    """A pod that asks in that moment notices nothing."""
    accounts = await follow(jwks_url=server.url, ca_bundle=server.ca_bundle)
    token = cluster.token()
    await until(accounts, token)
    await follow(jwks_url=server.url, ca_bundle=server.ca_bundle, leeway="1m")
    assert verdict(accounts, token) == "shop/api"
    await follow(jwks_url=server.url, ca_bundle=server.ca_bundle, audience="another")
    assert verdict(accounts, token) == "NotAccepted"


async def test_a_reload_that_adds_an_issuer_keeps_the_keys(follow, server, cluster):
    """A cluster that changes its issuer has both for a while; no pod may notice either reload."""
    new = "https://oidc.example.com/cluster"
    accounts = await follow(jwks_url=server.url, ca_bundle=server.ca_bundle)
    old_token, new_token = cluster.token(), cluster.token(iss=new)
    await until(accounts, old_token)
    assert verdict(accounts, new_token) == "NotAccepted"
    for issuer, accepted, refused in (
        ([ISSUER, new], [old_token, new_token], []),
        ([new], [new_token], [old_token]),
        (ISSUER, [], [new_token]),
    ):
        await follow(jwks_url=server.url, ca_bundle=server.ca_bundle, issuer=issuer)
        assert [verdict(accounts, token) for token in accepted] == ["shop/api"] * len(accepted)
        assert [verdict(accounts, token) for token in refused] == ["NotAccepted"] * len(refused)
    assert verdict(accounts, old_token) == "KeysMissing"  # no issuer is the same: the keys are fetched again


async def test_a_reload_forgets_the_keys_of_another_place(follow, server, cluster, tmp_path):
    """What the old cluster signed counts no more."""
    accounts = await follow(jwks_url=server.url, ca_bundle=server.ca_bundle)
    token = cluster.token()
    await until(accounts, token)
    other = Cluster()
    put(tmp_path / "jwks.json", other.key_set(), 0o644)
    await follow(jwks_file=str(tmp_path / "jwks.json"))
    assert verdict(accounts, token) == "KeysMissing"
    await until(accounts, other.token())
    await follow()
    assert verdict(accounts, other.token()) == "NotAccepted"
    assert not [task for task in asyncio.all_tasks() if "service account" in task.get_name()]


# All of it


@pytest.mark.parametrize("client", ["boto3", "awscli"])
def test_an_sdk_in_a_pod_has_the_role_of_its_service_account(aws, start_daemon, cluster, server, tmp_path, client):
    """With what EKS Pod Identity sets there; and no other pod has it."""
    daemon = start_daemon(TABLES.format(issuer=ISSUER, url=server.url, ca_bundle=server.ca_bundle))
    token_file, others = tmp_path / "eks-pod-identity-token", cluster.token(account="web")
    token_file.write_text(cluster.token())
    wait(server.arrived.is_set, 10, "the keys are fetched")
    ended = run(client, on(aws.double.url) | by_pod(daemon, token_file), "once")
    assert ended.status == 0, ended.errors
    url = f"{daemon.endpoint}v1/credentials"
    assert request(url, headers={"Authorization": others})[0] == 403
    for refused in ("", "Bearer x", cluster.token()[:-4] + "AAAA", cluster.token(life=-99), cluster.token(aud="x")):
        assert request(url, headers={"Authorization": refused})[0] == 401

    def audited(event):
        lines = [e for e in daemon.events() if e["event"] == f"credentials {event}"]
        return {(e["status"], e.get("service_account"), e.get("pod"), e.get("role")) for e in lines}

    assert wait(lambda: audited("handed out"), 5, "the audit") == {(200, "shop/api", "api-7d9f", "deploy")}
    wait(lambda: (403, "shop/web", "api-7d9f", None) in audited("refused"), 5, "the refusal")
    wait(lambda: (401, None, None, None) in audited("refused"), 5, "the refusals without an account")
    assert request(url, headers={"Authorization": "a" * 100_000})[0] == 431
    log = daemon.log.read_text()
    assert not [part for token in (others, token_file.read_text()) for part in token.split(".") if part in log]
