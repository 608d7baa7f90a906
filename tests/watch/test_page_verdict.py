"""What the page's first sentence says of every kind of status document, and that all of it is shown."""

import copy
import json

import pytest
from playwright.sync_api import expect

from support import status as documents
from support.shown_roles import ShownRoles
from support.status import at as after

NOW = documents.NOW.timestamp()
MINUTE, DAY = 60, 86400


def failure(outcome="unreachable", **more):
    return {"outcome": outcome, "message": f"it is {outcome}", "advice": f"see about {outcome}", "at": after(-5)} | more


def role(name="deploy", state="ok", **more):
    """A role that is well, but for what a test says."""
    history = [{"from": after(-DAY / 2), "to": after(-20 * MINUTE), "outcome": "success", "attempts": 20}]
    return documents.role(name, **{"state": state, "history": history} | more)


def without_session(name="deploy", state="pending", **more):
    nothing = dict.fromkeys(["session_arn", "key", "obtained", "expires"])
    return role(name, state, **nothing | {"seconds_left": 0, "history": []} | more)


def status(*roles, **more):
    """A daemon that is well, but for what a test says."""
    return documents.document(**{"roles": list(roles)} | more)


def file(**more):
    made = {"path": "/etc/aws.ini", "format": "ini", "roles": ["deploy"], "written": after(-60), "failure": None}
    return made | {"warnings": []} | more


WELL = role()
DEAD = role(state="expired", expires=after(-MINUTE), failure=failure("denied"))
IDLE = without_session(state="idle", due=None, next_attempt=None)
CASES = {
    "well": (status(WELL, role("logs")), "ok", "All well: 2 roles are kept fresh.", None),
    "idle": (status(IDLE), "ok", "All well: nobody asks for a role at this time.", None),
    "no role": (status(), "ok", "No role is configured.", None),
    "no role for this user": (status(limited=True), "ok", "This user may have no role here.", None),
    "starting": (status(without_session()), "wait", "The first credentials are being obtained: deploy.", None),
    "never had any": (
        status(without_session(failure=failure("denied"))),
        "bad",
        "deploy has no live credentials: AWS says no.",
        "see about denied",
    ),
    "dead": (status(WELL, DEAD), "bad", "deploy has no live credentials: AWS says no.", "see about denied"),
    "dead since the answer": (
        status(role(expires=after(-1))),
        "bad",
        "deploy has no live credentials.",
        "",
    ),
    "dying": (
        status(role(state="failing", failure=failure("throttled"))),
        "warn",
        "deploy expires in 40 min unless a renewal succeeds: AWS throttles the calls.",
        "see about throttled",
    ),
    "several, the first to expire is named": (
        status(*(role(f"r{n}", "failing", expires=after(n * MINUTE), failure=failure()) for n in (30, 12, 20))),
        "warn",
        "3 roles cannot be renewed: AWS cannot be reached. The first, r12, expires in 12 min.",
        "see about unreachable",
    ),
    "a source that is not AWS": (
        status(role(state="failing", source="process", failure=failure("invalid"))),
        "warn",
        "deploy expires in 40 min unless a renewal succeeds: its source (process) gave no usable credentials.",
        "see about invalid",
    ),
    "a part is seen": (
        status(DEAD | {"failure": failure("denied", message="", advice="")}, limited=True),
        "bad",
        "deploy has no live credentials: AWS says no.",
        "Root, the daemon's user and those in [admin] allowed_users are told why.",
    ),
    "one pod's session": (
        status(without_session(state="failing", sessions=3, failure=failure("denied", service_account="a/b", pod="p"))),
        "warn",
        "deploy cannot be renewed: AWS says no.",
        "see about denied",
    ),
    "a certificate that has ended": (
        status(role(certificate_expires=after(-DAY))),
        "bad",
        "The certificate of deploy has expired.",
        "Put the new certificate",
    ),
    "a certificate that ends too soon": (
        status(role(certificate_expires=after(5 * MINUTE), certificate_late=True)),
        "warn",
        "The certificate of deploy expires in 5 min, and no new one is in use.",
        "Put the new certificate",
    ),
    "a certificate of a day that is young": (
        status(role(certificate_expires=after(DAY))),
        "ok",
        "All well: 1 role is kept fresh.",
        None,
    ),
    "the clock": (
        status(WELL, clock_skew_seconds=240),
        "warn",
        "This host's clock is 4 min behind AWS's.",
        "chronyc makestep",
    ),
    "the clock, a little": (status(WELL, clock_skew_seconds=-5), "ok", "All well: 1 role is kept fresh.", None),
    "a file": (
        status(WELL, files=[file(failure={"message": "it is full", "advice": "make room", "at": after(-9)})]),
        "bad",
        "it is full",
        "make room",
    ),
}


@pytest.fixture(scope="module")
def empty():
    with ShownRoles(["deploy"]) as roles:
        yield roles


