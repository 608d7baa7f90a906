"""A service that hands out credentials over HTTP, in every shape that `source = "http"` knows, on good days and bad."""

import json
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus

from imds_proxy.credentials import timestamp
from imds_proxy.demo.aws_double import ACCOUNT
from support.network import Listener, pump

IMDS_ROLES = "/latest/meta-data/iam/security-credentials"
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/Deploy"
SESSION_ARN = f"arn:aws:sts::{ACCOUNT}:assumed-role/Deploy/vault-session"
_LARGEST = 65536
_TLS = b"\x16"


@dataclass(frozen=True)
class Request:
    """One request as it came; headers by lower-case name."""

    method: str
    target: str
    headers: dict[str, str]


Interference = Callable[[Request], Iterable[bytes] | None]
"""May answer in the service's place, piece by piece; it sleeps where a bad day is a slow one."""


class Session:
    """One session as AWS would make it: `document(shape)` is what a service says of it."""

    def __init__(self, life: float = 3600):
        self.key_id = "ASIA" + secrets.token_hex(8).upper()
        self.secret, self.token = secrets.token_urlsafe(30), secrets.token_urlsafe(200)
        self.life, self.began = life, time.time()

    def document(self, shape: str) -> dict:
        end, began = timestamp(self.began + self.life), timestamp(self.began)
        aws = {"AccessKeyId": self.key_id, "SecretAccessKey": self.secret, "Expiration": end}
        imds = {"Code": "Success", "LastUpdated": began, "Type": "AWS-HMAC", **aws, "Token": self.token}
        iot = {"accessKeyId": self.key_id, "secretAccessKey": self.secret, "sessionToken": self.token}
        keys = {"access_key": self.key_id, "secret_key": self.secret, "arn": SESSION_ARN}
        tokens = {"security_token": self.token, "session_token": self.token}
        lease = {"lease_id": "aws/creds/deploy/1", "renewable": False, "lease_duration": self.life}
        return {
            "container": {"RoleArn": ROLE_ARN, "AccountId": ACCOUNT, **aws, "Token": self.token},
            "imds": imds,
            "process": {"Version": 1, **aws, "SessionToken": self.token},
            "iot": {"credentials": iot | {"expiration": end}},
            "vault": lease | {"data": keys | tokens, "warnings": None, "auth": None},
        }[shape]

    @property
    def secrets(self) -> tuple[str, ...]:
        return self.key_id, self.secret, self.token


class CredentialService(Listener):
    """The service: every answer is a session of its own, kept in `sessions`; every request is in `requests`.

    `shape` is what it answers; `tls` serves HTTPS; `expect` is a header (name, value) without which it answers 403;
    `imds_v2` says whether the instance metadata shape has session tokens; `interfere` may answer in its place.
    """

    def __init__(self, shape="container", *, tls: ssl.SSLContext | None = None, expect=None, imds_v2=True, life=3600):
        self.shape, self.expect, self.imds_v2, self.life = shape, expect, imds_v2, life
        self.requests: list[Request] = []
        self.sessions: list[Session] = []
        self.sent = 0
        """Bytes that the other end has taken."""
        self.interfere: Interference = lambda _: None
        self._tls = tls
        self._imds_token = secrets.token_urlsafe(32)
        super().__init__()

    @property
    def url(self) -> str:
        path = {"imds": "/", "iot": "/role-aliases/deploy/credentials", "vault": "/v1/aws/creds/deploy"}
        scheme = "https" if self._tls else "http"
        return f"{scheme}://127.0.0.1:{self.port}{path.get(self.shape, '/roles/deploy')}"

    def issue(self) -> Session:
        self.sessions.append(Session(self.life))
        return self.sessions[-1]

    def handle(self, connection):
        if self._tls is None:
            self._answer(connection)
            return
        with self._tls.wrap_socket(connection, server_side=True) as inside:
            self._answer(inside)

    def _answer(self, connection):
        if (request := read_request(connection)) is None:
            return
        self.requests.append(request)
        pieces = self.interfere(request)
        for piece in self._good(request) if pieces is None else pieces:
            connection.sendall(piece)
            self.sent += len(piece)

    def _good(self, request: Request) -> list[bytes]:
        if self.expect and request.headers.get(self.expect[0].lower()) != self.expect[1]:
            return [response(b'{"errors":["permission denied"]}', 403)]
        if self.shape == "imds":
            return [self._imds(request)]
        return [response(json.dumps(self.issue().document(self.shape)).encode())]

    def _imds(self, request: Request) -> bytes:
        if request.target == "/latest/api/token":
            if not self.imds_v2:
                return response(b"", 404)
            wanted = request.method == "PUT" and "x-aws-ec2-metadata-token-ttl-seconds" in request.headers
            return response(self._imds_token.encode(), 200 if wanted else 400, "text/plain")
        if self.imds_v2 and request.headers.get("x-aws-ec2-metadata-token") != self._imds_token:
            return response(b"", 401)
        if request.target == f"{IMDS_ROLES}/":
            return response(b"Deploy\nAnother", 200, "text/plain")
        if request.target == f"{IMDS_ROLES}/Deploy":
            return response(json.dumps(self.issue().document("imds")).encode(), 200, "text/plain")
        return response(b"<html>", 404, "text/html")


class Proxy(Listener):
    """An HTTP proxy: it tunnels every host to `target` (a port of loopback), or answers with `status` where none is.

    `asked` are its request lines, `logins` the Proxy-Authorization of each.
    """

    def __init__(self, target: int | None = None, status: int = 403):
        self._target, self._status = target, status
        self.asked: list[str] = []
        self.logins: list[str | None] = []
        super().__init__()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def handle(self, connection):
        if (request := read_request(connection)) is None:
            return
        self.asked.append(f"{request.method} {request.target}")
        self.logins.append(request.headers.get("proxy-authorization"))
        if self._target is None:
            connection.sendall(response(b"not for you", self._status, "text/plain"))
            return
        with socket.create_connection(("127.0.0.1", self._target)) as target:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            pump(connection, target)


def read_request(connection) -> Request | None:
    """The head of a request without a body; None where the other end left."""
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _LARGEST:
        if not (piece := connection.recv(_LARGEST)):
            return None
        head += piece
        if head[:1] == _TLS:
            connection.sendall(response(b"", 400))
            return None
    first, *lines = head.decode("latin-1").partition("\r\n\r\n")[0].split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Request(method, target, headers)


def response(body: bytes, status: int = 200, kind: str = "application/json", **headers: object) -> bytes:
    """An answer as bytes; underscores in header names stand for hyphens, and one given replaces the usual one."""
    usual = {"content-type": kind, "content-length": len(body), "connection": "close"}
    given = {name.replace("_", "-").lower(): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in (usual | given).items())
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{head}\r\n".encode() + body
