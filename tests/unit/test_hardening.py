"""Protection of this process's memory, where the system does not have it (host/process_hardening.py).

Each test is a process of its own, because a protected one stays so.
"""

import json
import subprocess
import sys

import pytest

HARDENED = """
import ctypes, resource
from imds_proxy.host import process_hardening
from imds_proxy.telemetry import log
log.configure("DEBUG", "json")
limit_of = resource.getrlimit
resource.getrlimit = lambda what: (-1, -1) if what == resource.RLIMIT_MEMLOCK else limit_of(what)
{change}
process_hardening.harden()
PR_GET_DUMPABLE = 3
print(ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), *limit_of(resource.RLIMIT_CORE))
"""


def hardened(change=""):
    """(dumpable, soft and hard limit of core dumps) and the lines of the log, where the system has less."""
    command = [sys.executable, "-c", HARDENED.format(change=change)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return tuple(map(int, done.stdout.split())), [json.loads(line) for line in done.stderr.splitlines()]


@pytest.mark.parametrize(
    ("change", "dumpable", "event", "error"),
    [
        (
            "process_hardening._libc = lambda: exec('raise ImportError')",
            1,
            "core dumps and processes of the same user can read this process's memory",
            "ImportError",
        ),
        (
            "process_hardening._PR_SET_DUMPABLE = 12345",
            1,
            "core dumps and processes of the same user can read this process's memory",
            "Invalid argument",
        ),
        (
            "process_hardening._LOCK_WHAT_IS_TOUCHED = 0x10000",
            0,
            "memory is not locked: it can be swapped out",
            "Invalid argument",
        ),
        (
            "resource.setrlimit = lambda *_: exec('raise OSError(1, \"Operation not permitted\")')",
            0,
            "the limit of core dumps cannot be set",
            "Operation not permitted",
        ),
    ],
    ids=["no ctypes", "prctl", "mlockall", "setrlimit"],
)
def test_what_a_system_refuses_is_one_line_and_the_rest_is_done(change, dumpable, event, error):
    """A sandbox or a small libc must not keep a host from its credentials."""
    state, lines = hardened(change)
    assert state == ((dumpable, 0, 0) if "setrlimit" not in change else (dumpable, *state[1:]))
    (line,) = [line for line in lines if line["event"] == event]
    assert (line["level"], line["error"]) == ("warning", error)
