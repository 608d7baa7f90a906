"""Unmodified SDKs and the AWS CLI, each in a virtual environment and a process of its own."""

import json
import os
import subprocess
from pathlib import Path

from support.daemon import DaemonProcess, clean_environment

_ROOT = Path(__file__).parents[2]
_ENVIRONMENTS = Path(os.environ.get("IMDS_PROXY_CLIENTS") or _ROOT / ".cache/clients")
_PROGRAMS = _ROOT / "tests/clients"
_TIME_LIMIT = 60


def executable(client: str, name: str) -> str:
    """A program of a client's virtual environment."""
    path = _ENVIRONMENTS / client / "bin" / name
    assert path.exists(), f"{path} is missing: the clients' environments are made of tests/clients/*.txt (make test)"
    return str(path)


def on(endpoint: str) -> dict[str, str]:
    """Where AWS and the region are, for a client; nothing about credentials."""
    return clean_environment() | {"AWS_ENDPOINT_URL": endpoint, "AWS_DEFAULT_REGION": "eu-west-1"}


def by_metadata(endpoint: str) -> dict[str, str]:
    return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": endpoint}


def by_container(daemon: DaemonProcess, role: str) -> dict[str, str]:
    return {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{daemon.endpoint}roles/{role}",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(daemon.state / "tokens" / role),
        "AWS_EC2_METADATA_DISABLED": "true",
    }


class Program:
    """A client program of tests/clients: one answer per line of its input, until that ends."""

    def __init__(self, client: str, program: str, environment: dict[str, str], *arguments: str):
        command = [executable(client, "python"), str(_PROGRAMS / program), *arguments]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            _, errors = self._process.communicate(timeout=_TIME_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        assert self._process.returncode == 0, errors

    def ask(self, what: str = "call") -> dict:
        """`call`: who am I, and list the buckets; `age`: first let half an hour pass for the cached credentials."""
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self._process.communicate(timeout=_TIME_LIMIT)[1]
        return json.loads(line)


class Cli:
    """The AWS CLI: a process per call, as it is used."""

    def __init__(self, environment: dict[str, str]):
        self._environment = environment

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def ask(self) -> dict:
        identity = self._run("sts", "get-caller-identity")
        return {"arn": identity["Arn"], "buckets": len(self._run("s3api", "list-buckets").get("Buckets", []))}

    def _run(self, *arguments: str) -> dict:
        command = [executable("awscli", "aws"), *arguments, "--output", "json"]
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, timeout=_TIME_LIMIT, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


CLIENTS = {
    "boto3": lambda environment: Program("boto3", "boto3_client.py", environment),
    "aiobotocore": lambda environment: Program("aiobotocore", "aiobotocore_client.py", environment),
    "awscli": Cli,
}
"""Each opens a client in an environment; `ask` makes it call the double."""
