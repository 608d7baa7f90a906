"""Texts from outside enter messages through one door (host/redaction.py); no exception's text goes around it."""

import ast
import io
import logging
from pathlib import Path

import pytest

import imds_proxy
from imds_proxy.cli.main import main
from imds_proxy.config.reader import load
from imds_proxy.errors import ConfigError
from imds_proxy.telemetry import log

ROOT = Path(imds_proxy.__file__).parent
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

HARMLESS = {
    ("cli/status.py", "DaemonUnreachableError"),  # this project's own
    ("demo/show.py", "ImdsProxyError"),
    ("config/toml.py", "tomllib.TOMLDecodeError"),  # repeats no line, as a test below proves
    ("config/types.py", "json.JSONDecodeError"),
    ("config/types.py", "ValueError"),  # of shlex; as that of json it says what was expected, and where
}
"""Where an exception's own text is shown, and of what kind."""


def texts_of_exceptions():
    for path in ROOT.rglob("*.py"):
        for handler in ast.walk(ast.parse(path.read_text())):
            if isinstance(handler, ast.ExceptHandler) and handler.name:
                shown = [node for node in ast.walk(handler) if shows(node, handler.name)]
                yield from ((str(path.relative_to(ROOT)), ast.unparse(handler.type)) for _ in shown)


def shows(node, name):
    """Whether it makes text of the exception itself."""
    if isinstance(node, ast.FormattedValue):
        return isinstance(node.value, ast.Name) and node.value.id == name
    made = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"str", "repr"}
    return made and any(isinstance(each, ast.Name) and each.id == name for each in node.args)


def test_no_librarys_exception_is_put_into_a_message_as_it_is():
    """Its text may repeat an answer, a header or a line of a file; whoever adds one has to hide that first."""
    assert set(texts_of_exceptions()) == HARMLESS


def test_what_aws_said_is_formatted_in_one_place():
    """`code_and_text` is for comparing; a message that took it from there would be a second door."""
    for path in ROOT.rglob("*.py"):
        formatted = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.JoinedStr)]
        assert not any("code_and_text" in ast.unparse(node) for node in formatted), path


@pytest.mark.parametrize(
    "line",
    [
        f"secret = {SECRET}",
        f'"{SECRET}',
        f'key = "{SECRET}',
        f'key = "{SECRET}\\q"',
        f"[{SECRET}",
        f'a = "{SECRET}"\na = "{SECRET}"',
        f'a = "{SECRET}" b',
        f"a = [{SECRET}]",
        f'roles = "{SECRET}"',
        f'[roles.x]\nrole_arn = "{SECRET}"\npolicy = "{{{SECRET}"',
        f'[roles.x]\nsource = "{SECRET}"',
        f'[roles.x]\nsource = "process"\ncommand = "helper \'{SECRET}"',
        f'[roles.x]\nsource = "http"\nurl = "http://me:{SECRET}@host/"',
        f'[roles.x]\nsource = "http"\nurl = "https://host/"\nheaders = {{ authorization = "{SECRET}" }}',
    ],
)
def test_a_mistake_in_the_config_does_not_repeat_its_line(tmp_path, line):
    """A reload that is refused is in the log; a value that was put in the wrong place may be a secret."""
    file = tmp_path / "config.toml"
    file.write_text(line + "\n")
    with pytest.raises(ConfigError) as raised:
        load(file)
    assert SECRET[:12] not in str(raised.value)


def logged(formatter, record):
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(formatter)
    handler.handle(record)
    return handler.stream.getvalue()


@pytest.mark.parametrize("formatter", [log.JsonFormatter(), log.TextFormatter()], ids=["json", "text"])
def test_a_traceback_in_the_log_has_places_and_no_text(formatter):
    """An exception of a library's holds what it could not read."""
    try:
        int(SECRET)
    except ValueError as error:
        record = logging.makeLogRecord(
            {"name": "imds_proxy.x", "msg": "failed", "exc_info": (type(error), error, error.__traceback__)}
        )
    line = logged(formatter, record)
    assert "test_outside_text.py:" in line
    assert "ValueError" in line
    assert SECRET not in line
    assert line.count("\n") == 1


@pytest.mark.parametrize("formatter", [log.JsonFormatter(), log.TextFormatter()], ids=["json", "text"])
def test_a_librarys_warning_has_its_words_and_no_values(formatter):
    """aiohttp warns of a cookie that it cannot read, with all that there is of it."""
    record = logging.makeLogRecord(
        {"name": "aiohttp.client", "msg": "Can not load response cookies: %s", "args": (SECRET,)}
    )
    line = logged(formatter, record)
    assert "Can not load response cookies" in line
    assert SECRET not in line


def test_a_verb_that_fails_as_nobody_thought_has_no_text_of_it(monkeypatch, capsys):
    """Python would print a traceback, and with it what a service said."""
    monkeypatch.setattr("imds_proxy.host.process_hardening.harden", lambda: None)  # of this process, for good
    monkeypatch.setattr("imds_proxy.cli.options.require_config", lambda *_: (_ for _ in ()).throw(KeyError(SECRET)))
    assert main(["check"]) == 1
    said = capsys.readouterr().err
    assert "unexpected KeyError at test_outside_text.py" in said
    assert SECRET not in said
