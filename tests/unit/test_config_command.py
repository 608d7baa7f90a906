"""Commands that only a shell would understand (config_command.py)."""

import json
import shlex
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as some

from imds_proxy.config.reader import parse
from imds_proxy.errors import ConfigError
from imds_proxy.host.shell_mistake import _words, shell_mistake

HELPER = "/usr/bin/helper"


@pytest.mark.parametrize(
    ("command", "mark"),
    [
        ("~/bin/helper", "~"),
        ("~deploy/bin/helper --role x", "~deploy"),
        ("$HOME/bin/helper", "$HOME"),
        ("${HOME}/bin/helper", "${HOME}"),
        (f'{HELPER} --home "$HOME/x"', "$HOME"),
        (f"{HELPER} | jq .Credentials", "|"),
        (f"{HELPER}|jq .Credentials", "|"),
        (f"{HELPER} || true", "||"),
        (f"{HELPER} && echo done", "&&"),
        (f"{HELPER}; true", ";"),
        (f"{HELPER} > /dev/null", ">"),
        (f"{HELPER} 2>/dev/null", "2>"),
        (f"{HELPER} < /etc/token", "<"),
        (f"{HELPER} &", "&"),
        (f"{HELPER} --host `hostname`", "`"),
        (f"{HELPER} --host $(hostname)", "$("),
        (f'{HELPER} --host "$(hostname)"', "$("),
        ("cat /etc/keys/*.json", "*"),
        ("cat *.json", "*"),
        ("cat /etc/keys/[ab].json", "["),
        ("bash -c 'helper' | jq .", "|"),
        (["~/bin/helper"], "~"),
        ([HELPER, "~/token"], "~"),
        (["$HOME/bin/helper"], "$HOME"),
        ([HELPER, "--home=${HOME}"], "${HOME}"),
        ([HELPER, "|", "jq", "."], "|"),
        ([HELPER, "&&", "true"], "&&"),
        ([HELPER, ">", "/dev/null"], ">"),
        ([HELPER, "2>/dev/null"], "2>/dev/null"),
        ([HELPER, "2>&1"], "2>&1"),
        ([HELPER, "`hostname`"], "`"),
        (["cat", "/etc/keys/*.json"], "*"),
    ],
)
def test_what_only_a_shell_knows_is_named(command, mark):
    """The program would be told to open a folder that is called ~, an hour after the config was found good."""
    mistake = shell_mistake(command)
    assert f"so {mark} would be an argument" in mistake
    assert '["sh", "-c", "…"]' in mistake


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (f"AWS_PROFILE=work {HELPER}", '["env", "NAME=VALUE", "PROGRAM"]'),
        (["AWS_PROFILE=work", HELPER], "AWS_PROFILE=…"),
        ("cd /opt && ./helper", "cd is a word of the shell"),
        (["source", "/etc/profile"], "source is a word of the shell"),
        ("export A=b", "export is a word"),
    ],
)
def test_a_word_of_the_shell_is_no_program(command, words):
    assert words in shell_mistake(command)


@pytest.mark.parametrize(
    "command",
    [
        HELPER,
        f"{HELPER} --role arn:aws:iam::123456789012:role/x --format json",
        f"{HELPER} '~/x' '$HOME' '|' '*' '`x`' \\; \\$HOME \\* \\~",
        f'{HELPER} "~" "a|b" "*" "a > b" "\\$HOME"',
        f"{HELPER} https://host/x?a=b&c=d",
        f"{HELPER} --pattern=*.json",
        f"{HELPER} a~b 100% a$ $ x=~/y",
        "sh -c 'helper | jq . > /dev/null'",
        'bash -c "cat $HOME/x"',
        "/bin/sh -c 'ls ~/x/*'",
        "ssh host cat /etc/keys/*.json",
        ["sh", "-c", "helper | jq '.Credentials' && echo $HOME"],
        ["/bin/bash", "-lc", "~/bin/helper"],
        ["env", "A=b", "sh", "-c", "$A"],
        [HELPER, "--filter", "a | b", "a > b", "--pattern=*", "*", ";", "a~", "x*"],
        ["jq", "-n", "$ENV.PATH"],
        ["awk", "{print $NF}"],
        ["find", "/x", "-exec", "cat", "{}", ";"],
        [HELPER, "--regex", "^a$", "$1", "cost: 5$"],
        ["/opt/My Program/helper"],
    ],
)
def test_what_means_what_it_says_is_left_alone(command):
    """A command that works is no mistake because it looks like another."""
    assert shell_mistake(command) is None


@pytest.mark.parametrize(
    "table",
    [
        '[roles.r]\nsource = "process"\ncommand = COMMAND',
        '[roles.r]\nsource = "web-identity"\nrole_arn = "arn:aws:iam::123456789012:role/x"\ntoken_command = COMMAND',
        '[roles.r]\nsource = "ambient"\n[[files]]\nrole = "r"\npath = "/etc/x/credentials"\nafter = COMMAND',
    ],
)
@pytest.mark.parametrize("command", ["~/bin/helper --secret hunter2 | jq .", ["~/bin/helper", "--secret", "hunter2"]])
def test_every_command_of_the_config_is_looked_at(table, command):
    """And no argument of it is repeated."""
    with pytest.raises(ConfigError, match=r"(command|after): no shell runs it, so (~|\|) would be") as raised:
        parse(tomllib.loads(table.replace("COMMAND", json.dumps(command))), "config.toml")
    assert "hunter2" not in str(raised.value)


@given(some.text("ab '\"\\|$~*&;<>`\t\n=/", max_size=20))
def test_a_line_is_split_as_it_is_when_it_is_run(line):
    """Else a mark would be found in another word than the program gets."""
    try:
        wanted = shlex.split(line)
    except ValueError:
        wanted = None
    found = [word.text for word in _words(line)]
    shell_mistake(line)
    if wanted is not None and '"' not in line:  # there a backslash stays before what it does not escape
        assert found == wanted
