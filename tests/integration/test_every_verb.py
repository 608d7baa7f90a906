"""What holds for every verb: in any locale, wherever its output leads, and for a command line that is wrong."""

import io
import json
import logging
import re
import subprocess
import sys

import pytest

from imds_proxy.cli import terminal
from imds_proxy.cli.main import _VERBS, main, parser
from imds_proxy.telemetry import log
from imds_proxy.telemetry.log import JsonFormatter
from support.daemon import clean_environment
from support.many_verbs import run_each

NESTED = [("codedeploy", what) for what in ("setup", "register", "tag", "untag", "show", "deregister", "doctor")]
ALL = [*((verb,) for verb in _VERBS), *NESTED, ("config", "schema")]
HELP = [("--help",), *((*verb, "--help") for verb in ALL)]
PRINTING = [("config", "schema"), ("completion", "bash"), ("--version",)]
LOCALES = {
    "C": {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "ISO-8859-1": {"PYTHONIOENCODING": "ISO-8859-1", "LC_ALL": "en_US.ISO-8859-1"},
}
COMPLAINTS = re.compile(rb"Traceback|Exception ignored|unexpected|defect")


@pytest.fixture
def nowhere(tmp_path):
    """A config whose daemon does not run."""
    path = tmp_path / "config.toml"
    path.write_text(
        '[metadata]\nlisten = ["127.0.0.1:1"]\n[admin]\nlisten = "127.0.0.1:2"\n'
        '[roles.a]\nrole_arn = "arn:aws:iam::123456789012:role/x"\n'
    )
    return path


@pytest.mark.parametrize("locale", LOCALES)
def test_no_locale_keeps_a_verb_from_speaking(tmp_path, nowhere, locale):
    """In a container or a cron job, where LANG is C, a sign such as an arrow would end the verb."""
    failing = [(verb, "--config", nowhere) for verb in ("status", "credential-process", "renew", "env")]
    (mistaken := tmp_path / "mistaken.toml").write_text("[roles.a]\nrole_arm = 1\n")
    failing += [("exec", "--config", nowhere, "no-such-program"), ("check", "--config", mistaken), ("codedeploy",), ()]
    (folder := tmp_path / "printed").mkdir()
    helping = HELP if locale == "C" else [("exec", "--help")]
    for ran in run_each(folder, [*helping, *PRINTING, *failing], LOCALES[locale]):
        assert not COMPLAINTS.search(ran.out + ran.err), ran
        assert (ran.out + ran.err).isascii(), ran
        if ran.arguments in HELP + PRINTING:
            assert ran.code == 0, ran
            assert ran.out, ran
            assert not ran.err, ran
        elif ran.arguments[:1] in {("status",), ("renew",), ("env",)}:
            assert b"\n  -> is the daemon running" in ran.err, ran
        if ran.arguments == ("exec", "--help"):
            assert b"COMMAND ..." in ran.out


def test_output_that_cannot_be_written_ends_every_verb_with_1_and_one_line(tmp_path, nowhere):
    """A script that keeps a report on a full disk would go on with half of it."""
    helping = [(verb, "--help") for verb in _VERBS]
    for ran in run_each(tmp_path, [*helping, *PRINTING, ("env", "--config", nowhere)], out="/dev/full"):
        assert ran.code == 1, ran
        lines = ran.err.decode().splitlines()
        assert lines.pop() == "imds-proxy: standard output cannot be written: No space left on device", ran
        assert not lines or ran.arguments[0] == "env", ran  # that warns of the daemon that does not run


def test_a_closed_output_is_said_and_a_closed_error_output_is_not_mixed_with_output(tmp_path, nowhere):
    """`eval "$(imds-proxy env 2>&-)"` would run a warning as a command."""
    (first := tmp_path / "first").mkdir()
    for ran in run_each(first, [*HELP[:3], *PRINTING], out=None):
        assert (ran.code, ran.err) == (1, b"imds-proxy: standard output cannot be written: Bad file descriptor\n"), ran
    (second := tmp_path / "second").mkdir()
    environment, refused, nothing = run_each(
        second, [("env", "--config", nowhere), ("status", "--config", nowhere), ("serv",)], err=None
    )
    assert environment.code == 0
    assert {line.split()[0] for line in environment.out.splitlines()} == {b"export"}
    assert (refused.code, refused.out) == (1, b"")
    assert (nothing.code, nothing.out) == (2, b"")


def test_errors_that_cannot_be_written_change_no_exit_code(tmp_path, nowhere):
    """A full log disk would make wrong usage look like a crash."""
    runs = [("serv",), ("status", "--config", nowhere), ("config", "schema"), ("env", "--config", nowhere)]
    assert [ran.code for ran in run_each(tmp_path, runs, err="/dev/full")] == [2, 1, 0, 0]


@pytest.mark.parametrize("verb", ALL, ids=" ".join)
def test_an_unknown_option_shows_the_usage_of_the_verb_that_was_given(capsys, monkeypatch, verb):
    """The first parser's usage names none of the options that there are."""
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*verb, "--nonsense"]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"usage: imds-proxy {' '.join(verb)} ")
    assert f"imds-proxy {' '.join(verb)}: error: " in printed.err


