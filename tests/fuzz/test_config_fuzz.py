"""Whatever stands in the config file (config_toml.py, config_file.py): a config, or every mistake in words."""

import json
import re
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.cli.check_salvage import salvage
from imds_proxy.cli.status_check import check
from imds_proxy.codedeploy.config_entry import added
from imds_proxy.config.model import Config
from imds_proxy.config.reader import load
from imds_proxy.config.toml import TomlError, read_toml
from imds_proxy.errors import ConfigError
from support.fuzzing import DIGITS, HUGE, changed, examples, nearly, outcome

TEXT = """
region = "eu-west-1"
state_dir = "/var/lib/imds-proxy"
[metadata]
listen = ["127.0.0.1:1338", "[::1]:1338", "systemd:imds"]
[admin]
listen = "127.0.0.1:9338"
allowed_addresses = ["10.0.0.0/8"]
[renewal]
max_age = "30m"
[base_key]
rotate_every = "30d"
[roles.a]
role_arn = "arn:aws:iam::123456789012:role/a"
duration = "1h"
tags = {team = "web"}
policy = "{}"
policy_arns = ["arn:aws:iam::aws:policy/ReadOnlyAccess"]
[roles.b]
role_arn = "arn:aws:iam::123456789012:role/b"
from = "a"
[roles.c]
source = "process"
command = "helper --option"
[roles.d]
source = "http"
url = "https://broker.example/credentials"
shape = "vault"
[roles.e]
source = "web-identity"
role_arn = "arn:aws:iam::123456789012:role/e"
token_file = "/run/token"
[roles.f]
source = "roles-anywhere"
role_arn = "arn:aws:iam::123456789012:role/f"
trust_anchor_arn = "arn:aws:rolesanywhere:eu-west-1:123456789012:trust-anchor/00000000-0000-0000-0000-000000000000"
profile_arn = "arn:aws:rolesanywhere:eu-west-1:123456789012:profile/00000000-0000-0000-0000-000000000000"
certificate = "/etc/host.crt"
private_key = "/etc/host.key"
[[files]]
role = "a"
path = "/etc/credentials"
format = "ini"
mode = "0600"
[[grants]]
role = "a"
user = "build"
unit = ["nginx.service", "worker@*.service"]
address = "10.0.0.0/8"
[service_accounts]
issuer = "https://issuer.example"
jwks_file = "/etc/keys.json"
[instance]
instance_id = "mi-0123456789abcdef0"
tags = {Name = "host"}
[audit]
file = "/var/log/audit.log"
max_size = "64MB"
"""
DATA = tomllib.loads(TEXT)
WORDS = [b'"', b"'''", b"[", b"]", b"[[", b"{", b"=", b"1979-05-27T07:32:00Z", b"0x", b"nan", b"\n", b"\xff", b"\x00"]
PYTHONS_OWN = re.compile(r"maximum recursion|sys\.set_int|Exceeds the limit")


@pytest.fixture
def loaded(tmp_path):
    """`loaded(text)`: the config, or the ConfigError, in words for whoever wrote the file."""
    path = tmp_path / "config.toml"

    def load_it(text):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        found = outcome(lambda: load(path, _salvaged))
        assert isinstance(found, Config | ConfigError)
        assert not PYTHONS_OWN.search(str(found))
        return found

    return load_it


def _salvaged(data):
    """As `imds-proxy check` looks at what is right of a config with mistakes."""
    rest = salvage(data)
    assert rest is None or rest.config.roles
    return "", []


def as_toml(data) -> str:
    """The data as TOML, a number of 5,000 digits among it."""
    return "\n".join(f"{json.dumps(str(key))} = {_value(value)}" for key, value in data.items())


def _value(value):
    match value:
        case dict():
            return "{" + ", ".join(f"{json.dumps(str(key))} = {_value(inner)}" for key, inner in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_value, value)) + "]"
        case None:
            return "[]"
        case str() if value == HUGE:
            return DIGITS
        case float():
            return repr(value)
    return json.dumps(value).replace("\x7f", "")


@examples(200)
@given(data=nearly(DATA))
def test_a_config_that_is_nearly_right(loaded, data):
    loaded(as_toml(data))


@examples(150)
@given(text=changed(TEXT.encode()))
def test_a_file_with_a_few_bytes_changed(loaded, text):
    loaded(text)


@examples(100)
@given(text=st.lists(st.sampled_from(WORDS) | st.binary(max_size=8), max_size=30).map(b"".join))
def test_a_file_of_anything(loaded, text):
    loaded(text)


def test_the_config_that_is_changed_here_is_one(loaded):
    assert isinstance(loaded(TEXT), Config)
    assert isinstance(loaded(as_toml(DATA)), Config)


# Found


FOUND = {
    "arrays, nested": "a = " + "[" * 5000,
    "arrays, nested and closed": "a = " + "[" * 300 + "]" * 300,
    "tables, nested": "a = " + "{a = " * 1000 + "1" + "}" * 1000,
    "a key of many parts": ".".join("a" * 3000) + " = 1",
    "a table of many parts": "[" + ".".join("a" * 3000) + "]",
    "digits": f"a = {DIGITS}",
    "digits in a known key": f"metadata.rate_limit = {DIGITS}",
    "digits of base 16": "a = 0x" + "f" * 5000,
    "digits of base 16 in a known key": "[metadata]\nrate_limit = 0x" + "f" * 5000,
    "a mode of base 16": '[[files]]\nrole = "a"\npath = "/x"\nmode = 0x' + "f" * 5000,
    "a duration": f'renewal.max_age = "{DIGITS}d"',
    "a size": f'audit.max_size = "{DIGITS}GB"',
    "a port": f'metadata.listen = ["127.0.0.1:{DIGITS}"]',
    "a policy, nested": 'roles.a.policy = "' + "[" * 100_000 + '"',
    "a policy with digits": f'roles.a.policy = "{DIGITS}"',
}


@pytest.mark.parametrize("name", FOUND)
def test_what_raised_errors_of_python(loaded, name):
    """A traceback in place of the line to mend; in a reload systemd would have seen the daemon reload for ever."""
    assert isinstance(loaded(FOUND[name]), ConfigError)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\n[b]\nc = [0, 0x8000000000000000]", "b.c.1: a number has more than 64 bits"),
        ("a = -9223372036854775809", "a: a number has more than 64 bits"),
        (f"a = {DIGITS}", "a number has more digits than any that TOML has"),
        ("a = " + "[" * 33 + "]" * 33, "tables or arrays are nested more than 32 deep"),
        ("a = " + "[" * 9999, "tables or arrays are nested more than 32 deep"),
    ],
)
def test_the_message_says_what_is_too_much(text, message):
    with pytest.raises(TomlError, match=re.escape(message)):
        read_toml(text)
    assert read_toml("a = 0x7fffffffffffffff\nb = -9223372036854775808")["b"] == -(2**63)


@pytest.mark.parametrize("name", ["arrays, nested", "digits", "digits of base 16"])
def test_verbs_that_read_a_part_of_the_config_say_it_too(tmp_path, name):
    path = tmp_path / "config.toml"
    path.write_text(FOUND[name])
    with pytest.raises(ConfigError, match="is not valid TOML"):
        check(path)
    with pytest.raises(ConfigError, match="is not valid TOML"):
        added(FOUND[name], "a", "/etc/credentials", path)
