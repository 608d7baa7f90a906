"""A real Prometheus, with the rules as they are rendered but thirty times as fast, and a fleet of real daemons.

Sessions of 15 minutes are sessions of 30 seconds. A host for each kind of trouble, all at the same time, and one that
is well; which alerts fire for which, when they end, and that no other does.
"""

import contextlib
import re
import signal
import socket
import threading
import time
from dataclasses import dataclass, field
from email.utils import formatdate

import pytest

from imds_proxy.demo.aws_double import free_port
from support import aws as sts
from support import dashboard
from support.base_key import Host as BaseKeyHost
from support.certificates import Authority, put
from support.daemon import HOST, DaemonProcess, request, wait
from support.network import Relay
from support.prometheus import Prometheus, Timeline
from support.promtool import rules
from support.roles_anywhere import PROFILE, ROLE, TRUST_ANCHOR, RolesAnywhereDouble

SCALE = 1 / 30
LIFE = 900 * SCALE
_SOURCE = """
[roles.deploy]
role_arn = "{role}"
session_name = "{name}"
sts_endpoint = "{sts}"
"""
_CERTIFICATE = f"""
[roles.host]
source = "roles-anywhere"
role_arn = "{ROLE}"
trust_anchor_arn = "{TRUST_ANCHOR}"
profile_arn = "{PROFILE}"
endpoint = "ENDPOINT"
certificate = "FOLDER/host.crt"
private_key = "FOLDER/host.key"
"""
_TROUBLES = """
[[files]]
role = "deploy"
path = "FOLDER/out/credentials"
format = "json"
[audit]
file = "FOLDER/audit/audit.log"
[base_key]
rotate_every = "60d"
"""

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
    },
    "certified": {"CertificateRefused", "CertificateNotRotated"},
}
"""All that ever fires, by host."""
NOT_MENDED = {("BaseKeyOld", "troubled")}  # the daemon looks at its key again in hours


@dataclass
class Fleet:
    """The daemons, and what stands between them and AWS."""

    account: object
    folder: object
    daemons: dict[str, DaemonProcess] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    skewed: set[str] = field(default_factory=set)

    def answer(self, asked):
        """In place of AWS: sessions of half a minute."""
        if not sts.is_assume_role(asked):
            return None
        name = sts.parameter(asked, "RoleSessionName")
        if name in self.denied:
            return sts.access_denied(asked, self.account.double.user_arn("host"))
        answer = sts.short_session(self.account.double, asked, LIFE)
        if name in self.skewed:
            answer.headers["Date"] = formatdate(time.time() - 10, usegmt=True)
        return answer

    def start(self, name, *, url=None, extra="", config=None, environment=None, role=None):
        folder = self.folder / name
        folder.mkdir()
        role, url = role or self.account.role_arn, url or self.account.double.url
        config = config or HOST + _SOURCE.format(role=role, name=name, sts=url) + extra
        config = config.replace("FOLDER", str(folder))
        daemon = DaemonProcess(folder, config, environment or self.account.environment)
        self.daemons[name] = daemon.start()
        return daemon

    def targets(self, *, without=()):
        return {name: daemon.admin_port for name, daemon in self.daemons.items() if name not in without}

    def reload(self, *names):
        for name in names:
            self.daemons[name].process.send_signal(signal.SIGHUP)


class Flood:
    """A program in a loop: requests without a session token, as fast as they are answered."""

    def __init__(self, daemon):
        self._daemon, self._stop = daemon, threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(6)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self):
        while not self._stop.is_set():
            with contextlib.suppress(OSError):
                request(self._daemon.endpoint + "latest/meta-data/iam/security-credentials/deploy")


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
    certificates = Certificates(fleet, authority)
    for name, daemon in fleet.daemons.items():
        wait(daemon.ready, 60, name)
    prometheus.scrape(fleet.targets())
    with Timeline(prometheus) as timeline:
        try:
            story(fleet, prometheus, timeline, relay, away, troubles, certificates)
        finally:
            relay.__exit__()
            with capsys.disabled():
                print(f"\n{timeline.table()}")


def story(fleet, prometheus, timeline, relay, away, troubles, certificates):
    """Health, trouble of every kind at once, each mended, and at last no target at all."""
    timeline.phase("health")
    for _ in range(10):  # each role is renewed twice meanwhile
        fleet.daemons["well"].credentials("deploy")
        time.sleep(LIFE / 10)
    say_how_many(timeline, prometheus, empty=["What needs somebody"])
    assert timeline.fired.keys() <= {("BaseKeyOld", "troubled")}
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
        fleet.reload("outage", "denied", "never")
        prometheus.scrape(fleet.targets())
        for host, names in EXPECTED.items():
            assert_fires(timeline, host, names, 120)
        certificates.mend()
        wait(lambda: prometheus.firing() <= NOT_MENDED, 90, lambda: f"the end of {prometheus.firing()}")
        timeline.phase("all is well")
        say_how_many(timeline, prometheus, empty=["What needs somebody"])
        assert not prometheus.unhealthy()
        assert {host: timeline.names(host) for host in {*EXPECTED, ""}} == EXPECTED | {"": set()}
    no_targets(prometheus, timeline)


