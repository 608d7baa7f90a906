"""The config file: what it takes, and how it words a mistake (config.py, config_file.py)."""

import json

import pytest

from imds_proxy.addresses import split_listen
from imds_proxy.config.model import Config
from imds_proxy.config.reader import load, parse
from imds_proxy.config.types import parse_duration
from imds_proxy.errors import ConfigError
from support.plane import role_table

ARN = "arn:aws:iam::123456789012:role/Deploy"
EXAMPLE = f"""
region = "eu-west-1"
state_dir = "/var/lib/imds-proxy"
[metadata]
listen = ["127.0.0.1:1338", "169.254.169.254:80", "[::1]:1338", "systemd:imds"]
imds_v1 = true
hop_limit = 2
allowed_hosts = ["metadata.internal"]
[admin]
listen = "127.0.0.1:9338"
[roles.deploy]
source = "assume-role"
role_arn = "{ARN}"
session_name = "{{hostname}}"
duration = "1h30m"
external_id = "partner/42"
policy_arns = ["arn:aws:iam::aws:policy/ReadOnlyAccess"]
tags = {{ team = "build" }}
transitive_tag_keys = ["team"]
source_identity = "host-7"
sts_endpoint = "https://sts.example.internal"
sts_regions = ["eu-west-1", "eu-central-1"]
profile = "base"
serve = true
default = true
[roles.deploy.policy]
Version = "2012-10-17"
[renewal]
max_age = "30m"
start_grace = "10s"
[instance]
instance_id = "mi-0123456789abcdef0"
availability_zone = "eu-west-1a"
"""


def mistakes(data: dict) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(data, "test.toml")
    return list(caught.value.mistakes)


def test_every_key_of_the_design_is_taken(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(EXAMPLE)
    config = load(path)
    assert config.roles["deploy"].duration == 5400
    assert config.roles["deploy"].policy == '{"Version":"2012-10-17"}'
    assert config.renewal.max_age == 1800
    assert config.default_role == "deploy"


def test_every_mistake_shows_at_once_with_its_key_and_the_nearest_right_one():
    """An operator who mends one mistake a deployment is an operator at 3 a.m."""
    found = mistakes(
        {
            "regoin": "eu-west-1",
            "metadata": {"listen": ["localhost:80"], "imds_v1": "yes"},
            "roles": {
                "a": {"role_arn": "arn:aws:iam::1:role/x", "durration": "1h", "default": True},
                "b": {"role_arn": ARN, "duration": "5m", "default": True, "transitive_tag_keys": ["k"]},
                "bad name": {"role_arn": ARN},
                "c": {},
            },
        }
    )
    text = "\n".join(found)
    assert 'regoin: unknown key; did you mean "region"?' in text
    assert "metadata.listen.0: expected an IP address, not 'localhost'" in text
    assert "metadata.imds_v1: expected true or false" in text
    assert "roles.a.role_arn: expected arn:aws:iam::ACCOUNT:role/NAME" in text
    assert 'roles.a.durration: unknown key; did you mean "duration"?' in text
    assert "roles.b.duration: expected from 15m to 12h" in text
    assert "roles.bad name: a role name has" in text
    assert "roles.c.role_arn: is required" in text
    assert "roles.b.default: roles.a is the default already" in text
    assert len(found) == 9


def test_a_key_without_a_near_one_lists_what_there_is():
    assert mistakes({"roles": role_table(zzz=1)}) == [
        "roles.deploy.zzz: unknown key; known here: "
        + ", ".join(name.rstrip("_") for name in type(parse_role()).model_fields)
    ]


def parse_role():
    return parse({"roles": role_table()}, "test.toml").roles["deploy"]


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"a = ", "is not valid TOML"), (b"\xff", "is not UTF-8"), (b"", "roles: is required")],
    ids=["syntax", "encoding", "empty"],
)
def test_a_file_that_is_no_config_says_why(tmp_path, content, words):
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        load(path)


def test_a_file_that_is_not_there_says_so(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        load(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "seconds"), [("1h", 3600), ("90m", 5400), ("1h30m", 5400), ("900s", 900), ("30d", 2592000), (60, 60)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "h", "1.5h", "-1h", "1 h", "30m1h", True, None, []])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["1338", ":1338", "::1:1338", "127.0.0.1", "127.0.0.1:65536", "[127.0.0.1]:1", "h:1"])
def test_what_is_no_listener(text):
    with pytest.raises(ValueError, match=r"expected|brackets"):
        split_listen(text)


def test_the_only_role_is_the_default_unless_it_says_no():
    assert parse({"roles": role_table()}, "t").default_role == "deploy"
    assert parse({"roles": role_table(default=False)}, "t").default_role is None


