"""Text from outside, wherever people see it (printable.py): nothing in it is obeyed by a terminal, or ends a line."""

import io
import json
import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.cli import status
from imds_proxy.cli.main import main
from imds_proxy.cli.terminal import Output
from imds_proxy.errors import ConfigError, ImdsProxyError, Invalid
from imds_proxy.printable import escaped, printable, printable_lines
from imds_proxy.telemetry.log import JsonFormatter, TextFormatter
from support.status import document, failing, failure

BAD = {
    "escape": "\x1b[2J",
    "C1 control sequence": "\x9b2J",
    "title": "\x1b]0;owned\x07",
    "carriage return": "a\rb",
    "new line": "a\nimds-proxy: forged",
    "next line": "a\x85b",
    "line separator": "a\u2028b",
    "override": "a\u202eb",
    "isolate": "a\u2066b",
    "mark": "a\u200fb",
    "zero width": "AKIA\u200b",
    "byte order mark": "\ufeffAKIA",
    "backspace": "a\bb",
    "delete": "a\x7fb",
    "null": "a\0b",
    "no text": "a\udcffb",
}
OF_A_FILE = {name: text for name, text in BAD.items() if "\0" not in text and "\udcff" not in text}
"""What a TOML file and a path may hold."""
bad = pytest.mark.parametrize("text", BAD.values(), ids=BAD)


def harmless(text):
    """Whether a terminal would only show it, on the lines that it is laid out in."""
    return all(line.isprintable() for line in text.split("\n"))


@given(st.text())
def test_everything_is_made_one_line_of_the_same_length(text):
    """Columns are laid out by it."""
    assert printable(text).isprintable()
    assert len(printable(text)) == len(text)
    assert printable(printable(text)) == printable(text)


@given(st.text(alphabet=st.characters(exclude_categories=["C", "Z"])))
def test_what_can_be_printed_stays_as_it_is(text):
    assert printable(text) == printable_lines(text) == text


@given(st.dictionaries(st.text(), st.text()))
def test_an_escaped_document_is_the_same_document(given_document):
    text = escaped(json.dumps(given_document, ensure_ascii=False, indent=2))
    assert harmless(text)
    assert json.loads(text) == given_document


@bad
def test_no_error_holds_it(text):
    """What AWS, a file or a command line said is in messages, and those are on terminals, in logs and on pages."""
    for error in (ImdsProxyError(text, text), Invalid(text, text), ConfigError(text, (text, text))):
        assert harmless(str(error))
        assert harmless(error.message)
        assert harmless(error.advice)
    assert "\n" not in ImdsProxyError(text).message
    assert ConfigError(text, (text, text)).message.count("\n") == 2, "a line for each mistake"


@bad
@pytest.mark.parametrize("formatter", [JsonFormatter(), JsonFormatter(only_ascii=True), TextFormatter()])
def test_no_log_line_holds_it(text, formatter):
    """`journalctl -o cat` and `tail -f` go to a terminal as they are; nothing of the value is lost."""
    record = logging.makeLogRecord({"name": "imds_proxy.x", "msg": "failed", "error": text, "created": 0.0})
    line = formatter.format(record)
    assert line.isprintable()
    value = json.loads(line)["error"] if line.startswith("{") else json.loads(re.search("error=(.*)", line)[1])
    assert value == text
    record = logging.makeLogRecord({"name": "another.library", "msg": text, "created": 0.0})
    assert formatter.format(record).isprintable()


@bad
def test_no_status_holds_it(text):
    """A session's name or a broker's error would clear the operator's screen."""
    role = failing(text, failure=failure(text, message=text, advice=text), session_arn=text, key=text)
    files = [{"path": text, "failure": {"message": text, "advice": text, "at": text}, "warnings": [text], "roles": []}]
    seen = document(role, files=files, listeners_down=[text], config={"error": text}, limited=True)
    shown = status.render(seen, as_json=False)
    assert harmless(shown)
    of_words = json.loads(json.dumps(seen).replace(json.dumps(text), '"x"'))
    assert shown.count("\n") == status.render(of_words, as_json=False).count("\n")
    as_json = status.render(seen, as_json=True)
    assert harmless(as_json)
    assert json.loads(as_json) == seen


@bad
def test_no_output_of_a_verb_holds_it(text):
    """What a verb forgot to make printable; its own lines stay."""
    raw = io.BytesIO()
    output = Output(raw, encoding="utf-8")
    print(f"a\tb {text}", text, file=output, flush=True)
    assert harmless(raw.getvalue().decode().replace("\t", ""))
    assert raw.getvalue().startswith(b"a\tb ")


MISTAKEN = '[roles.a]\nrole_arn = "x"\nTEXT = 1\n[roles.TEXT]\n[[grants]]\nrole = TEXT\nuser = TEXT\n'
VALID = """
state_dir = "STATE"
[admin]
allowed_users = [TEXT]
[roles.a]
source = "process"
command = ["/bin/sh", "-c", "printf %s \\"$0\\" >&2; exit 3", TEXT]
[roles.b]
source = "file"
path = PATH
[[files]]
role = "b"
path = WRITTEN
format = "json"
[[grants]]
role = "b"
user = TEXT
[[grants]]
role = "a"
token_file = PATH
"""


@pytest.mark.parametrize("text", OF_A_FILE.values(), ids=OF_A_FILE)
@pytest.mark.parametrize(("config", "code"), [(MISTAKEN, 2), (VALID, 1)], ids=["mistaken", "valid"])
def test_check_does_not_print_it(tmp_path, capsys, monkeypatch, config, code, text):
    """A config may be another person's: its keys, paths, users and programs are outside."""
    monkeypatch.setattr("imds_proxy.host.process_hardening.harden", lambda: None)  # of this process, for good
    path = tmp_path / "config.toml"
    values = {"STATE": str(tmp_path), "TEXT": json.dumps(text)}
    values |= {"PATH": json.dumps(f"/nonexistent/{text}"), "WRITTEN": json.dumps(f"/nonexistent/written/{text}")}
    for name, value in values.items():
        config = config.replace(name, value)
    path.write_text(config)
    for arguments in ([], ["--as", "user=root"]):
        assert main(["check", "--config", str(path), *arguments]) == code
        printed = capsys.readouterr()
        assert harmless(printed.out + printed.err)
        assert not re.search("^imds-proxy: forged", printed.out + printed.err, re.MULTILINE)


def test_rotate_tokens_does_not_print_it(tmp_path, capsys):
    path, token = tmp_path / "config.toml", tmp_path / "".join(OF_A_FILE.values())
    token.write_text("x" * 32)
    grant = f'[[grants]]\nrole = "a"\ntoken_file = {json.dumps(str(token))}\n'
    path.write_text(f'[roles.a]\nrole_arn = "arn:aws:iam::123456789012:role/x"\n{grant}')
    main(["rotate-tokens", "--config", str(path)])
    printed = capsys.readouterr()
    assert harmless(printed.out + printed.err)
    assert (printed.out + printed.err).count("\n") <= 2
