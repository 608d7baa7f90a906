"""`imds-proxy status --watch` in a real terminal, against the real daemon."""

import http.server
import json
import os
import re
import signal
import subprocess
import sys
import termios
import threading
import time

import pytest

from support import aws as sts
from support.status import document, failing, failure
from support.terminal import Terminal, stopped

PROGRAM = [sys.executable, "-m", "imds_proxy", "status", "--watch"]
OFTEN = '[renewal]\nmax_age = "5s"\n'
WELL = "✓ Nothing will expire"
AWAY = "✗ No answer from http"
KEY = re.compile(r"key …(\w{4})")
NOBODY = 65534
CTRL_C, CTRL_Z = "\x03", "\x1a"


def watching(daemon, columns=80, rows=40, *, environment=None, program=PROGRAM):
    return Terminal([*program, "--config", str(daemon.config)], daemon.environment | (environment or {}), columns, rows)


@pytest.fixture(scope="module")
def daemon(account, tmp_path_factory):
    """One that is well, for the tests that disturb nothing."""
    from support.daemon import DaemonProcess  # noqa: PLC0415

    with DaemonProcess(tmp_path_factory.mktemp("watched"), account.config(), account.environment) as process:
        yield process.wait_ready()


# What is seen


def test_rotation_outage_and_recovery_are_seen(aws, start_daemon):
    """Whoever watches an outage would not see that it began, what to do, or that it is over."""
    daemon = start_daemon(OFTEN)
    with watching(daemon) as terminal:
        first = KEY.search(terminal.wait(WELL + ".*key …"))[1]
        terminal.wait_until(lambda: KEY.search(terminal.words)[1] != first, 20, "another key")
        aws.double.interfere = lambda request: sts.access_denied(request, "host")
        words = terminal.wait("! deploy will expire in .* unless a renewal succeeds: the last attempt was denied")
        assert re.search(r"! deploy \* failing .* denied at \S+ UTC: .* AccessDenied.* → .*trust policy", words)
        assert re.search("24 h ago .*D.* now", words)
        aws.double.interfere = lambda _: None
        terminal.wait(WELL, 90)  # a denial is tried again after 30 to 60 seconds
        assert re.search("24 h ago .*D.* now", terminal.words)


def test_the_time_that_is_left_runs_down_each_second(daemon):
    """A view that stands still looks like one that has hung."""
    with watching(daemon) as terminal:
        seen = set()
        terminal.wait(WELL)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            terminal.read(0.2)
            seen |= set(re.findall(r"(\d+m\d\ds) in ", terminal.words))
        assert len(seen) >= 4


def test_a_daemon_that_goes_away_is_told_and_seen_again(aws, start_daemon):
    """An old picture would be taken for the present."""
    daemon = start_daemon()
    with watching(daemon) as terminal:
        terminal.wait(WELL)
        daemon.stop()
        terminal.wait(f"{AWAY}.*: Connection refused → is the daemon running.* below is [2-9]s old.* deploy . ok")
        daemon.start()
        terminal.wait_until(lambda: WELL in terminal.words and AWAY not in terminal.words, 30, "the daemon again")


def test_an_answer_that_hangs_does_not_stop_the_countdown(aws, start_daemon):
    """The picture would stand still for as long as nobody answers, and so would Ctrl-C."""
    daemon = start_daemon()
    with watching(daemon) as terminal:
        terminal.wait(WELL)
        daemon.process.send_signal(signal.SIGSTOP)
        try:
            terminal.wait(f"{AWAY}.*: nothing within 5 s .*What is below is")
            ages, deadline = set(), time.monotonic() + 5
            while time.monotonic() < deadline:
                terminal.read(0.2)
                ages |= set(re.findall(r"What is below is (\d+)s old", terminal.words))
            assert len(ages) >= 4
        finally:
            daemon.process.send_signal(signal.SIGCONT)
        terminal.wait_until(lambda: AWAY not in terminal.words, 30, "the daemon again")


def test_it_waits_for_a_daemon_that_does_not_run_yet(aws, tmp_path):
    """Whoever starts the view before the daemon would have to start it again."""
    from support.daemon import DaemonProcess  # noqa: PLC0415

    daemon = DaemonProcess(tmp_path, aws.config(), aws.environment)
    with watching(daemon) as terminal:
        terminal.wait(AWAY + ".*Connection refused")
        with daemon:
            terminal.wait(WELL, 30)


