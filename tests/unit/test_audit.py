"""Which lines the audit tells, and what is in them (audit/recorder.py, audit_line.py)."""

import asyncio
import dataclasses
import io
import json
import logging
import threading
import time
from collections import Counter
from typing import NamedTuple

import pytest

from imds_proxy.audit import recorder as audit_module
from imds_proxy.audit.line import Burst, burst_record
from imds_proxy.audit.recorder import Audit
from imds_proxy.callers.caller import Caller, ServiceAccount
from imds_proxy.config.grants import AuditConfig
from imds_proxy.host.clock import Clock
from imds_proxy.telemetry.log import JsonFormatter, TextFormatter
from imds_proxy.telemetry.stats import RequestStats
from support import virtual_time
from support.virtual_time import EPOCH

HANDED_OUT, REFUSED = "credentials handed out", "credentials refused"
BUILD = Caller("127.0.0.1", "127.0.0.1:1338", b"uid 1001", uid=1001, user="build")
ANOTHER = Caller("172.17.0.2", "127.0.0.1:1338", b"172.17.0.2")
POD = Caller("10.1.2.3", "0.0.0.0:80", b"pod", service_account=ServiceAccount("prod", "web", "web-7f9", "uid-of-pod"))
ANSWER = {
    "role": "deploy",
    "document": "credentials",
    "protocol": "imds_v2",
    "status": 200,
    "key": "AAAA",
    "reason": "",
    "user_agent": "aws-cli/2.30.0",
    "inode": 0,
}
DENIED = ANSWER | {"status": 404, "key": ""}
POD_DENIED = DENIED | {"status": 403, "protocol": "container", "role": ""}


class Found(NamedTuple):
    pid: int
    command: str


@pytest.fixture
def lines(caplog):
    """`lines()`: what went to the log so far, as fields."""
    caplog.set_level(logging.INFO, "imds_proxy.audit")
    return lambda: [json.loads(JsonFormatter().format(r)) for r in caplog.records if r.name == "imds_proxy.audit"]


def audited(story, find_process=lambda _uid, _inode: None):
    """Run `story(audit)` in virtual time, to the log."""

    async def main():
        loop = asyncio.get_running_loop()
        audit = Audit(loop.clock(), find_process, RequestStats())
        await audit.follow(AuditConfig())
        await story(audit)

    virtual_time.run(main())


def line_of(who=BUILD, process=None, **answer):
    values = {key: value for key, value in (ANSWER | answer).items() if key != "inode"}
    return burst_record(Burst(began=EPOCH, who=who, process=process, **values))


# Windows


def test_a_line_says_who_got_what(lines):
    """After a leak, this is what tells whose keys have to go."""

    async def story(audit):
        audit.record(BUILD, **ANSWER)
        await asyncio.sleep(1.1)

    audited(story)
    assert lines() == [
        {
            "time": "2027-01-15T08:00:00Z",
            "level": "info",
            "event": HANDED_OUT,
            "uid": 1001,
            "user": "build",
            "address": "127.0.0.1",
            "listener": "127.0.0.1:1338",
            "role": "deploy",
            "document": "credentials",
            "protocol": "imds_v2",
            "status": 200,
            "key": "AAAA",
            "user_agent": "aws-cli/2.30.0",
            "count": 1,
        }
    ]


def test_a_burst_is_one_line_with_a_count(lines):
    """A program that asks a thousand times a second would fill the disk."""

    async def story(audit):
        for _ in range(1000):
            audit.record(BUILD, **ANSWER)
            await asyncio.sleep(0.0009)
        await asyncio.sleep(1)

    audited(story)
    assert [line["count"] for line in lines()] == [1000]


