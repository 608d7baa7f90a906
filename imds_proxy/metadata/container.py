"""The container credentials protocol (ECS, EKS Pod Identity).

`/roles/NAME` takes the token of that role, or one from a token file that a grant names; `/v1/credentials` takes a
Kubernetes service account's token and answers with the role of that account.
"""

import hmac
import json
import logging
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from imds_proxy.callers import Caller, Grants, ServiceAccount
from imds_proxy.callers.service_accounts import KeysMissing, NotAccepted
from imds_proxy.clock import Clock
from imds_proxy.metadata.message import JSON, Request, Response
from imds_proxy.metadata.routes import CREDENTIALS, SERVICE_ACCOUNT, Route
from imds_proxy.metadata.tokens import Tokens
from imds_proxy.renewal.keeper import Keeper
from imds_proxy.renewal.outcome import Held
from imds_proxy.state import StateDir, StateError

log = logging.getLogger(__name__)

TOKEN_FOLDER = "tokens"  # noqa: S105 - a folder's name
_TOKEN_BYTES = 32
_USABLE_TOKEN = re.compile(rb"[!-~]{16,}")  # what a header can carry, and nobody guesses
# What a wrong name is compared with, so that it takes the time a wrong token takes.
_NOBODYS_TOKEN = secrets.token_urlsafe(_TOKEN_BYTES).encode()


class Sessions(Protocol):
    """A role with a session for each service account (`tagged_sessions.py`)."""

    def serve(self, account: ServiceAccount) -> Held | None:
        """What may be served to an account."""


class ContainerCredentials:
    """Answers `/roles/NAME` and `/v1/credentials`.

    Args:
        grants: Which roles a caller may have.
        keepers: The roles that are handed out.
        sessions: Those with a session for each service account.
        tokens: What proves who asks.
        clock: Wall time.
    """

    def __init__(
        self,
        *,
        grants: Grants,
        keepers: Mapping[str, Keeper],
        sessions: Mapping[str, Sessions],
        tokens: Tokens,
        clock: Clock,
    ) -> None:
        self._grants = grants
        self._keepers = keepers
        self._sessions = sessions
        self._tokens = tokens
        self._clock = clock

    def answer(self, request: Request, route: Route) -> Response:
        """The answer for a role, or for a service account."""
        if request.method not in {"GET", "HEAD"}:
            return error(405, "MethodNotAllowed", "only GET and HEAD", "Allow: GET, HEAD\r\n")
        token = request.headers.get("authorization", "").strip()
        if route.document == SERVICE_ACCOUNT:
            return self._of_service_account(request, token)
        return self._of_role(request, route.name, token.encode("latin-1"))

    def _of_role(self, request: Request, name: str, token: bytes) -> Response:
        """Without the right token the same 401 whether the role exists or not."""
        is_role_token = hmac.compare_digest(token, self._tokens.roles.get(name, _NOBODYS_TOKEN))
        file = self._tokens.files.match(token)
        caller = replace(request.caller, token_file=file)
        granted = is_role_token or (file is not None and name in self._grants.roles_for(caller))
        keeper = self._keepers.get(name) if granted else None
        if keeper is None and not self._tokens.files.ready:  # a 401 would send some SDKs on to instance metadata
            return error(503, "TokensUnavailable", "the token files are being read")._replace(role=name)
        if keeper is None:
            words = "the Authorization token is missing or not this role's"
            return error(401, "AccessDenied", words)._replace(role=name, caller=caller)
        return _document(keeper.serve(), name, caller)

    def _of_service_account(self, request: Request, token: str) -> Response:
        try:
            account = self._tokens.service_accounts.verify(token, self._clock.wall())
        except KeysMissing as missing:
            return error(503, "KeysUnavailable", missing.message)
        except NotAccepted as refused:
            return error(401, "AccessDenied", refused.message)
        caller = replace(request.caller, service_account=account)
        name = next(iter(self._grants.roles_for(caller)), None)
        if name is None:
            return error(403, "AccessDenied", "no role is granted to this service account")._replace(caller=caller)
        if (sessions := self._sessions.get(name)) is not None:
            return _document(sessions.serve(account), name, caller)
        keeper = self._keepers.get(name)
        return _document(keeper.serve() if keeper is not None else None, name, caller)


def _document(held: Held | None, role: str, caller: Caller) -> Response:
    if held is None:
        words = "no credentials at this time; they are being obtained"
        return error(503, "CredentialsUnavailable", words)._replace(role=role, caller=caller)
    key = held.credentials.key_hint
    return Response(200, held.documents.container, JSON, "", "container", CREDENTIALS, role, key, caller)


def error(status: int, code: str, message: str, headers: str = "") -> Response:
    """An error in both spellings: Go reads one, JavaScript the other (PROTOCOL.md 26)."""
    body = json.dumps({"code": code, "message": message, "Code": code, "Message": message}).encode()
    return Response(status, body, JSON, headers, "container", CREDENTIALS)


def load_or_make_tokens(state: StateDir | None, roles: Iterable[str]) -> dict[str, bytes]:
    """Each role's token from its file in the state directory, made there when it is missing.

    The file is 0600 and has no newline: clients send it as it is. A role whose file cannot be used has no container
    protocol, with a word in the log.
    """
    if state is None:
        return {}
    tokens = {}
    for role in roles:
        try:
            tokens[role] = _load_or_make_token(state, f"{TOKEN_FOLDER}/{role}")
        except StateError as error:
            extra = {"role": role, "error": error.message, "advice": error.advice}
            log.warning("the container protocol is off for this role", extra=extra)
    return tokens


def _load_or_make_token(state: StateDir, name: str) -> bytes:
    token = state.read(name)
    if token is None:
        token = secrets.token_urlsafe(_TOKEN_BYTES).encode()
        state.write(name, token)
    token = token.strip()
    if not _USABLE_TOKEN.fullmatch(token):
        raise StateError(f"{state.path / name} holds no token", "remove it to have a new one made")
    return token
