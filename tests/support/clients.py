"""Unmodified SDKs and the AWS CLI: the programs of tests/clients, each a process in a clean environment."""

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from support.daemon import DaemonProcess, clean_environment

PROGRAMS = Path(os.environ.get("IMDS_PROXY_CLIENTS") or Path(__file__).parents[2] / ".cache/clients")
_REGION = "eu-west-1"
_TIME_LIMIT = 60.0


def executable(client: str, name: str) -> str:
    """A program of the environment of a client in Python."""
    path = PROGRAMS / client / "bin" / name
    assert path.exists(), f"{path} is missing: the clients are built by make"
    return str(path)


def on(endpoint: str, home: Path = Path("/nonexistent")) -> dict[str, str]:
    """Where AWS and the region are, for a client; nothing about credentials."""
    return {
        "PATH": clean_environment()["PATH"],
        "HOME": str(home),
        "AWS_REGION": _REGION,
        "AWS_DEFAULT_REGION": _REGION,  # botocore's name of it
        "CONFORMANCE_ENDPOINT": endpoint,
    }


def by_metadata(endpoint: str) -> dict[str, str]:
    return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": endpoint}


def by_container(daemon: DaemonProcess, role: str) -> dict[str, str]:
    return {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{daemon.endpoint}roles/{role}",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(daemon.state / "tokens" / role),
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended; -9 is a program that was killed at its time limit."""

    status: int
    seconds: float
    output: list[str]
    errors: str


def run(client: str, environment: dict[str, str], *arguments: str, limit: float = _TIME_LIMIT) -> Ended:
    """Run a client's program to its end: `once`, or `loop INTERVAL COUNT`."""
    begin = time.monotonic()
    with subprocess.Popen(
        [PROGRAMS / client / "run", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, errors = process.communicate()
    return Ended(process.returncode, time.monotonic() - begin, output.splitlines(), errors)
