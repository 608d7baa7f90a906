"""Whether what a verb is about to use on this host is the daemon's listener, or one of a user who took its port.

In: an address, or a connection before anything was sent on it. Out: nothing, or ForeignListenerError. A listener of
root, of this user, or of the user of imds-proxy.service is the daemon's. Other hosts and other namespaces cannot be
judged.
"""

import logging
import os
import pwd
import socket
import subprocess
import urllib.parse
from collections.abc import Callable
from functools import cache
from typing import Final

from imds_proxy.callers.socket_table import accepted_by, listener_uids
from imds_proxy.errors import ForeignListenerError
from imds_proxy.host.user_namespace import unmapped_uid

log = logging.getLogger(__name__)

UNIT: Final = "imds-proxy.service"
_SYSTEMCTL: Final = "/usr/bin/systemctl"
_TIME_LIMIT: Final = 5.0
_NO_UID: Final = 0xFFFF_FFFF
_HTTP_PORT: Final = 80


def unit_uids() -> frozenset[int]:
    """The users whom systemd runs imds-proxy.service as, a dynamic one too; none without systemd or the unit."""
    command = [_SYSTEMCTL, "show", "--property=User", "--property=UID", UNIT]
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            command, env=environment, capture_output=True, text=True, timeout=_TIME_LIMIT, check=False
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return frozenset()
    said = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    found = {_uid(said.get("User", "")), _uid(said.get("UID", ""))}
    return frozenset(uid for uid in found if uid not in {None, _NO_UID})


def check_address(host: str, port: int, find_unit_uids: Callable[[], frozenset[int]] = unit_uids) -> None:
    """Refuse an address of this host at which another user listens; nothing is connected.

    Raises:
        ForeignListenerError: With the user, and what to do.
    """
    try:
        uids = listener_uids(host, port)
    except OSError as error:
        _not_judged(f"the kernel does not tell: {error.strerror}")
        return
    if not uids:
        _not_judged("nothing listens there in this network namespace")
    _refuse_foreign(host, port, uids, find_unit_uids)


def check_url(url: str, find_unit_uids: Callable[[], frozenset[int]] = unit_uids) -> None:
    """The same for each address that a URL's host has; raises ForeignListenerError."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port or _HTTP_PORT
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM) if host else []
    except (OSError, ValueError):  # whoever connects says what is wrong with it
        return
    for host in dict.fromkeys(str(address[0]) for *_, address in found):
        check_address(host, port, find_unit_uids)


def check_connection(connection: socket.socket, find_unit_uids: Callable[[], frozenset[int]] = unit_uids) -> None:
    """Refuse a connection that another user's listener or process has at its other end. Call it before sending.

    The listeners come first: one that is closed by the time that they are asked about has nothing left to accept, and a
    connection that it has accepted shows its user.

    Raises:
        ForeignListenerError: With the user, and what to do.
    """
    try:
        client, server = connection.getsockname(), connection.getpeername()
        uids = listener_uids(server[0], server[1])
        accepted = accepted_by(client, server)
    except OSError as error:
        _not_judged(f"the kernel does not tell: {error.strerror}")
        return
    uids |= {accepted} if accepted is not None else set()
    if not uids:
        _not_judged("its other end is on another host, or in another network namespace")
    _refuse_foreign(server[0], server[1], uids, find_unit_uids)


def _refuse_foreign(host: str, port: int, uids: set[int], find_unit_uids: Callable[[], frozenset[int]]) -> None:
    strangers = uids - {0, os.geteuid()}
    if strangers and unmapped_uid() in strangers:
        _not_judged("its user is of another user namespace")
        strangers.discard(unmapped_uid() or 0)
    if strangers:
        strangers -= find_unit_uids()
    if not strangers:
        return
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    raise ForeignListenerError(
        f"{address} is held by another user: {', '.join(map(_described, sorted(strangers)))};"
        f" expected root, yourself, or the user of {UNIT}. Nothing was sent to it",
        f"ss -ltnp 'sport = :{port}' shows the process: end it, start the daemon again, and enable imds-proxy.socket,"
        " with which systemd holds the port",
    )


@cache
def _not_judged(why: str) -> None:
    """Log once in the life of a verb that nothing is known of a listener."""
    log.debug("the owner of the listener cannot be judged", extra={"reason": why})


def _described(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _uid(user: str) -> int | None:
    """The number of a user given by name or number, None where there is none."""
    if user.isdecimal():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid if user else None
    except (KeyError, ValueError):
        return None
