"""The servers that are compared, each a process of its own on loopback."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools import BenchError, program

from imds_proxy.demo.aws_double import AwsDouble, free_port
from support.daemon import HOST, START_TIME, DaemonProcess, request, wait

ROLE = "deploy"
LIST = "/latest/meta-data/iam/security-credentials/"
DOCUMENT = LIST + ROLE
TOKEN = "/latest/api/token"
TTL_HEADER = {"X-aws-ec2-metadata-token-ttl-seconds": "21600"}
QUIET = ("--log-level", "WARNING")

DAEMON, NGINX_MEMORY, NGINX_FILE, AIOHTTP = "imds-proxy", "nginx (memory)", "nginx (file)", "aiohttp"

_ROLE = """
[roles.{role}]
role_arn = "{role_arn}"
session_name = "bench"
sts_endpoint = "{sts}"
{extra}
"""

_NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    default_type text/plain;
    sendfile on;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{file_port}; root {folder}/root; }}
    server {{ listen 127.0.0.1:{memory_port}; location = {path} {{ return 200 '{body}'; }} }}
}}
"""


@dataclass(frozen=True, slots=True)
class Target:
    """One server under test.

    Args:
        name: As the report shows it.
        port: On 127.0.0.1.
        pid: The process whose CPU time counts, with its children.
        headers: What every request carries.
    """

    name: str
    port: int
    pid: int
    headers: Mapping[str, str]

    def url(self, path: str = DOCUMENT) -> str:
        """A URL of this server."""
        return f"http://127.0.0.1:{self.port}{path}"

    def get(self) -> tuple[int, bytes]:
        """Status and body of the role's document."""
        status, _, body = request(self.url(), "GET", dict(self.headers))
        return status, body


class Account:
    """An AWS double with one role that the daemon may assume."""

    def __init__(self, double: AwsDouble):
        self.double = double
        key_id, secret = double.add_user("host")
        self._role_arn = double.add_role("Deploy", double.user_arn("host"))
        self._environment = {"AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": secret}

    def daemon(self, folder: Path, extra: str = "") -> DaemonProcess:
        """A daemon for this account, not yet started; its files are in `folder`, which is made."""
        folder.mkdir()
        role = _ROLE.format(role=ROLE, role_arn=self._role_arn, sts=self.double.url, extra=extra)
        # What is measured is a flood; it would be taken for a loop and slowed down.
        config = HOST.replace("[metadata]", "[metadata]\nrate_limit = 0") + role
        return DaemonProcess(folder, config, self._environment, arguments=QUIET)


@contextmanager
def running_daemon(account: Account, folder: Path, extra: str = "") -> Iterator[Target]:
    """The daemon, with credentials; requests carry a session token."""
    with account.daemon(folder, extra) as daemon:
        daemon.wait_ready()
        yield Target(DAEMON, daemon.port, daemon.process.pid, {"X-aws-ec2-metadata-token": session_token(daemon.port)})


def session_token(port: int) -> str:
    """A session token for six hours."""
    status, _, body = request(f"http://127.0.0.1:{port}{TOKEN}", "PUT", TTL_HEADER)
    if status != 200:
        raise BenchError(f"no session token: {status} {body!r}")
    return body.decode()


@contextmanager
def compared(account: Account, folder: Path) -> Iterator[list[Target]]:
    """The daemon and what it is compared with, all of them answering with its bytes."""
    with ExitStack() as stack:
        daemon = stack.enter_context(running_daemon(account, folder / "daemon"))
        body = daemon.get()[1]
        others = [
            *stack.enter_context(_running_nginx(folder / "nginx", body, daemon.headers)),
            stack.enter_context(_running_aiohttp(folder / "aiohttp.body", body, daemon.headers)),
        ]
        targets = [daemon, *others]
        _check(targets, body)
        yield targets
        _check(targets, body)


@contextmanager
def _running_nginx(folder: Path, body: bytes, headers: Mapping[str, str]) -> Iterator[list[Target]]:
    document = folder / "root" / DOCUMENT.lstrip("/")
    document.parent.mkdir(parents=True)
    document.write_bytes(body)
    config = folder / "nginx.conf"
    memory_port, file_port = free_port(), free_port()
    quoted = body.decode().replace("\\", "\\\\").replace("'", "\\'")
    config.write_text(
        _NGINX.format(folder=folder, path=DOCUMENT, body=quoted, memory_port=memory_port, file_port=file_port)
    )
    command = [program("nginx"), "-p", folder, "-c", config, "-e", folder / "error.log"]
    with _process(command, memory_port) as pid:
        yield [Target(NGINX_MEMORY, memory_port, pid, headers), Target(NGINX_FILE, file_port, pid, headers)]


@contextmanager
def _running_aiohttp(file: Path, body: bytes, headers: Mapping[str, str]) -> Iterator[Target]:
    file.write_bytes(body)
    port = free_port()
    script = Path(__file__).with_name("aiohttp_app.py")
    with _process([sys.executable, script, str(port), DOCUMENT, file], port) as pid:
        yield Target(AIOHTTP, port, pid, headers)


@contextmanager
def _process(command: list, port: int) -> Iterator[int]:
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            wait(lambda: answers(port), START_TIME, f"an answer of {command[0]}")
            yield process.pid
        finally:
            process.terminate()


def answers(port: int) -> bool:
    """Whether an HTTP server answers there, whatever it says."""
    try:
        return request(f"http://127.0.0.1:{port}/")[0] > 0
    except OSError:
        return False


def _check(targets: list[Target], body: bytes) -> None:
    """Ratios mean something only between servers that give the same right answer."""
    for target in targets:
        got = target.get()
        if got != (200, body):
            raise BenchError(f"{target.name} answered {got[0]} with {len(got[1])} bytes, expected {len(body)}")
