"""Will anything expire before I am back? (cli/status_facts.py, cli/status_host.py, cli/status_document.py)"""

import json

import pytest

from imds_proxy.cli import status_facts as facts
from imds_proxy.cli.status_document import complete
from imds_proxy.cli.status_facts import Level
from imds_proxy.cli.status_host import facts as host_facts
from imds_proxy.printable import escaped
from support.status import NOW, at, document, failing, failure, role, span

FILE = {"path": "/etc/x/credentials", "format": "ini", "roles": ["deploy"], "written": at(-60), "warnings": []}


def said(*roles, elapsed=0.0, **changes):
    whole = complete(document(*roles, **changes))
    return facts.answer(whole, facts.roles_now(whole, elapsed), elapsed)


def test_where_all_is_well_it_says_so_and_how_long_an_outage_could_last():
    """Whoever leaves would not know whether to stay, or for how long nobody needs to look."""
    answer = said(role(), role("backup", seconds_left=1500))
    assert answer.level == Level.WELL
    assert answer.text.startswith("Nothing will expire")
    assert answer.more == "If AWS stopped answering now, backup would expire first, in 25m00s."


def test_a_role_that_fails_is_named_with_the_time_that_is_left_and_goes_on_running_out():
    """A minute later the same sentence would promise a minute too much."""
    assert said(role(), failing("backup", 600)).level == Level.ATTENTION
    assert (
        "backup will expire in 10m00s unless a renewal succeeds: the last attempt was denied."
        in said(failing("backup", 600)).text
    )
    later = said(failing("backup", 600), elapsed=61.5)
    assert "in 8m58s" in later.text
    assert later.more == "It is tried again now."
    gone = said(failing("backup", 600), elapsed=600)
    assert (gone.level, gone.text) == (Level.TROUBLE, "backup has expired: the last attempt was denied.")


def test_what_has_ended_comes_before_what_will_end():
    """The sentence would be of the role that is still alive."""
    dead = role("a", state="pending", key=None, seconds_left=0, failure=failure("unreachable"), next_attempt=at(5))
    answer = said(failing("b", 600), dead)
    assert answer.text == "a has no credentials: the last attempt had no answer."
    assert "in 5s" in answer.more
    assert "b will expire in 10m00s" in answer.more


def test_a_start_is_no_alarm():
    """Each start would look like an outage."""
    answer = said(role(state="pending", key=None, seconds_left=0))
    assert (answer.level, "being obtained" in answer.text) == (Level.ATTENTION, True)


def test_many_roles_are_one_sentence():
    """A thousand names would fill the screen."""
    answer = said(*(failing(f"r{number}", 600 + number) for number in range(1000)))
    assert answer.text.startswith("r0 will expire in 10m00s (and 999 more after it) unless")
    dead = [role(f"r{number}", state="expired", seconds_left=0, failure=failure()) for number in range(1000)]
    assert said(*dead).text.startswith("r0 and 999 more roles have expired")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"listeners_down": ["169.254.169.254:80"]}, "nobody is served on 169.254.169.254:80"),
        (
            {"files": [FILE | {"failure": {"message": "m", "advice": "a", "at": at(0)}}]},
            "/etc/x/credentials is not kept",
        ),
        ({"clock_skew_seconds": -95}, "this host's clock is 1m35s ahead of AWS's"),
        ({"config": {"loaded": at(0), "error": "line 3"}}, "the last reload of the config changed nothing"),
    ],
)
def test_what_is_wrong_beside_the_roles_is_in_the_sentence(changes, words):
    """All roles are green, and nobody gets anything."""
    answer = said(**changes)
    assert answer.level
    assert words in answer.text


@pytest.mark.parametrize(
    ("left", "late", "level"),
    [(1800, False, Level.WELL), (6 * 86400, True, Level.ATTENTION), (-5, True, Level.TROUBLE)],
)
def test_a_certificate_is_told_before_it_ends(left, late, level):
    """It ends at night, and every role with it."""
    changed = role("host", certificate_expires=at(left), certificate_late=late)
    assert said(changed).level == level
    (fact,) = [fact for fact in host_facts(complete(document(changed)), 0.0) if fact.label == "certificates"]
    assert fact.level == level


