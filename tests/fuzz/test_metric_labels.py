"""What thousands of requests of every kind leave in the metrics of the real daemon: no word of theirs."""

import itertools
import random
import socket

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.daemon import HOST, DaemonProcess, wait
from support.metrics_table import label_values
from support.pushed_file import Writer

SEED, COUNT = 20270115, 3000
METHODS = ["GET"] * 6 + ["HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "get", "FOO", "\xff"]
VERSIONS = ["HTTP/1.1"] * 9 + ["HTTP/1.0", "HTTP/2.0", "HTTP/9.9", "HTTP/", "RTSP/1.0", ""]
IAM = "meta-data/iam"
PATHS = [
    "/latest/api/token",
    "/",
    f"/latest/{IAM}",
    f"/latest/{IAM}/info",
    f"/2021-03-23/{IAM}/security-credentials/",
    f"/latest/{IAM}/security-credentials/WORD",
    f"/latest/{IAM}/security-credentials-extended/WORD",
    f"/WORD/{IAM}/WORD",
    "/latest/dynamic/instance-identity/document",
    "/latest/meta-data/placement/region",
    "/roles/WORD",
    "/roles/WORD/WORD",
    "/v1/credentials",
    "/v1/credentials/WORD",
    "/v1/credentials/arn:aws:iam::123456789012:role/WORD",
    "/v1/WORD",
    "/metrics?WORD=WORD",
    "http://WORD/latest/api/token",
    "WORD",
    f"/{'x' * 9000}",
]
WORDS = ["deploy", "absent", "Deploy", "%2e%2e", "..", "*", 'a"b', "role-\xff", "%00", "credentials", ""]
HEADERS = [
    "Host: localhost",
    "Host: WORD",
    "Host: localhost\r\nHost: localhost",
    "Origin: https://WORD",
    "User-Agent: Mozilla/5.0 WORD",
    "X-Forwarded-For: 192.0.2.1",
    "X-aws-ec2-metadata-token: WORD",
    "X-aws-ec2-metadata-token-ttl-seconds: 60",
    "X-aws-ec2-metadata-token-ttl-seconds: WORD",
    "Authorization: Bearer WORD",
    "Authorization: ROLE-TOKEN",
    "Content-Length: 3\r\n",
    f"Content-Length: 100000\r\n\r\n{'x' * 100_000}",
    "Transfer-Encoding: WORD",
    "Expect: 100-continue",
    "WORD: WORD",
    f"X-Large: {'x' * 20_000}",
]
NOT_PROVOKED = {"document": {"other"}, "status": {"500"}}
"""What only a defect would bring about."""


@pytest.fixture
def daemon(tmp_path):
    """With a role that lives and one that never had credentials, and no limit to what one caller may ask."""
    writer = Writer(tmp_path)
    writer.rename()
    absent = '[roles.absent]\nsource = "file"\npath = "/nowhere/absent.json"\n'
    grants = "".join(f'[[grants]]\nrole = "{role}"\naddress = "127.0.0.1"\n' for role in ("deploy", "absent"))
    config = HOST.replace("[admin]", "imds_v1 = true\nrate_limit = 0\n[admin]") + writer.role + absent + grants
    with DaemonProcess(tmp_path, config, {}) as daemon:
        wait(lambda: ready(daemon), 20, "the role")
        yield daemon


def ready(daemon):
    try:
        return daemon.role("deploy")["state"] == "ok"
    except OSError:
        return False


class Requests:
    """Requests of every kind; the same ones each time."""

    def __init__(self, session_token, role_token):
        self._session_token, self._role_token = session_token, role_token
        self._chance = random.Random(SEED)

    def good(self):
        """One of each path and method, for a role that has no credentials, with every token there is."""
        tokens = f"X-aws-ec2-metadata-token: {self._session_token}\r\nAuthorization: {self._role_token}"
        for path, method in itertools.product(PATHS, METHODS):
            first = f"{method} {path.replace('WORD', 'absent')} HTTP/1.1"
            yield f"{first}\r\nHost: localhost\r\n{tokens}\r\nConnection: close\r\n\r\n".encode("latin-1")

    def next(self) -> bytes:
        chance = self._chance
        if chance.random() < 0.05:
            return chance.randbytes(chance.randrange(1, 300))
        first = f"{chance.choice(METHODS)} {chance.choice(PATHS)} {chance.choice(VERSIONS)}"
        headers = ["Host: localhost"] * (chance.random() < 0.8)
        headers += chance.sample(HEADERS, chance.choice([0, 0, 0, 1, 2, 4]))
        if chance.random() < 0.5:
            headers.append(f"X-aws-ec2-metadata-token: {self._session_token}")
        text = "\r\n".join([first, *headers, "Connection: close", "", ""]).replace("ROLE-TOKEN", self._role_token)
        while "WORD" in text:
            text = text.replace("WORD", self._word(), 1)
        return self._torn(text.encode("latin-1"))

    def _word(self) -> str:
        if self._chance.random() < 0.7:
            return self._chance.choice(WORDS)
        return "".join(chr(self._chance.randrange(33, 256)) for _ in range(self._chance.randrange(1, 40)))

    def _torn(self, request: bytes) -> bytes:
        """Sometimes with a byte that is another one, or without its end."""
        if self._chance.random() < 0.9:
            return request
        at = self._chance.randrange(len(request))
        return request[:at] + self._chance.randbytes(1) * (self._chance.random() < 0.5) + request[at + 1 :]


def send(port, request):
    """Send it, and take what comes until the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        except ConnectionError:
            return


def series(daemon):
    """The labels of every series, by the sample's name; without those of the answers' times."""
    families = text_string_to_metric_families(daemon.metrics())
    return {(each.name, tuple(sorted(each.labels.items()))) for family in families for each in family.samples}


def test_no_request_makes_a_series_of_its_own(daemon):
    """A client in a loop could fill the memory of this daemon, and of every Prometheus that scrapes it."""
    before = series(daemon)
    requests = Requests(daemon.token(), (daemon.state / "tokens/absent").read_text())
    for request in [*requests.good(), *(requests.next() for _ in range(COUNT))]:
        send(daemon.port, request)
    after = series(daemon)
    assert {name for name, _ in after - before} == {"imds_proxy_requests_total"}
    assert before <= after
    for (name, label), documented in label_values().items():
        values = {value for metric, labels in after if metric == name for key, value in labels if key == label}
        assert values <= documented, f"{name} has another {label} than grafana/README.md says"
        if name == "imds_proxy_requests_total":
            assert documented - values == NOT_PROVOKED.get(label, set())
    assert daemon.get("latest/meta-data/iam/security-credentials/deploy")[0] == 200
    assert {event["event"] for event in daemon.events() if event["level"] == "error"} <= {"renewal failed"}  # absent's
