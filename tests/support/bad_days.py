"""Bad days, the same for every source: on the wire for what is asked over a network, in a file for the rest.

Each begins with what a good day would have brought, so that only what is bad about it can be the reason for a refusal.
"""

import contextlib
import http.client
import os
import re
import socket
import threading
import time
from pathlib import Path

from imds_proxy.credentials import timestamp
from support.network import Relay

DAYS = ("hang", "drip", "html", "truncated", "expired", "past", "centuries", "missing", "redirect", "huge")
HUGE = 10_000_000  # bytes
_PIECE = 65536
_TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_LEASE = re.compile(rb'("lease_duration": ?)\d+')
_SECRET = re.compile(rb"(?i)secret_?(access_?)?key")
_PAGE = b"<html><body><h1>Welcome to the guest network</h1></body></html>"


def spoil(day: str, good: bytes) -> bytes:
    """What a source hands out on a bad day in place of `good`."""
    moments = {
        "expired": (timestamp(time.time() - 3600).encode(), b"-3600"),
        "past": (b"0001-01-01T00:00:00Z", b"0"),
        "centuries": (b"2626-01-01T00:00:00Z", b"18921600000"),
    }
    if day in moments:
        moment, lease = moments[day]
        return _LEASE.sub(rb"\g<1>" + lease, _TIME.sub(moment, good))
    contents = {
        "html": _PAGE,
        "truncated": good[: len(good) * 2 // 3],
        "missing": _SECRET.sub(b"Forgotten", good),
        "huge": good + b" " * HUGE,  # a parser that reads on to the end is satisfied
    }
    return contents[day]


class BadDay(Relay):
    """A relay to a service that is as it should be until `begin`; then every answer that holds credentials is bad."""

    def __init__(self, target: str, day: str, elsewhere: str):
        self._day, self._elsewhere = day, elsewhere
        self._begun = False
        super().__init__(target)

    def begin(self) -> None:
        self._begun = True

    def handle(self, connection):
        if not self._begun:
            super().handle(connection)
            return
        with socket.create_connection(self._target) as target:
            target.sendall(_read_request(connection))
            answer = http.client.HTTPResponse(target)
            answer.begin()
            body, kind = answer.read(), answer.getheader("Content-Type", "")
        if not _SECRET.search(body):  # a step on the way to the credentials
            connection.sendall(_head(answer.status, kind, len(body)) + body)
            return
        self._answer(connection, kind, body)

    def _answer(self, connection, kind, body):
        if self._day == "hang":
            connection.recv(1)
        elif self._day == "drip":
            connection.sendall(_head(200, kind, len(body)))
            for byte in body:  # never still for long enough to be taken for gone
                connection.sendall(bytes([byte]))
                time.sleep(0.2)
        elif self._day == "redirect":
            connection.sendall(_head(302, kind, 0, f"Location: {self._elsewhere}/\r\n"))
        else:
            bad = spoil(self._day, body)
            kind = "text/html" if self._day == "html" else kind
            connection.sendall(_head(200, kind, len(bad)) + bad)


class Elsewhere(Relay):
    """Where redirects point: a service that would answer well, and should never be asked."""

    def __init__(self, target: str):
        self.asked = 0
        super().__init__(target)

    def handle(self, connection):
        self.asked += 1
        super().handle(connection)


class BadProgram:
    """A program that prints a document until `begin`; then it has its bad day. `command` runs it."""

    def __init__(self, folder: Path, day: str, good: bytes):
        self._folder, self._day, self._good = folder, day, good
        self.command = ["/bin/sh", str(folder / "program.sh")]
        self._print(good)

    def begin(self) -> None:
        endless = {"hang": "exec sleep 600\n", "drip": "while :; do printf x; sleep 0.2; done\n"}
        if self._day in endless:
            self._replace("program.sh", endless[self._day].encode())
        else:
            self._print(spoil(self._day, self._good))

    def _print(self, document: bytes) -> None:
        self._replace("printed", document)
        self._replace("program.sh", f"cat {self._folder}/printed\n".encode())

    def _replace(self, name: str, content: bytes) -> None:
        (self._folder / "new").write_bytes(content)
        (self._folder / "new").replace(self._folder / name)


class BadFile:
    """A file of credentials that is good until `begin`."""

    def __init__(self, folder: Path, day: str, good: bytes):
        self.path, self._day, self._good = folder / "pushed", day, good
        self._put(good)

    def begin(self) -> None:
        if self._day == "hang":  # whoever opens a pipe that nobody writes to waits
            os.mkfifo(self.path.with_suffix(".new"))
            self.path.with_suffix(".new").replace(self.path)
        elif self._day == "drip":
            threading.Thread(target=self._write_slowly, daemon=True).start()
        else:
            self._put(spoil(self._day, self._good))

    def _put(self, content: bytes) -> None:
        new = self.path.with_suffix(".new")
        new.write_bytes(content)
        new.chmod(0o600)
        new.replace(self.path)

    def _write_slowly(self):
        with self.path.open("wb", buffering=0) as file:
            for byte in self._good:
                file.write(bytes([byte]))
                time.sleep(0.2)


def _head(status: int, kind: str, length: int, extra: str = "") -> bytes:
    lines = f"Content-Type: {kind}\r\nContent-Length: {length}\r\n{extra}Connection: close\r\n"
    return f"HTTP/1.1 {status} {http.client.responses[status]}\r\n{lines}\r\n".encode()


def _read_request(connection) -> bytes:
    """Head and body, as they came, but for a connection that is not kept."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _received(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    while len(body) < int(length[1] if length else 0):
        body += _received(connection)
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([*lines, b"Connection: close", b"", body])


def _received(connection) -> bytes:
    piece = b""
    with contextlib.suppress(OSError):
        piece = connection.recv(_PIECE)
    if not piece:
        raise ConnectionError("closed in the middle of a request")
    return piece
