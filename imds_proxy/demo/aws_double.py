"""An AWS for demonstrations and tests: moto's server with IAM enforcement on, and sessions that expire.

moto verifies signatures, permissions and trust policies; it lets a session live for ever, so what is added here is
AWS's answer to a key after its expiration, and a record of who called what.
"""

import contextlib
import json
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self

from moto import settings
from moto.core.authorization import ActionAuthenticatorMixin
from moto.iam.models import iam_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.sts.models import sts_backends
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

ACCOUNT = "123456789012"
PARTITION = "aws"

_EXPIRED = (
    "<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredToken</Code>"
    "<Message>The security token included in the request is expired</Message></Error></ErrorResponse>"
)

Interference = Callable[[Request], Response | None]
"""Stands before AWS and may answer in its place, for tests of bad days."""


@dataclass(frozen=True, slots=True)
class Call:
    """One signed request and how it went."""

    key_id: str
    action: str
    status: int


class AwsDouble:
    """One AWS account on loopback. Only one may run in a process, because moto's state is the process's.

    Args:
        tls: Serve HTTPS with this context.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.calls: list[Call] = []
        self.interfere: Interference = lambda _: None
        settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
        ActionAuthenticatorMixin.request_count = 0
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server(
            "127.0.0.1", 0, self._application, threaded=True, request_handler=_QuietHandler, ssl_context=tls
        )
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="aws-double", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # The account

    def add_user(self, name: str, may_assume: Iterable[str] = ("*",)) -> tuple[str, str]:
        """An IAM user that may only assume roles; its key id and secret key."""
        iam = iam_backends[ACCOUNT][PARTITION]
        iam.create_user(region_name="us-east-1", user_name=name)
        iam.put_user_policy(name, "assume", _policy("Allow", "sts:AssumeRole", list(may_assume)))
        key = iam.create_access_key(name)
        return key.access_key_id, key.secret_access_key

    def add_role(self, name: str, trusted: str, condition: dict[str, Any] | None = None) -> str:
        """A role that `trusted` (an ARN or "*") may assume and that may list buckets; its ARN."""
        iam = iam_backends[ACCOUNT][PARTITION]
        role = iam.create_role(
            role_name=name,
            assume_role_policy_document=json.dumps(trust_policy(trusted, condition)),
            path="/",
            permissions_boundary=None,
            description="",
            tags=[],
            max_session_duration="43200",
        )
        iam.put_role_policy(name, "work", _policy("Allow", "*", ["*"]))
        return str(role.arn)

    def trust(self, role: str, trusted: str) -> None:
        """Change whom a role trusts."""
        iam_backends[ACCOUNT][PARTITION].update_assume_role_policy(role, json.dumps(trust_policy(trusted, None)))

    def user_arn(self, name: str) -> str:
        """The ARN of a user."""
        return f"arn:{PARTITION}:iam::{ACCOUNT}:user/{name}"

    def shorten(self, key_id: str, seconds: float) -> None:
        """Let a session end sooner than AWS would (it gives no session under 15 minutes)."""
        session = _session(key_id)
        session.expiration = session.expiration.fromtimestamp(time.time() + seconds, tz=session.expiration.tzinfo)

    def issued(self) -> list[str]:
        """The key ids of every session handed out, in order."""
        return [str(session.access_key_id) for session in sts_backends[ACCOUNT][PARTITION].assumed_roles]

    def used(self, action: str, status: int = 200) -> list[str]:
        """The key ids of calls of an action that ended with a status, in order."""
        return [call.key_id for call in self.calls if call.action == action and call.status == status]

    # The wire

    def _application(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        request.get_data(cache=True, parse_form_data=False)
        environ["wsgi.input"] = _Replay(request.data)
        answer = self.interfere(request) or _refuse_expired(request)
        if answer is None:
            answer = Response.from_app(self._moto, environ)
        self.calls.append(Call(_key_id(request), _action(request), answer.status_code))
        return answer(environ, start_response)


def trust_policy(trusted: str, condition: dict[str, Any] | None) -> dict[str, Any]:
    """A trust policy document."""
    statement = {"Effect": "Allow", "Principal": {"AWS": trusted}, "Action": "sts:AssumeRole"}
    return {"Version": "2012-10-17", "Statement": [statement | ({"Condition": condition} if condition else {})]}


def free_port() -> int:
    """A TCP port that was free a moment ago, from below those that the system gives to outgoing connections."""
    while True:
        port = random.randrange(16384, 32768)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class _QuietHandler(MotoRequestHandler):
    def log(self, *_: Any, **__: Any) -> None:
        """Say nothing: what was called is in `calls`."""


class _Replay:
    """A request body that can be read again."""

    def __init__(self, body: bytes) -> None:
        self._rest = body

    def read(self, size: int = -1) -> bytes:
        size = len(self._rest) if size < 0 else size
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece


def _refuse_expired(request: Request) -> Response | None:
    session = _session(_key_id(request))
    if session is None or session.expiration.timestamp() > time.time():
        return None
    return Response(_EXPIRED, 403, content_type="text/xml")


def _session(key_id: str) -> Any:
    return sts_backends[ACCOUNT][PARTITION].get_assumed_role_from_access_key(key_id)


def _key_id(request: Request) -> str:
    return request.headers.get("Authorization", "").partition("Credential=")[2].partition("/")[0]


def _action(request: Request) -> str:
    body = request.get_data(as_text=True)
    if body.startswith("Action=") or "&Action=" in body:
        return body.partition("Action=")[2].partition("&")[0]
    return f"{request.method} {request.path}"


def _policy(effect: str, action: str, resources: list[str]) -> str:
    return json.dumps(
        {"Version": "2012-10-17", "Statement": [{"Effect": effect, "Action": action, "Resource": resources}]}
    )
