"""Who may have which role: the decision alone, held against a slow and obvious one."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.callers.caller import Caller, ServiceAccount
from imds_proxy.callers.grants import Grants
from imds_proxy.config_callers import GrantConfig
from imds_proxy.config_file import parse
from imds_proxy.errors import ConfigError
from support.plane import role_table

ROLES = ("deploy", "logs", "backup")
USERS = ("build", "codedeploy")
GROUPS = ("docker", "wheel")
NUMBERS = (0, 1000, 1001)
ADDRESSES = ("127.0.0.1", "::1", "172.17.0.2", "172.17.0.3", "fd00::2")
NETWORKS = ("127.0.0.0/8", "172.17.0.0/16", "172.17.0.2/32", "0.0.0.0/0", "::/0", "fd00::/64")
LISTENERS = ("127.0.0.1:1338", "172.17.0.1:80", "systemd:pods")
FILES = ("/run/a", "/run/b")
ACCOUNTS = ("team/app", "team/db", "other/app")


def maybe(values):
    return st.none() | st.sampled_from(values)


@st.composite
def grants(draw):
    keys = {
        "user": USERS,
        "group": GROUPS,
        "uid": NUMBERS,
        "gid": NUMBERS,
        "address": NETWORKS,
        "listener": LISTENERS,
        "service_account": (*ACCOUNTS, "team/*"),
        "token_file": FILES,
    }
    chosen = draw(st.lists(st.sampled_from(sorted(keys)), min_size=1, max_size=3, unique=True))
    if {"service_account", "token_file"} <= set(chosen):
        chosen.remove("token_file")
    return GrantConfig(role=draw(st.sampled_from(ROLES)), **{key: draw(st.sampled_from(keys[key])) for key in chosen})


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
        service_account=ServiceAccount(*account.split("/")) if account else None,
        token_file=draw(maybe(FILES)),
    )


def slow_and_obvious(grants, caller):  # noqa: C901 - obvious, a key after the other
    roles = []
    for grant in grants:
        answers = []
        if grant.user is not None:
            answers.append(caller.user is not None and caller.user == grant.user)
        if grant.group is not None:
            answers.append(any(group == grant.group for group in caller.groups))
        if grant.uid is not None:
            answers.append(caller.uid is not None and caller.uid == grant.uid)
        if grant.gid is not None:
            answers.append(any(gid == grant.gid for gid in caller.gids))
        if grant.address is not None:
            answers.append(ipaddress.ip_address(caller.address) in ipaddress.ip_network(grant.address))
        if grant.listener is not None:
            answers.append(caller.listener == grant.listener)
        if grant.service_account is not None:
            shown = str(caller.service_account)
            wanted = grant.service_account
            answers.append(
                caller.service_account is not None
                and (shown == wanted or (wanted.endswith("/*") and shown.startswith(wanted[:-1])))
            )
        if caller.service_account is not None and grant.service_account is None:
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
        ({}, "grants.0: says nobody: add user, group, uid, gid, address, listener, service_account or token_file"),
        ({"role": "nobody", "uid": 1}, "grants.0.role: there is no role 'nobody'"),
        ({"user": "1000"}, "grants.0.user: expected a name; a number goes into uid or gid"),
        ({"user": "a\0b"}, "grants.0.user: holds a null character"),
        ({"user": ""}, "grants.0.user: should have at least 1 character"),
        ({"uid": "build"}, "grants.0.uid: expected a whole number"),
        ({"uid": -1}, "grants.0.uid: should be greater than or equal to 0"),
        ({"uid": 2**32 - 1}, "grants.0.uid: should be less than 4294967295"),
        ({"address": "172.17.0.1/16"}, 'has bits set behind its prefix: write "172.17.0.0/16", or the address alone'),
        ({"address": "bridge"}, 'grants.0.address: expected an address or a CIDR, as in "172.17.0.2"'),
        ({"listener": "127.0.0.1:1"}, "grants.0.listener: is none of metadata.listen: 127.0.0.1:1338"),
        ({"service_account": "app"}, 'grants.0.service_account: expected "NAMESPACE/NAME" or "NAMESPACE/*"'),
        ({"service_account": "*/app"}, 'grants.0.service_account: expected "NAMESPACE/NAME" or "NAMESPACE/*"'),
        ({"service_account": "a/b"}, "grants.0.service_account: needs a table [service_accounts]"),
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


def test_an_address_is_kept_as_it_is_usually_written():
    """Two ways to write one network are one network."""
    assert GrantConfig(role="r", address="fd00:0:0::/64").address == "fd00::/64"
    assert GrantConfig(role="r", address="172.17.0.2").address == "172.17.0.2/32"


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
