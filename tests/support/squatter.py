"""A user who listens where the daemon was expected, in a process of its own."""

import json
import socket
from contextlib import contextmanager

# Listens, says where, then accepts one connection after the other and says what came in on each.
_PROGRAM = r"""
wanted = json.loads(sys.argv[1])
listener = socket.socket(wanted["family"], socket.SOCK_STREAM)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
for level, option, value in wanted["options"]:
    listener.setsockopt(level, option, value.encode() if isinstance(value, str) else value)
listener.bind((wanted["host"], wanted["port"]))
listener.listen(64)
print(json.dumps(listener.getsockname()[1]), flush=True)
if wanted["accepts"] == 0:
    time.sleep(60)
if wanted["accepts"] == 1:
    connection, _ = listener.accept()
    listener.close()
    print(json.dumps("accepted"), flush=True)
while True:
    if wanted["accepts"] > 1:
        connection, _ = listener.accept()
    connection.settimeout(5)
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
            if b"\r\n\r\n" in received:
                connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                break
    except OSError:
        pass
    connection.close()
    print(json.dumps(received.decode("latin-1")), flush=True)
    if wanted["accepts"] == 1:
        break
"""
FOREVER = 1 << 30
_LAST = b"this is the last one\r\n\r\n"


class Squatter:
    """Its port, and what it received."""

    def __init__(self, process):
        self._process = process
        self.port = self.next()

    def next(self):
        """The next thing that it says: what one connection has sent."""
        return json.loads(self._process.stdout.readline())

    def everything(self):
        """What every connection so far has sent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as last:
            last.sendall(_LAST)
            received = []
            while (one := self.next()) != _LAST.decode():
                received.append(one)
        return "".join(received)


@contextmanager
def squatting(user, host="127.0.0.1", port=0, *, options=(), accepts=FOREVER):
    """The user listens; `accepts` 0: nothing; 1: one connection, and closes the listener."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    wanted = {"family": family, "host": host, "port": port, "options": options, "accepts": accepts}
    with user.running(_PROGRAM, json.dumps(wanted)) as process:
        yield Squatter(process)
