"""A process that asks for one document again and again over a kept connection, and notes how long each answer took.

A process of its own: what measures must not wait for the doubles of AWS beside it. A line on stdin begins a phase, its
end ends everything; then the phases are printed as JSON: of each the milliseconds of the slowest answers and how many
there were, and when (monotonic seconds) the first good one came.
"""

import json
import select
import socket
import sys
import time

_EACH = 0.004
_SLOWEST = 5


def main() -> None:
    """`probe.py PORT PATH`."""
    port, path = int(sys.argv[1]), sys.argv[2]
    phases: dict[str, list[float]] = {}
    first_good, phase, connection = None, "start", _connected(port)
    token = _ask(connection, "PUT /latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 21600")[1].decode()
    while True:
        began = time.monotonic()
        try:
            status = _ask(connection, f"GET {path}", f"X-aws-ec2-metadata-token: {token}")[0]
        except ConnectionError:  # a refusal may end it
            connection = _connected(port)
            continue
        now = time.monotonic()
        phases.setdefault(phase, []).append((now - began) * 1000)
        if first_good is None and status == 200:
            first_good = now
        while select.select([sys.stdin], [], [], _EACH)[0]:
            line = sys.stdin.readline().strip()
            if not line:
                slowest = {name: sorted(took)[-_SLOWEST:][::-1] for name, took in phases.items()}
                counts = {name: len(took) for name, took in phases.items()}
                print(json.dumps({"slowest": slowest, "counts": counts, "first_good": first_good}))
                return
            phase = line


def _connected(port: int) -> socket.socket:
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=60)
        except ConnectionRefusedError:
            time.sleep(0.01)


def _ask(connection: socket.socket, request: str, header: str) -> tuple[int, bytes]:
    connection.sendall(f"{request} HTTP/1.1\r\nHost: 127.0.0.1\r\n{header}\r\nContent-Length: 0\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        received = connection.recv(65536)
        if not received:
            raise ConnectionError
        answer += received
    head, _, body = answer.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    while len(body) < int(fields.get(b"content-length", b"0")):
        body += connection.recv(65536)
    return int(head.split()[1]), body


if __name__ == "__main__":
    main()
