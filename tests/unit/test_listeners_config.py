"""`[metadata] listen`: an address that others reach needs `[[grants]]` (config_listeners.py)."""

import textwrap
import tomllib

import pytest

from imds_proxy.config.reader import parse
from imds_proxy.errors import ConfigError
from support.plane import role_table

GRANT = {"role": "deploy", "user": "build"}
OTHERS_REACH = {
    "0.0.0.0:1338": "172.17.0.0/16",
    "[::]:1338": "fd00::/64",
    "172.17.0.1:80": "172.17.0.0/16",
    "172.31.9.1:80": "172.31.0.0/16",
    "10.1.2.3:80": "10.1.2.0/24",
    "192.168.7.1:80": "192.168.7.0/24",
    "203.0.113.5:80": "203.0.113.0/24",
    "169.253.255.255:80": "169.253.255.0/24",
    "128.0.0.1:80": "128.0.0.0/24",
    "[fd00::1]:80": "fd00::/64",
    "[fd00:ec3::254]:80": "fd00:ec3::/64",
    "[2001:db8:1:2:3::4]:80": "2001:db8:1:2::/64",
}
THIS_HOST = [
    "127.0.0.1:1338",
    "127.8.9.10:80",
    "[::1]:1338",
    "169.254.169.254:80",
    "169.254.170.23:80",
    "[fe80::1%eth0]:80",
    "[fd00:ec2::254]:80",
    "[fd00:ec2::23]:80",
]


def config(*listen, **tables):
    return parse({"roles": role_table(), "metadata": {"listen": list(listen)}, **tables}, "t")


def mistakes(*listen, **tables):
    with pytest.raises(ConfigError) as caught:
        config(*listen, **tables)
    return caught.value.mistakes


@pytest.mark.parametrize("listener", OTHERS_REACH)
def test_a_listener_that_others_reach_is_refused_without_grants(listener):
    """Every machine of the network, and every container, would have the default role."""
    (text,) = mistakes("127.0.0.1:1339", listener)
    assert text.startswith(f"metadata.listen.1: others than this host reach {listener}: say in [[grants]]")
    (text,) = mistakes("127.0.0.1:1339", listener, grants=[])
    assert text.startswith("metadata.listen.1: ")


@pytest.mark.parametrize("listener", OTHERS_REACH)
def test_the_lines_of_the_message_are_what_mends_it(listener):
    """Who has to look up how grants are written will open the door to all."""
    (text,) = mistakes("127.0.0.1:1339", listener)
    lines = tomllib.loads(textwrap.dedent(text.partition("\n")[2]))
    others, this_host = config("127.0.0.1:1339", listener, **lines).grants
    assert (others.role, others.listener, others.address) == ("deploy", (listener,), (OTHERS_REACH[listener],))
    assert this_host.conditions == {"address": ("::1/128" if "[" in listener else "127.0.0.1/32",)}


@pytest.mark.parametrize("listener", THIS_HOST)
def test_a_listener_of_this_host_alone_needs_no_grants(listener):
    assert config(listener).metadata.listen == (listener,)


def test_the_default_listener_and_one_of_systemd_need_none():
    """What systemd passes is looked at when it is there."""
    assert not parse({"roles": role_table()}, "t").grants
    assert not config("systemd:imds").grants


def test_with_any_grant_every_listener_is_the_operators_decision():
    assert len(config(*OTHERS_REACH, grants=[GRANT]).metadata.listen) == len(OTHERS_REACH)


def test_each_such_listener_is_a_mistake_beside_all_others():
    """Half of what is wrong now, and the other half after the next restart."""
    texts = mistakes("0.0.0.0:80", "nothing", "[::]:80", region="nowhere")
    assert [text.partition(":")[0] for text in texts] == [
        "region",
        "metadata.listen.1",
        "metadata.listen.0",
        "metadata.listen.2",
    ]


@pytest.mark.parametrize(
    ("roles", "named"),
    [
        (
            role_table("one", serve=False) | role_table("two", default=False) | role_table("three", default=True),
            "three",
        ),
        (role_table("one", serve=False) | role_table("two", default=False) | role_table("three", default=False), "two"),
    ],
)
def test_the_lines_name_a_role_of_this_config(roles, named):
    """The default one, else the first that is handed out."""
    (text,) = mistakes("0.0.0.0:80", roles=roles)
    assert text.count(f'role = "{named}"') == 2


@pytest.mark.parametrize("metadata", [None, 1, "x", [], {"listen": 1}, {"listen": [1, None, {}]}])
def test_what_is_no_table_at_all_is_told_as_that(metadata):
    """A traceback would say nothing of what to mend."""
    with pytest.raises(ConfigError):
        parse({"roles": role_table(), "metadata": metadata}, "t")
    with pytest.raises(ConfigError):
        parse({"roles": [1], "metadata": {"listen": ["0.0.0.0:80"]}}, "t")
    with pytest.raises(ConfigError):
        parse({"roles": {"deploy": 1}, "metadata": {"listen": ["0.0.0.0:80"]}}, "t")
