"""A daemon with a thousand roles of one source: when the default role is there, idle cost, longest waits."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from process import cpu_seconds
from tools import BenchError

from imds_proxy.demo.aws_double import AwsDouble
from support.aws import new_session
from support.certificates import Authority, put
from support.credential_service import CredentialService, Session
from support.daemon import HOST, DaemonProcess, request
from support.oidc import AUDIENCE, Federation, Issuer
from support.roles_anywhere import PROFILE, ROLE, TRUST_ANCHOR, RolesAnywhereDouble

_LONGEST_START = 180.0
_SETTLED = 8.0
_EACH_AT_MOST = 0.06  # seconds from one attempt to the next
_WINDOWS = 3
"""In which idleness is measured; the lowest counts: what was obtained before may still be written to a slow disk."""
_PROBE = Path(__file__).with_name("probe.py")
_DOCUMENT = "/latest/meta-data/iam/security-credentials/{}"


@dataclass(frozen=True, slots=True)
class Roles:
    """What a config has of a source.

    Args:
        table: Of one role, without its header; `{number}` is its own.
        environment: Of the daemon.
        change: Renews what some roles are read from; for sources that are files.
    """

    table: str
    environment: dict[str, str]
    change: Callable[[], object] | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one source. Times in seconds, waits in milliseconds, idle in percent of a core."""

    source: str
    default: float
    everything: float
    idle: float
    threads: int
    worst: dict[str, float]


def measure(source: str, folder: Path, many: int, idle_seconds: float) -> Figures:
    """Start a daemon with so many roles of a source, reload it, scrape it, and leave it alone."""
    folder.mkdir()
    with SOURCES[source](folder, many) as roles:
        # The default role is the last one: being early is not the order of the config.
        tables = [
            f"[roles.r{number}]\ndefault = {str(number == many - 1).lower()}\n{roles.table.format(number=number)}\n"
            for number in range(many)
        ]
        config = HOST.replace("[metadata]", "[metadata]\nrate_limit = 0") + "[renewal]\nstart_grace = 0\n"
        daemon = DaemonProcess(folder, config + "".join(tables), roles.environment, arguments=("--log-level", "ERROR"))
        began = time.monotonic()
        with daemon, _probe(daemon.port, _DOCUMENT.format(f"r{many - 1}")) as probe:
            everything = _until_all_are_there(daemon, many) - began
            time.sleep(_SETTLED)
            _phases(daemon, probe, roles, tables, config)
            found = _ended(probe)
            time.sleep(max(_SETTLED, many * _EACH_AT_MOST))  # the reload has every role obtained again
            idle = min(_used(daemon.process.pid, idle_seconds / _WINDOWS) for _ in range(_WINDOWS))
            threads = len(list(Path(f"/proc/{daemon.process.pid}/task").iterdir()))
        worst = {phase: slowest[0] for phase, slowest in found["slowest"].items()}
        return Figures(source, found["first_good"] - began, everything, idle, threads, worst)


def _used(pid: int, seconds: float) -> float:
    """Percent of a core in that many seconds."""
    cpu, at = cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    return (cpu_seconds(pid) - cpu) / (time.monotonic() - at) * 100


def table(many: int, figures: list[Figures]) -> str:
    """As text."""
    lines = [f"{many} roles of each source; worst GET of a kept connection in ms, by phase"]
    for each in figures:
        worst = ", ".join(f"{phase} {wait:.0f}" for phase, wait in each.worst.items())
        lines.append(
            f"{each.source:15} default role {each.default:5.2f} s, all {each.everything:5.1f} s,"
            f" idle {each.idle:5.2f} %, {each.threads} threads; {worst}"
        )
    return "\n".join(lines)


def _phases(daemon: DaemonProcess, probe: subprocess.Popen[str], roles: Roles, tables: list[str], config: str) -> None:
    _say(probe, "reload")
    daemon.process.send_signal(signal.SIGHUP)
    time.sleep(_SETTLED)
    _say(probe, "changed reload")
    daemon.write_config(config + "max_age = 3000\n" + "".join(tables))  # every role is another one
    daemon.process.send_signal(signal.SIGHUP)
    time.sleep(_SETTLED)
    _say(probe, "scrape")
    for path in ("/metrics", "/status.json", "/readyz", "/metrics"):
        request(daemon.admin + path)
        time.sleep(1.2)
    if roles.change is not None:
        _say(probe, "change of all")
        roles.change()
        time.sleep(_SETTLED)