def test_a_window_begins_with_its_first_answer_and_its_line_comes_when_it_ends(lines):
    """A line that waits for the caller to fall silent would never come."""
    told = []

    async def story(audit):
        await asyncio.sleep(0.7)
        for step in range(40):  # over 4 s, ten a second
            audit.record(BUILD, **ANSWER)
            await asyncio.sleep(0.1)
            told.append((step, len(lines())))
        await asyncio.sleep(2)

    audited(story)
    assert [line["count"] for line in lines()] == pytest.approx([10, 10, 10, 10], abs=1)
    assert sum(line["count"] for line in lines()) == 40
    assert dict(told)[5] == 0
    assert dict(told)[11] == 1
    assert [line["time"][-3:] for line in lines()] == ["00Z", "01Z", "02Z", "03Z"]


@pytest.mark.parametrize(
    ("who", "answer"),
    [
        (ANOTHER, ANSWER),
        (POD, ANSWER),
        (BUILD, ANSWER | {"role": "other"}),
        (BUILD, DENIED),
        (BUILD, ANSWER | {"key": "BBBB"}),
        (BUILD, ANSWER | {"protocol": "imds_v1"}),
        (BUILD, ANSWER | {"document": "credentials_extended"}),
    ],
)
def test_what_differs_has_a_line_of_its_own(lines, who, answer):
    """A line holds for all that it counts: nobody's keys hide behind somebody else's."""

    async def story(audit):
        audit.record(BUILD, **ANSWER)
        audit.record(who, **answer)
        audit.record(BUILD, **ANSWER)
        await asyncio.sleep(1.1)

    audited(story)
    assert [line["count"] for line in lines()] == [2, 1]


def test_connections_of_one_caller_are_one_burst(lines):
    """The command line opens one for each request, and each has a caller value of its own."""

    async def story(audit):
        for _ in range(3):
            again = Caller("127.0.0.1", "127.0.0.1:1338", b"uid 1001", uid=1001, user="build")
            audit.record(again, **ANSWER)
        await asyncio.sleep(1.1)

    audited(story)
    assert [line["count"] for line in lines()] == [3]


def test_what_was_not_told_yet_is_told_at_the_stop(lines):
    async def story(audit):
        audit.record(BUILD, **ANSWER)
        audit.record(BUILD, **DENIED)
        await audit.close()
        assert len(lines()) == 2
        await asyncio.sleep(2)

    audited(story)
    assert [line["event"] for line in lines()] == [HANDED_OUT, REFUSED]


def test_role_names_that_a_client_invents_fill_no_memory_and_hide_nothing(lines):
    """Refusals of ten thousand callers with names of 2 kB each, and among them the answer that matters."""

    async def story(audit):
        for number in range(10_000):
            who = dataclasses.replace(BUILD, uid=number)
            audit.record(who, **DENIED | {"role": f"{number}-" + "x" * 2000, "user_agent": "y" * 10_000})
        audit.record(ANOTHER, **ANSWER)
        window = audit._refused
        assert len(window.bursts) == audit_module.MOST_BURSTS
        assert max(len(b.role) + len(b.user_agent) for b in window.bursts.values()) <= 64 + 128
        await asyncio.sleep(1.1)
        assert not window.bursts
        audit.record(BUILD, **DENIED)
        await asyncio.sleep(1.1)

    audited(story)
    told = lines()
    (more,) = [line for line in told if line["event"] == "more credentials refused, too many to tell each"]
    assert (more["count"], more["level"]) == (10_000 - audit_module.MOST_BURSTS, "warning")
    assert [line["address"] for line in told if line["event"] == HANDED_OUT] == ["172.17.0.2"]
    assert len(told) == audit_module.MOST_BURSTS + 3
    assert told[-1]["count"] == 1


# What is in a line


def test_a_pod_is_named(lines):
    record = line_of(POD)
    assert (record.service_account, record.pod, record.address) == ("prod/web", "web-7f9", "10.1.2.3")
    assert not hasattr(record, "uid")


def test_an_answer_that_was_none_is_closed():
    record = line_of(status=0, key="")
    assert (record.getMessage(), record.status) == (REFUSED, "closed")
    assert not hasattr(record, "key")


