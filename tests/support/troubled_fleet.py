"""A fleet of daemons, each with a trouble of its own, that can be mended."""

import contextlib
import signal
import socket
import threading
import time
from dataclasses import dataclass, field
from email.utils import formatdate

from imds_proxy.base_key.iam import ACTIONS
from imds_proxy.demo.aws_double import free_port
from support import aws as sts
from support.base_key import Host as BaseKeyHost
from support.certificates import put
from support.daemon import HOST, DaemonProcess, request, wait
from support.roles_anywhere import PROFILE, ROLE, TRUST_ANCHOR
from support.users import User

NOBODY = 65534  # the user of this name
LIFE = 30.0
"""Seconds that a session lives."""

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

_BLIND = """
[[grants]]
role = "deploy"
user = "root"
"""
_RELAY = """
import selectors
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listens", flush=True)
while True:
    one, _ = listening.accept()
    if os.fork():
        one.close()
        continue
    other = socket.socket()
    other.connect(("127.0.0.1", int(sys.argv[2])))
    selector = selectors.DefaultSelector()
    selector.register(one, selectors.EVENT_READ, other)
    selector.register(other, selectors.EVENT_READ, one)
    while True:
        for key, _ in selector.select():
            if not (data := key.fileobj.recv(65536)):
                os._exit(0)
            key.data.sendall(data)
"""
"""What Prometheus asks through to be another user."""


@dataclass
class Fleet:
    """The daemons, and what stands between them and AWS."""

    account: object
    folder: object
    daemons: dict[str, DaemonProcess] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    skewed: set[str] = field(default_factory=set)
    relayed: dict[str, int] = field(default_factory=dict)
    """Ports to be scraped in place of the daemons' own."""

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
        ports = {name: daemon.admin_port for name, daemon in self.daemons.items()} | self.relayed
        return {name: port for name, port in ports.items() if name not in without}

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


class Troubles:
    """A host on which everything but the credentials goes wrong."""

    def __init__(self, fleet):
        self._fleet, self._name = fleet, "troubled"
        self._folder = fleet.folder / self._name
        self._busy = free_port()
        base_key = fleet.folder / "base-key"
        base_key.mkdir()
        role = fleet.account.double.add_role("Troubled", "*")
        self._key = BaseKeyHost(fleet.account.double, base_key)
        self.daemon = fleet.start(self._name, extra=_TROUBLES, environment=self._key.environment, role=role)
        (self._folder / "out").mkdir()
        (self._folder / "audit").mkdir()
        self._good = self.daemon.config.read_text().replace("[admin]", "rate_limit = 5\n[admin]")

    def begin(self):
        self._taken = socket.create_server(("127.0.0.1", self._busy))
        self._fleet.skewed.add(self._name)
        self._fleet.account.double.allow(self._key.user, "sts:GetCallerIdentity")
        own = f"127.0.0.1:{self.daemon.port}"
        changed = self._good.replace("60d", "61d")  # looks at its key again
        self._change(changed.replace(f'["{own}"]', f'["{own}", "127.0.0.1:{self._busy}"]'))
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
        self._fleet.account.double.allow(self._key.user, *ACTIONS)
        self._change(self._good.replace("60d", "30d"))

    def _move(self, name):
        """A file in place of a folder."""
        (self._folder / name).rename(self._folder / f"{name}.away")
        (self._folder / name).touch()

    def _change(self, config):
        self.daemon.config.write_text(config)
        self._fleet.reload(self._name)
        time.sleep(1)


class Blind:
    """A daemon that Prometheus asks as a user who may have none of its roles."""

    def __init__(self, fleet):
        self._fleet, self._daemon = fleet, fleet.start("blind", extra=_BLIND)
        port = fleet.relayed["blind"] = free_port()
        self._relay = User(None, NOBODY, NOBODY).start(_RELAY, port, self._daemon.admin_port)
        assert self._relay.stdout.readline() == "listens\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._relay.kill()
        self._relay.communicate()

    def mend(self):
        config = self._daemon.config.read_text()
        self._daemon.config.write_text(config.replace("[admin]", '[admin]\nallowed_users = ["nobody"]'))
        self._fleet.reload("blind")


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
