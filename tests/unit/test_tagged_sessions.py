"""A session for each service account and pod (tagged_sessions.py)."""

import asyncio
import gc
import weakref
from types import SimpleNamespace

import pytest

from imds_proxy.callers.caller import ServiceAccount
from imds_proxy.config.reader import parse
from imds_proxy.config.roles import SERVICE_ACCOUNT_TAGS
from imds_proxy.errors import ConfigError
from imds_proxy.renewal.caller_sessions import MOST_SESSIONS, TaggedSessions
from imds_proxy.renewal.idle_timer import Demand
from imds_proxy.renewal.keeper import Keeper
from imds_proxy.renewal.roles import Roles
from imds_proxy.telemetry.stats import RenewalStats
from support.on_demand import HOUR, IDLE_AFTER, Aws, in_virtual_time
from support.plane import role_table

ACCOUNTS = {"issuer": "https://cluster.example", "jwks_file": "/etc/keys.json"}
GRANT = {"role": "pods", "service_account": "team/*"}
TAGGED = role_table("pods", tags="service-account")


def config(roles=None, **tables):
    tables = {"grants": [GRANT], "service_accounts": ACCOUNTS} | tables
    return parse({"region": "eu-west-1", "roles": roles or TAGGED, **tables}, "test")


def pod(number=0, name="app"):
    return ServiceAccount("team", name, f"{name}-{number}", f"uid-{number}")


def tagged(settings=None):
    """The sessions of a role, the settings that each session's source was made of, and those sources."""
    clock, stats, sources = asyncio.get_running_loop().clock(), RenewalStats(), []

    def make_keeper():
        return Keeper("pods", clock=clock, stats=stats, demand=Demand(clock, IDLE_AFTER))

    def make_source(settings):
        sources.append(Aws(clock))
        sources[-1].settings = settings
        return sources[-1]

    sessions = TaggedSessions("pods", settings or config().roles["pods"], make_keeper)
    sessions.start(make_source)
    return SimpleNamespace(sessions=sessions, sources=sources, clock=clock, stats=stats)


@in_virtual_time
async def test_each_pod_gets_a_session_of_its_own_at_its_second_try():
    """CloudTrail and AWS's policies could not tell one pod from another."""
    role = tagged()
    pods = [pod(1), pod(2), pod(1, "other"), ServiceAccount("team", "app")]
    assert [role.sessions.serve(account) for account in pods] == [None] * 4
    await asyncio.sleep(2)
    held = [role.sessions.serve(account) for account in pods]
    assert len({id(one) for one in held} - {id(None)}) == 4
    assert [source.settings.tags for source in role.sources] == [account.tags() for account in pods]
    assert role.sources[0].settings.tags == {
        "kubernetes-namespace": "team",
        "kubernetes-service-account": "app",
        "kubernetes-pod-name": "app-1",
        "kubernetes-pod-uid": "uid-1",
    }
    assert role.sources[3].settings.tags == {"kubernetes-namespace": "team", "kubernetes-service-account": "app"}
    await role.sessions.close()


@in_virtual_time
async def test_a_pod_that_asks_is_kept_and_one_that_does_not_is_forgotten():
    """A cluster makes pods all day: each would be renewed for ever."""
    role = tagged()
    while role.clock.now() < 1_800_000_000 + 24 * HOUR:
        role.sessions.serve(pod(1))
        if len(role.sources) == 1:
            role.sessions.serve(pod(2))
        await asyncio.sleep(HOUR / 2)
    assert len(role.sessions) == 1
    assert 48 <= len(role.sources[0].calls) <= 58
    assert len(role.sources[1].calls) <= 5
    await role.sessions.close()


@in_virtual_time
async def test_what_is_forgotten_is_not_in_memory():
    """Secrets of pods that are long gone would be found there."""
    role = tagged()
    role.sessions.serve(pod())
    await asyncio.sleep(2)
    keeper = weakref.ref(role.sessions._sessions[pod()].keeper)
    await asyncio.sleep(10 * HOUR)
    assert len(role.sessions) == 0
    gc.collect()
    assert keeper() is None
    assert role.sessions.serve(pod()) is None
    await asyncio.sleep(2)
    assert role.sessions.serve(pod())
    await role.sessions.close()


