"""Who may have which role: the decision alone, held against a slow and obvious one."""

import ipaddress
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.callers.caller import Caller, ServiceAccount
from imds_proxy.callers.grants import Grants, describe
from imds_proxy.config.grants import GrantConfig
from imds_proxy.config.reader import parse
from imds_proxy.errors import ConfigError
from support.plane import role_table

ROLES = ("deploy", "logs", "backup")
USERS = ("build", "codedeploy")
GROUPS = ("docker", "wheel")
NUMBERS = (0, 1000, 1001)
ADDRESSES = ("127.0.0.1", "::1", "172.17.0.2", "172.17.0.3", "fd00::2")
NETWORKS = ("127.0.0.0/8", "172.17.0.0/16", "172.17.0.2/32", "0.0.0.0/0", "::/0", "fd00::/64")
LISTENERS = ("127.0.0.1:1338", "172.17.0.1:80", "systemd:pods")
UNITS = ("nginx.service", "worker@1.service", "worker@2.service", "session-1.scope")
FILES = ("/run/a", "/run/b")
ACCOUNTS = ("team/app", "team/db", "other/app")


def maybe(values):
    return st.none() | st.sampled_from(values)


def one_or_several(values):
    return st.sampled_from(values) | st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True)


@st.composite
def grants(draw):
    keys = {
        "user": USERS,
        "group": GROUPS,
        "uid": NUMBERS,
        "gid": NUMBERS,
        "unit": (*UNITS, "worker@*.service", "session@*.service"),
        "address": NETWORKS,
        "listener": LISTENERS,
        "service_account": (*ACCOUNTS, "team/*"),
        "token_file": FILES,
    }
    chosen = draw(st.lists(st.sampled_from(sorted(keys)), min_size=1, max_size=3, unique=True))
    if {"service_account", "token_file"} <= set(chosen):
        chosen.remove("token_file")
    values = {key: draw(one_or_several(keys[key]) if key != "token_file" else st.sampled_from(FILES)) for key in chosen}
    return GrantConfig(role=draw(st.sampled_from(ROLES)), **values)


@st.composite
def callers(draw):
    account = draw(maybe(ACCOUNTS))
    return Caller(
        address=draw(st.sampled_from(ADDRESSES)),
        listener=draw(st.sampled_from(LISTENERS)),
        principal=b"somebody",
        uid=draw(maybe(NUMBERS)),
        user=draw(maybe(USERS)),
        gids=draw(st.frozensets(st.sampled_from(NUMBERS))),
        groups=draw(st.frozensets(st.sampled_from(GROUPS))),
        unit=draw(maybe(UNITS)),
        service_account=ServiceAccount(*account.split("/")) if account else None,
        token_file=draw(maybe(FILES)),
    )


def slow_and_obvious(grants, caller):  # noqa: C901 - obvious, a key after the other
    roles = []
    for grant in grants:
        answers = []
        if grant.user != ():
            answers.append(any(caller.user is not None and caller.user == user for user in grant.user))
        if grant.group != ():
            answers.append(any(mine == group for mine in caller.groups for group in grant.group))
        if grant.uid != ():
            answers.append(any(caller.uid is not None and caller.uid == uid for uid in grant.uid))
        if grant.gid != ():
            answers.append(any(mine == gid for mine in caller.gids for gid in grant.gid))
        if grant.unit != ():
            answers.append(caller.unit is not None and any(fnmatchcase(caller.unit, unit) for unit in grant.unit))
        if grant.address != ():
            networks = [ipaddress.ip_network(text) for text in grant.address]
            answers.append(any(ipaddress.ip_address(caller.address) in network for network in networks))
        if grant.listener != ():
            answers.append(any(caller.listener == listener for listener in grant.listener))
        if grant.service_account != ():
            shown = str(caller.service_account)
            answers.append(
                caller.service_account is not None
                and any(
                    shown == wanted or (wanted.endswith("/*") and shown.startswith(wanted[:-1]))
                    for wanted in grant.service_account
                )
            )
        if caller.service_account is not None and grant.service_account == ():
            answers.append(False)
        if grant.token_file is not None or caller.token_file is not None:
            answers.append(caller.token_file == grant.token_file)
        if False not in answers and grant.role not in roles:
            roles.append(grant.role)
    return tuple(roles)


