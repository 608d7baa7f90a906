"""What stands between the daemon and AWS: a relay that can be cut, TLS, a proxy."""

import contextlib
import selectors
import socket
import ssl
import threading
from urllib.parse import urlsplit

_PIECE = 65536


class Listener:
    """Accepts on a loopback port, each connection in a thread of its own; once it is left, the port refuses."""

    def __init__(self, port: int = 0):
        self._listening = socket.create_server(("127.0.0.1", port))
        self.port = self._listening.getsockname()[1]
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for each in (self._listening, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            with connection, contextlib.suppress(OSError):
                self.handle(connection)
        finally:
            self._open.discard(connection)

    def handle(self, connection: socket.socket) -> None:
        raise NotImplementedError


class Relay(Listener):
    """Bytes to `url` and back, unchanged: an AWS that can be taken away and given back, at the same address."""

    def __init__(self, url: str, port: int = 0):
        parts = urlsplit(url)
        self._target = parts.hostname, parts.port
        super().__init__(port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def handle(self, connection):
        with socket.create_connection(self._target) as target:
            pump(connection, target)


class TlsRelay(Relay):
    """The same with TLS towards the client."""

    def __init__(self, url: str, context: ssl.SSLContext):
        self._context = context
        super().__init__(url)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def handle(self, connection):
        with self._context.wrap_socket(connection, server_side=True) as inside:
            super().handle(inside)


class ConnectProxy(Listener):
    """An HTTP proxy that only tunnels; `tunnels` are the targets asked for, `others` every other request line."""

    def __init__(self):
        self.tunnels: list[str] = []
        self.others: list[str] = []
        super().__init__()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def handle(self, connection):
        head = b""
        while b"\r\n\r\n" not in head:
            if not (piece := connection.recv(_PIECE)):
                return
            head += piece
        method, target, _ = head.decode("latin-1").split(" ", 2)
        if method != "CONNECT":
            self.others.append(f"{method} {target}")
            connection.sendall(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
            return
        self.tunnels.append(target)
        host, _, port = target.rpartition(":")
        with socket.create_connection((host, int(port))) as outside:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            pump(connection, outside)


def pump(one: socket.socket, other: socket.socket) -> None:
    """Bytes both ways until either end closes."""
    with selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in selector.select():
                if not (data := _receive(key.fileobj)):
                    return
                key.data.sendall(data)


def _receive(source: socket.socket) -> bytes:
    data = source.recv(_PIECE)
    # What TLS has decrypted already does not make the socket readable again.
    while isinstance(source, ssl.SSLSocket) and (left := source.pending()):
        data += source.recv(left)
    return data
