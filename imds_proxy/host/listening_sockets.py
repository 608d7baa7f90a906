"""Listening sockets: bound here or passed by systemd, and one clear line when that fails."""

import contextlib
import errno
import socket
from collections.abc import Iterator, Mapping

from imds_proxy.addresses import SYSTEMD_PREFIX, split_listen
from imds_proxy.errors import ListenError

BACKLOG = 4096
"""Connections that wait in the kernel; net.core.somaxconn may allow fewer. Those beyond try again after a second."""
_LOWEST_FREE_PORT = 1024
_OF_PODS = frozenset(("169.254.170.23", "fd00:ec2::23"))


class NoIpv6Error(ListenError):
    """IPv6 is disabled on this host: a listener of IPv6 cannot be opened, and no client of it is here."""


class PortInUseError(ListenError):
    """Something has the port already: the daemon itself, perhaps."""


def open_listener(listen: str, passed: Mapping[str, socket.socket]) -> socket.socket:
    """A listening, non-blocking socket.

    Args:
        listen: `"ADDRESS:PORT"`, `"[IPV6]:PORT"` or `"systemd:NAME"`.
        passed: Sockets from systemd by the entry of `listen` that means them.

    Raises:
        ListenError: With what to do about it.
    """
    if listen in passed:
        return _taken(listen, passed[listen])
    if listen.startswith(SYSTEMD_PREFIX):
        raise no_passed_socket(listen)
    host, port = split_listen(listen)
    with _in_words(listen):
        listener = _bind(host, port)
        try:
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener


def no_passed_socket(listen: str) -> ListenError:
    """What is said of a `systemd:NAME` without such a socket."""
    name = listen.removeprefix(SYSTEMD_PREFIX)
    advice = f"give the .socket unit FileDescriptorName={name}, and start it before this service"
    return ListenError(f"listener {listen}: systemd passed no socket of that name", advice)


def judge_listener(listen: str) -> None:
    """Raise ListenError where an address and port could not be had now; nothing listens there, nothing is taken."""
    with _in_words(listen):
        _bind(*split_listen(listen)).close()


@contextlib.contextmanager
def _in_words(listen: str) -> Iterator[None]:
    """ListenError with advice in place of what the system said of an address."""
    host, port = split_listen(listen)
    try:
        yield
    except OSError as error:
        if ":" in host and error.errno in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL} and not _has_ipv6():
            raise NoIpv6Error(f"listener {listen}: IPv6 is disabled on this host") from None
        failure = PortInUseError if error.errno == errno.EADDRINUSE else ListenError
        raise failure(f"listener {listen}: {error.strerror}", _advice(error, host, port)) from None


def listener_host(listen: str, passed: Mapping[str, socket.socket]) -> str:
    """The address literal that a listener is reached by."""
    if listen.startswith(SYSTEMD_PREFIX):
        listening = passed.get(listen)
        return str(listening.getsockname()[0]) if listening else "127.0.0.1"
    return split_listen(listen)[0]


def _taken(listen: str, passed: socket.socket) -> socket.socket:
    """A duplicate of a socket from systemd; its unit may have another backlog (Backlog=)."""
    taken = passed.dup()
    try:
        taken.listen(BACKLOG)
    except OSError as error:
        taken.close()
        advice = "give the .socket unit ListenStream= with an address and a port"
        raise ListenError(f"listener {listen}: systemd's socket cannot listen: {error.strerror}", advice) from None
    return taken


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # "[::]" and "0.0.0.0" are two listeners, so that each can be had without the other.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setblocking(False)  # noqa: FBT003 - the socket API's own
        listener.bind((host, port))
    except BaseException:
        listener.close()
        raise
    return listener


def _has_ipv6() -> bool:
    """Whether the loopback address of IPv6 is there: it is wherever IPv6 is not disabled."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        return error.errno not in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
    return True


def _advice(error: OSError, host: str, port: int) -> str:
    match error.errno:
        case errno.EADDRNOTAVAIL:
            verb = "imds-proxy add-addresses, or " if host in _OF_PODS else ""
            return (
                f"put the address on this host first: {verb}ip address add {host}/{128 if ':' in host else 32} dev lo"
            )
        case errno.EADDRINUSE:
            return f"see who has it: ss -ltnp 'sport = :{port}'"
        case errno.EACCES if port < _LOWEST_FREE_PORT:
            return f"a port under {_LOWEST_FREE_PORT} needs CAP_NET_BIND_SERVICE, or a socket passed by systemd"
    return ""
