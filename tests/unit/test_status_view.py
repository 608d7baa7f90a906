"""What `status --watch` shows, without a terminal (cli/status_view.py, cli/status_table.py, cli/status_page.py)."""

import io
import re

import pytest
from rich.console import Console

from imds_proxy.cli.status import render
from imds_proxy.cli.status_document import complete
from imds_proxy.cli.status_view import Seen, View
from support.status import at, document, failing, failure, role, span

WIDTHS = [20, 40, 60, 80, 100, 129, 130, 160, 250]


def shown(status, width=80, height=None, *, elapsed=0.0, plain=False, **known):
    """The lines, as wide as they come."""
    console = Console(width=width, file=io.StringIO(), markup=False, highlight=False)
    seen = Seen("http://127.0.0.1:9338", None if status is None else complete(status), elapsed, **known)
    console.print(View(seen, plain=plain), height=height)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def everything():
    """A document with all there is."""
    file = {"path": "/etc/codedeploy-agent/conf/credentials", "format": "ini", "roles": ["deploy"], "written": at(-60)}
    problem = {"message": "/x cannot be written: No space left on device", "advice": "free space", "at": at(-3)}
    return document(
        role(
            "deploy", default=True, history=[span(-80000, -80000), span(-5000, -5000, "throttled")], **{"from": "host"}
        ),
        role("host", source="roles-anywhere", served=False, certificate_expires=at(3_000_000), grants=[]),
        role("pods", sessions=3, key=None, seconds_left=0, grants=["service account team/*"]),
        role("later", state="idle", on_demand=True, key=None, seconds_left=0, next_attempt=None),
        failing(
            "backup", failure=failure(message="no " * 80, advice="see " * 60), history=[span(-3000, -60, "denied")]
        ),
        files=[file | {"failure": None, "warnings": ["too short"]}, file | {"failure": problem, "warnings": []}],
        listeners_down=["169.254.169.254:80"],
        clock_skew_seconds=-95,
        config={"loaded": at(-7200), "error": 'renewal.maxage: unknown key; did you mean "max_age"?'},
        base_key={"created": at(-864_000), "rotations": {"success": 3, "denied": 1}},
        limited_requests=12,
        audit_write_failures=2,
    )


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("height", [1, 5, 12, 24, 40, None])
def test_nothing_is_wider_or_higher_than_the_terminal(width, height):
    """A line that wraps pushes the first lines out of the window."""
    lines = shown(everything(), width, height, error="no answer", advice="is the daemon running?")
    assert max(map(len, lines)) <= width
    assert height is None or len(lines) <= height


def test_it_says_all_that_there_is():
    """The page would know more than the terminal."""
    text = " ".join(" ".join(shown(everything(), 80)).split())
    for words in (
        "backup will expire in 10m00s unless a renewal succeeds: the last attempt was denied.",
        "The next attempt is in 30s.",
        "deploy * ok",
        "40m00s in 10m00s",
        "assume-role from host, key …ABCD, the default role: arn:aws:sts::123456789012:assumed-role/deploy/web-1",
        "given to user codedeploy",
        "given to nobody",
        "assume-role, 3 session(s) of service accounts",
        "denied at 11:58:00 UTC: no no",
        "→ see see",
        "/etc/codedeploy-agent/conf/credentials (ini of deploy), written 1m00s ago",
        "/etc/codedeploy-agent/conf/credentials: too short",
        "/x cannot be written: No space left on device (written 1m00s ago) → free space",
        "of host: ends in 34d17h",
        "made 10d00h ago, 3 rotation(s), 1 failed",
        "not open: 169.254.169.254:80",
        "open: 127.0.0.1:1338",
        "1m35s ahead of AWS's",
        'the last reload changed nothing: renewal.maxage: unknown key; did you mean "max_age"?',
        "1,234; container closed: 4; imds_v2 200: 1,230; 12 over the rate limit; 7 connections",
        "its file could not be written 2 time(s)",
    ):
        assert words in text, words


def test_the_bar_drains_and_marks_the_next_renewal():
    """Two thirds and one third would look alike."""

    def bar(elapsed):
        (row,) = [line for line in shown(document(), elapsed=elapsed) if line[1:9] == " deploy "]
        return re.search("[━╌┃]+", row)[0]

    full, later, last = bar(0), bar(1000), bar(2399)
    assert len(full) == len(later) == len(last) == 40
    assert (full.count("╌"), later.count("╌"), last.count("╌")) == (13, 24, 39)
    assert full.index("┃") == 20  # at half of its life
    assert "┃" not in later


