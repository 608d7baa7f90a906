"""`imds-proxy check`: whether each listener of the config could be opened on this host. Nothing listens meanwhile."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imds_proxy.addresses import SYSTEMD_PREFIX, canonical, split_listen
from imds_proxy.audit.client_process import find_process
from imds_proxy.callers.socket_table import listeners
from imds_proxy.cli.check_finding import Finding, Key
from imds_proxy.cli.listener_owner import check_address, unit_uids
from imds_proxy.errors import ForeignListenerError, ListenError
from imds_proxy.host import access_advice
from imds_proxy.host.listening_sockets import NoIpv6Error, PortInUseError, judge_listener, no_passed_socket

if TYPE_CHECKING:
    from imds_proxy.audit.client_process import Process
    from imds_proxy.cli.check_unit import PassedByUnit
    from imds_proxy.cli.check_user import Judge
    from imds_proxy.config.model import Config

_SYSTEMD: Final = 1
Holders = dict[str, "Process | None"]
"""The process at each address of the config at which one listens; None where this user may not see it."""


def entries(config: "Config") -> Iterator[tuple[Key, str]]:
    """Every listener, with its key path."""
    for number, listen in enumerate(config.metadata.listen):
        yield ("metadata", "listen", number), listen
    yield ("admin", "listen"), config.admin.listen


def holders(config: "Config") -> Holders:
    """Who listens now, which root sees of every user."""
    found: Holders = {}
    for _, listen in entries(config):
        if listen.startswith(SYSTEMD_PREFIX):
            continue
        try:
            sockets = listeners(*split_listen(listen))
        except OSError:  # the kernel does not tell
            continue
        if sockets:
            found[listen] = find_process(sockets[0].uid, sockets[0].inode)
    return found


def findings(
    config: "Config", judge: "Judge", held: Holders, passed: "list[PassedByUnit]", *, offline: bool
) -> Iterator[Finding]:
    """What is wrong with each.

    Args:
        config: What to look at.
        judge: Whose ports they will be.
        held: Of `holders`.
        passed: The socket units of this host.
        offline: Whether systemctl may not be asked for the daemon's user.
    """
    units = (lambda: judge.daemons) if offline else (lambda: unit_uids() | judge.daemons)
    for key, listen in entries(config):
        if listen.startswith(SYSTEMD_PREFIX):
            yield from _of_systemd(key, listen, passed)
            continue
        host, port = split_listen(listen)
        if port == 0:
            yield Finding(key, f"listener {listen}: port 0 is another port at every start", "choose a port")
            continue
        try:
            check_address(host, port, units)
        except ForeignListenerError as error:
            yield Finding(key, f"listener {listen}: {error.message}", error.advice)
        else:
            yield from _of_address(key, listen, judge, held, passed)


def _of_systemd(key: Key, listen: str, passed: "list[PassedByUnit]") -> Iterator[Finding]:
    if any(each.name == listen.removeprefix(SYSTEMD_PREFIX) for each in passed):
        return
    error = no_passed_socket(listen)
    if access_advice.place() is not access_advice.Place.HOST and _runs_the_daemon(1):  # its unit is outside
        yield Finding(key, f"listener {listen}: whether systemd passes it cannot be seen in here", is_remark=True)
        return
    yield Finding(key, f"listener {listen}: no .socket unit here has that name", error.advice)


def _of_address(
    key: Key, listen: str, judge: "Judge", held: Holders, passed: "list[PassedByUnit]"
) -> Iterator[Finding]:
    unit = next((each for each in passed if _canonical(listen) in map(_canonical, each.listen)), None)
    if unit is not None and unit.free_bind:  # bound by systemd, whether the address is here or not
        return
    try:
        judge_listener(listen)
    except NoIpv6Error as error:
        yield Finding(key, f"{error.message}: it is not opened", is_remark=True)
    except PortInUseError as error:
        process = held.get(listen)
        if process is not None and process.pid != _SYSTEMD and not _runs_the_daemon(process.pid):
            yield Finding(key, f"{error.message}: {process.command} (pid {process.pid}) listens there", error.advice)
    except ListenError as error:
        may = isinstance(error.__context__, PermissionError) and "CAP_NET_BIND_SERVICE" in judge.capabilities
        if unit is None and not may:
            yield Finding.of(key, error)


def _canonical(listen: str) -> str:
    try:
        host, port = split_listen(listen)
    except ValueError:  # of a socket unit: a path, or a port alone
        return listen
    return f"{canonical(host)} {port}"


def _runs_the_daemon(pid: int) -> bool:
    """Whether a process is one of this project; what cannot be looked at counts as one."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True
    return b"imds-proxy" in command or b"imds_proxy" in command
