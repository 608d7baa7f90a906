"""A network namespace of a test's own, with the addresses that SDKs find by themselves, and what passes in it."""

import ctypes
import os
import shutil
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

LINK_LOCAL = ("169.254.169.254", "fd00:ec2::254", "169.254.170.2", "169.254.170.23", "fd00:ec2::23")
ANOTHER_HOST = "198.51.100.7"
"""An address that is neither loopback nor a listener's, as a client on a routed network has."""

_CLONE_NEWNET = 0x40000000
_ALL_PROTOCOLS = 0x0003


@contextmanager
def network_namespace(*addresses: str):
    """Move this thread into a new network namespace with `addresses` on its loopback interface.

    It has no name and no other holder, so the kernel removes it with its last socket.
    """
    if shutil.which("ip") is None:
        pytest.skip("a network namespace takes the ip command")
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(_CLONE_NEWNET) != 0:
            pytest.skip(f"no right to make a network namespace: {os.strerror(ctypes.get_errno())}")
        try:
            _ip("link", "set", "lo", "up")
            for address in addresses:
                _add(address)
            yield
        finally:
            assert libc.setns(home, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(home)


@contextmanager
def container(address: str, gateway: str, table: int | None = None):
    """A network namespace joined to the present one by a pair of interfaces, as a container's is; see `inside`.

    Args:
        address: `ADDRESS/LENGTH` in there.
        gateway: `ADDRESS/LENGTH` out here, where listeners for it are.
        table: A routing table of its own, for what `gateway` sends: so that several may have the same `address`.

    Yields: the id of a process that is in it for as long as this is entered.
    """
    with network_namespace():
        holder = subprocess.Popen(["sleep", "infinity"])
    name = f"veth{holder.pid}"
    try:
        _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
        _interface(name, gateway)
        if table is not None:
            _ip("rule", "add", "from", gateway.partition("/")[0], "lookup", str(table))
            _ip("route", "add", address.partition("/")[0], "dev", name, "table", str(table))
        with inside(holder.pid):
            _interface("eth0", address)
            _ip("route", "replace", gateway.partition("/")[0], "dev", "eth0")
        yield holder.pid
    finally:
        holder.kill()
        holder.wait()


@contextmanager
def inside(pid: int):
    """Move this thread, and what it starts, into the network namespace of a process."""
    namespaces = Path("/proc/thread-self/ns/net"), Path(f"/proc/{pid}/ns/net")
    with namespaces[0].open("rb") as home, namespaces[1].open("rb") as there:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.setns(there.fileno(), _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            assert libc.setns(home.fileno(), _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())


def sysctl(name: str, value: object) -> None:
    """Set what the kernel keeps per network namespace, in the present one; `name` as in `net/ipv4/...`."""
    path = Path("/proc/sys") / name
    try:
        path.write_text(str(value))
    except OSError as error:
        pytest.skip(f"{path} cannot be set: {error.strerror}")


def _interface(name: str, address: str) -> None:
    _ip("address", "add", address, "dev", name, *(["nodad"] if ":" in address else []))
    _ip("link", "set", name, "up")


def _add(address: str) -> None:
    if ":" in address:
        _ip("address", "add", f"{address}/128", "dev", "lo", "nodad")
    else:
        _ip("address", "add", f"{address}/32", "dev", "lo")


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


class PacketLog:
    """What passes on the loopback interface of the present namespace."""

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL_PROTOCOLS))
        self._socket.bind(("lo", _ALL_PROTOCOLS))
        self._socket.settimeout(0)
        return self

    def __exit__(self, *_):
        self._socket.close()

    def hops(self, port: int) -> set[int]:
        """The TTLs, or hop limits, of the packets with data that `port` has sent since the last call."""
        return {hops for hops, source, data in self._packets() if source == port and data}

    def _packets(self):
        while True:
            try:
                packet = self._socket.recv(65535)
            except BlockingIOError:
                return
            version = packet[0] >> 4
            header = (packet[0] & 15) * 4 if version == 4 else 40
            length = int.from_bytes(packet[2:4]) if version == 4 else 40 + int.from_bytes(packet[4:6])
            protocol, hops = (packet[9], packet[8]) if version == 4 else (packet[6], packet[7])
            if protocol == socket.IPPROTO_TCP:
                tcp = packet[header:]
                yield hops, int.from_bytes(tcp[:2]), length - header - (tcp[12] >> 4) * 4