@pytest.fixture(scope="module")
def judge(browser, empty):
    """The page's own judgement of a document."""
    page = browser.new_page(timezone_id="UTC")
    page.goto(empty.url)
    judging = "async ([status, now]) => (await import('/page/verdict.js')).verdict(status, now)"
    yield lambda document: page.evaluate(judging, [document, NOW])
    page.close()


@pytest.mark.parametrize("case", CASES)
def test_the_sentence(judge, case):
    """The reader would be told that all is well, or be alarmed for nothing."""
    document, level, headline, advice = CASES[case]
    found = judge(document)
    assert (found["level"], found["headline"]) == (level, headline)
    assert (advice or "") in (found.get("advice") or "")
    assert bool(advice) == bool(found.get("advice"))


def test_the_worst_comes_first_and_nothing_is_left_out(judge):
    """A note would hide a role that is dead."""
    notes = {"clock_skew_seconds": 9, "files": [file(warnings=["it is readable by all"])], "audit_write_failures": 2}
    config = {"loaded": after(-DAY), "error": "no TOML"}
    dying = role("logs", "failing", failure=failure())
    found = judge(status(WELL, dying, DEAD, listeners_down=["10.0.0.1:80"], config=config, **notes))
    assert found["headline"].startswith("deploy has no live credentials")
    assert [other["level"] for other in found["others"]] == ["bad"] + ["warn"] * 2 + ["note"] * 3


def test_what_would_be_next_without_aws(judge):
    """Who leaves for an hour asks how long it would hold."""
    found = judge(status(WELL, role("logs", expires=after(25 * MINUTE), next_attempt=after(3 * MINUTE))))
    assert found["detail"] == (
        "The next renewal is in 3 min. Were nothing renewed from now on, logs would be the first to expire, "
        "in 25 min (at 12:25:00)."
    )


def test_everything_of_the_document_is_shown(empty, visit):
    """What is known and not shown has to be looked for on the host."""
    chain = [
        role("host", source="roles-anywhere", certificate_expires=after(40 * DAY), served=False),
        role("base", **{"from": "host"}),
        role("deploy", default=True, **{"from": "base"}),
        role("pods", sessions=3, source="web-identity", expires=None, obtained=None, key=None, session_arn=None),
        IDLE | {"role": "seldom", "on_demand": True},
    ]
    answers = [
        {"protocol": protocol, "document": document, "status": code, "count": number}
        for protocol, document, code, number in [
            ("imds_v1", "role", 200, 7),
            ("imds_v2", "token", 200, 1200),
            ("imds_v2", "role", 200, 34),
            ("container", "role", 0, 5),
        ]
    ]
    key = {"created": after(-30 * DAY), "rotations": {"success": 4, "failed": 1}}
    document = status(*chain, answers=answers, limited_requests=3, files=[file()], base_key=key, connections=2)
    answer = json.dumps(document)
    seen = visit(empty.url, prepare=lambda page: page.route("**/status.json", lambda route: route.fulfill(body=answer)))
    expect(seen.page.locator("#headline")).to_have_text("All well: 4 roles are kept fresh.")
    for name in ("deploy", "host"):
        seen.card(name).locator("summary").click()
    expect(seen.card("deploy").locator("dl")).to_contain_text("host → base → deploy")
    expect(seen.card("deploy").locator("dl")).to_contain_text("user codedeploy")
    expect(seen.card("deploy").locator("dl")).to_contain_text("assumed-role/deploy/web-1")
    expect(seen.card("deploy").locator(".origin")).to_have_text("AssumeRole from base · default")
    expect(seen.card("deploy").locator("table")).to_contain_text("success20")
    expect(seen.card("host").locator("dl")).to_contain_text("in 40 d")
    expect(seen.card("pods").locator(".left")).to_have_text("3 sessions of service accounts")
    expect(seen.card("seldom").locator(".next")).to_have_text("renewed once somebody asks")
    expect(seen.page.locator("#certificates")).to_contain_text("host")
    requests = seen.page.locator("#requests tbody tr").all_inner_texts()
    assert requests == ["IMDSv1\t200\t7", "IMDSv2\t200\t1,234", "Container\tclosed\t5"]
    expect(seen.page.locator("#requests")).to_contain_text("3 requests beyond the rate limit.")
    host = seen.page.locator("#host")
    for text in ("127.0.0.1:1338", "as AWS's", "rotations: 4 success, 1 failed", "2 open"):
        expect(host).to_contain_text(text)
    expect(seen.page.locator("#files")).to_contain_text("/etc/aws.iniini of deploy, written")
    expect(seen.page.locator("#timeline li")).to_have_count(4)
    seen.screenshot("everything")
    seen.check_accessibility()
    seen.check()


def test_a_document_from_a_later_daemon_is_shown(judge):
    """A page that was open during an upgrade would break on a key, a state or an outcome that it does not know."""
    document = copy.deepcopy(status(role(state="failing", failure=failure("a-new-outcome"), new=1), new={"a": 1}))
    assert judge(document)["headline"].endswith("AWS gives none.")
