"""Listening sockets that are passed to the daemon, as systemd passes them."""

import socket
import sys
from contextlib import ExitStack, contextmanager

LAUNCH = """
import os, sys
count = int(sys.argv[1])
for number, descriptor in enumerate(sys.argv[2:2 + count]):
    os.dup2(int(descriptor), 50 + number)
for number in range(count):
    os.dup2(50 + number, 3 + number)
    os.set_inheritable(3 + number, True)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2 + count], sys.argv[2 + count:])
"""


@contextmanager
def held_by_systemd(*hosts, backlog=1024):
    """Listening sockets that this process holds, as systemd does."""
    with ExitStack() as opened:
        yield [opened.enter_context(socket.create_server((host, 0), backlog=backlog)) for host in hosts]


def passed(sockets, *, names="imds"):
    """How a daemon is started with them; one name for all, as from one unit."""
    descriptors = [each.fileno() for each in sockets]
    return {
        "launcher": (sys.executable, "-c", LAUNCH, str(len(descriptors)), *map(str, descriptors)),
        "pass_fds": tuple(descriptors),
    }, {"LISTEN_FDS": str(len(descriptors)), "LISTEN_FDNAMES": ":".join([names] * len(descriptors))}