@given(st.lists(grants(), min_size=1, max_size=6), callers())
def test_nobody_gets_a_role_that_the_plainest_reading_of_the_grants_does_not_give(grants, caller):
    """A fast decision that differs from the obvious one gives somebody a key that is not theirs."""
    assert Grants(grants, "default").roles_for(caller) == slow_and_obvious(grants, caller)


@given(st.lists(grants(), min_size=1, max_size=6), callers())
def test_what_is_told_of_each_grant_is_what_is_decided(grants, caller):
    """`check --as` explains the decision that the daemon takes, not one like it."""
    decision = Grants(grants, None)
    fitting = [grant.role for grant, misfits in decision.considered(caller) if not misfits]
    assert tuple(dict.fromkeys(fitting)) == decision.roles_for(caller)


def test_without_grants_every_caller_has_the_default_role():
    """A host with one role needs no grants."""
    caller = Caller("127.0.0.1", "127.0.0.1:1338", b"")
    assert Grants((), "deploy").roles_for(caller) == ("deploy",)
    assert Grants((), None).roles_for(caller) == ()


def test_once_a_grant_exists_the_default_is_nothing():
    """The first grant closes the door to everybody else, whatever is marked default."""
    roles = role_table("deploy", default=True)
    config = parse({"roles": roles, "grants": [{"role": "deploy", "user": "codedeploy"}]}, "t")
    other = Caller("127.0.0.1", "127.0.0.1:1338", b"", uid=1000, user="build")
    assert config.default_role is None
    assert Grants(config.grants, config.default_role).roles_for(other) == ()


def test_the_first_grant_that_fits_is_what_the_list_shows():
    """Order in the file decides, and a role that two grants give is there once."""
    table = [{"role": "b", "uid": 1}, {"role": "a", "user": "x"}, {"role": "b", "user": "x"}]
    grants = [GrantConfig(**grant) for grant in table]
    assert Grants(grants, None).roles_for(Caller("::1", "l", b"", uid=1, user="x")) == ("b", "a")


def test_two_served_roles_need_no_default_beside_grants():
    """Nobody has to name a fallback that would not be one."""
    roles = role_table("deploy") | role_table("logs")
    grants = [{"role": "deploy", "user": "codedeploy"}, {"role": "logs", "group": "adm"}]
    assert parse({"roles": roles, "grants": grants}, "t").default_role is None


