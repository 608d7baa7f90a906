"""What a situation is set up of: an AWS double, a daemon, and client programs, each a process on the bench's clock."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from clients import CONTAINER, ENV, ENV_SLASH, LINK_LOCAL, Client
from clock import FastClock, RealClock

from support.clients import Ended, by_container, by_metadata, on, run
from support.daemon import HOST, START_TIME, DaemonProcess, clean_environment, wait

_ADDRESS = "169.254.169.254:80"


class Aws:
    """The AWS double's process; see aws_process.py for its commands."""

    def __init__(self, clock: FastClock | RealClock, *arguments: str) -> None:
        command = [sys.executable, str(Path(__file__).with_name("aws_process.py")), *arguments]
        self._process = subprocess.Popen(
            command,
            env=clean_environment() | clock.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lock = threading.Lock()
        introduction = json.loads(self._process.stdout.readline())
        self.url, self.key, self.roles = introduction["url"], introduction["key"], introduction["roles"]

    def ask(self, command: str, *values: str):
        with self._lock:
            self._process.stdin.write(json.dumps([command, *values]) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def hang(self) -> None:
        """STS stops answering; returns when a request waits for it."""
        self.ask("hang")
        wait(lambda: self.ask("hanging"), START_TIME, "a request of STS")

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


@dataclass(frozen=True, slots=True)
class Done:
    """How a client's process ended, and what AWS saw of it: `calls` of key id, action and status."""

    ended: Ended
    calls: list[tuple[str, str, int]]

    @property
    def keys(self) -> list[str]:
        """The keys it signed with, in order and once each."""
        return list(dict.fromkeys(key for key, _, _ in self.calls))

    @property
    def refused(self) -> int:
        return sum(status != 200 for _, _, status in self.calls)

    @property
    def words(self) -> str:
        """How it ended, with the end of what it said of a failure, in one line."""
        errors = self.ended.errors or next((line for line in self.ended.output if line.startswith("error")), "")
        return f"ended with {self.ended.status} after {self.ended.seconds:.0f} s: {' '.join(errors.split())[-200:]}"


class Bench:
    """One AWS and one daemon.

    Args:
        role: The AWS role that the daemon assumes: "granted" or "denied".
        reached: Whether the daemon reaches AWS.
        link_local: Whether it listens at the link-local address too.
        life: Sessions of so many seconds; None: an hour.
        upload: Seconds that an upload takes.
        max_age: As in the daemon's config.
        granted_to: The only user who may have the role; every client runs as this one.
    """

    def __init__(
        self,
        clock: FastClock | RealClock,
        *,
        role: str = "granted",
        reached: bool = True,
        link_local: bool = False,
        life: float | None = None,
        upload: float = 0,
        max_age: str = "",
        granted_to: int | None = None,
    ) -> None:
        self.clock = clock
        self.link_local = link_local
        self._folder = tempfile.TemporaryDirectory(prefix="conformance-")
        self.folder = Path(self._folder.name)
        self.aws = Aws(clock, "--upload", str(upload), *(("--life", str(life)) if life else ()))
        sts = self.aws.url if reached else "http://127.0.0.1:1"
        config = HOST + f'[roles.deploy]\nrole_arn = "{self.aws.roles[role]}"\nsts_endpoint = "{sts}"\n'
        config += f'[[grants]]\nrole = "deploy"\nuid = {os.getuid() if granted_to is None else granted_to}\n'
        if link_local:
            config = config.replace('["127.0.0.1:PORT"]', f'["127.0.0.1:PORT", "{_ADDRESS}"]')
        if max_age:
            config += f'[renewal]\nmax_age = "{max_age}"\n'
        self.daemon = DaemonProcess(self.folder, config, self.aws.key | clock.environment())

    def __enter__(self) -> Self:
        self.daemon.start()
        return self

    def __exit__(self, *_) -> None:
        self.daemon.stop()
        self.aws.stop()
        self._folder.cleanup()

    def way(self, client: Client) -> str:
        """How a client is led to the daemon where a situation does not ask for one way."""
        if ENV_SLASH not in client.cannot:
            return ENV_SLASH
        return LINK_LOCAL if self.link_local else CONTAINER

    def run(self, client: Client, way: str, *arguments: str, limit: float) -> Done:
        """Run a client's program to its end, and ask AWS what it saw."""
        address = self.aws.ask("address")
        home = Path(tempfile.mkdtemp(prefix=f"{client.name}-", dir=self.folder))
        environment = on(f"http://{address}", home) | self._pointer(way)
        ended = run(
            client.name, environment | self.clock.environment(monotonic=client.monotonic), *arguments, limit=limit
        )
        return Done(ended, [tuple(call) for call in self.aws.ask("calls", address)])

    def _pointer(self, way: str) -> dict[str, str]:
        """What leads an SDK to the daemon, and nothing else."""
        endpoint = self.daemon.endpoint
        pointers = {
            ENV_SLASH: by_metadata(endpoint),
            ENV: by_metadata(endpoint.rstrip("/")),
            CONTAINER: by_container(self.daemon, "deploy"),
            LINK_LOCAL: {},
        }
        return pointers[way]
