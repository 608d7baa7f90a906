"""One run of wrk against one server, and what it cost that server."""

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from process import cpu_seconds
from servers import DOCUMENT, Target
from tools import BenchError, program

_SCRIPT = Path(__file__).with_name("wrk.lua")
_LEEWAY = 30


@dataclass(frozen=True, slots=True)
class Shape:
    """How clients come."""

    name: str
    connections: int
    keep_alive: bool = True


@dataclass(frozen=True, slots=True)
class Measured:
    """One run.

    Args:
        rate: Requests per second.
        cpu: Microseconds of the server's CPU time per request.
        busy: The server's CPU time per second; where it is well under 1 the client was the limit, not the server.
        p99: Latency in milliseconds.
    """

    rate: float
    cpu: float
    busy: float
    p99: float


def measure(target: Target, shape: Shape, seconds: int) -> Measured:
    """Put a load on a server; BenchError when any request failed."""
    cpu, began = cpu_seconds(target.pid), time.monotonic()
    counted = wrk(target, shape, seconds)
    cpu, took = cpu_seconds(target.pid) - cpu, time.monotonic() - began
    return Measured(
        rate=counted["requests"] / counted["seconds"],
        cpu=cpu / counted["requests"] * 1e6,
        busy=cpu / took,
        p99=counted["p99"] / 1000,
    )


def wrk(
    target: Target,
    shape: Shape,
    seconds: int,
    *,
    path: str = DOCUMENT,
    method: str = "GET",
    headers: dict | None = None,
) -> dict:
    """What wrk counted; BenchError on a socket error or a status that is none of success."""
    sent = {**target.headers, **(headers or {}), **({} if shape.keep_alive else {"Connection": "close"})}
    command: list[str] = [program("wrk"), "-t1", f"-c{shape.connections}", f"-d{seconds}s", "-s", str(_SCRIPT)]
    for name, value in sent.items():
        command += ["-H", f"{name}: {value}"]
    done = subprocess.run(
        [*command, target.url(path), "--", method],
        capture_output=True,
        text=True,
        timeout=seconds + _LEEWAY,
        check=True,
    )
    counted = json.loads(done.stdout.splitlines()[-1])
    if any(counted["errors"].values()) or not counted["requests"]:
        raise BenchError(f"{target.name}, {shape.name}: {counted}")
    return counted
