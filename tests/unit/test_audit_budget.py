"""How much all callers together may write into the audit (audit/budget.py, audit.py)."""

import asyncio
import json
import logging
from collections import Counter

import pytest

from imds_proxy.audit.budget import LineBudget
from imds_proxy.audit.recorder import HANDED_OUT_RATE, MOST_BURSTS, REFUSED_RATE, Audit
from imds_proxy.callers.caller import Caller, ServiceAccount
from imds_proxy.config.grants import AuditConfig
from imds_proxy.telemetry.log import JsonFormatter, TextFormatter
from imds_proxy.telemetry.stats import RequestStats
from support import virtual_time

REFUSED = {
    "document": "credentials",
    "protocol": "imds_v2",
    "status": 404,
    "key": "",
    "user_agent": "aws-cli/2.30.0",
    "inode": 0,
}
HANDED_OUT = REFUSED | {"status": 200, "key": "AAAA"}
HONEST = Caller("127.0.0.1", "127.0.0.1:1338", b"uid 500", uid=500, user="honest")
SECONDS = 20


def user(uid):
    return Caller("127.0.0.1", "127.0.0.1:1338", b"uid %d" % uid, uid=uid, user=f"user{uid}")


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, "imds_proxy.audit")
    return lambda: [json.loads(JsonFormatter().format(r)) for r in caplog.records if r.name == "imds_proxy.audit"]


def audited(story):
    async def main():
        audit = Audit(asyncio.get_running_loop().clock(), lambda *_: None, RequestStats())
        await audit.follow(AuditConfig())
        await story(audit)
        await audit.close()

    virtual_time.run(main())


async def flood(audit, answer):
    """40 users ask for 40 roles each, ten times a second; an honest one asks once in a second."""
    for tenth in range(SECONDS * 10):
        for uid in range(1000, 1040):
            for number in range(tenth % 4, 40, 4):
                audit.record(user(uid), role=f"role-{number}", **answer)
        if tenth % 10 == 5:
            audit.record(HONEST, role="deploy", **answer)
        await asyncio.sleep(0.1)


@pytest.mark.parametrize(("answer", "rate"), [(REFUSED, REFUSED_RATE), (HANDED_OUT, HANDED_OUT_RATE)])
def test_many_users_together_fill_no_disk_and_every_answer_is_counted(lines, answer, rate):
    """With users to spare the audit would grow by gigabytes a day, and push out what it is for."""
    audited(lambda audit: flood(audit, answer))
    told = lines()
    assert len(told) <= MOST_BURSTS + (rate + 2) * SECONDS
    assert sum(line["count"] for line in told) == SECONDS * (40 * 10 * 10 + 1)
    folded = [line for line in told if line["event"].endswith("too many to tell each")]
    assert {line["level"] for line in folded} == {"warning"}
    assert max(Counter(line["time"] for line in folded).values()) <= 2
    # And they hide nobody else.
    honest = [line for line in told if line.get("user") == "honest"]
    assert [(line["role"], line["count"]) for line in honest] == [("deploy", 1)] * SECONDS


def test_what_is_left_out_says_of_whom_and_of_which_roles(lines):
    """Somebody has these credentials: after a leak it has to be known of which roles, and who may have leaked them."""
    pod = Caller("10.0.0.1", "", b"pod", service_account=ServiceAccount("prod", "web", "web-1", "uid"))

    async def story(audit):
        for uid in range(MOST_BURSTS):
            audit.record(user(uid), role="deploy", **HANDED_OUT)
            audit.record(user(uid), role="any", **REFUSED)
        for uid in range(2000, 2012):
            audit.record(user(uid), role="logs", **HANDED_OUT)
        for _ in range(30):
            audit.record(pod, role="deploy", **HANDED_OUT)
        audit.record(pod, role="any", **REFUSED)
        audit.record(pod, role="any", **REFUSED | {"status": 0})

    audited(story)
    handed_out, refused = [line for line in lines() if line["event"].endswith("too many to tell each")]
    assert (handed_out["count"], handed_out["roles"]) == (42, "deploy: 30, logs: 12")
    assert handed_out["callers"].startswith("prod/web: 30, uid 2000: 1, ")
    assert handed_out["callers"].endswith(", and 3 more")
    assert (refused["count"], refused["statuses"], refused["callers"]) == (2, "404: 1, closed: 1", "prod/web: 2")


def test_role_names_that_a_client_invents_are_in_no_summary(lines, caplog):
    """They would be long, many, and whatever a client likes to have in a log."""

    async def story(audit):
        for number in range(2000):
            audit.record(user(number), role=f"forged\n{number}", **REFUSED)

    audited(story)
    (folded,) = [line for line in lines() if line["event"].endswith("too many to tell each")]
    assert "forged" not in json.dumps(folded)
    text = TextFormatter().format(next(r for r in caplog.records if "too many" in r.msg))
    assert len(text) < 600
    assert len(text.splitlines()) == 1


def test_a_budget_lets_a_burst_through_then_its_rate_and_keeps_a_reserve_for_who_has_no_line():
    budget = LineBudget(10.0, 100)
    assert sum(budget.take(1.0, own=1) for _ in range(200)) == 80
    assert sum(budget.take(1.0, own=0) for _ in range(200)) == 20
    assert sum(budget.take(1.5, own=1) for _ in range(200)) == 0
    assert sum(budget.take(1.5, own=0) for _ in range(200)) == 5
    assert sum(budget.take(0.5, own=0) for _ in range(200)) == 0
    assert sum(budget.take(1000.0, own=0) for _ in range(200)) == 100
