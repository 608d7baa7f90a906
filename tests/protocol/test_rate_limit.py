"""A caller in a loop, over real sockets: what it is told, when, and what it costs the others."""

import asyncio
import json
import time

from imds_proxy.callers.caller import ServiceAccount
from imds_proxy.callers.kubernetes.verifier import ServiceAccounts
from imds_proxy.metadata import listeners
from imds_proxy.metadata.connection import SLOW_TIME
from support.plane import plane
from support.wire import request, until, wire

TOKEN = request("/latest/api/token", "PUT", x_aws_ec2_metadata_token_ttl_seconds="60")
BURST = 4


async def spend(plane_):
    """All that this process may ask at once."""
    async with wire(plane_) as connection:
        for _ in range(BURST):
            assert (await connection.ask(TOKEN, "PUT")).status == 200


async def test_over_the_limit_the_answer_is_late_and_the_last_on_its_connection():
    """An answer at once would only let the loop run faster."""
    async with plane(metadata={"rate_limit": 1}) as plane_:
        await spend(plane_)
        began = time.monotonic()
        async with wire(plane_) as connection:
            await connection.send(TOKEN * 3)
            answer = await connection.answer("PUT")
            assert answer.status == 503
            assert answer.headers["connection"] == "close"
            assert time.monotonic() - began > SLOW_TIME * 0.9
            assert await connection.rest() == b""
        assert plane_.stats.limited["imds_v2"] == 1


async def test_what_is_granted_is_served_whatever_else_the_caller_asks():
    """One user's broken script would take the credentials from all that user's programs."""
    async with plane(metadata={"rate_limit": 1}) as plane_:
        token = await plane_.token()
        headers = {"X-aws-ec2-metadata-token": token}
        for _ in range(3):
            assert (await plane_.ask("/latest/meta-data/iam/security-credentials/x", headers=headers)).status == 404
        for _ in range(20):
            assert (
                await plane_.ask("/latest/meta-data/iam/security-credentials/deploy", headers=headers)
            ).status == 200


async def test_refused_requests_count_and_the_container_protocol_has_its_own_words():
    """Who guesses at a token has so many guesses a second, and its SDK reads the error."""
    async with plane(metadata={"rate_limit": 1}) as plane_:
        for _ in range(BURST):
            assert (await plane_.ask("/roles/deploy", headers={"Authorization": "guess"})).status == 401
        answer = await plane_.ask("/roles/deploy", headers={"Authorization": "guess"})
        assert answer.status == 503
        assert json.loads(answer.body)["Code"] == json.loads(answer.body)["code"] == "Throttling"
        assert (await plane_.get_container("deploy")).status == 200
        assert plane_.stats.limited["container"] == 1


async def test_a_role_document_is_refused_without_a_word():
    """Any body there, with any status, ends every process that uses the AWS C runtime (PROTOCOL.md 16)."""
    async with plane(metadata={"rate_limit": 1}) as plane_:
        await spend(plane_)
        began = time.monotonic()
        answer = await plane_.ask("/latest/meta-data/iam/security-credentials/deploy")
        assert answer.status is None
        assert time.monotonic() - began > SLOW_TIME * 0.9
        assert plane_.stats.limited["imds_v1"] == 1


async def test_other_sites_pages_are_limited_too():
    async with plane(metadata={"rate_limit": 1}) as plane_:
        statuses = [(await plane_.ask("/", headers={"Origin": "https://example.com"})).status for _ in range(BURST + 1)]
        assert statuses == [403] * BURST + [503]


async def test_a_thousand_answers_that_wait_hold_up_nobody():
    """A loop with many connections would hold the server by the answers that it is owed."""
    async with plane(metadata={"rate_limit": 1}) as plane_:
        headers = {"X-aws-ec2-metadata-token": await plane_.token()}
        for _ in range(BURST):
            await plane_.ask("/latest/api/token", "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
        waiting = [await plane_.connect() for _ in range(500)]
        for _, writer in waiting:
            writer.write(TOKEN)
        await asyncio.sleep(0.2)
        began = time.monotonic()
        assert (await plane_.ask("/latest/meta-data/iam/security-credentials/", headers=headers)).status == 200
        assert time.monotonic() - began < 0.5
        for _, writer in waiting:
            writer.close()


async def test_who_waits_for_a_late_answer_is_the_first_to_go(monkeypatch):
    """A loop with many connections would push out those who are served, by being newer than they."""
    monkeypatch.setattr(listeners, "MAX_CONNECTIONS", 3)
    async with plane(metadata={"rate_limit": 1}) as plane_:
        listed = request("/latest/meta-data/iam/security-credentials/", x_aws_ec2_metadata_token=await plane_.token())
        async with wire(plane_) as one, wire(plane_) as other, wire(plane_) as looping:
            assert [(await each.ask(listed)).status for each in (one, other)] == [200, 200]
            for _ in range(BURST - 1):
                assert (await looping.ask(TOKEN, "PUT")).status == 200
            began = time.monotonic()
            await looping.send(TOKEN)
            await until(lambda: plane_.stats.limited["imds_v2"] == 1)
            async with wire(plane_) as newcomer:
                assert (await newcomer.ask(listed)).status == 200
                assert await looping.rest() == b""
                assert time.monotonic() - began < SLOW_TIME * 0.9
                assert [(await each.ask(listed)).status for each in (one, other)] == [200, 200]


async def test_no_limit_is_no_limit():
    async with plane(metadata={"rate_limit": 0}) as plane_, wire(plane_) as connection:
        for _ in range(200):
            assert (await connection.ask(request("/roles/x", authorization="guess"))).status == 401


async def test_a_pod_in_a_loop_is_named_in_the_audit(monkeypatch):
    """Of all pods of a node somebody has to find the one that loops."""
    account = ServiceAccount("shop", "web", "web-1")

    async def follow(*_):
        pass

    monkeypatch.setattr(ServiceAccounts, "follow", follow)
    monkeypatch.setattr(ServiceAccounts, "verify", lambda *_: account)
    tables = {
        "grants": [{"role": "deploy", "service_account": "shop/api"}],
        "service_accounts": {"issuer": "https://cluster", "jwks_file": "/etc/jwks.json"},
    }
    async with plane(metadata={"rate_limit": 1}, **tables) as plane_:
        asked = [await plane_.ask("/v1/credentials", headers={"Authorization": "x"}) for _ in range(BURST + 1)]
        assert [answer.status for answer in asked] == [403] * BURST + [503]
        assert [(who.service_account, said["status"]) for who, said in plane_.audit.lines] == [
            (account, answer.status) for answer in asked
        ]
