"""The container credentials protocol (ECS, EKS Pod Identity).

`/roles/NAME` takes the token of that role, or one from a token file that a grant names; `/v1/credentials` takes a
Kubernetes service account's token and answers with the role of that account; `/v1/credentials/ROLE` with the one of its
roles that is asked for.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from imds_proxy.callers.caller import Caller, ServiceAccount
from imds_proxy.callers.grants import Grants
from imds_proxy.callers.kubernetes.verifier import KeysMissing, NotAccepted
from imds_proxy.host.clock import Clock
from imds_proxy.metadata.asked_role import AskedRoles
from imds_proxy.metadata.messages import JSON, Request, Response
from imds_proxy.metadata.refused_roles import RefusedRoles, shown
from imds_proxy.metadata.routes import CREDENTIALS, SERVICE_ACCOUNT, Route
from imds_proxy.metadata.session_tokens import Tokens
from imds_proxy.renewal.attempt import Held
from imds_proxy.renewal.keeper import Keeper

log = logging.getLogger(__name__)


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
        role_arns: The ARN of each role, where the config says it.
        tokens: What proves who asks.
        clock: Wall time.
        role_token_uids: The users for whom a role's own token counts; None: for whoever shows it. Where there are
            grants it is for this host's verbs alone: sent to another listener, it opens nothing for its owner.
    """

    def __init__(
        self,
        *,
        grants: Grants,
        keepers: Mapping[str, Keeper],
        sessions: Mapping[str, Sessions],
        role_arns: Mapping[str, str | None],
        tokens: Tokens,
        clock: Clock,
        role_token_uids: frozenset[int] | None,
    ) -> None:
        self._role_token_uids = role_token_uids
        self._warned_of: set[str] = set()
        self._grants = grants
        self._keepers = keepers
        self._sessions = sessions
        self._tokens = tokens
        self._clock = clock
        self._asked = AskedRoles(role_arns, keepers)
        self._refused = RefusedRoles(clock)

    def answer(self, request: Request, route: Route) -> Response:
        """The answer for a role, or for a service account."""
        if request.method not in {"GET", "HEAD"}:
            return error(405, "MethodNotAllowed", "only GET and HEAD", "Allow: GET, HEAD\r\n")
        token = _token(request.headers.get("authorization", ""))
        if route.document == SERVICE_ACCOUNT:
            return self._of_service_account(request, token, route.name)
        return self._of_role(request, route.name, token.encode("latin-1"))

    def _of_role(self, request: Request, name: str, token: bytes) -> Response:
        """Without the right token the same 401 whether the role exists or not."""
        is_role_token = self._tokens.roles.accepts(name, token) and self._counts_for(request.caller, name)
        file = self._tokens.files.match(token)
        caller = replace(request.caller, token_file=file)
        granted = is_role_token or (file is not None and name in self._grants.roles_for(caller))
        keeper = self._keepers.get(name) if granted else None
        if keeper is None and not (self._tokens.files.ready and self._tokens.roles.ready):
            # A 401 would send some SDKs on to instance metadata.
            return error(503, "TokensUnavailable", "the token files are being read")._replace(role=name)
        if keeper is None:
            words = "the Authorization token is missing or not this role's"
            return error(401, "AccessDenied", words)._replace(role=name, caller=caller)
        return _document(keeper.serve(), name, caller)

    def _counts_for(self, caller: Caller, role: str) -> bool:
        """Whether a role's own token counts for a caller; logs once for each role that it does not."""
        if self._role_token_uids is None or caller.uid in self._role_token_uids:
            return True
        if role not in self._warned_of:
            self._warned_of.add(role)
            advice = "give a container a token_file of its own in [[grants]]; was it no container, the token was stolen"
            extra = {"role": role, "uid": caller.uid, "address": caller.address, "advice": advice}
            log.warning("a role's own token came from another user than root and the daemon's: refused", extra=extra)
        return False

    def _of_service_account(self, request: Request, token: str, asked: str) -> Response:
        try:
            account = self._tokens.service_accounts.verify(token, self._clock.wall())
        except KeysMissing as missing:
            return error(503, "KeysUnavailable", missing.message)
        except NotAccepted as refused:
            return error(401, "AccessDenied", refused.message)._replace(reason=refused.message)
        caller = replace(request.caller, service_account=account)
        granted = self._grants.roles_for(caller)
        name = self._asked.among(granted, asked) if asked else next(iter(granted), None)
        if name is None:
            return self._not_granted(account, asked, granted)._replace(caller=caller)
        if (sessions := self._sessions.get(name)) is not None:
            return _document(sessions.serve(account), name, caller)
        keeper = self._keepers.get(name)
        return _document(keeper.serve() if keeper is not None else None, name, caller)

    def _not_granted(self, account: ServiceAccount, asked: str, granted: tuple[str, ...]) -> Response:
        """The same answer whether the role that is asked for exists or not."""
        words = "no role is granted to this service account"
        if granted:
            words = "the service account's role-arn annotation asks for another role than is granted to it"
        reason = words
        if asked:
            self._refused.tell(account, asked, granted, self._asked.without_arn(granted))
            reason = f"asks for {shown(asked)}; granted: {', '.join(granted) or 'nothing'}"
        return error(403, "AccessDenied", words)._replace(reason=reason)


def _token(sent: str) -> str:
    """The token in an Authorization header: its whole value, or what follows `Bearer ` (RFC 6750), which a few send.

    No token of ours begins so: none has a space in it.
    """
    scheme, _, rest = sent.strip().partition(" ")
    return rest.strip() if scheme.lower() == "bearer" and rest else sent.strip()


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