FORGED = 'x\n{"event": "credentials handed out"}\r\x1b[2J\x00\x85\u2028\u202etxt.é\t"\\ '


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
@pytest.mark.parametrize("field", ["role", "user_agent"])
def test_the_words_of_a_client_fool_no_terminal_and_no_reader(formatter, field):
    text = formatter.format(line_of(**{field: FORGED}))
    assert len(text.splitlines()) == 1
    assert text.isascii()
    assert text.isprintable()
    if isinstance(formatter, JsonFormatter):
        assert json.loads(text)["event"] == HANDED_OUT


def test_the_words_of_a_client_are_cut():
    record = line_of(role="r" * 2048, user_agent="u" * 16_000)
    assert (len(record.role), len(record.user_agent)) == (64, 128)


def test_no_more_than_four_characters_of_a_key_are_told_whatever_comes():
    assert line_of(key="ASIAEXAMPLEKEYIDABCD").key == "ABCD"


def test_a_line_of_text_has_the_time_of_the_answer():
    """It is written a second after."""
    text = TextFormatter().format(line_of())
    assert text.startswith(time.strftime("%H:%M:%S", time.localtime(EPOCH)))
    assert "INFO    credentials handed out uid=1001 user=build" in text


def test_a_quiet_log_has_no_audit(caplog, lines):
    """`--log-level WARNING`: who wants the audit nevertheless gives it a file."""
    caplog.set_level(logging.WARNING, "imds_proxy.audit")

    async def story(audit):
        audit.record(BUILD, **ANSWER)
        await audit.close()

    audited(story)
    assert lines() == []


# The process