@in_virtual_time
async def test_one_pod_that_fails_does_not_concern_another():
    role = tagged()
    role.sessions.serve(pod(1))
    await asyncio.sleep(0)
    role.sources[0].is_away = True
    role.sessions.serve(pod(2))
    await asyncio.sleep(2)
    assert role.sessions.serve(pod(1)) is None
    assert role.sessions.serve(pod(2))
    account, failure = role.sessions.failure()
    assert (account, failure.outcome) == (pod(1), "unreachable")
    assert {role for role, _ in role.stats.outcomes} == {"pods"}
    await role.sessions.close()


@in_virtual_time
async def test_the_one_that_is_idle_longest_makes_room():
    """Whoever has a cluster's tokens could fill the memory of the host."""
    role = tagged()
    for number in range(MOST_SESSIONS):
        role.sessions.serve(pod(number))
    await asyncio.sleep(61)
    role.sessions.serve(pod(0))
    role.sessions.serve(pod(MOST_SESSIONS))
    await asyncio.sleep(2)
    assert len(role.sessions) == MOST_SESSIONS
    assert role.sessions.serve(pod(0))
    assert role.sessions.serve(pod(MOST_SESSIONS))
    assert pod(1) not in role.sessions._sessions
    assert len(role.sessions._keeping) == MOST_SESSIONS
    await role.sessions.close()


def test_pods_that_all_ask_at_once_do_not_push_each_other_out(caplog):
    """With one more than there is room for, none would ever have credentials."""

    @in_virtual_time
    async def main():
        role = tagged()
        for _ in range(2):
            for number in range(MOST_SESSIONS + 5):
                role.sessions.serve(pod(number))
            await asyncio.sleep(30)
        served = [role.sessions.serve(pod(number)) is not None for number in range(MOST_SESSIONS + 5)]
        assert sum(served) == MOST_SESSIONS
        await role.sessions.close()

    main()
    assert caplog.text.count("too many service accounts ask at once") == 1


@in_virtual_time
async def test_only_so_many_sessions_are_obtained_at_once():
    """A cluster that starts would open as many connections as it has pods, and STS would ask for fewer calls."""
    role = tagged()
    for number in range(120):
        role.sessions.serve(pod(number))
    for so_far in (50, 100, 120):
        await asyncio.sleep(1)
        assert sum(bool(source.calls) for source in role.sources) == so_far
    await asyncio.sleep(1)
    assert all(role.sessions.serve(pod(number)) for number in range(120))
    await role.sessions.close()


@in_virtual_time
async def test_closing_ends_a_session_that_is_being_obtained():
    role = tagged()
    role.sessions.serve(pod())
    await asyncio.sleep(0.5)
    assert len(role.sources[0].calls) == 1
    await role.sessions.close()
    assert (len(role.sessions), role.sessions._keeping) == (0, set())
    assert role.sessions.serve(pod()) is None
    assert asyncio.all_tasks() == {asyncio.current_task()}


# Across reloads


async def roles_of(config, roles=None):
    """The roles with an AWS behind them; every source that was made is in `.sources`."""
    if roles is None:
        roles = Roles(asyncio.get_running_loop().clock(), RenewalStats(), lambda: None)
        roles.sources = []

    def make_source(name, settings, parent):
        roles.sources.append(Aws(roles._clock))
        roles.sources[-1].settings = settings
        return roles.sources[-1]

    await roles.stop(roles.update(config, None))
    roles.start(make_source)
    return roles


@in_virtual_time
async def test_who_asks_while_the_daemon_starts_need_not_ask_twice():
    """A pod that starts with its node would lose its first try."""
    clock, stats = asyncio.get_running_loop().clock(), RenewalStats()
    roles = Roles(clock, stats, lambda: None)
    await roles.stop(roles.update(config(), None))
    assert roles.tagged()["pods"].serve(pod()) is None
    await asyncio.sleep(5)
    roles.start(lambda *_: Aws(clock))
    await asyncio.sleep(2)
    assert roles.tagged()["pods"].serve(pod())
    await roles.close()


@in_virtual_time
async def test_the_role_itself_is_never_obtained_nor_handed_out():
    """A session without the tags would pass where one with them would not."""
    roles = await roles_of(config())
    await asyncio.sleep(HOUR)
    assert (dict(roles.served()), list(roles.tagged()), roles.sources) == ({}, ["pods"], [])
    assert roles.figures()["pods"].sessions == []
    roles.tagged()["pods"].serve(pod())
    assert [times.expiration for times in roles.figures()["pods"].sessions] == [0]
    await asyncio.sleep(2)
    assert [held.key_hint for held in roles.tagged()["pods"].held()] == ["0001"]
    assert roles.figures()["pods"].sessions[0].expiration > 0
    assert roles["pods"].keeper.last is None
    await roles.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@in_virtual_time
