"""On which line a key of the config is (config_positions.py): where a mistake is said to be."""

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.config.positions import Options, Places, Source, lines_of
from support.fuzzing import changed, examples

README = (Path(__file__).parents[2] / "README.md").read_text()
EXAMPLES = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)

ODD = '''\
# [comment]
a = """
[no.table]
b = 1 \\""" still
""""
"c d".'e#f' = 'x # [no]'   # comment
list = [ # [no]
  "]", [1, 2],
  {in = "line"},
]
[ t . "u.v" ] # ] header
k = \'\'\'
[no]
\'\'\'\'
[[grants]]
user = ["a",
"b"]
[grants.sub]
x = 1
[[grants]]

user = "c"
  [[grants.deep]]
  y = {z = {q = "}"}}
[t.w]
end = 1979-05-27T07:32:00Z'''


def test_strings_arrays_and_comments_are_no_headers():
    """A mistake would be told on the line of another."""
    tomllib.loads(ODD)
    assert lines_of(ODD) == {
        "a": 2,
        "c d.e#f": 6,
        "list": 7,
        "t.u.v": 11,
        "t.u.v.k": 12,
        "grants.0": 15,
        "grants.0.user": 16,
        "grants.0.sub": 18,
        "grants.0.sub.x": 19,
        "grants.1": 20,
        "grants.1.user": 22,
        "grants.1.deep.0": 23,
        "grants.1.deep.0.y": 24,
        "t.w": 25,
        "t.w.end": 26,
    }


def leaves(data, path=""):
    """Every key path down to values and arrays of values."""
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        here = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict)):
            yield from leaves(value, here)
        else:
            yield here


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_key_of_the_examples_is_on_the_line_that_is_said(text):
    lines, places = text.splitlines(), Places([Source("f", text)])
    for key in leaves(tomllib.loads(text)):
        line = lines[int(places.of(key).partition(":")[2]) - 1]
        assert re.search(rf"\b{re.escape(key.rpartition('.')[2])}\b", line), key


@examples(150)
@given(changed(ODD.encode()) | st.binary(max_size=40))
def test_other_text_ends_the_scan_and_nothing_else(raw):
    """It is only asked about valid TOML; and if a parser ever disagrees, the line alone is missing."""
    text = raw.decode("utf-8", "replace")
    assert all(1 <= line <= text.count("\n") + 1 for line in lines_of(text).values())


def test_what_has_no_line_has_that_of_the_table_around_it_or_in_it():
    places = Places([Source("f", "\n[roles.a]\nx = 1\n[[grants]]\n[[admin]]\n")])
    assert places.of("roles.a.duration") == "f:2"
    assert places.of("grants.0.user.3") == "f:4"
    assert places.of("admin") == "f:5"
    assert places.of("roles") == "f:2"
    assert places.of("region") == "f"
    assert Places().of("region") == ""
    assert Places().told("region", "is missing") == "region: is missing"


def test_of_several_files_the_one_is_said_that_has_it():
    first = Source("a.toml", "[roles.x]\n[[grants]]\nuser = 1\n[[grants]]\n")
    inline = Source("b.toml", "\ngrants = [{}, {}]\n[roles.y]\n", {"grants": (2, 2)})
    last = Source("c.toml", "[[grants]]\n\n\nuid = 1\n", {"grants": (4, 1)})
    places = Places([first, inline, last])
    assert [places.of(f"grants.{number}") for number in range(5)] == [
        "a.toml:2",
        "a.toml:4",
        "b.toml:2",
        "b.toml:2",
        "c.toml:1",
    ]
    assert places.told("grants.4.uid", "is wrong") == "c.toml:4: grants.4.uid: is wrong"
    assert places.of("grants.3.user") == "b.toml:2"
    assert places.of("roles.y.z") == "b.toml:3"
    assert places.told("roles", "is required") == "roles: is required"
    assert places.files == ("a.toml", "b.toml", "c.toml")


def test_what_was_an_option_is_told_as_one():
    """Nobody wrote roles.Deploy.role_arn who wrote --role-arn."""
    told = Options({"roles": "--role-arn", "roles.x.profile": "--profile"}).told
    assert told("roles.x.role_arn", "expected one") == "--role-arn: expected one"
    assert told("roles.x.profile", "expected one") == "--profile: expected one"
    assert told("admin.listen", "is wrong") == "admin.listen: is wrong"
