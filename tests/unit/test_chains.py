"""Roles that are obtained with each other, in and after an outage (renewal/chains.py), in virtual time."""

import asyncio

import pytest

from imds_proxy.callers.caller import ServiceAccount
from imds_proxy.config.reader import parse
from imds_proxy.errors import Denied, Throttled, Unreachable
from imds_proxy.renewal.roles import Roles
from imds_proxy.sources import Source
from imds_proxy.telemetry.stats import RenewalStats
from support.on_demand import HOUR, in_virtual_time
from support.plane import credentials, role_table

CHAIN = ("root", "middle", "leaf", "other")
PARENTS = {"middle": "root", "leaf": "middle", "other": "root"}


class Assumed(Source):
    """A role of a chain: fails while its parent has nothing, or as a test wants it to."""

    def __init__(self, clock, parent):
        self.clock, self.parent = clock, parent
        self.trouble, self.takes, self.calls = None, 0.1, []

    async def fetch(self):
        if self.parent is not None and self.parent() is None:
            raise Unreachable("the parent has nothing")
        self.calls.append(self.clock.now())
        trouble = self.trouble
        await asyncio.sleep(self.takes)
        if trouble is not None:
            raise trouble
        return credentials(now=self.clock.now(), life=HOUR, key=f"{len(self.calls):04}")


class Host:
    """Roles that are kept; `tables` are further keys of them."""

    def __init__(self, names=CHAIN, parents=PARENTS, trouble=None, **tables):
        self.clock = asyncio.get_running_loop().clock()
        self.roles, self.sources = Roles(self.clock, RenewalStats(), lambda: None), {}
        made = {}
        for name in names:
            made |= role_table(name, default=name == names[-1], **({"from": parents[name]} if name in parents else {}))
        self.roles.update(parse({"roles": made, **tables}, "test"), None)
        self.trouble = trouble
        self.roles.start(self._source)

    def _source(self, name, settings, parent):
        source = self.sources[name] = Assumed(self.clock, parent if settings.parent else None)
        source.trouble = self.trouble
        return source

    def keeper(self, name):
        return self.roles[name].keeper

    def trouble_everywhere(self, trouble):
        for source in self.sources.values():
            source.trouble = trouble

    async def until_live(self, name, asked=()):
        """Seconds until a role has live credentials, while clients ask for some others each second."""
        began = self.clock.now()
        while self.keeper(name).live() is None:
            for each in asked:
                self.keeper(each).serve()
            await asyncio.sleep(0.1)
        return self.clock.now() - began


async def after_an_outage(host):
    await asyncio.sleep(2)
    host.trouble_everywhere(Unreachable("no route"))
    await asyncio.sleep(3 * HOUR)
    assert host.keeper("leaf").live() is None
    host.trouble_everywhere(None)


@in_virtual_time
async def test_children_and_theirs_follow_at_once_when_their_parent_is_back():
    """Each sat out a backoff of its own: a chain of three was two minutes late."""
    host = Host()
    await after_an_outage(host)
    await host.until_live("root")
    assert max([await host.until_live("leaf"), await host.until_live("other")]) < 1


@in_virtual_time
async def test_a_request_for_a_child_has_its_parents_tried():
    """Nobody asks for a parent: its backoff alone would say when the child is served."""
    host = Host()
    await after_an_outage(host)
    assert await host.until_live("leaf", asked=["leaf"]) < 5


@in_virtual_time
async def test_a_denied_child_is_tried_with_its_parents_new_session():
    """A session revoked at AWS is refused until it is replaced; the child waited for five minutes more."""
    host = Host()
    await asyncio.sleep(2)
    host.sources["middle"].trouble = Denied("no")
    for _ in range(6):
        await host.keeper("middle").renew()
    assert host.keeper("middle").next_attempt - host.clock.now() > 30
    host.sources["middle"].trouble = None
    await host.keeper("root").renew()
    await asyncio.sleep(1)
    assert host.keeper("middle").failure is None


@in_virtual_time
async def test_children_that_are_well_keep_what_they_have():
    """Every renewal of a parent would be one of everything."""
    host = Host()
    await asyncio.sleep(2)
    for _ in range(3):
        await host.keeper("root").renew()
        await asyncio.sleep(2)
    assert [len(host.sources[name].calls) for name in CHAIN] == [4, 1, 1, 1]


@in_virtual_time
async def test_a_throttled_child_waits_as_long_as_it_was_asked_to():
    host = Host()
    await asyncio.sleep(2)
    host.sources["middle"].trouble = Throttled("slower", "", 100)
    await host.keeper("middle").renew()
    await host.keeper("root").renew()
    await asyncio.sleep(95)
    assert len(host.sources["middle"].calls) == 2


@in_virtual_time
async def test_an_attempt_with_the_session_before_is_followed_by_one_with_the_new_one():
    """Its refusal comes after the parent's renewal, and would wait five minutes for the next one."""
    host = Host()
    await asyncio.sleep(2)
    host.sources["middle"].takes = 5
    host.sources["middle"].trouble = Denied("no")
    trying = asyncio.create_task(host.keeper("middle").renew())
    await asyncio.sleep(1)
    host.sources["middle"].trouble = None
    await host.keeper("root").renew()
    await trying
    assert host.keeper("middle").failure is not None
    await asyncio.sleep(7)
    assert host.keeper("middle").failure is None


@in_virtual_time
async def test_many_children_are_spread():
    """A hundred calls to STS in one moment are throttled."""
    names = ["root", *(f"child{number}" for number in range(100))]
    host = Host(names, dict.fromkeys(names[1:], "root"), Unreachable("no route"))
    await asyncio.sleep(600)
    host.trouble_everywhere(None)
    await host.keeper("root").renew()
    began = host.clock.now()
    await asyncio.sleep(10)
    calls = sorted(source.calls[-1] - began for name, source in host.sources.items() if name != "root")
    assert calls[-1] < 6
    assert calls[50] > 1


@in_virtual_time
async def test_sessions_of_service_accounts_are_woken_too():
    grants = [{"role": "pods", "service_account": "team/*"}]
    accounts = {"issuer": "https://cluster.example", "jwks_file": "/etc/keys.json"}
    tables = role_table("root", serve=False) | role_table("pods", tags="service-account", **{"from": "root"})
    config = parse({"roles": tables, "grants": grants, "service_accounts": accounts}, "test")
    clock, sources = asyncio.get_running_loop().clock(), {}
    roles = Roles(clock, RenewalStats(), lambda: None)
    roles.update(config, None)

    def make(name, _, parent):
        sources[name] = source = Assumed(clock, parent if name == "pods" else None)
        source.trouble = Unreachable("no route")
        return source

    roles.start(make)
    account = ServiceAccount("team", "app", "app-1", "uid-1")
    sessions = roles["pods"].sessions
    assert sessions.serve(account) is None
    await asyncio.sleep(300)
    for source in sources.values():
        source.trouble = None
    assert not sources["pods"].calls
    await roles["root"].keeper.renew()
    await asyncio.sleep(1)
    assert len(sources["pods"].calls) == 1
    assert sessions.serve(account)


@pytest.mark.parametrize("names", [CHAIN, CHAIN[::-1], ("leaf", "root", "other", "middle")])
@in_virtual_time
async def test_parents_come_before_their_children(names):
    host = Host()
    assert host.roles._chains.parents_first(names) == [
        ["root"],
        [name for name in names if name in {"middle", "other"}],
        ["leaf"],
    ]