def test_of_several_roles_one_has_to_be_marked():
    """Which role a host's SDKs get is never an accident of the order of a file."""
    two = role_table("a") | role_table("b")
    advice = "mark one of them default = true, or say in [[grants]] who may have which"
    assert mistakes({"roles": two}) == [f"roles: 2 roles are served: {advice}"]
    assert parse({"roles": role_table("a") | role_table("b", default=True)}, "t").default_role == "b"
    assert parse({"roles": role_table("a", serve=False) | role_table("b")}, "t").default_role == "b"
    assert parse({"roles": role_table("a", default=False) | role_table("b", default=False)}, "t").default_role is None


def test_a_config_that_serves_nothing_is_a_mistake():
    assert mistakes({"roles": role_table(serve=False)}) == ["roles: no role is served: every one has serve = false"]


@pytest.mark.parametrize(
    "change",
    [
        {"external_id": "xy"},
        {"session_name": "other"},
        {"policy": "{}"},
        {"tags": {"a": "b"}},
        {"profile": "p"},
        {"source_identity": "me"},
        {"duration": "2h"},
        {"sts_endpoint": "http://127.0.0.1:1"},
        {"policy_arns": ["arn:aws:iam::aws:policy/X"]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_two_roles_share_a_session_only_if_everything_that_shaped_it_is_the_same(change):
    """kube2iam hands out another external id's session."""
    plain, same, changed = (
        parse({"roles": role_table(**more)}, "t").fingerprint("deploy") for more in ({}, {}, change)
    )
    assert plain == same != changed
    assert plain != parse({"roles": role_table(), "region": "eu-west-1"}, "t").fingerprint("deploy")


def test_a_chained_session_is_another_when_anything_up_the_chain_is():
    def fingerprint(**parent):
        chain = role_table("host", serve=False, **parent) | role_table("deploy", **{"from": "host"})
        return parse({"roles": chain}, "t").fingerprint("deploy")

    assert fingerprint() == fingerprint() != fingerprint(external_id="xy")
    assert fingerprint() != parse({"roles": role_table()}, "t").fingerprint("deploy")


def chain(**parents):
    roles = {}
    for name, parent in parents.items():
        roles |= role_table(name, default=False, **({"from": parent} if parent else {}))
    return {"roles": roles}


def test_a_cycle_is_a_mistake_that_shows_it_once():
    assert mistakes(chain(a="b", b="c", c="a")) == ["roles.a.from: is a cycle: a → b → c → a"]
    assert mistakes(chain(a="a")) == ["roles.a.from: is a cycle: a → a"]
    assert mistakes(chain(a="b", b="c", c="b")) == ["roles.b.from: is a cycle: b → c → b"]
    assert mistakes(chain(a="x", b="a")) == ["roles.a.from: there is no role 'x'"]
    assert parse(chain(a=None, b="a", c="b"), "t").roles["c"].from_ == "b"


def test_whose_credentials_call_sts_is_said_once():
    two = role_table("host") | role_table("deploy", default=True, profile="p", **{"from": "host"})
    wanted = "roles.deploy: has both from and profile: one of them says whose credentials call STS"
    assert mistakes({"roles": two}) == [wanted]


def test_a_policy_is_json_or_a_table_and_nothing_else():
    assert parse({"roles": role_table(policy='{"a": 1}')}, "t").roles["deploy"].policy == '{"a":1}'
    assert "expected an IAM policy" in mistakes({"roles": role_table(policy="{")})[0]
    assert "expected an IAM policy" in mistakes({"roles": role_table(policy="[]")})[0]


def test_the_schema_is_json():
    assert "roles" in json.loads(json.dumps(Config.model_json_schema()))["properties"]


def test_a_mistake_does_not_repeat_what_was_written():
    """A value in the wrong place may be a secret."""
    with pytest.raises(ConfigError) as caught:
        parse({"roles": role_table(external_id="wJalrXUtnFEMI K7MDENG")}, "t")
    assert "wJalr" not in str(caught.value)


def with_audience(value):
    return {"roles": role_table(), "service_accounts": {"issuer": "i", "jwks_file": "/k", "audience": value}}


@pytest.mark.parametrize(("value", "taken"), [("a", ("a",)), (["a"], ("a",)), (["a", "b"], ("a", "b"))])
def test_an_audience_is_text_or_an_array(value, taken):
    """The key took text alone before there could be several."""
    assert parse(with_audience(value), "test").service_accounts.audience == taken


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "audience: expected at least one"),
        ("", "audience: should have at least 1 character"),
        (["a", "a"], "audience: names the same twice"),
        (["a", ""], "audience.1: should have at least 1 character"),
        (["a", 7], 'audience.1: expected text in quotes, as in "text"'),
        (7, 'audience: expected text in quotes, as in "text"'),
        ({"a": True}, 'audience: expected text in quotes, as in "text"'),
    ],
)
def test_an_audience_that_cannot_be_meant_is_told(value, words):
    assert mistakes(with_audience(value)) == [f"service_accounts.{words}"]