@pytest.mark.parametrize(
    ("grant", "mistake"),
    [
        (
            {},
            "grants.0: says nobody: add user, group, uid, gid, unit, address, listener, service_account or token_file",
        ),
        ({"role": "nobody", "uid": 1}, "grants.0.role: there is no role 'nobody'"),
        ({"user": "1000"}, "grants.0.user: expected a name; a number goes into uid or gid"),
        ({"user": "a\0b"}, "grants.0.user: holds a null character"),
        ({"user": ""}, "grants.0.user: should have at least 1 character"),
        ({"uid": "build"}, "grants.0.uid: expected a whole number"),
        ({"uid": -1}, "grants.0.uid: should be greater than or equal to 0"),
        ({"uid": 2**32 - 1}, "grants.0.uid: should be less than 4294967295"),
        ({"unit": "nginx"}, 'grants.0.unit: expected the whole name of a service or a scope, as in "nginx.service"'),
        ({"unit": ["a.service", "a.slice"]}, "grants.0.unit.1: expected the whole name of a service or a scope"),
        ({"unit": "nginx.socket"}, "grants.0.unit: expected the whole name of a service or a scope"),
        ({"unit": "/system.slice/nginx.service"}, "grants.0.unit: expected the whole name of a service or a scope"),
        ({"unit": "*.service"}, "grants.0.unit: expected the whole name of a service or a scope"),
        ({"unit": "work*@1.service"}, "grants.0.unit: expected the whole name of a service or a scope"),
        ({"unit": "worker@1*.service"}, "grants.0.unit: expected the whole name of a service or a scope"),
        ({"unit": "worker@*.scope"}, "grants.0.unit: expected the whole name of a service or a scope"),
        ({"unit": "worker@.service"}, 'expected the whole name of a service or a scope, as in "worker@*.service"'),
        ({"unit": "a b.service"}, "grants.0.unit: expected the whole name of a service or a scope"),
        ({"unit": "a.service\n"}, "grants.0.unit: expected the whole name of a service or a scope"),
        ({"unit": "a" * 250 + ".service"}, "grants.0.unit: expected the whole name of a service or a scope"),
        ({"unit": ""}, "grants.0.unit: expected the whole name of a service or a scope"),
        ({"unit": 7}, 'grants.0.unit: expected text in quotes, as in "text"'),
        ({"address": "172.17.0.1/16"}, 'has bits set behind its prefix: write "172.17.0.0/16", or the address alone'),
        ({"address": "bridge"}, 'grants.0.address: expected an address or a CIDR, as in "172.17.0.2"'),
        ({"listener": "127.0.0.1:1"}, "grants.0.listener: is none of metadata.listen: 127.0.0.1:1338"),
        ({"service_account": "app"}, 'grants.0.service_account: expected "NAMESPACE/NAME" or "NAMESPACE/*"'),
        ({"service_account": "*/app"}, 'grants.0.service_account: expected "NAMESPACE/NAME" or "NAMESPACE/*"'),
        ({"service_account": "a/b"}, "grants.0.service_account: needs a table [service_accounts]"),
        ({"user": []}, "grants.0.user: expected at least one"),
        ({"user": ["build", "1000"]}, "grants.0.user.1: expected a name; a number goes into uid or gid"),
        ({"user": ["build", "build"]}, "grants.0.user: names the same twice"),
        ({"user": {"name": "build"}}, 'grants.0.user: expected text in quotes, as in "text"'),
        ({"uid": [0, "1000"]}, "grants.0.uid.1: expected a whole number"),
        ({"uid": True}, "grants.0.uid: expected a whole number"),
        ({"address": ["::1", "172.17.0.1/16"]}, 'grants.0.address.1: has bits set behind its prefix: write "172.17'),
        ({"address": ["::1", "0:0::1"]}, "grants.0.address: names the same twice"),
        ({"listener": ["127.0.0.1:1338", "127.0.0.1:1"]}, "grants.0.listener.1: is none of metadata.listen: 127.0.0.1"),
        ({"service_account": ["a/b", "a"]}, 'grants.0.service_account.1: expected "NAMESPACE/NAME" or "NAMESPACE/*"'),
        ({"service_account": ["a/b", "a/c"], "token_file": "/t"}, "has both service_account and token_file"),
        ({"token_file": ["/t", "/u"]}, 'grants.0.token_file: expected text in quotes, as in "text"'),
        ({"token_file": "run/token"}, "grants.0.token_file: expected an absolute path"),
        ({"service_account": "a/b", "token_file": "/t"}, "has both service_account and token_file"),
        ({"usr": "build"}, 'grants.0.usr: unknown key; did you mean "user"?'),
        ({"role": "step", "uid": 1}, "grants.0.role: roles.step has serve = false and is never handed out"),
    ],
)
def test_a_mistake_in_a_grant_says_where_it_is_and_what_to_write(grant, mistake):
    """A grant that was misread would give the role to nobody, or to somebody else."""
    roles = role_table("deploy") | role_table("step", serve=False)
    with pytest.raises(ConfigError) as raised:
        parse({"roles": roles, "grants": [{"role": "deploy", **grant}]}, "t")
    assert any(mistake in each for each in raised.value.mistakes), raised.value.mistakes


