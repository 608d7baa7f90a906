"""An AWS for demonstrations and tests: moto's server with IAM enforcement on, and sessions that expire.

moto verifies signatures, permissions and trust policies; it lets a session live for ever and an inactive key work, so
what is added here is AWS's answer to those, and a record of who called what.
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

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.compat import HTTPHeaders
from moto import settings
from moto.core.authorization import ActionAuthenticatorMixin
from moto.iam.access_control import IAMRequest, IAMRequestBase, S3IAMRequest
from moto.iam.models import iam_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.sts.models import sts_backends
from werkzeug.serving import BaseWSGIServer, make_server
from werkzeug.wrappers import Request, Response

ACCOUNT = "123456789012"
PARTITION = "aws"

_EXPIRED = (
    "<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredToken</Code>"
    "<Message>The security token included in the request is expired</Message></Error></ErrorResponse>"
)
_INVALID = (
    "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidClientTokenId</Code>"
    "<Message>The security token included in the request is invalid.</Message></Error></ErrorResponse>"
)
_UNSIGNED = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"

Interference = Callable[[Request], Response | None]
"""Stands before AWS and may answer in its place, for tests of bad days."""


@dataclass(frozen=True, slots=True)
class Call:
    """One signed request and how it went; `at` is the host and port that it was sent to."""

    key_id: str
    action: str
    status: int
    at: str = ""


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
        _verify_all_that_is_signed(IAMRequest, _Verifier)
        _verify_all_that_is_signed(S3IAMRequest, _S3Verifier)
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = self._make_server(tls)
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

    def another_address(self) -> str:
        """One more address (`HOST:PORT`) of the account, until the process ends: a call's `at` tells who made it."""
        server = self._make_server(None)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"127.0.0.1:{server.server_port}"

    def _make_server(self, tls: ssl.SSLContext | None) -> BaseWSGIServer:
        return make_server(
            "127.0.0.1", 0, self._application, threaded=True, request_handler=_QuietHandler, ssl_context=tls
        )

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

    def allow(self, user: str, *actions: str) -> None:
        """What a user may do besides assuming roles."""
        iam_backends[ACCOUNT][PARTITION].put_user_policy(user, "more", _policy("Allow", list(actions), ["*"]))

    def keys(self, user: str) -> dict[str, bool]:
        """The ids of a user's keys, and whether each is active."""
        keys = iam_backends[ACCOUNT][PARTITION].list_access_keys(user)
        return {str(key.access_key_id): key.status == "Active" for key in keys}

    # The wire

    def _application(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        request.get_data(cache=True, parse_form_data=False)
        environ["wsgi.input"] = _Replay(request.data)
        answer = self.interfere(request) or _refuse_unsigned(request)
        answer = answer or _refuse_expired(request) or _refuse_inactive(request)
        if answer is None:
            answer = Response.from_app(self._moto, environ)
        self.calls.append(Call(_key_id(request), _action(request), answer.status_code, request.host))
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


class _Signed:
    """Verifies over every header that the client says it signed, where botocore's signer knows better.

    The SDK for Java v1 signs its `User-Agent`, for one.
    """

    def headers_to_sign(self, request: Any) -> HTTPHeaders:
        headers = HTTPHeaders()
        for name, value in request.headers.items():
            headers[name.lower()] = value
        return headers


class _Verifier(_Signed, SigV4Auth):  # type: ignore[misc]
    pass


class _S3Verifier(_Signed, S3SigV4Auth):  # type: ignore[misc]
    pass


def _verify_all_that_is_signed(request: type[IAMRequestBase], verifier: type[SigV4Auth]) -> None:
    def create(self: IAMRequestBase, credentials: Any) -> SigV4Auth:
        return verifier(credentials, self._service, self._region)

    setattr(request, "_create_auth", create)  # noqa: B010 - moto has no place for it


class _Replay:
    """A request body that can be read again."""

    def __init__(self, body: bytes) -> None:
        self._rest = body

    def read(self, size: int = -1) -> bytes:
        size = len(self._rest) if size < 0 else size
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece


def _refuse_unsigned(request: Request) -> Response | None:
    signed = "Authorization" in request.headers or _action(request).startswith("AssumeRoleWith")
    return None if signed else Response(_UNSIGNED, 403, content_type="text/xml")


def _refuse_expired(request: Request) -> Response | None:
    session = _session(_key_id(request))
    if session is None or session.expiration.timestamp() > time.time():
        return None
    return Response(_EXPIRED, 403, content_type="text/xml")


def _refuse_inactive(request: Request) -> Response | None:
    key = iam_backends[ACCOUNT][PARTITION].access_keys.get(_key_id(request))
    return None if key is None or key.status == "Active" else Response(_INVALID, 403, content_type="text/xml")


def _session(key_id: str) -> Any:
    return sts_backends[ACCOUNT][PARTITION].get_assumed_role_from_access_key(key_id)


def _key_id(request: Request) -> str:
    return request.headers.get("Authorization", "").partition("Credential=")[2].partition("/")[0]


def _action(request: Request) -> str:
    body = request.get_data(as_text=True)
    if body.startswith("Action=") or "&Action=" in body:
        return body.partition("Action=")[2].partition("&")[0]
    return f"{request.method} {request.path}"


def _policy(effect: str, action: str | list[str], resources: list[str]) -> str:
    return json.dumps(
        {"Version": "2012-10-17", "Statement": [{"Effect": effect, "Action": action, "Resource": resources}]}
    )