def _until_all_are_there(daemon: DaemonProcess, many: int) -> float:
    """When every role had credentials; looks seldom, because it costs the daemon something."""
    deadline = time.monotonic() + _LONGEST_START
    while time.monotonic() < deadline:
        try:
            lines = request(daemon.admin + "/metrics")[2].decode().splitlines()
        except OSError:
            lines = []
        there = [line for line in lines if line.startswith("imds_proxy_credential_renewed_timestamp_seconds{")]
        if sum(not line.endswith(" 0.0") for line in there) >= many:
            return time.monotonic()
        time.sleep(2)
    raise BenchError(f"not every role was there within {_LONGEST_START:.0f} s")


@contextmanager
def _probe(port: int, path: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(_PROBE), str(port), path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _say(probe: subprocess.Popen[str], phase: str) -> None:
    assert probe.stdin is not None
    probe.stdin.write(f"{phase}\n")
    probe.stdin.flush()


def _ended(probe: subprocess.Popen[str]) -> dict:
    return json.loads(probe.communicate()[0])


# The sources


@contextmanager
def _file(folder: Path, many: int) -> Iterator[Roles]:
    def write() -> None:
        for number in range(many):
            put(folder / f"new{number}", json.dumps(Session(3600).document("process")).encode())
            (folder / f"new{number}").replace(folder / f"session{number}.json")

    write()
    yield Roles(f'source = "file"\nformat = "json"\npath = "{folder}/session{{number}}.json"', {}, write)


@contextmanager
def _process(folder: Path, many: int) -> Iterator[Roles]:
    document = put(folder / "session.json", json.dumps(Session(3600).document("process")).encode())
    yield Roles(f'source = "process"\ncommand = ["/bin/cat", "{document}"]', {})


@contextmanager
def _http(folder: Path, many: int) -> Iterator[Roles]:
    with CredentialService("container") as service:
        yield Roles(f'source = "http"\nshape = "container"\nurl = "{service.url}"', {})


@contextmanager
def _assume_role(folder: Path, many: int) -> Iterator[Roles]:
    with AwsDouble() as double:
        key_id, secret = double.add_user(f"host-{folder.name}")
        arn = double.add_role(f"Many-{folder.name}", double.user_arn(f"host-{folder.name}"))
        environment = {"AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": secret}
        yield Roles(f'role_arn = "{arn}"\nsession_name = "r{{number}}"\nsts_endpoint = "{double.url}"', environment)


@contextmanager
def _web_identity(folder: Path, many: int) -> Iterator[Roles]:
    with AwsDouble() as double:
        federation = Federation(double, Issuer())
        arn = double.add_role("Pods", "*")
        federation.trust("Pods", federation.statement())
        federation.register(AUDIENCE)
        double.interfere = federation
        token = put(folder / "token", federation.issuer.token().encode())
        table = f'source = "web-identity"\nrole_arn = "{arn}"\nsession_name = "r{{number}}"\ntoken_file = "{token}"'
        yield Roles(f'{table}\nsts_endpoint = "{double.url}"', {})


@contextmanager
def _roles_anywhere(folder: Path, many: int) -> Iterator[Roles]:
    company = Authority()
    with RolesAnywhereDouble(company.certificate) as double:
        issued = company.issue()
        certificate = put(folder / "host.crt", issued.certificate_pem(chain=True), 0o644)
        key = put(folder / "host.key", issued.key_pem())
        table = f'source = "roles-anywhere"\nrole_arn = "{ROLE}"\ntrust_anchor_arn = "{TRUST_ANCHOR}"\n'
        table += f'profile_arn = "{PROFILE}"\nendpoint = "{double.url}"\n'
        yield Roles(f'{table}certificate = "{certificate}"\nprivate_key = "{key}"', {})


@contextmanager
def _ambient(folder: Path, many: int) -> Iterator[Roles]:
    with AwsDouble() as double:
        session = new_session(double.add_role("Ambient", "*"))
        environment = {
            "AWS_ACCESS_KEY_ID": session.access_key_id,
            "AWS_SECRET_ACCESS_KEY": session.secret_access_key,
            "AWS_SESSION_TOKEN": session.session_token,
            "AWS_ENDPOINT_URL_STS": double.url,
        }
        yield Roles('source = "ambient"', environment)


SOURCES = {
    "file": _file,
    "process": _process,
    "http": _http,
    "assume-role": _assume_role,
    "web-identity": _web_identity,
    "roles-anywhere": _roles_anywhere,
    "ambient": _ambient,
}