def test_the_last_day_can_be_read_without_colour():
    """Red and green look the same to one man in twelve, and in a log."""
    outcomes = ("success", "throttled", "unreachable", "invalid", "denied", "eaten")
    spans = [span(-3600 * (number + 2), -3600 * (number + 2), outcome) for number, outcome in enumerate(outcomes)]
    lines = shown(document(role(history=spans)))
    (day,) = [line for line in lines if "24 h ago" in line]
    assert "?·D·i·u·t·■" in day
    assert len(re.search(r"ago (.*) now", day)[1]) == 48
    assert "  30 min a column:  ■=renewed  t=throttled  u=unreachable  i=invalid  D=denied" in lines
    (day,) = [line for line in shown(document(role(history=spans)), 60) if "24 h ago" in line]
    assert len(re.search(r"ago (.*) now", day)[1]) == 24
    wide = shown(document(role(history=spans)), 160)
    assert any(line.startswith("✓ deploy ok") and "?·D·i·u·t·■" in line for line in wide)


def test_with_less_room_less_is_said_of_what_is_well():
    status = document(*(role(f"r{number}") for number in range(4)))
    assert sum("24 h ago" in line for line in shown(status, height=40)) == 4
    assert any("given to" in line for line in shown(status, height=40))
    medium = shown(status, height=24)
    assert sum("24 h ago" in line for line in medium) == 4
    assert not any("given to" in line for line in medium)
    small = shown(status, height=17)
    assert sum(line.startswith("✓ r") for line in small) == 4
    assert any(line.startswith("  requests") for line in small)


@pytest.mark.parametrize("height", [24, 30, 50])
def test_of_a_thousand_roles_the_troubled_ones_are_seen_and_the_others_counted(height):
    """The one that dies would be on the tenth page."""
    roles = [role(f"r{number}") for number in range(1000)]
    roles[700] = failing("ill", 300)
    lines = shown(document(*roles), height=height)
    (first, *_) = [line for line in lines if " failing " in line]
    assert first.startswith("! ill")
    assert any("denied at 11:58:00 UTC: AWS said denied" in line for line in lines)
    listed = sum(line.startswith("✓ r") for line in lines)
    assert listed > 3
    assert f"  … and {999 - listed} more, all well" in lines


def test_with_more_in_trouble_than_fit_the_rest_is_counted():
    lines = shown(document(*(failing(f"r{number}", 300 + number) for number in range(100)), role("fine")), height=24)
    listed = sum(line.startswith("! r") and " failing " in line for line in lines)
    assert listed > 3
    assert f"  … and {100 - listed} more in trouble, 1 well" in lines


def test_a_small_window_has_the_advice_before_what_is_well():
    lines = shown(document(failing(), *(role(f"r{number}") for number in range(8))), height=18)
    assert any("→ mend it" in line for line in lines)


def test_a_daemon_that_is_away_is_told_with_the_age_of_what_is_shown():
    """An old picture would be taken for the present."""
    lines = shown(document(), elapsed=34.2, error="no answer from http://x: Connection refused", advice="start it")
    assert lines[2] == "✗ No answer from http://x: Connection refused"
    assert lines[3] == "  → start it"
    assert "34s old" in lines[4]
    assert any("39m25s" in line for line in lines)


def test_before_the_first_answer_there_is_what_is_known():
    assert "asked for its status" in shown(None)[2]
    assert "Connection refused" in shown(None, error="Connection refused", advice="start it")[2]


def test_another_users_view_says_that_it_is_not_everything():
    """A user would take the missing files for none."""
    limited = {"limited": True, "roles": [failing(grants=None, failure=failure(message="", advice=""))]}
    status = {
        key: value for key, value in document().items() if key not in {"files", "base_key", "audit_write_failures"}
    }
    text = " ".join(" ".join(shown(status | limited)).split())
    assert "denied at 11:58:00 UTC" in text
    assert "[admin] allowed_users" in text
    assert "given to" not in text


@pytest.mark.parametrize("status", [{}, {"roles": [{}]}, {"roles": [{"state": "melted", "key": "…A", "role": "x"}]}])
def test_a_daemon_of_another_version_is_shown_as_far_as_it_is_understood(status):
    """An upgrade would end in a traceback, on the terminal that was to watch it."""
    assert len(shown(status)) > 4
    assert render(status, as_json=False)


HOSTILE = "\x1b[2J\x1b]0;title\x07\x9b31m\u202enoisrever\r\n[red]bold[/red] [link=http://evil]x[/link] :warning:"


def test_words_from_outside_are_words():
    """A role's name or AWS's words would paint the screen, and hide what is true."""
    status = document(
        failing(HOSTILE, failure=failure(message=HOSTILE, advice=HOSTILE), grants=[HOSTILE], source=HOSTILE),
        listeners_down=[HOSTILE],
        version=HOSTILE,
        config={"loaded": at(0), "error": HOSTILE},
    )
    lines = shown(status, 160)
    assert "".join(lines).isprintable()
    assert any("[red]bold[/red] [link=http://evil]x[/link] :warning:" in line for line in lines)
    assert "".join(render(status, as_json=False).splitlines()).isprintable()


def test_a_terminal_without_these_characters_gets_others():
    """A serial console would show boxes."""
    status = everything()
    text = "\n".join(shown(status, plain=True))
    assert set(text) - set(map(chr, range(32, 127))) <= {"\n", "…"}
    assert "x listeners" in text
    assert re.search(r"#+\|#+-+", text)
