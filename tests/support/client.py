"""A client of the daemon's in a process of its own, as another user or in another network namespace."""

import json
from contextlib import contextmanager

from support.daemon import ISSUED

LIST = "/latest/meta-data/iam/security-credentials/"
_TTL = {"X-aws-ec2-metadata-token-ttl-seconds": "300"}

PROGRAM = r"""
def ask(host, port, method, target, headers):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(10)
        client.connect((host, port))
        lines = {"Host": "localhost", "Connection": "close", **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        client.sendall(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode())
        received = b""
        while data := client.recv(65536):
            received += data
    head, _, body = received.partition(b"\r\n\r\n")
    return [int(head.split()[1]) if head else 0, body.decode()]

print(json.dumps(os.getpid()), flush=True)
for line in sys.stdin:
    print(json.dumps(ask(*json.loads(line))), flush=True)
"""


class Client:
    """Asks one daemon, each time on a connection of its own."""

    def __init__(self, process, daemon, host="127.0.0.1", port=None):
        self._process, self._daemon = process, daemon
        self._host, self._port = host, port or daemon.port
        self.pid = json.loads(process.stdout.readline())

    def at(self, host):
        """The same process, which connects to another address."""
        other = object.__new__(Client)
        other.__dict__ |= self.__dict__ | {"_host": host}
        return other

    def ask(self, target, method="GET", headers=None):
        """Status and body; status 0 where the connection was closed without an answer."""
        line = json.dumps([self._host, self._port, method, target, headers or {}])
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        status, body = json.loads(self._process.stdout.readline())
        return status, body

    def token(self):
        status, token = self.ask("/latest/api/token", "PUT", _TTL)
        assert status == 200, token
        with (self._daemon.folder / ISSUED).open("a") as issued:
            issued.write(token + "\n")
        return token

    def get(self, target, token=None):
        return self.ask(target, headers={"X-aws-ec2-metadata-token": token or self.token()})

    def listed(self):
        """The role that its list shows; None where there is none."""
        status, body = self.get(LIST)
        return body if status == 200 else None

    def document(self, role):
        """Status, and the document if there is one."""
        status, body = self.get(LIST + role)
        return status, json.loads(body) if status == 200 else body


@contextmanager
def client_of(user, daemon, **place):
    """A client that runs as a user of the test's own."""
    with user.running(PROGRAM) as process:
        yield Client(process, daemon, **place)
