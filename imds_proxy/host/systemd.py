"""What systemd and this process tell each other: sockets, readiness, watchdog (sd_notify(3), sd_listen_fds(3))."""

import ipaddress
import logging
import os
import socket
import time
from collections.abc import Iterable, Sequence

from imds_proxy.addresses import SYSTEMD_PREFIX, split_listen
from imds_proxy.printable import printable

log = logging.getLogger(__name__)

_FIRST_PASSED = 3
_MICROSECONDS = 1_000_000
_INTERNET = (socket.AF_INET, socket.AF_INET6)


class PassedSocket(socket.socket):
    """A socket that systemd made: it may be of another network namespace than this process.

    `dup` keeps the type, so that it is known as passed wherever it goes.
    """

    __slots__ = ("name",)

    name: str
    """Its FileDescriptorName; sockets of one unit may share it. A duplicate has none."""


def passed_sockets() -> tuple[PassedSocket, ...]:
    """Sockets from systemd, in the order of their units; none without socket activation. Call once, at start."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return ()
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    sockets = []
    for index in range(int(os.environ.get("LISTEN_FDS", "0"))):
        descriptor = _FIRST_PASSED + index
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - the socket API's own
        passed = PassedSocket(fileno=descriptor)
        passed.setblocking(False)  # noqa: FBT003 - the socket API's own
        passed.name = names[index] if index < len(names) else f"unknown{index}"
        sockets.append(passed)
    for variable in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):  # not for our children
        os.environ.pop(variable, None)
    return tuple(sockets)


def assign(passed: Sequence[PassedSocket], listen: Iterable[str]) -> dict[str, PassedSocket]:
    """The passed socket of each entry of `listen` that has one: `"systemd:NAME"` or the address it is bound to.

    Each socket is of one entry, of a name rather than an address: a grant names one listener of a connection. Of
    several sockets that share a name, `"systemd:NAME"` is the first.
    """
    left, assigned = list(passed), dict[str, PassedSocket]()
    for entry in sorted(dict.fromkeys(listen), key=lambda each: not each.startswith(SYSTEMD_PREFIX)):
        if (found := next((each for each in left if _is_meant(entry, each)), None)) is not None:
            assigned[entry] = found
            left.remove(found)
    return assigned


def warn_of_unused(passed: Sequence[PassedSocket], assigned: Iterable[PassedSocket]) -> None:
    """Log each passed socket that no entry of `listen` means. To close it would not help: systemd holds it too."""
    used = {id(each) for each in assigned}
    for unused in (each for each in passed if id(each) not in used):
        address = _address(unused)
        entry = f"{SYSTEMD_PREFIX}{unused.name}" if address is None else address
        advice = (
            f'add "{entry}" to [metadata] listen, or take it out of the .socket unit:'
            " connections to it wait until their clients give up"
        )
        extra = {"socket": unused.name, "address": entry, "advice": advice}
        log.warning("a socket passed by systemd is not served", extra=extra)


def _is_meant(entry: str, passed: PassedSocket) -> bool:
    if entry.startswith(SYSTEMD_PREFIX):
        return passed.name == entry.removeprefix(SYSTEMD_PREFIX)
    return _canonical(*split_listen(entry)) == _address(passed)


def _address(passed: PassedSocket) -> str | None:
    """`ADDRESS:PORT` of a TCP socket, None for any other."""
    if passed.family not in _INTERNET or passed.type != socket.SOCK_STREAM:
        return None
    return _canonical(*passed.getsockname()[:2])


def _canonical(host: str, port: int) -> str:
    """An entry of `listen` as it is usually written ([::1]:80 for [0:0:0:0:0:0:0:1]:80)."""
    host = str(ipaddress.ip_address(host))
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Notifier:
    """Tells systemd how the daemon is; says nothing where nobody listens."""

    def __init__(self, address: str | None = None) -> None:
        self._address = address if address is not None else os.environ.pop("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]

    @property
    def listens(self) -> bool:
        """Whether anybody does."""
        return bool(self._address)

    def ready(self, status: str) -> None:
        """Startup is over; `status` is shown by systemctl status."""
        self._send("READY=1", _status(status))

    def status(self, status: str) -> None:
        """One line for systemctl status."""
        self._send(_status(status))

    def reloading(self) -> None:
        """A reload has begun; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The daemon is draining."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """The event loop turns."""
        self._send("WATCHDOG=1")

    def watchdog_interval(self) -> float | None:
        """Seconds between two `alive`, half of what systemd allows; None when it does not watch."""
        allowed = os.environ.get("WATCHDOG_USEC", "")
        for_us = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        return int(allowed) / _MICROSECONDS / 2 if self._address and allowed.isdecimal() and for_us else None

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.connect(self._address)
                channel.send("\n".join(lines).encode())
        except OSError as error:
            log.debug("systemd did not hear", extra={"error": error.strerror})


def _status(text: str) -> str:
    # A newline would begin another assignment.
    return f"STATUS={' '.join(printable(text).split())}"
