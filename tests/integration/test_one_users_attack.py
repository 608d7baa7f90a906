"""One local user at full attack, and another one who needs a role: the real daemon, real users."""

import contextlib
import json
import os

import pytest

from support.attackers import ATTACKS, VICTIM
from support.users import temporary_users

DOCUMENT = "/latest/meta-data/iam/security-credentials/deploy"
SECONDS = 4
SENT_AWAY = 1.0
"""Seconds after which the kernel tries again to connect where a listener has no room."""


@pytest.fixture(scope="module")
def people():
    with temporary_users() as made:
        yield made.add(), made.add()


def others() -> set[int]:
    """The processors that the daemon does not have, where there are any."""
    cpus = sorted(os.sched_getaffinity(0))
    return set(cpus[1:] or cpus)


def prefer(pid: int, *, first_cpu: bool = False) -> None:
    """What else this machine does is no part of the attack, and neither is who has the processor."""
    os.setpriority(os.PRIO_PROCESS, pid, -20)
    os.sched_setaffinity(pid, {min(os.sched_getaffinity(0))} if first_cpu else others())


@pytest.mark.parametrize("attack", ATTACKS)
def test_another_user_is_served_under_the_attack_of_one(aws, start_daemon, people, attack):
    """One user's processes left the deployment twelve connections in four seconds, and each of those late."""
    attacker, user = people
    daemon = start_daemon()
    prefer(daemon.process.pid, first_cpu=True)
    count, program = ATTACKS[attack]
    arguments = daemon.port, DOCUMENT, "session"
    with contextlib.ExitStack() as stack:
        victim = stack.enter_context(user.running(VICTIM, *arguments, SECONDS))
        prefer(victim.pid)
        assert victim.stdout.readline() == "ready\n"
        attackers = [stack.enter_context(attacker.running(program, *arguments)) for _ in range(count)]
        for process in attackers:
            os.sched_setaffinity(process.pid, others())
            assert process.stdout.readline() == "ready\n"
        victim.stdin.write("\n")
        victim.stdin.flush()
        seen = json.loads(victim.stdout.readline())
    assert seen["failed"] == []
    late = [seconds for seconds in seen["took"] if seconds >= SENT_AWAY]
    assert late == []
    assert len(seen["took"]) > 30
