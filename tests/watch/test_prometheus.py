"""A real Prometheus, with the rules as they are rendered but thirty times as fast, and a fleet of real daemons.

Sessions of 15 minutes are sessions of 30 seconds. A host for each kind of trouble, all at the same time, and one that
is well; which alerts fire for which, when they end, and that no other does.
"""

import re
import signal
import time

import pytest

from imds_proxy.demo.aws_double import free_port
from support import dashboard
from support.certificates import Authority
from support.daemon import wait
from support.network import Relay
from support.prometheus import Prometheus, Timeline
from support.promtool import rules
from support.roles_anywhere import RolesAnywhereDouble
from support.troubled_fleet import LIFE, Blind, Certificates, Fleet, Troubles

SCALE = 1 / 30
LATE = {"RenewalOverdue", "CredentialsExpireSoon", "CredentialsExpired", "NotReady"}
EXPECTED = {
    "well": set(),
    "outage": LATE,
    "denied": LATE | {"RenewalDenied"},
    "never": {"CredentialsNeverObtained", "NotReady"},
    "killed": {"DaemonDown", "RestartLoop"},
    "gone": {"DaemonVanished"},
    "troubled": {
        "ListenerDown",
        "ClockSkew",
        "ConfigNotReloaded",
        "RequestsLimited",
        "FileNotWritten",
        "AuditNotWritten",
        "BaseKeyOld",
        "BaseKeyRotationFails",
    },
    "blind": {"NoRolesVisible"},
    "certified": {"CertificateRefused", "CertificateNotRotated"},
}
"""All that ever fires, by host."""
FROM_THE_START = {("BaseKeyOld", "troubled"), ("NoRolesVisible", "blind")}


@pytest.fixture
def fleet(aws, tmp_path):
    fleet = Fleet(aws, tmp_path)
    aws.double.interfere = fleet.answer
    yield fleet
    for daemon in fleet.daemons.values():
        daemon.stop(signal.SIGKILL)


@pytest.fixture
def prometheus(tmp_path):
    folder = tmp_path / "prometheus"
    folder.mkdir()
    with Prometheus(folder, rules.files(SCALE)) as running:
        yield running


@pytest.fixture
def authority():
    authority = Authority()
    with RolesAnywhereDouble(authority.certificate) as double:
        authority.url = double.url
        yield authority


def test_each_trouble_raises_its_alerts_and_no_other_and_they_end(fleet, prometheus, authority, capsys):
    """The rules would hold in theory alone."""
    relay, away = Relay(fleet.account.double.url), free_port()
    for name in ("well", "denied", "killed", "gone"):
        fleet.start(name)
    fleet.start("outage", url=relay.url)
    troubles = Troubles(fleet)
    certificates, blind = Certificates(fleet, authority), Blind(fleet)
    for name, daemon in fleet.daemons.items():
        wait(daemon.ready, 60, name)
    prometheus.scrape(fleet.targets())
    with blind, Timeline(prometheus) as timeline:
        try:
            story(fleet, prometheus, timeline, relay, away, (troubles, certificates, blind))
        finally:
            relay.__exit__()
            with capsys.disabled():
                print(f"\n{timeline.table()}")


def story(fleet, prometheus, timeline, relay, away, hosts):
    """Health, trouble of every kind at once, each mended, and at last no target at all."""
    troubles, certificates, blind = hosts
    timeline.phase("health")
    for _ in range(10):  # each role is renewed twice meanwhile
        fleet.daemons["well"].credentials("deploy")
        time.sleep(LIFE / 10)
    say_how_many(timeline, prometheus, empty=["What needs somebody"])
    assert timeline.fired.keys() <= FROM_THE_START
    timeline.phase("trouble")
    relay.__exit__()
    fleet.denied.add("denied")
    fleet.daemons["killed"].stop(signal.SIGKILL)
    troubles.begin()
    certificates.spoil()
    fleet.start("never", url=f"http://127.0.0.1:{away}")
    prometheus.scrape(fleet.targets(without={"gone"}))
    assert_fires(timeline, "killed", {"DaemonDown"}, 40)
    for _ in range(3):
        fleet.daemons["killed"].start().wait_ready()
        time.sleep(2)  # it is scraped
        fleet.daemons["killed"].stop(signal.SIGKILL)
    fleet.daemons["killed"].start()
    for host in ("never", "outage", "denied", "troubled"):
        assert_fires(timeline, host, EXPECTED[host], 90)
    assert_fires(timeline, "certified", {"CertificateRefused"}, 60)
    say_how_many(timeline, prometheus)
    timeline.phase("mended")
    with Relay(fleet.account.double.url, relay.port), Relay(fleet.account.double.url, away):
        fleet.denied.clear()
        troubles.end()
        blind.mend()
        fleet.reload("outage", "denied", "never")
        prometheus.scrape(fleet.targets())
        for host, names in EXPECTED.items():
            assert_fires(timeline, host, names, 120)
        certificates.mend()
        wait(lambda: not prometheus.firing(), 90, lambda: f"the end of {prometheus.firing()}")
        timeline.phase("all is well")
        say_how_many(timeline, prometheus, empty=["What needs somebody"])
        assert not prometheus.unhealthy()
        assert {host: timeline.names(host) for host in {*EXPECTED, ""}} == EXPECTED | {"": set()}
    no_targets(prometheus, timeline)


def no_targets(prometheus, timeline):
    """The worst that can happen to a watch: nothing else can fire any more."""
    prometheus.scrape({})
    timeline.phase("no targets")
    all_of_them = {("DaemonVanished", host) for host in EXPECTED} | {("NoTargets", "")}
    wait(lambda: prometheus.firing() >= all_of_them, 60, lambda: f"all of them: {prometheus.firing()}")
    assert prometheus.firing() == all_of_them


def say_how_many(timeline, prometheus, *, empty=()):
    timeline.phase(f"  {expressions_return_data(prometheus, empty=empty)} expressions of panels return data")


def assert_fires(timeline, host, names, seconds):
    wait(lambda: names <= timeline.names(host), seconds, lambda: f"{host}: {names - timeline.names(host)}")


def expressions_return_data(prometheus, *, empty=()):
    """Every panel but those in `empty` shows something, and so would every rule: what it asks for is there."""
    expressions = dashboard.expressions("10s", "1m")
    without = {f"{title} {ref}" for title, ref, expr in expressions if not prometheus.query(expr)}
    assert {each.rpartition(" ")[0] for each in without} <= set(empty), without
    names = set(re.findall(r"imds_proxy_\w+|process_\w+", " ".join(each.expr for each in rules.ALERTS)))
    assert [name for name in sorted(names | rules.RECORDS.keys()) if not prometheus.query(name)] == []
    return len(expressions) - len(without)
