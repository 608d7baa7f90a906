"""From a connection to its caller: the owner of the client's socket, or an address and nothing else."""

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from imds_proxy.callers.accounts import Account, Accounts
from imds_proxy.callers.caller import Caller, ip_address
from imds_proxy.callers.socket_owner import Address, Owner, SocketOwners, is_own_address
from imds_proxy.systemd import PassedSocket

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


class Arrival(NamedTuple):  # made once per connection: a frozen dataclass costs more
    """A new connection, as far as the kernel tells at once.

    Args:
        principal: Of its caller.
        listener: Its entry of `metadata.listen`.
        is_ipv6: Whether both ends have an IPv6 address.
        caller: The caller where nothing but its address is known; else None.
        owner: The owner of the client's socket, a process of this host; else None.
    """

    principal: bytes
    listener: str
    is_ipv6: bool
    caller: Caller | None
    owner: Owner | None


class Callers:
    """Tells who connected.

    Args:
        owners: Asks the kernel.
        accounts: Asks for users and groups.
    """

    def __init__(self, owners: SocketOwners, accounts: Accounts) -> None:
        self._owners = owners
        self._accounts = accounts
        self._waiting: set[asyncio.Task[None]] = set()
        self._of_user = lru_cache(_CALLERS_KEPT)(of_user)

    def works(self) -> bool:
        """Whether the kernel tells users apart here; where it does not, every caller is an address and nothing else."""
        return self._owners.works()

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
        shown = transport.get_extra_info("socket")
        # Not asked of what the transport shows: uvloop's goes on giving its first answer.
        connection = socket.socket(shown.family, shown.type, shown.proto, shown.fileno())
        try:
            arrival = self.arrival(connection, peer, local, place)
        finally:
            connection.detach()
        self.name(arrival, told)

    def arrival(self, connection: socket.socket, peer: Address, local: Address, place: Place) -> Arrival:
        """What the kernel tells of a connection.

        Args:
            connection: The server's end.
            peer: The address of the client's end.
            local: That of the server's end.
            place: Where the client has connected to.

        Raises:
            OSError: The connection is gone, or its address cannot be judged.
        """
        owner = self._owners.owner(peer, local) if place.here else None
        is_ipv6 = "." not in local[0]  # an IPv4 client of an IPv6 listener is at ::ffff:127.0.0.1
        if owner is None:
            caller = by_address(peer, local[0], place)
            return Arrival(caller.principal, place.listener, is_ipv6, caller, None)
        connection.getpeername()  # raises if the client has reset it: its address may be another client's by now
        return Arrival(_principal(owner.uid), place.listener, is_ipv6, None, owner)

    def name(self, arrival: Arrival, told: Told) -> None:
        """Tell who connected, with the names of users and groups: at once, or when they are known."""
        owner = arrival.owner
        if owner is None:
            assert arrival.caller is not None  # noqa: S101 - one of them is there
            told(arrival.caller, 0)
        elif (account := self._accounts.known(owner.uid)) is not None:
            told(self._of_user(account, arrival.listener, arrival.is_ipv6), owner.inode)
        else:
            task = asyncio.create_task(self._identify_later(owner, arrival.listener, arrival.is_ipv6, told))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    async def _identify_later(self, owner: Owner, listener: str, is_ipv6: bool, told: Told) -> None:  # noqa: FBT001 - as below
        account = await self._accounts.of(owner.uid)
        told(self._of_user(account, listener, is_ipv6), owner.inode)

    def close(self) -> None:
        """Ask nobody any more."""
        for task in self._waiting:
            task.cancel()
        self._accounts.close()
        self._owners.close()


def _principal(uid: int) -> bytes:
    """What stands for a user of this host."""
    return b"uid %d" % uid


def of_user(account: Account, listener: str, is_ipv6: bool) -> Caller:  # noqa: FBT001 - by position, for the cache
    """The caller for a process of this host."""
    return Caller(
        address="::1" if is_ipv6 else "127.0.0.1",
        listener=listener,
        principal=_principal(account.uid),
        uid=account.uid,
        user=account.user,
        gids=account.gids,
        groups=account.groups,
    )


def by_address(peer: Address, local: str, place: Place) -> Caller:
    """The caller for a connection whose socket is not found: another host's, a container's, or closed already."""
    address = ip_address(peer[0])
    if place.here and (address.is_loopback or address == ip_address(local) or is_own_address(peer[0], *peer[3:4])):
        return _at("127.0.0.1" if address.version == 4 else "::1", place.listener)  # noqa: PLR2004 - of IP
    return _at(str(address), place.listener)


def _at(address: str, listener: str) -> Caller:
    return Caller(address, listener, f"{address} at {listener}".encode())
