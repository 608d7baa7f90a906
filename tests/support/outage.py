"""A daemon with one live role and many whose STS is out of reach, and what that costs."""

import contextlib
import json
import os
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from imds_proxy.demo.aws_double import free_port
from support.certificates import put
from support.credential_service import Session
from support.daemon import HOST, DaemonProcess, request

_EACH = 0.02  # seconds between two measurements
_LIVE = "latest/meta-data/iam/security-credentials/live"
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "x" * 40}


@dataclass(frozen=True)
class Cost:
    """What was measured in a while.

    Args:
        waits: Milliseconds of each new connection, shortest first.
        cpu: Seconds that the daemon was on a core.
        attempts: Renewals that were tried.
        seconds: How long it was.
    """

    waits: list[float]
    cpu: float
    attempts: float
    seconds: float

    @property
    def per_attempt(self) -> float:
        """Milliseconds of a core, for all that the daemon did."""
        return self.cpu / self.attempts * 1000

    def wait(self, part: float) -> float:
        """A percentile, in milliseconds."""
        return self.waits[min(int(len(self.waits) * part), len(self.waits) - 1)]

    def __str__(self):
        waits = f"p50 {self.wait(0.5):.1f}, p99 {self.wait(0.99):.1f}, longest {self.waits[-1]:.1f} ms"
        cpu = f"{self.cpu / self.seconds * 100:.0f} % of a core, {self.per_attempt:.1f} ms an attempt"
        return f"{self.attempts:.0f} attempts in {self.seconds:.0f} s: {waits}; {cpu}"


def config(folder: Path, names, url: str, extra: str = "") -> str:
    """`names` are assumed at `url`; the live one comes from a file."""
    pushed = Session(life=7200)
    path = put(folder / "live.json", json.dumps(pushed.document("process")).encode())
    role = 'default = false\nrole_arn = "arn:aws:iam::123456789012:role/{0}"\nsession_name = "outage"'
    roles = [f'[roles.{name}]\n{role.format(name)}\nsts_endpoint = "{url}"\n' for name in names]
    live = f'[roles.live]\ndefault = true\nsource = "file"\nformat = "json"\npath = "{path}"\n'
    return f"{HOST}[renewal]\nstart_grace = 0\n{extra}{live}{''.join(roles)}"


def cost(daemon: DaemonProcess, seconds: float) -> Cost:
    """Ask for the live role's credentials again and again, each time by a new connection."""
    headers = {"X-aws-ec2-metadata-token": daemon.token()}
    before, cpu, began, waits = attempts(daemon), _cpu(daemon), time.monotonic(), []
    while time.monotonic() < began + seconds:
        asked = time.perf_counter()
        assert request(daemon.endpoint + _LIVE, headers=headers)[0] == 200
        waits.append((time.perf_counter() - asked) * 1000)
        time.sleep(_EACH)
    took = time.monotonic() - began
    used = _cpu(daemon) - cpu
    return Cost(sorted(waits), used, attempts(daemon) - before, took)


def attempts(daemon: DaemonProcess) -> float:
    """Of all roles, since the start."""
    lines = daemon.metrics().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("imds_proxy_renewals_total{"))


def refusing() -> str:
    """An address where nobody listens."""
    return f"https://127.0.0.1:{free_port()}"


class Silence:
    """Somebody who takes every connection and says nothing."""

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.taken = []
        threading.Thread(target=self._take, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self.taken:
            connection.close()

    def _take(self):
        with contextlib.suppress(OSError):  # closed
            while True:
                self.taken.append(self._listener.accept()[0])


def _cpu(daemon: DaemonProcess) -> float:
    """Seconds on a core, of all threads."""
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
