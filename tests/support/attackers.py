"""What a local user can do to keep others from being served, as programs for `User.start`, and a victim."""

_HIT = """
def hit(port, data):
    with socket.socket() as client:
        client.settimeout(5)
        client.connect(("127.0.0.1", port))
        client.sendall(data)
        received = b""
        while piece := client.recv(65536):
            received += piece
    return received

def get(port, path, *headers):
    lines = ["GET " + path + " HTTP/1.1", "Host: 127.0.0.1", *headers]
    if session:
        asked = "PUT /latest/api/token HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n"
        answer = hit(port, (asked + "X-aws-ec2-metadata-token-ttl-seconds: 300\\r\\n\\r\\n").encode())
        lines.append("X-aws-ec2-metadata-token: " + answer.partition(b"\\r\\n\\r\\n")[2].decode())
    return ("\\r\\n".join(lines) + "\\r\\n\\r\\n").encode()

port, path, session = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "session"
"""

_FOR_EVER = """
print("ready", flush=True)
while True:
    try:
        attack()
    except OSError:
        pass
"""

HOLD = """
port, held = int(sys.argv[1]), []

def attack():
    client = socket.socket()
    held.append(client)
    client.settimeout(1)
    client.connect(("127.0.0.1", port))
    client.send(b"G")
    if len(held) > 900:
        held.pop(0).close()
"""

FLOOD = """
port = int(sys.argv[1])

def attack():
    with socket.socket() as client:
        client.settimeout(1)
        client.connect(("127.0.0.1", port))
        client.send(b"G")
"""

PIPELINE = """
data = get(port, path) * 32

def attack():
    hit(port, data)
"""

ATTACKS = {
    "3 x connect, send a byte, keep it": (3, HOLD + _FOR_EVER),
    "3 x connect, send a byte, close": (3, FLOOD + _FOR_EVER),
    "8 x 32 pipelined requests": (8, _HIT + PIPELINE + _FOR_EVER),
}
"""Processes and program of each; arguments: port, path of a document, and `session` where it takes a session token."""

VICTIM = (
    _HIT
    + """
data, seconds, took, failed = get(port, path, "Connection: close"), float(sys.argv[4]), [], []
print("ready", flush=True)
sys.stdin.readline()
end = time.monotonic() + seconds
while time.monotonic() < end:
    began = time.perf_counter()
    try:
        if not hit(port, data).startswith(b"HTTP/1.1 200 "):
            failed.append("another status")
    except OSError as error:
        failed.append(str(error))
    took.append(time.perf_counter() - began)
    time.sleep(0.01)
print(json.dumps({"took": took, "failed": failed}), flush=True)
"""
)
"""A new connection and one document every 10 ms, from a line on standard input on; prints how long each took."""
