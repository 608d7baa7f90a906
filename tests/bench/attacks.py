"""Latency of one user's new connections while another user attacks, beside nginx under the same attack (as root)."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from process import descendants
from servers import DAEMON, DOCUMENT, NGINX_MEMORY, Account, Target, compared

from support.attackers import ATTACKS, VICTIM
from support.users import User, temporary_users

_SETTLED = 1.0  # seconds of attack before the first measurement
_NONE = "none"
HEAD = """
| attack by one user | server | connections | failed | p50 ms | p99 ms | max ms |
|---|---|---:|---:|---:|---:|---:|"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the other user saw.

    Args:
        took: Seconds from the connect to the end of the answer, sorted.
        failed: How many had none, or another than 200.
    """

    took: list[float]
    failed: int

    def percentile(self, share: float) -> float:
        """In milliseconds."""
        return self.took[min(len(self.took) - 1, int(len(self.took) * share))] * 1000

    def row(self, attack: str, server: str) -> str:
        """A line of the report."""
        times = " | ".join(f"{self.percentile(share):.1f}" for share in (0.5, 0.99, 1.0))
        return f"| {attack} | {server} | {len(self.took)} | {self.failed} | {times} |"


def measure_attacks(account: Account, folder: Path, seconds: float) -> str:
    """Every attack on the daemon and on nginx, as a table."""
    lines = [HEAD]
    with temporary_users() as users:
        attacker, user = users.add(), users.add()
        for attack in (_NONE, *ATTACKS):
            its_folder = folder / f"attack-{len(lines)}"
            its_folder.mkdir(mode=0o755)
            with compared(account, its_folder) as targets:
                for target in targets:
                    if target.name in {DAEMON, NGINX_MEMORY}:
                        seen = _under_attack(target, attack, attacker, user, seconds)
                        lines.append(seen.row(attack, target.name))
                        print(lines[-1], flush=True)
    return "\n".join(lines)


def _under_attack(target: Target, attack: str, attacker: User, user: User, seconds: float) -> Seen:
    """The server has the first processor, everything else the others."""
    arguments = target.port, DOCUMENT, "session" if target.name == DAEMON else "none"
    first, *others = sorted(os.sched_getaffinity(0))
    count, program = ATTACKS.get(attack, (0, ""))
    with ExitStack() as stack:
        for pid in (target.pid, *descendants(target.pid)):
            stack.enter_context(_on(pid, {first}))
        victim = stack.enter_context(user.running(VICTIM, *arguments, seconds))
        os.setpriority(os.PRIO_PROCESS, victim.pid, -20)  # how the attackers' processor is shared is not the question
        for process in (victim, *(stack.enter_context(attacker.running(program, *arguments)) for _ in range(count))):
            os.sched_setaffinity(process.pid, set(others) or {first})
            _check(process.stdout.readline())
        time.sleep(_SETTLED)
        victim.stdin.write("\n")
        victim.stdin.flush()
        seen = json.loads(victim.stdout.readline())
    return Seen(sorted(seen["took"]), len(seen["failed"]))


@contextmanager
def _on(pid: int, cpus: set[int]) -> Iterator[None]:
    """Every thread of a process on these processors."""
    before = os.sched_getaffinity(pid)
    threads = [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]
    for thread in threads:
        os.sched_setaffinity(thread, cpus)
    try:
        yield
    finally:
        for thread in threads:
            os.sched_setaffinity(thread, before)


def _check(line: str) -> None:
    if line != "ready\n":
        raise AssertionError(f"not ready: {line!r}")