def test_of_a_list_one_value_has_to_fit_and_of_the_keys_all():
    """A host with twenty users who share a role needs one grant, not twenty."""
    grants = [GrantConfig(role="deploy", user=["build", "codedeploy"], address=["127.0.0.0/8", "::1"])]
    decide = Grants(grants, None).roles_for
    assert decide(Caller("127.0.0.1", "l", b"", uid=1, user="codedeploy")) == ("deploy",)
    assert decide(Caller("::1", "l", b"", uid=2, user="build")) == ("deploy",)
    assert decide(Caller("::1", "l", b"", uid=3, user="other")) == ()
    assert decide(Caller("172.17.0.2", "l", b"", uid=2, user="build")) == ()
    assert decide(Caller("::1", "l", b"")) == ()


def test_a_list_is_told_as_alternatives():
    """The status page would else show Python's brackets, or the first name alone."""
    assert describe(GrantConfig(role="a", user="b", uid=0)) == "user b, uid 0"
    assert describe(GrantConfig(role="a", user=["b", "c", "d"], gid=[0, 7])) == "user b, c or d, gid 0 or 7"


def test_the_schema_takes_one_value_or_an_array():
    """An editor that knows the schema would mark a right config as wrong."""
    keys = GrantConfig.model_json_schema()["properties"]
    assert keys["uid"]["anyOf"][0] == keys["uid"]["anyOf"][1]["items"]
    assert keys["user"]["anyOf"][1]["minItems"] == 1
    assert keys["user"]["default"] == []


def test_an_address_is_kept_as_it_is_usually_written():
    """Two ways to write one network are one network."""
    assert GrantConfig(role="r", address="fd00:0:0::/64").address == ("fd00::/64",)
    assert GrantConfig(role="r", address="172.17.0.2").address == ("172.17.0.2/32",)


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("shop/frontend", True),
        ("shop/*", True),
        ("shop/backend", False),
        ("shop/front", False),
        ("other/frontend", False),
        ("other/*", False),
    ],
)
def test_a_service_account_is_its_namespace_and_its_name(pattern, fits):
    """A pod of the same name in another namespace, or another pod of this one, would have the role."""
    grants = [GrantConfig(role="deploy", service_account=pattern)]
    caller = Caller("10.0.0.2", "127.0.0.1:1338", b"", service_account=ServiceAccount("shop", "frontend", "frontend-1"))
    assert Grants(grants, None).roles_for(caller) == (("deploy",) if fits else ())


@pytest.mark.parametrize(
    ("unit", "fits"),
    [
        ("worker@1.service", True),
        ("worker@a@b.service", True),
        ("nginx.service", True),
        (r"foo\x2dbar.service", True),
        ("worker.service", False),
        ("worker@1.scope", False),
        ("worker2@1.service", False),
        ("xworker@1.service", False),
        ("Nginx.service", False),
        ("nginx.servic", False),
        ("foo-bar.service", False),
        (None, False),
    ],
)
def test_a_unit_is_its_whole_name_or_an_instance_of_its_template(unit, fits):
    """A service whose name is like another's would have its role."""
    table = {"role": "deploy", "unit": ["worker@*.service", "nginx.service", r"foo\x2dbar.service"]}
    decide = Grants([GrantConfig(**table)], None).roles_for
    assert decide(Caller("::1", "l", b"", uid=0, user="root", unit=unit)) == (("deploy",) if fits else ())


def test_a_unit_and_a_user_have_both_to_fit():
    """Of a service that starts programs as several users, one may be meant alone."""
    grant = GrantConfig(role="deploy", unit="nginx.service", user="www-data")
    decide = Grants([grant], None).roles_for
    assert describe(grant) == "user www-data, unit nginx.service"
    assert decide(Caller("::1", "l", b"", uid=33, user="www-data", unit="nginx.service")) == ("deploy",)
    assert decide(Caller("::1", "l", b"", uid=0, user="root", unit="nginx.service")) == ()
    assert decide(Caller("::1", "l", b"", uid=33, user="www-data")) == ()