OF_ANOTHER_USER = """
import argparse, encodings.idna, io, os, pathlib, sys
from rich.console import Console
from imds_proxy.cli import daemon_client, options, status_document, status_view, status_watch
target = options.target(argparse.Namespace(config=pathlib.Path(sys.argv[-1])))
# What is imported when it is needed first could not be read any more.
Console(file=io.StringIO()).print(status_view.View(status_view.Seen("x", status_document.complete({}))))
os.setgroups([])
os.setresgid(*[int(sys.argv[1])] * 3)
os.setresuid(*[int(sys.argv[1])] * 3)
sys.exit(status_watch.watch(lambda: daemon_client.status(target), target.admin))
"""


def test_another_user_sees_its_roles_and_that_it_is_not_everything(aws, start_daemon):
    """A user would get a traceback, or take what it may not see for what is not there."""
    daemon = start_daemon(OFTEN)
    program = [sys.executable, "-c", OF_ANOTHER_USER, str(NOBODY)]
    with watching(daemon, program=program) as terminal:
        terminal.wait(f"{WELL}: each role that this user may have .* deploy . ok .* limited to this user's roles")
        assert "given to" not in terminal.words
        aws.double.interfere = lambda request: sts.access_denied(request, "host")
        words = terminal.wait("deploy will expire in .*: the last attempt was denied")
        assert "AccessDenied" not in words
        terminal.type(CTRL_C)
        assert terminal.end() == 130


# The terminal


@pytest.mark.parametrize(("columns", "day"), [(60, "24 h ago"), (80, "24 h ago"), (160, "LAST 24 H")])
def test_no_line_is_wider_than_the_window_and_resizing_is_seen(daemon, columns, day):
    """A line that wraps pushes the first ones out of the window."""
    with watching(daemon, 100) as terminal:
        terminal.wait(WELL)
        terminal.resize(columns, 30)
        terminal.wait(f"{WELL}.* {day} .* requests")
        terminal.is_overrun = False
        terminal.read(2.5)
        assert not terminal.is_overrun
        terminal.resize(columns, 8)
        terminal.wait(WELL)
        terminal.is_overrun = False
        terminal.read(2.5)
        assert not terminal.is_overrun


