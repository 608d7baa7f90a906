"""From a connection to its caller: the owner of the client's socket, or an address and nothing else."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from imds_proxy.callers.caller import Caller, ip_address
from imds_proxy.callers.socket_owner import Address, Owner, SocketOwners, is_own_address
from imds_proxy.callers.units import Units
from imds_proxy.callers.user_database import Account, Accounts
from imds_proxy.host.systemd import PassedSocket

Told = Callable[[Caller, int], None]
"""Takes the caller, and the inode of its socket or 0."""

_CALLERS_KEPT: Final = 1024


@dataclass(frozen=True, slots=True)
class Place:
    """Where a caller connected to.

    Args:
        listener: Its entry of `metadata.listen`.
        here: Whether it is in the network namespace of this process. A socket that was passed may be in another one,
            where the same addresses and ports mean other processes.
    """

    listener: str
    here: bool


class Callers:
    """Tells who connected.

    Args:
        owners: Asks the kernel.
        accounts: Asks for users and groups.
        units: Knows the units of cgroups; None: those of no grant.
    """

    def __init__(self, owners: SocketOwners, accounts: Accounts, units: Units | None = None) -> None:
        self._owners = owners
        self._accounts = accounts
        self._units = units or Units()
        self._waiting: set[asyncio.Task[None]] = set()
        self._of_user = lru_cache(_CALLERS_KEPT)(of_user)

    def works(self) -> bool:
        """Whether the kernel tells users apart here; where it does not, every caller is an address and nothing else."""
        return self._owners.works()

    def look_for_units(self, named: Iterable[str]) -> None:
        """Tell units from here on if grants name any."""
        self._units.follow(frozenset(named))

    async def warm_up(self) -> None:
        """Ask once who this process is, so that the first client does not wait for what that takes to load."""
        await self._accounts.of(os.geteuid())

    def place(self, listening: socket.socket, listener: str) -> Place:
        """Where a listening socket is."""
        is_ours = not isinstance(listening, PassedSocket)
        return Place(listener, is_ours or self._owners.shares_namespace(listening))

    def identify(self, transport: asyncio.BaseTransport, place: Place, told: Told) -> None:
        """Tell who connected: at once, or when the names of a user new to us are known.

        Raises:
            OSError: The connection is gone, or its address cannot be judged.
        """
        peer, local = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if peer is None or local is None:
            raise ConnectionResetError
        _, found = self.look_up(peer, local, place)
        shown = transport.get_extra_info("socket")
        # Not asked of what the transport shows: uvloop's goes on giving its first answer.
        connection = socket.socket(shown.family, shown.type, shown.proto, shown.fileno())
        try:
            check_still_there(connection)
        finally:
            connection.detach()
        self.name(found, local, place, told)

    def look_up(self, peer: Address, local: Address, place: Place) -> tuple[bytes, Owner | Caller]:
        """What the kernel tells of a new connection; it holds if `check_still_there` passes afterwards.

        Args:
            peer: The address of the client's end.
            local: That of the server's end.
            place: Where the client has connected to.

        Returns:
            The principal of the caller; and the owner of its socket, or all there is to know of it: its address.

        Raises:
            OSError: The client's address cannot be judged.
        """
        owner = self._owners.owner(peer, local) if place.here else None
        if owner is not None:
            return _principal(owner.uid), owner
        caller = by_address(peer, local[0], place)
        return caller.principal, caller

    def name(self, found: Owner | Caller, local: Address, place: Place, told: Told) -> None:
        """Tell who connected, with the names of users, groups and units: at once, or when they are known."""
        if isinstance(found, Caller):
            told(found, 0)
            return
        is_ipv6 = "." not in local[0]  # an IPv4 client of an IPv6 listener is at ::ffff:127.0.0.1
        if (account := self._accounts.known(found.uid)) is not None and self._units.is_known(found.cgroup):
            told(self._of_user(account, place.listener, is_ipv6, self._units.unit(found.cgroup)), found.inode)
        else:
            task = asyncio.create_task(self._identify_later(found, place.listener, is_ipv6, told))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    async def _identify_later(self, owner: Owner, listener: str, is_ipv6: bool, told: Told) -> None:  # noqa: FBT001 - as below
        account, unit = await asyncio.gather(self._accounts.of(owner.uid), self._units.of(owner.cgroup))
        told(self._of_user(account, listener, is_ipv6, unit), owner.inode)

    def close(self) -> None:
        """Ask nobody any more."""
        for task in self._waiting:
            task.cancel()
        self._accounts.close()
        self._units.close()
        self._owners.close()


def check_still_there(connection: socket.socket) -> None:
    """Raise OSError if the client has reset its connection: its address may be another client's by now."""
    connection.getpeername()


@lru_cache(_CALLERS_KEPT)
def _principal(uid: int) -> bytes:
    """What stands for a user of this host."""
    return b"uid %d" % uid


def of_user(account: Account, listener: str, is_ipv6: bool, unit: str | None = None) -> Caller:  # noqa: FBT001 - by position, for the cache
    """The caller for a process of this host."""
    return Caller(
        address="::1" if is_ipv6 else "127.0.0.1",
        listener=listener,
        principal=_principal(account.uid),
        uid=account.uid,
        user=account.user,
        gids=account.gids,
        groups=account.groups,
        unit=unit,
    )


def by_address(peer: Address, local: str, place: Place) -> Caller:
    """The caller for a connection whose socket is not found: another host's, a container's, or closed already."""
    if place.here and (_is_between(peer[0], local) or is_own_address(peer[0], *peer[3:4])):
        return _at("127.0.0.1" if ip_address(peer[0]).version == 4 else "::1", place.listener)  # noqa: PLR2004 - of IP
    return _at(str(ip_address(peer[0])), place.listener)


@lru_cache(_CALLERS_KEPT)
def _is_between(peer: str, local: str) -> bool:
    """Whether two ends of a connection are of this host by their addresses alone."""
    return ip_address(peer).is_loopback or ip_address(peer) == ip_address(local)


@lru_cache(_CALLERS_KEPT)
def _at(address: str, listener: str) -> Caller:
    return Caller(address, listener, f"{address} at {listener}".encode())