async def test_a_reload_keeps_the_sessions_of_a_role_that_is_the_same():
    """Every pod would have to wait, and AWS would be asked for all of them at once."""
    roles = await roles_of(config())
    roles.tagged()["pods"].serve(pod())
    await asyncio.sleep(2)
    held = roles.tagged()["pods"].serve(pod())
    await roles_of(config(roles=TAGGED | role_table("other")), roles)
    assert roles.tagged()["pods"].serve(pod()) is held
    await roles.close()


@in_virtual_time
async def test_a_reload_that_changes_the_role_ends_its_sessions():
    """A pod would go on with the rights of the old settings."""
    roles = await roles_of(config())
    roles.tagged()["pods"].serve(pod())
    await asyncio.sleep(2)
    await roles_of(config(roles=role_table("pods", tags="service-account", external_id="xy")), roles)
    assert roles.tagged()["pods"].serve(pod()) is None
    await asyncio.sleep(2)
    assert roles.tagged()["pods"].serve(pod())
    assert roles.sources[-1].settings.external_id == "xy"
    await roles_of(config(grants=[GRANT | {"role": "other"}], roles=TAGGED | role_table("other")), roles)
    assert not roles.tagged()
    await roles.close()


# What the config may say


def test_a_table_of_tags_is_one_as_ever():
    settings = config(role_table("pods", tags={"team": "web"})).roles["pods"]
    assert (settings.per_service_account, settings.tags) == (False, {"team": "web"})


def test_the_tags_are_those_of_the_account():
    """AWS would get the placeholders."""
    settings = config().roles["pods"]
    assert settings.per_service_account
    assert set(settings.tags) == set(SERVICE_ACCOUNT_TAGS) == set(pod().tags())


def test_for_nobody_in_particular_it_has_no_tags():
    """`imds-proxy check` would send AWS the placeholders."""
    roles = config(TAGGED | role_table("other", tags={"team": "web"})).roles
    assert (roles["pods"].nobodys.tags, roles["other"].nobodys.tags) == ({}, {"team": "web"})


def test_of_what_is_not_known_no_tag_is_transitive():
    """AWS refuses a transitive key that is no tag."""
    keys = ["kubernetes-namespace", "kubernetes-pod-name"]
    settings = config(role_table("pods", tags="service-account", transitive_tag_keys=keys)).roles["pods"]
    assert settings.with_tags(pod().tags()).transitive_tag_keys == tuple(keys)
    assert settings.with_tags(ServiceAccount("team", "app").tags()).transitive_tag_keys == ("kubernetes-namespace",)


NONE_BESIDES = 'roles.pods has tags = "service-account": it has sessions for service accounts and none besides'


@pytest.mark.parametrize(
    ("tables", "mistake"),
    [
        ({"files": [{"role": "pods", "path": "/run/x"}]}, f"files.0.role: {NONE_BESIDES}"),
        ({"roles": TAGGED | role_table("b", **{"from": "pods"})}, f"roles.b.from: {NONE_BESIDES}"),
        ({"roles": role_table("pods", tags="service-account", default=True)}, f"roles.pods.default: {NONE_BESIDES}"),
        (
            {"grants": []},
            "roles.pods.tags: say in [[grants]] which service_account may have the role",
        ),
        (
            {"roles": role_table("pods", tags="pods")},
            'roles.pods.tags: expected a table of tags, or "service-account"',
        ),
        (
            {"roles": role_table("pods", tags="service-account", transitive_tag_keys=["team"])},
            "roles.pods: transitive_tag_keys names 'team', which is not in tags",
        ),
        (
            {"grants": [{"role": "pods", "user": "build"}]},
            'grants.0.role: roles.pods has tags = "service-account": only a service_account can have it',
        ),
    ],
)
def test_what_such_a_role_cannot_be_is_said(tables, mistake):
    """It would be found out at the first request, or never."""
    with pytest.raises(ConfigError) as caught:
        config(**tables)
    assert list(caught.value.mistakes) == [mistake]
