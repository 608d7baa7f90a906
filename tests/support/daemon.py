"""The real daemon as a process, for tests."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path
from typing import Self

from imds_proxy.demo.aws_double import free_port

START_TIME = 20.0
METRICS_HOLD = 1.2
"""Seconds after which an exposition is made again, and a little."""

HOST = """
region = "eu-west-1"
state_dir = "STATE"
[metadata]
listen = ["127.0.0.1:PORT"]
[admin]
listen = "127.0.0.1:ADMIN"
"""
"""The part of a config that is the same for every daemon of a test."""
ISSUED = "session-tokens.issued"


class DaemonProcess:
    """`imds-proxy serve --config …` at DEBUG, its log in a file that the whole run's secret scan reads.

    `launcher` is a command that ends by becoming the one given after it; `pass_fds` are inherited.
    """

    def __init__(
        self, folder: Path, config: str, environment: dict[str, str], *, arguments=(), launcher=(), pass_fds=()
    ):
        self.folder = folder
        self.port, self.admin_port = free_port(), free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}/"
        self.admin = f"http://127.0.0.1:{self.admin_port}"
        self.state = folder / "state"
        self.config = folder / "config.toml"
        self.log = folder / "daemon.log"
        self.environment = clean_environment() | environment
        self._scraped = 0.0
        self.arguments, self.launcher, self.pass_fds = arguments, launcher, pass_fds
        self.write_config(config)

    def write_config(self, config: str) -> None:
        """`PORT`, `ADMIN` and `STATE` in the text stand for this daemon's own."""
        values = {"PORT": self.port, "ADMIN": self.admin_port, "STATE": self.state}
        for name, value in values.items():
            config = config.replace(name, str(value))
        self.config.write_text(config)

    def start(self) -> "DaemonProcess":
        command = [sys.executable, "-m", "imds_proxy", "serve", "--config", self.config, "--log-level", "DEBUG"]
        command = [*self.launcher, *command, *self.arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, pass_fds=self.pass_fds
            )
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def stop(self, number: int = signal.SIGTERM, within: float = 10) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(within)
        finally:
            self.process.kill()  # one that did not end would go on beside the next tests

    def events(self) -> list[dict]:
        """The log as parsed lines."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def wait_for_event(self, event: str, count: int = 1, seconds: float = START_TIME) -> dict:
        return wait(lambda: [e for e in self.events() if e["event"] == event][count - 1 : count], seconds, event)[0]

    def wait_ready(self) -> "DaemonProcess":
        wait(self.ready, START_TIME, lambda: f"ready; log:\n{self.log.read_text()}")
        return self

    def ready(self) -> bool:
        try:
            return self._asked("/readyz")[0] == 200
        except OSError:
            return False

    def _asked(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """What the control plane answers; if the daemon has ended, its log says why."""
        try:
            return request(self.admin + path)
        except OSError:
            assert self.process.poll() is None, f"it ended: {self.process.returncode}; log:\n{self.log.read_text()}"
            raise

    def status(self) -> dict:
        return json.loads(self._asked("/status.json")[2])

    def role(self, name: str) -> dict:
        return next(role for role in self.status()["roles"] if role["role"] == name)

    def failure(self, role: str = "deploy") -> dict:
        """Why the role's last renewal failed; waits for a failure."""

        def failed():
            try:
                return self.role(role)["failure"]
            except OSError:  # the control plane opens a moment after the start
                return None

        return wait(failed, START_TIME, "a failure")

    def metrics(self) -> str:
        """As they are now: what was made within the last second is not asked for again."""
        time.sleep(max(0.0, self._scraped + METRICS_HOLD - time.monotonic()))
        self._scraped = time.monotonic()
        return self._asked("/metrics")[2].decode()

    def metric(self, series: str) -> float:
        line = next(line for line in self.metrics().splitlines() if line.startswith(series + " "))
        return float(line.rpartition(" ")[2])

    def token(self) -> str:
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": "300"}
        token = request(self.endpoint + "latest/api/token", "PUT", headers)[2].decode()
        with (self.folder / ISSUED).open("a") as issued:
            issued.write(token + "\n")
        return token

    def get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        return request(self.endpoint + path, "GET", {"X-aws-ec2-metadata-token": self.token()})

    def credentials(self, role: str) -> dict:
        return json.loads(self.get(f"latest/meta-data/iam/security-credentials/{role}")[2])

    def cli(self, *arguments: str, **options) -> subprocess.CompletedProcess:
        """Another verb of the command line, with this daemon's config; what it prints to people is scanned too."""
        command = [sys.executable, "-m", "imds_proxy", arguments[0], "--config", str(self.config), *arguments[1:]]
        environment = options.pop("env", self.environment)
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False, **options
        )
        with (self.folder / "cli.log").open("a") as log:
            log.write(done.stderr if arguments[0] in {"credential-process", "exec"} else done.stdout + done.stderr)
        return done


def clean_environment() -> dict[str, str]:
    """What a service would have: no AWS setting of whoever runs the tests, no proxy, a home without files."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "SSL_CERT_FILE") if name in os.environ}
    return kept | {"HOME": "/nonexistent", "PYTHONWARNINGS": "error"}


def request(url: str, method: str = "GET", headers: dict | None = None) -> tuple[int, dict[str, str], bytes]:
    """Status, headers by lower-case name, body."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=5)
    try:
        connection.request(method, parts.path or "/", headers=headers or {})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def wait(condition, seconds: float, what):
    """The first true value of `condition()`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