@pytest.mark.parametrize(("late", "level"), [(50, Level.WELL), (70, Level.ATTENTION)])
def test_a_renewal_that_hangs_is_told(late, level):
    """A daemon that has stopped renewing would look well until the end."""
    answer = said(role(next_attempt=at(-late)))
    assert answer.level == level
    assert ("late" in answer.text) == bool(level)


def test_roles_without_a_life_of_their_own_are_no_alarm():
    """A role on demand, or with a session for each service account, holds nothing by itself."""
    idle = role("a", state="idle", key=None, seconds_left=0, next_attempt=None)
    assert said(idle).text == "Nothing can expire: no role is asked for at this time."
    assert said(idle | {"state": "ok", "sessions": 3}).text.startswith("Nothing will expire")
    failed = idle | {"state": "failing", "sessions": 3, "failure": failure(service_account="team/app")}
    assert said(failed).text == "A session of a is not renewed: the last attempt was denied."


def test_the_troubled_roles_come_first_and_of_these_the_one_with_the_least_life():
    roles = [role("a"), failing("b", 900), role("c"), failing("d", 300), role("e", state="expired", seconds_left=0)]
    assert [each.name for each in facts.roles_now(complete(document(*roles)), 0.0)] == ["e", "d", "b", "a", "c"]


# The last day


def day(*spans, began=None, columns=24):
    return facts.timeline(list(spans), NOW.timestamp(), began or NOW.timestamp() - 200_000, columns)


def test_the_last_day_shows_the_worst_of_each_hour_in_its_place():
    """A denial between two renewals is what one looks for."""
    cells = day(span(-86000, -86000), span(-7000, -4000, "unreachable"), span(-3500, -3500, "denied"), span(-10, -10))
    assert cells[0] == "success"
    assert cells[1:22] == [""] * 21
    assert cells[22:] == ["unreachable", "denied"]


def test_what_began_before_the_day_is_cut_and_what_ended_before_it_is_not_shown():
    assert day(span(-100_000, -80_000, "denied"))[:3] == ["denied", "denied", ""]
    assert set(day(span(-100_000, -90_000, "denied"))) == {""}


def test_nothing_is_said_of_the_time_before_the_start():
    """A fresh daemon would claim a day without attempts."""
    cells = day(span(-3000, -3000), began=NOW.timestamp() - 5 * 3600)
    assert cells == [None] * 19 + [""] * 4 + ["success"]


def test_an_outcome_of_a_newer_daemon_is_not_hidden_by_a_success():
    assert day(span(-20, -20, "eaten"), span(-10, -10))[-1] == "eaten"


# Documents of other versions, and of hostile ones


def test_a_document_without_a_single_key_is_complete():
    """A daemon of another version would end the command with a traceback."""
    whole = complete({"roles": [{}, {"failure": {}, "history": [{}]}], "files": [{"failure": {}}], "answers": [{}]})
    assert facts.answer(whole, facts.roles_now(whole, 1.0), 1.0).text
    assert host_facts(whole, 1.0)


def test_null_is_as_nothing():
    whole = complete(dict.fromkeys(document()) | {"roles": [dict.fromkeys(role())]})
    assert facts.answer(whole, facts.roles_now(whole, 1.0), 1.0).text
    assert host_facts(whole, 1.0)


@pytest.mark.parametrize("text", ["\x1b[2J", "\x9b31m", "\u202e", "a\nb", "\r", "\x07", "\u200b", "\ud800", "\u2028"])
def test_no_text_of_a_document_moves_the_cursor_or_turns_the_line(text):
    """Whoever may name a role would write on the administrator's screen."""
    whole = complete(document(role(f"x{text}y", failure=failure(message=text), grants=[text])))
    shown = "".join(each for each in strings(whole) if each != "…ABCD")
    assert shown.isprintable()


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from strings(each)


@pytest.mark.parametrize("text", ["\x9b31m", "\u202eabc", "\U000e0001", "…é\n\x1b"])
def test_json_says_the_same_without_them(text):
    """`status --json` on a terminal would carry out what a role's name says."""
    written = escaped(json.dumps({"a": text}, ensure_ascii=False))
    assert written.isprintable()
    assert json.loads(written) == {"a": text}
    assert escaped('{"a": "…é"}\n') == '{"a": "…é"}\n'