@pytest.mark.parametrize("columns", ["1", "0", "-7", "wide"])
def test_a_narrow_terminal_is_no_reason_to_fail(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    for arguments in HELP:
        assert main(arguments) == 0, arguments
        printed = capsys.readouterr()
        assert printed.out.startswith("usage: imds-proxy"), arguments
        assert not printed.err, arguments


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("serv",), "'serv'; did you mean serve?"),
        (("rotate-token",), "did you mean rotate-tokens?"),
        (("codedeploy", "docter"), "did you mean doctor?"),
        (("status", "--wach"), "--wach; did you mean --watch?"),
        (("xyzzy",), "choose from"),
        (("--config", "x", "status"), "invalid choice: 'x'"),
        (("--watch", "status"), "options of a verb come after it: imds-proxy VERB --watch"),
        ((), "keep credentials fresh and serve them"),
        (("config",), "print its JSON Schema"),
        (("serve", "--log-level", "loud"), "DEBUG"),
    ],
    ids=str,
)
def test_what_was_meant_is_said(capsys, arguments, says):
    """Whoever mistypes a verb would have to look it up."""
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert says in printed.err
    assert printed.err.startswith("usage: imds-proxy")
    assert not printed.out


def test_a_log_level_may_be_in_small_letters():
    options = parser("serve").parse_args(["serve", "--log-level", "debug", "--log-format", "JSON"])
    assert (options.log_level, options.log_format) == ("DEBUG", "json")


def test_a_folder_is_no_config_of_any_verb(tmp_path):
    """Whoever leaves the file's name out would read a traceback."""
    verbs = ["serve", "check", "status", "env", "credential-process", "renew", "rotate-base-key", "rotate-tokens"]
    runs = [(verb, "--config", "/") for verb in verbs] + [("exec", "--config", "/", "true")]
    runs += [("codedeploy", "doctor", "--config", "/"), ("status", "--check", "--config", "/")]
    for ran in run_each(tmp_path, runs):
        assert ran.code == 2, ran
        assert ran.err == b"imds-proxy: /: cannot be read: Is a directory\n", ran


def test_streams_that_were_closed_before_the_interpreter_started(nowhere):
    """Python has none then, and prints errors to standard output instead."""
    program = f"{sys.executable} -m imds_proxy"
    script = f"{program} status --config {nowhere} 2>&-; echo $?; {program} config schema <&- >&-; echo $?"
    done = subprocess.run(["sh", "-c", script], env=clean_environment(), capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["1", "1"]
    assert done.stderr == "imds-proxy: standard output cannot be written: Bad file descriptor\n"


def test_json_is_json_in_any_locale():
    """A parser would refuse the escapes that Python writes for what a locale has not."""
    assert json.loads(JsonFormatter(only_ascii=True).format(_record("Größe → 😀"))) == json.loads(
        JsonFormatter().format(_record("Größe → 😀"))
    )
    assert JsonFormatter(only_ascii=True).format(_record("Größe → 😀")).isascii()


@pytest.mark.parametrize("style", ["text", "json"])
def test_log_lines_are_written_in_any_locale_and_a_full_disk_is_no_traceback(capfd, logging_as_before, style):
    """The log of a rotation would be a pile of tracebacks, each with the line that could not be written."""
    terminal.prepare()  # how characters are replaced
    written = io.BytesIO()
    log.configure("INFO", style, terminal.Output(written, encoding="ascii", errors="imds_proxy.terminal"))
    logging.getLogger("imds_proxy.x").info("key …ABCD → …EFGH")
    line = written.getvalue().decode("ascii")
    assert "key ...ABCD -> ...EFGH" in line or json.loads(line)["event"] == "key …ABCD → …EFGH"
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        output = terminal.Output(full, encoding="utf-8", line_buffering=True)
        output.tells = True
        log.configure("INFO", style, output)
        logging.getLogger("imds_proxy.x").info("key …ABCD → …EFGH")
        assert output.problem is not None
        output.give_up()
    assert capfd.readouterr().err == ""


@pytest.fixture
def logging_as_before():
    """What a test configures is taken back."""
    root, ours = logging.getLogger(), logging.getLogger("imds_proxy")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers, root.level = before[:2]
    ours.setLevel(before[2])


def _record(value):
    return logging.makeLogRecord({"name": "imds_proxy.x", "msg": "said", "value": value, "created": 0.0})
