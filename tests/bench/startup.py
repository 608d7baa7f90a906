"""How long after its start the daemon answers, and has credentials."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from servers import LIST, Account, answers, session_token
from tools import BenchError

from support.daemon import START_TIME, request

_POLL = 0.002


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds from exec to the first HTTP answer, and to the role's name in the list."""

    listening: float
    credentials: float


def measure_starts(account: Account, folder: Path, times: int) -> list[Start]:
    """Start a daemon with an empty state directory so often; one more before that, to warm files and the AWS double."""
    folder.mkdir()
    starts = [_start(account, folder / str(number)) for number in range(times + 1)]
    return starts[1:]


def _start(account: Account, folder: Path) -> Start:
    daemon = account.daemon(folder)
    began = time.perf_counter()
    with daemon:
        _poll(lambda: answers(daemon.port))
        listening = time.perf_counter() - began
        headers = {"X-aws-ec2-metadata-token": session_token(daemon.port)}
        _poll(lambda: request(f"http://127.0.0.1:{daemon.port}{LIST}", "GET", headers)[0] == 200)
        return Start(listening, time.perf_counter() - began)


def _poll(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_TIME
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"the daemon was not there within {START_TIME} s")
        time.sleep(_POLL)
