"""Clients that no SDK is: they send rubbish, send slowly, or do not read."""

import contextlib
import socket
import threading
from collections.abc import Iterator

_HOST = b"Host: 127.0.0.1\r\n"
RUBBISH = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),  # a TLS client
    b"GET\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + _HOST + _HOST + b"\r\n",
    b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n" + _HOST + b"\r\n",
    b"GET / HTTP/1.1\r\n" + _HOST + b"X: " + b"a" * 30000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + _HOST + b"".join(b"X-%d: a\r\n" % number for number in range(2000)) + b"\r\n",
    b"PUT /latest/api/token HTTP/1.1\r\n" + _HOST + b"Content-Length: 1000000\r\n\r\n" + bytes(100000),
    b"POST / HTTP/1.1\r\n" + _HOST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    b"GET /latest/ HTTP/1.1\r\nHost: rebound.example\r\n\r\n",
)
_SLOW, _DEAF = 64, 8
_PAUSE = 0.5  # seconds between two sends
_PIPELINE = 500
_DEAF_BUFFER = 4096
_TIMEOUT = 10.0


def send_rubbish(port: int, times: int) -> None:
    """Every kind of malformed request, each on a connection of its own, read until the server closes."""
    for _ in range(times):
        for data in RUBBISH:
            with contextlib.suppress(ConnectionError), _connect(port) as client:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass


@contextlib.contextmanager
def slow_clients(port: int) -> Iterator[None]:
    """In the background: clients that send a byte now and then, and clients that ask a lot and read nothing."""
    ended = threading.Event()
    thread = threading.Thread(target=_be_slow, args=(port, ended), name="slow-clients")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _be_slow(port: int, ended: threading.Event) -> None:
    with contextlib.ExitStack() as stack:
        slow: list[socket.socket] = []
        while not ended.wait(_PAUSE):
            if not _all_take(slow, b"a"):  # the server has had enough of them
                stack.close()
                slow = [stack.enter_context(_connect(port)) for _ in range(_SLOW)]
                deaf = [stack.enter_context(_connect(port, _DEAF_BUFFER)) for _ in range(_DEAF)]
                _all_take(slow, b"GET /latest/meta-data/ HTTP/1.1\r\n" + _HOST + b"X-Slow: ")
            _all_take(deaf, (b"GET / HTTP/1.1\r\n" + _HOST + b"\r\n") * _PIPELINE)


def _connect(port: int, receive_buffer: int | None = None) -> socket.socket:
    client = socket.socket()
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.settimeout(_TIMEOUT)
    client.connect(("127.0.0.1", port))
    return client


def _all_take(clients: list[socket.socket], data: bytes) -> bool:
    """Send to all of them; whether there are any and none is closed."""
    return bool(clients) and all([_takes(client, data) for client in clients])  # noqa: C419 - each of them is sent to


def _takes(client: socket.socket, data: bytes) -> bool:
    try:
        client.send(data, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True
