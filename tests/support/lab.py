"""Network namespaces for containers, each with its loopback, in which the AWS double of the host can be reached."""

import socket
import subprocess
import threading
from contextlib import ExitStack, suppress
from typing import Self

from support.namespace import inside
from support.podman import DIES_WITH_US


class Lab:
    """A network namespace; `network` is podman's name for it.

    Args:
        port: Of a server on the host's 127.0.0.1 that is found at the same address in here; left out: none.
    """

    def __init__(self, port: int | None = None) -> None:
        self._port = port

    def __enter__(self) -> Self:
        self._entered = ExitStack()
        command = [*DIES_WITH_US, "unshare", "--net", "sh", "-c", "ip link set lo up && echo && exec sleep infinity"]
        self._holder = subprocess.Popen(command, stdout=subprocess.PIPE)
        self._entered.callback(self._holder.wait)
        self._entered.callback(self._holder.kill)
        self._holder.stdout.readline()
        if self._port is not None:
            with inside(self._holder.pid):
                server = self._entered.enter_context(socket.create_server(("127.0.0.1", self._port), backlog=128))
            threading.Thread(target=_relay, args=(server, self._port), daemon=True).start()
        return self

    def __exit__(self, *details: object) -> None:
        self._entered.close()
        self._holder.stdout.close()

    @property
    def network(self) -> str:
        return f"ns:/proc/{self._holder.pid}/ns/net"

    def ip(self, *arguments: str) -> None:
        command = ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net", "ip", *arguments]
        subprocess.run(command, check=True)

    def join(self, address: str, other: "Lab", address_there: str) -> None:
        """A cable between two of them, as the two ends of a bridge."""
        self.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", str(other._holder.pid))
        for lab, own in ((self, address), (other, address_there)):
            lab.ip("address", "add", own, "dev", "eth0")
            lab.ip("link", "set", "eth0", "up")


def _relay(server: socket.socket, port: int) -> None:
    with suppress(OSError):  # closed with the lab
        while True:
            near, _ = server.accept()
            far = socket.create_connection(("127.0.0.1", port))
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=_copy, args=(source, target), daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for each in (source, target):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
    source.close()
