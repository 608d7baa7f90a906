"""What other processes of the daemon's user, a core dump and swap get of its memory (host/process_hardening.py)."""

import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from support.daemon import DaemonProcess
from support.users import temporary_users

YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")

# What one process can do to another: what it can open and read, and whether a debugger can attach.
LOOK = """
import ctypes, json, os, sys
pid, can = int(sys.argv[1]), {}
try:
    with open(f"/proc/{pid}/maps") as maps:
        stack = next(line for line in maps if "[stack]" in line)
    can["maps"] = True
except OSError as error:
    can["maps"], stack = error.strerror, "0-0"
try:
    with open(f"/proc/{pid}/environ", "rb") as environ:
        can["environ"] = b"AWS_SECRET_ACCESS_KEY" in environ.read()
except OSError as error:
    can["environ"] = error.strerror
try:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(int(stack.partition("-")[0], 16))
        can["mem"] = True
except OSError as error:
    can["mem"] = error.strerror
libc = ctypes.CDLL(None, use_errno=True)
PTRACE_SEIZE = 0x4206
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long
can["ptrace"] = libc.ptrace(PTRACE_SEIZE, pid, None, None) == 0 or os.strerror(ctypes.get_errno())
print(json.dumps(can))
"""

DENIED = "Permission denied"
NOTHING = {"maps": DENIED, "environ": DENIED, "mem": DENIED, "ptrace": "Operation not permitted"}
READABLE = ("maps", "environ") if YAMA.exists() and YAMA.read_text().strip() != "0" else tuple(NOTHING)
EVERYTHING = {"maps": True, "environ": True, "mem": True, "ptrace": True}

PROCESS_METRICS = {
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
}


@pytest.fixture(scope="module")
def user():
    with temporary_users() as users:
        yield users.add()


def as_user(user):
    """A launcher: this user, with the one right that it takes to read an interpreter in root's home."""
    right = "dac_read_search"
    ids = (f"--reuid={user.uid}", f"--regid={user.gid}", "--clear-groups")
    return (
        "setpriv",
        *ids,
        f"--inh-caps=-all,+{right}",
        f"--ambient-caps=-all,+{right}",
        f"--bounding-set=-all,+{right}",
    )


def looked_at(pid, launcher=()):
    """What another process, of the same user by its launcher, can do to a process."""
    command = [*launcher, sys.executable, "-I", "-c", LOOK, str(pid)]
    return json.loads(subprocess.run(command, capture_output=True, check=True, cwd="/").stdout)


def limit(pid, name):
    """A soft and a hard limit, as /proc shows them."""
    text = Path(f"/proc/{pid}/limits").read_text()
    return re.search(rf"^{name} +(\S+) +(\S+)", text, re.MULTILINE).groups()


def memory(pid, name):
    """A line of /proc/PID/status in kilobytes."""
    return int(re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[1])


@pytest.fixture
def start(aws, tmp_path_factory):
    """`start(*launcher, owner=None)`: a running, ready daemon whose state directory is that user's."""
    with contextlib.ExitStack() as stack:

        def start(*launcher, owner=None):
            daemon = DaemonProcess(tmp_path_factory.mktemp("daemon"), "", aws.environment, launcher=launcher)
            daemon.state = Path(stack.enter_context(tempfile.TemporaryDirectory()))  # where every user gets through
            daemon.write_config(aws.config())
            if owner is not None:
                os.chown(daemon.state, owner.uid, owner.gid)
            return stack.enter_context(daemon).wait_ready()

        yield start


def test_a_process_of_the_daemons_own_user_cannot_read_its_memory(start, user, aws):
    """Else every program of that user has every role, and the base key, whatever the grants say."""
    launcher = as_user(user)
    command = [*launcher, sys.executable, "-I", "-c", "print(flush=True); input()"]
    environment = os.environ | aws.environment
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        unprotected = looked_at(other.pid, launcher)
        other.kill()
    # So that the refusals below are the daemon's doing. Yama, where the kernel has it, guards the last two besides.
    assert {name: unprotected[name] for name in READABLE} == {name: EVERYTHING[name] for name in READABLE}

    daemon = start(*launcher, owner=user)
    assert looked_at(daemon.process.pid, launcher) == NOTHING
    assert looked_at(daemon.process.pid) == EVERYTHING  # root reads everything


def test_a_daemon_of_a_user_sees_all_of_itself_that_it_did(start, user):
    """What /proc has of a protected process is root's: a dashboard would go blank, a caller lose its name."""
    daemon = start(*as_user(user), owner=user)
    assert set(re.findall(r"^# TYPE (process_\w+)", daemon.metrics(), re.MULTILINE)) == PROCESS_METRICS
    assert daemon.metric("process_open_fds") > 5
    assert daemon.metric("process_resident_memory_bytes") > 1e7
    assert daemon.credentials("deploy")["AccessKeyId"]  # and a caller is found out
    assert not [event for event in daemon.events() if event["level"] in {"warning", "error"}]


def test_a_crash_leaves_no_core_file(start, user):
    """It would hold every secret, in a file that is kept, copied and sent to whom looks into crashes."""
    daemon = start("prlimit", "--core=unlimited", *as_user(user), owner=user)
    assert limit(daemon.process.pid, "Max core file size") == ("0", "0")
    daemon.process.send_signal(signal.SIGABRT)
    status = os.waitpid(daemon.process.pid, 0)[1]
    daemon.process.returncode = -os.WTERMSIG(status)  # else it would be waited for again
    assert (os.WTERMSIG(status), os.WCOREDUMP(status)) == (signal.SIGABRT, False)


# A container may not raise the limit, so the program is told that it is raised; what it does then is the kernel's word.
UNLIMITED = """
import resource, runpy, sys
sys.argv[1:] = sys.argv[4:]  # without: PYTHON -m imds_proxy
limit_of = resource.getrlimit
resource.getrlimit = lambda what: (-1, -1) if what == resource.RLIMIT_MEMLOCK else limit_of(what)
runpy.run_module("imds_proxy", run_name="__main__", alter_sys=True)
"""


def may_lock_memory():
    """Whether this run has CAP_IPC_LOCK, or no limit."""
    effective = int(re.search(r"CapEff:\s+(\w+)", Path("/proc/self/status").read_text())[1], 16)
    return bool(effective >> 14 & 1) or resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY


@pytest.mark.skipif(not may_lock_memory(), reason="takes CAP_IPC_LOCK, or ulimit -l unlimited")
def test_memory_is_locked_where_there_is_no_limit(start):
    """Swap is a disk, and a disk is read by whoever gets hold of it."""
    daemon = start(sys.executable, "-c", UNLIMITED)
    assert memory(daemon.process.pid, "VmLck") > memory(daemon.process.pid, "VmRSS") / 2
    assert daemon.credentials("deploy")["AccessKeyId"]


def test_memory_is_not_locked_under_a_limit(start):
    """An allocation that went over it would end the daemon in the middle of its work."""
    daemon = start("prlimit", f"--memlock={1 << 20}")
    assert memory(daemon.process.pid, "VmLck") == 0


def test_a_command_of_the_users_keeps_its_own_limits(start, tmp_path):
    """`exec` becomes the user's program, which may want its core dumps."""
    daemon = start()
    show = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE)[1])"
    command = [
        sys.executable,
        "-m",
        "imds_proxy",
        "exec",
        "--config",
        str(daemon.config),
        "--",
        sys.executable,
        "-c",
        show,
    ]
    done = subprocess.run(
        ["prlimit", "--core=unlimited", *command], capture_output=True, check=True, env=daemon.environment
    )
    assert done.stdout == b"-1\n"