def no_targets(prometheus, timeline):
    """The worst that can happen to a watch: nothing else can fire any more."""
    prometheus.scrape({})
    timeline.phase("no targets")
    all_of_them = {("DaemonVanished", host) for host in EXPECTED} | {("NoTargets", "")} | NOT_MENDED
    wait(lambda: prometheus.firing() >= all_of_them - NOT_MENDED, 60, lambda: f"all of them: {prometheus.firing()}")
    assert prometheus.firing() <= all_of_them


def say_how_many(timeline, prometheus, *, empty=()):
    timeline.phase(f"  {expressions_return_data(prometheus, empty=empty)} expressions of panels return data")


def assert_fires(timeline, host, names, seconds):
    wait(lambda: names <= timeline.names(host), seconds, lambda: f"{host}: {names - timeline.names(host)}")


class Troubles:
    """A host on which everything but the credentials goes wrong."""

    def __init__(self, fleet):
        self._fleet, self._name = fleet, "troubled"
        self._folder = fleet.folder / self._name
        self._busy = free_port()
        base_key = fleet.folder / "base-key"
        base_key.mkdir()
        role = fleet.account.double.add_role("Troubled", "*")
        self.daemon = fleet.start(
            self._name, extra=_TROUBLES, environment=BaseKeyHost(fleet.account.double, base_key).environment, role=role
        )
        (self._folder / "out").mkdir()
        (self._folder / "audit").mkdir()
        self._good = self.daemon.config.read_text().replace("[admin]", "rate_limit = 5\n[admin]")

    def begin(self):
        self._taken = socket.create_server(("127.0.0.1", self._busy))
        self._fleet.skewed.add(self._name)
        own = f"127.0.0.1:{self.daemon.port}"
        self._change(self._good.replace(f'["{own}"]', f'["{own}", "127.0.0.1:{self._busy}"]'))
        wait(lambda: self.daemon.status()["listeners_down"], 20, "a listener that is down")
        self._change("this is no TOML")
        self._move("out")
        self._move("audit")
        self._flood = Flood(self.daemon)
        self._flood.__enter__()

    def end(self):
        self._flood.__exit__()
        self._taken.close()
        self._fleet.skewed.clear()
        for name in ("out", "audit"):
            (self._folder / name).unlink()
            (self._folder / f"{name}.away").rename(self._folder / name)
        self._change(self._good)

    def _move(self, name):
        """A file in place of a folder."""
        (self._folder / name).rename(self._folder / f"{name}.away")
        (self._folder / name).touch()

    def _change(self, config):
        self.daemon.config.write_text(config)
        self._fleet.reload(self._name)
        time.sleep(1)


class Certificates:
    """A host with a certificate of two and a half minutes."""

    def __init__(self, fleet, authority):
        self._authority, self._folder = authority, fleet.folder / "certificates"
        self._folder.mkdir()
        self._put(authority.issue(left=150.0, age=10.0))
        config = HOST + _CERTIFICATE.replace("ENDPOINT", authority.url)
        fleet.start("certified", config=config.replace("FOLDER", str(self._folder)))

    def spoil(self):
        """The certificate of another key."""
        put(self._folder / "host.crt", self._authority.issue().certificate_pem(), 0o644)

    def mend(self):
        self._put(self._authority.issue())

    def _put(self, issued):
        put(self._folder / "host.crt", issued.certificate_pem(chain=True), 0o644)
        put(self._folder / "host.key", issued.key_pem())


def expressions_return_data(prometheus, *, empty=()):
    """Every panel but those in `empty` shows something, and so would every rule: what it asks for is there."""
    expressions = dashboard.expressions("10s", "1m")
    without = {f"{title} {ref}" for title, ref, expr in expressions if not prometheus.query(expr)}
    assert {each.rpartition(" ")[0] for each in without} <= set(empty), without
    names = set(re.findall(r"imds_proxy_\w+|process_\w+", " ".join(each.expr for each in rules.ALERTS)))
    assert [name for name in sorted(names | rules.RECORDS.keys()) if not prometheus.query(name)] == []
    return len(expressions) - len(without)
