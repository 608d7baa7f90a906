"""The container credentials protocol (ECS, EKS Pod Identity): `/roles/NAME` with that role's token."""

import hmac
import json
import logging
import re
import secrets
from collections.abc import Iterable, Mapping

from imds_proxy.metadata.message import JSON, Request, Response
from imds_proxy.metadata.routes import CREDENTIALS
from imds_proxy.renewal.keeper import Keeper
from imds_proxy.state import StateDir, StateError

log = logging.getLogger(__name__)

TOKEN_FOLDER = "tokens"  # noqa: S105 - a folder's name
_TOKEN_BYTES = 32
_USABLE_TOKEN = re.compile(rb"[!-~]{16,}")  # what a header can carry, and nobody guesses
# What a wrong name is compared with, so that it takes the time a wrong token takes.
_NOBODYS_TOKEN = secrets.token_bytes(_TOKEN_BYTES)


class ContainerCredentials:
    """Answers `/roles/NAME`.

    Args:
        keepers: The served roles.
        tokens: The token of each role that has one.
    """

    def __init__(self, keepers: Mapping[str, Keeper], tokens: Mapping[str, bytes]) -> None:
        self._keepers = keepers
        self._tokens = tokens

    def answer(self, request: Request, name: str) -> Response:
        """The answer for a role; without the right token the same 401 whether it exists or not."""
        if request.method not in {"GET", "HEAD"}:
            return _error(405, "MethodNotAllowed", "only GET and HEAD", "Allow: GET, HEAD\r\n")
        sent = request.headers.get("authorization", "").encode("latin-1")
        right = hmac.compare_digest(sent.strip(), self._tokens.get(name, _NOBODYS_TOKEN))
        if not right:
            return _error(401, "AccessDenied", "the Authorization token is missing or not this role's")
        held = self._keepers[name].live()
        if held is None:
            return _error(503, "CredentialsUnavailable", "no credentials at this time; they are being obtained")
        return Response(200, held.documents.container, JSON, "", "container", CREDENTIALS)


def _error(status: int, code: str, message: str, headers: str = "") -> Response:
    # Both spellings: Go reads one, JavaScript the other (PROTOCOL.md 26).
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
