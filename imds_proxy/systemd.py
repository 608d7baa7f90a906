"""What systemd and this process tell each other: sockets, readiness, watchdog (sd_notify(3), sd_listen_fds(3))."""

import logging
import os
import socket
import time

log = logging.getLogger(__name__)

_FIRST_PASSED = 3
_MICROSECONDS = 1_000_000


def passed_sockets() -> dict[str, socket.socket]:
    """Sockets from systemd by their FileDescriptorName; empty without socket activation. Call once, at start."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    sockets = {}
    for index in range(int(os.environ.get("LISTEN_FDS", "0"))):
        descriptor = _FIRST_PASSED + index
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - the socket API's own
        passed = socket.socket(fileno=descriptor)
        passed.setblocking(False)  # noqa: FBT003 - the socket API's own
        sockets[names[index] if index < len(names) else f"unknown{index}"] = passed
    for variable in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):  # not for our children
        os.environ.pop(variable, None)
    return sockets


class Notifier:
    """Tells systemd how the daemon is; says nothing where nobody listens."""

    def __init__(self, address: str | None = None) -> None:
        self._address = address if address is not None else os.environ.pop("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]

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
    return f"STATUS={' '.join(text.split())}"