async def told_with(find_process, *answers, seconds=1.3):
    """The audit's lines of some answers, each `(who, answer)`, in real time; the text of the log."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("imds_proxy.audit")
    logger.addHandler(handler)
    audit = Audit(Clock(), find_process, RequestStats())
    try:
        for who, answer in answers:
            audit.record(who, **answer)
        await asyncio.sleep(seconds)
    finally:
        await audit.close()
        logger.removeHandler(handler)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


async def test_the_process_of_the_first_is_told_and_looked_for_once():
    asked = []

    def find(uid, inode):
        asked.append((uid, inode))
        return Found(4711, "aws\x1b[2J")

    (line,) = await told_with(find, *[(BUILD, ANSWER | {"inode": inode}) for inode in (5, 6, 7)])
    assert (line["pid"], line["command"], line["count"]) == (4711, "aws?[2J", 3)
    assert asked == [(1001, 5)]


async def test_a_process_is_looked_for_at_once_and_not_when_the_line_is_written():
    """The command line tool has its answer and is gone within a second."""
    asked, began = [], time.monotonic()
    await told_with(lambda *_: asked.append(time.monotonic() - began), (BUILD, ANSWER | {"inode": 5}))
    assert asked[0] < 0.5


@pytest.mark.parametrize(("who", "inode"), [(BUILD, 0), (ANOTHER, 5)])
async def test_nobody_is_looked_for_without_user_or_socket(who, inode):
    asked = []
    (line,) = await told_with(lambda *them: asked.append(them), (who, ANSWER | {"inode": inode}), seconds=0.1)
    assert not asked
    assert "pid" not in line


def broken(*_):
    raise OSError("no such process")


@pytest.mark.parametrize("find", [lambda *_: None, broken, lambda *_: time.sleep(2)])
async def test_a_process_that_is_not_found_is_left_out(find):
    """Gone, not readable, or a machine with so many that the search takes longer than the window."""
    (line,) = await told_with(find, (BUILD, ANSWER | {"inode": 5}), seconds=1.2)
    assert "pid" not in line
    assert line["user"] == "build"


async def test_a_search_at_the_stop_is_waited_for():
    def find(*_):
        time.sleep(0.2)
        return Found(1, "sh")

    (line,) = await told_with(find, (BUILD, ANSWER | {"inode": 5}), seconds=0)
    assert line["pid"] == 1


def test_a_caller_that_invents_names_hides_nobody_elses_refusals(lines):
    """Whoever has no role could fill the disk with lines, and be alone in them."""

    async def story(audit):
        for number in range(10_000):
            audit.record(BUILD, **DENIED | {"role": f"x{number}"})
        audit.record(ANOTHER, **DENIED)
        await asyncio.sleep(1.1)
        audit.record(BUILD, **DENIED | {"role": "again"})
        await asyncio.sleep(1.1)
        assert not audit._refused.of_caller

    audited(story)
    told = [(line.get("uid"), line["role"], line["count"]) for line in lines()]
    named = [(BUILD.uid, f"x{number}", 1) for number in range(audit_module.MOST_NAMES)]
    others = (BUILD.uid, "*", 10_000 - audit_module.MOST_NAMES)
    assert Counter(told) == Counter([*named, others, (ANOTHER.uid, DENIED["role"], 1), (BUILD.uid, "again", 1)])


async def test_one_search_at_a_time_few_in_all_and_one_for_a_connection():
    """Whoever makes a thousand different requests must not have the processes searched a thousand times."""
    running, most, asked = 0, 0, []
    lock = threading.Lock()

    def find(*them):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        asked.append(them)
        time.sleep(0.001)
        with lock:
            running -= 1

    same = [(BUILD, DENIED | {"role": str(number), "inode": 5}) for number in range(100)]
    different = [(dataclasses.replace(BUILD, uid=n), DENIED | {"inode": 10 + n}) for n in range(2000, 2300)]
    await told_with(find, *same, *different)
    assert most == 1
    assert len(asked) == len(set(asked)) == 64


async def test_searches_that_never_end_do_not_pile_up():
    hang = threading.Event()
    audit = Audit(Clock(), lambda *_: hang.wait(20) and None, RequestStats())
    for second in range(3):
        for number in range(100):
            who = dataclasses.replace(BUILD, uid=number)
            audit.record(who, **DENIED | {"inode": 1 + second * 100 + number})
        await asyncio.sleep(1.1)
    assert len(audit._searches) == 64
    assert audit._thread._work_queue.qsize() < 64
    began = time.monotonic()
    await audit.close()
    assert time.monotonic() - began < 1
    hang.set()


# Why

ASKS = "asks for arn:aws:iam::123456789012:role/{}; granted: a, b"


async def test_a_refusal_says_why_and_another_reason_is_another_line():
    """Of two annotations that no grant fits, the operator would see one."""
    why = [POD_DENIED | {"reason": ASKS.format(name)} for name in ("one", "two", "one")]
    told = await told_with(lambda *_: None, *[(POD, answer) for answer in why])
    assert Counter((line["reason"], line["count"]) for line in told) == {
        (ASKS.format("one"), 2): 1,
        (ASKS.format("two"), 1): 1,
    }


async def test_reasons_that_a_client_invents_are_one_line():
    told = await told_with(lambda *_: None, *[(POD, POD_DENIED | {"reason": ASKS.format(n)}) for n in range(100)])
    assert len(told) == audit_module.MOST_NAMES + 1
    [others] = [line for line in told if "reason" not in line]
    assert (others["role"], others["count"]) == ("*", 100 - audit_module.MOST_NAMES)


def test_a_reason_is_cut_and_harmless():
    """It may name as many roles as the config has."""
    line = json.loads(JsonFormatter().format(line_of(POD, **POD_DENIED | {"reason": "a\x1b[2J" + "x" * 5000})))
    assert line["reason"] == "a?[2J" + "x" * 1019
    assert "reason" not in json.loads(JsonFormatter().format(line_of(POD)))


# What it costs


async def test_it_costs_a_request_next_to_nothing():
    """It is on the way of each: a microsecond is the aim, and ten times that is allowed a busy machine."""
    audit = Audit(Clock(), lambda *_: None, RequestStats())
    audit.record(BUILD, **ANSWER)
    best = min(_seconds(lambda: audit.record(BUILD, **ANSWER)) for _ in range(5))
    assert best < 0.00001
    await audit.close()


def _seconds(call, times=2000):
    began = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - began) / times
