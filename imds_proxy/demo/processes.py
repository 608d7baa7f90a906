"""The processes of the demonstration: the daemon, and clients in environments of their own."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imds_proxy.cli import daemon_client
from imds_proxy.cli.options import Target
from imds_proxy.demo.aws_double import free_port
from imds_proxy.errors import DaemonUnreachableError, ImdsProxyError

_START_TIME = 30.0
_CLIENT_TIME = 60.0
_BOTO3 = 'import boto3; print(boto3.client("sts").get_caller_identity()["Arn"])'


@dataclass(frozen=True, slots=True)
class Client:
    """An unmodified program that calls AWS with whatever its SDK finds."""

    name: str
    command: tuple[str, ...]

    def run(self, endpoint: str, aws_url: str) -> str:
        """Everything it printed; it is told where the metadata endpoint and AWS are, and nothing else."""
        environment = _bare_environment() | {
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": endpoint,
            "AWS_ENDPOINT_URL_STS": aws_url,
            "AWS_REGION": "eu-west-1",
            "AWS_DEFAULT_REGION": "eu-west-1",
        }
        done = subprocess.run(  # noqa: S603 - the command is ours
            self.command, env=environment, capture_output=True, text=True, timeout=_CLIENT_TIME, check=False
        )
        return done.stdout + done.stderr


def clients_in(folder: Path | None) -> list[Client]:
    """boto3 and the AWS CLI.

    Args:
        folder: Holds a virtual environment for each, `boto3` and `awscli`; where left out, those beside this program.

    Raises:
        ImdsProxyError: One is missing from the folder.
    """
    beside = Path(sys.executable).parent
    boto3 = folder / "boto3/bin/python" if folder else beside / "python"
    aws = folder / "awscli/bin/aws" if folder else beside / "aws"
    if folder is not None and not (boto3.exists() and aws.exists()):
        raise ImdsProxyError(f"no boto3 and awscli environments in {folder}", "make demo sets them up")
    found = [Client("boto3", (str(boto3), "-c", _BOTO3))]
    if aws.exists():
        found.append(Client("aws-cli", (str(aws), "sts", "get-caller-identity", "--output", "text")))
    return found


@dataclass(frozen=True, slots=True)
class Daemon:
    """The running daemon."""

    pid: int
    target: Target

    @property
    def endpoint(self) -> str:
        """What clients are told."""
        return self.target.endpoint

    def status(self) -> dict[str, Any]:
        """`/status.json`."""
        return daemon_client.status(self.target)


@contextlib.contextmanager
def running_daemon(config: str, environment: dict[str, str]) -> Iterator[Daemon]:
    """`imds-proxy serve` with a config (its listeners are added here), once it holds credentials."""
    port, admin = free_port(), free_port()
    target = Target(f"http://127.0.0.1:{port}/", f"http://127.0.0.1:{admin}", Path(), None, None)
    listeners = f'[metadata]\nlisten = ["127.0.0.1:{port}"]\n[admin]\nlisten = "127.0.0.1:{admin}"\n'
    with tempfile.TemporaryDirectory(prefix="imds-proxy-demo-") as folder:
        path = Path(folder) / "config.toml"
        path.write_text(config + listeners)
        command = [sys.executable, "-m", "imds_proxy", "serve", "--config", str(path), "--log-level", "WARNING"]
        process = subprocess.Popen(command, env=_bare_environment() | environment)  # noqa: S603 - the command is ours
        try:
            yield _once_ready(Daemon(process.pid, target), process)
        finally:
            process.terminate()
            process.wait()


def _once_ready(daemon: Daemon, process: "subprocess.Popen[bytes]") -> Daemon:
    deadline = time.monotonic() + _START_TIME
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(DaemonUnreachableError):
            if daemon.status()["roles"][0]["state"] == "ok":
                return daemon
        time.sleep(0.1)
    raise ImdsProxyError("the daemon did not get credentials from the AWS double")


def _bare_environment() -> dict[str, str]:
    """Nothing of the user's AWS settings, so that the show is the same everywhere."""
    return {name: os.environ[name] for name in ("PATH", "LANG", "TERM") if name in os.environ} | {
        "HOME": "/nonexistent"
    }