@pytest.mark.parametrize("end", [CTRL_C, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_at_the_end_the_terminal_is_as_it_was(daemon, end):
    """The shell would be left without a cursor, or with the view in the place of what stood there."""
    with watching(daemon) as terminal:
        terminal.wait(WELL)
        assert terminal.alternate
        assert not terminal.cursor_shown
        if end == CTRL_C:
            terminal.type("qqq\n" + CTRL_C)
        else:
            terminal.signal(end)
        assert terminal.end() == 128 + (signal.SIGINT if end == CTRL_C else end)
        assert not terminal.alternate
        assert terminal.cursor_shown
        assert termios.tcgetattr(terminal.slave) == terminal.settings
        assert "Traceback" not in terminal.raw
        assert "qqq" not in terminal.raw
        assert not terminal.screen


def test_after_a_crash_the_terminal_is_as_it_was(daemon):
    """A defect here would cost a terminal."""
    script = (
        "import sys\nfrom imds_proxy.cli import main, status_view\n"
        "def broken(*_):\n    raise ValueError('what nobody thought of')\n"
        "status_view.View.__rich_console__ = broken\nsys.exit(main.main(sys.argv[1:]))"
    )
    with watching(daemon, program=[sys.executable, "-c", script, "status", "--watch"]) as terminal:
        assert terminal.end() == 1
        assert "\x1b[?1049h" in terminal.raw
        assert not terminal.alternate
        assert terminal.cursor_shown
        assert termios.tcgetattr(terminal.slave) == terminal.settings
        assert "unexpected ValueError" in terminal.screen
        assert "what nobody thought of" not in terminal.raw
        assert "Traceback" not in terminal.raw


def test_ctrl_z_gives_the_terminal_back_until_fg(daemon):
    """The shell that it leaves to would have no cursor."""
    with watching(daemon) as terminal:
        terminal.wait(WELL)
        terminal.type(CTRL_Z)
        terminal.wait_until(lambda: stopped(terminal.process), 10, "a stop")
        terminal.read()
        assert not terminal.alternate
        assert terminal.cursor_shown
        assert termios.tcgetattr(terminal.slave) == terminal.settings
        terminal.signal(signal.SIGCONT)
        terminal.wait(WELL)
        assert terminal.alternate
        terminal.type(CTRL_C)
        assert terminal.end() == 130


def test_colour_unless_it_is_not_wanted(daemon):
    """A terminal that shows none, or a person who wants none, would have codes or colours all the same."""
    with watching(daemon) as terminal:
        terminal.wait(WELL)
        assert terminal.has_colour
    with watching(daemon, environment={"NO_COLOR": "1"}) as terminal:
        terminal.wait(WELL)
        assert not terminal.has_colour


@pytest.mark.parametrize("name", ["dumb", "unknown"])
def test_a_terminal_without_a_screen_gets_tables(daemon, name):
    """An editor's shell window would be filled with codes."""
    with watching(daemon, environment={"TERM": name, "FORCE_COLOR": "1"}) as terminal:
        terminal.wait_until(lambda: terminal.raw.count("ROLE") == 2, 20, "two tables")
        assert "\x1b" not in terminal.raw
        terminal.type(CTRL_C)
        assert terminal.end() == 130


def test_a_terminal_that_cannot_show_every_character_gets_others(daemon):
    """On an old console the view would end with an encoding error."""
    with watching(daemon, environment={"PYTHONIOENCODING": "latin-1"}) as terminal:
        terminal.wait(r"\+ Nothing will expire.* deploy \* ok #+\|#*-* ")


# Elsewhere


def lines_of(daemon, *arguments, count, environment=None):
    """The first lines that it prints into a pipe, and what it says on standard error; ended by Ctrl-C's signal."""
    command = [*PROGRAM, *arguments, "--config", str(daemon.config)]
    environment = daemon.environment | (environment or {})
    with subprocess.Popen(command, env=environment, stdout=-1, stderr=-1, text=True) as process:
        lines = [process.stdout.readline() for _ in range(count)]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 130
    return lines, errors


def test_a_pipe_gets_tables_with_their_time_and_no_escape_code(daemon):
    """`--watch | tee log` would fill the log with codes."""
    environment = {"FORCE_COLOR": "1", "TERM": "xterm-256color", "CLICOLOR_FORCE": "1"}
    lines, errors = lines_of(daemon, count=12, environment=environment)
    assert "\x1b" not in "".join(lines)
    assert sum(line.startswith("ROLE") for line in lines) == 2
    assert sum(bool(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\n", line)) for line in lines) >= 2
    assert not errors


def test_json_is_one_document_in_each_line(daemon):
    """`--watch --json | jq` would have to guess where a document ends."""
    lines, errors = lines_of(daemon, "--json", count=2)
    documents = [json.loads(line) for line in lines]
    assert [each["roles"][0]["role"] for each in documents] == ["deploy", "deploy"]
    assert documents[0]["time"] < documents[1]["time"]
    assert not errors


def test_an_outage_is_no_line_of_json(aws, start_daemon):
    """A reader of documents would choke on a sentence."""
    daemon = start_daemon()
    command = [*PROGRAM, "--json", "--config", str(daemon.config)]
    with subprocess.Popen(command, env=daemon.environment, stdout=-1, stderr=-1, text=True) as process:
        assert json.loads(process.stdout.readline())
        daemon.stop()
        time.sleep(5)
        daemon.start().wait_ready()
        time.sleep(4)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=10)
    assert all(json.loads(line) for line in output.splitlines())
    assert output
    assert "no answer from" in errors


def test_a_status_without_watch_needs_nothing_of_it(daemon):
    """Every health check of a script would wait for an import that it does not use."""
    script = (
        "import sys\nfrom imds_proxy.cli.main import main\ncode = main(sys.argv[1:])\n"
        "sys.exit('rich' in sys.modules or code)"
    )
    command = [sys.executable, "-c", script, "status", "--config", str(daemon.config)]
    assert subprocess.run(command, env=daemon.environment, capture_output=True, check=False).returncode == 0


# Words from outside


class Hostile(http.server.BaseHTTPRequestHandler):
    """A control plane of this user whose every text is what a terminal obeys."""

    words = "\x1b]0;title\x07\x1b[2J\x9b5m\u202enoisrever\n[red]marked[/red]"

    def do_GET(self):
        status = document(
            failing(self.words, failure=failure(message=self.words, advice=self.words), grants=[self.words]),
            version=self.words,
            listeners=[self.words],
        )
        body = json.dumps(status).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hostile(tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hostile) as server:
        threading.Thread(target=server.serve_forever).start()
        config = tmp_path / "config.toml"
        role = '[roles.x]\nrole_arn = "arn:aws:iam::123456789012:role/x"'
        config.write_text(f'[admin]\nlisten = "127.0.0.1:{server.server_port}"\n{role}\n')
        yield config
        server.shutdown()


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_no_word_of_a_document_reaches_the_terminal_as_a_code(hostile, arguments):
    """Whoever names a role would set the title, clear the screen or turn the text of an administrator's terminal."""
    command = [*PROGRAM, *arguments, "--config", str(hostile)]
    with Terminal(command, {"PATH": os.environ["PATH"]}, 160) as terminal:
        terminal.wait(r"\[red\]marked\[/red\]")
        for code in ("\x1b]", "\x07", "\x1b[2J", "\x9b", "\u202e"):
            assert code not in terminal.raw
