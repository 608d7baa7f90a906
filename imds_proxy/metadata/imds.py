"""The instance metadata protocol, as PROTOCOL.md has measured it. No `await` anywhere: every answer is at hand."""

import re
from collections.abc import Mapping
from typing import Final

from imds_proxy.callers.caller import Caller
from imds_proxy.callers.grants import Grants
from imds_proxy.host.clock import Clock
from imds_proxy.metadata import routes
from imds_proxy.metadata.asked_role import AskedRoles
from imds_proxy.metadata.instance_documents import InstanceDocuments
from imds_proxy.metadata.messages import JSON, NO_ANSWER, TEXT, Request, Response
from imds_proxy.metadata.routes import Route
from imds_proxy.metadata.session_tokens import LONGEST_TTL, SessionTokens
from imds_proxy.renewal.keeper import Keeper

TOKEN_HEADER: Final = "x-aws-ec2-metadata-token"  # noqa: S105 - a header's name
TTL_HEADER: Final = "x-aws-ec2-metadata-token-ttl-seconds"
NO_ROLE: Final = b"no role for this caller"
_TTL = re.compile(r"[0-9]{1,5}")

_VERSIONS = b"1.0\n2021-03-23\n2024-04-11\nlatest"


Found = tuple[int, bytes, str, str, str]
"""Status, body, content type; for the audit the role, and the key id's last four characters if it is handed out."""

_NOT_FOUND: Final[Found] = (404, b"not found", TEXT, "", "")


class InstanceMetadata:
    """Answers every path that is not the container protocol's.

    Args:
        grants: Which roles a caller may have.
        keepers: The roles that are handed out.
        asked: Finds the granted role that a client means.
        tokens: Session tokens.
        clock: Wall time.
        instance: The other documents, from the region and the `[instance]` table.
        imds_v1: Whether a request without a session token is answered.
    """

    def __init__(
        self,
        *,
        grants: Grants,
        keepers: Mapping[str, Keeper],
        asked: AskedRoles,
        tokens: SessionTokens,
        clock: Clock,
        instance: InstanceDocuments,
        imds_v1: bool,
    ) -> None:
        self._grants = grants
        self._keepers = keepers
        self._asked = asked
        self._tokens = tokens
        self._clock = clock
        self._instance = instance
        self._imds_v1 = imds_v1

    def answer(self, request: Request, route: Route) -> Response:
        """The answer to `request` for the document that it means."""
        document = route.document
        if document == routes.TOKEN:
            return self._token(request)
        if request.method not in {"GET", "HEAD"}:
            return Response(405, b"only GET and HEAD", headers="Allow: GET, HEAD\r\n", document=document)
        token = request.headers.get(TOKEN_HEADER)
        if token is None:
            if not self._imds_v1:
                words = b"a session token is required"
                return Response(401, words, protocol="imds_v1", document=document, role=route.name)
            return self._find(request.caller, route, "", "imds_v1")
        left = self._tokens.seconds_left(token, request.caller.principal, self._clock.wall())
        if not left:
            return Response(401, b"the session token is not valid", document=document, role=route.name)
        return self._find(request.caller, route, _ttl_line(left), "imds_v2")

    def _token(self, request: Request) -> Response:
        """Rules 7 and 8."""
        if request.method != "PUT":
            return Response(405, b"only PUT", headers="Allow: PUT\r\n", document=routes.TOKEN)
        if "x-forwarded-for" in request.headers:
            return Response(403, b"not through a proxy", document=routes.TOKEN)
        asked = request.headers.get(TTL_HEADER, "")
        if not _TTL.fullmatch(asked) or not 1 <= int(asked) <= LONGEST_TTL:
            words = f"X-aws-ec2-metadata-token-ttl-seconds must be from 1 to {LONGEST_TTL}"
            return Response(400, words.encode(), document=routes.TOKEN)
        token = self._tokens.issue(int(asked), request.caller.principal, self._clock.wall())
        return Response(200, token.encode(), headers=_ttl_line(int(asked)), document=routes.TOKEN)

    def _find(self, caller: Caller, route: Route, headers: str, protocol: str) -> Response:
        status, body, content_type, role, key = self._look_up(caller, route)
        return Response(status, body, content_type, headers, protocol, route.document, role, key)

    def _look_up(self, caller: Caller, route: Route) -> Found:
        match route.document:
            case routes.CREDENTIALS | routes.EXTENDED:
                return self._credentials(caller, route)
            case routes.ROLE_LIST | routes.IAM | routes.INFO:
                return self._about_first(caller, route.document)
            case routes.VERSIONS:
                return 200, _VERSIONS, TEXT, "", ""
            case routes.INSTANCE if found := self._instance.find(route.name):
                return 200, *found, "", ""
        return _NOT_FOUND

    def _credentials(self, caller: Caller, route: Route) -> Found:
        """A role's document. One that has none is told at the list; here any answer aborts the C runtime (rule 16)."""
        role = self._asked.named(self._grants.roles_for(caller), route.name)
        keeper = self._keepers.get(role) if role is not None else None
        if role is None or keeper is None:  # the same for a role that is another's and for one that does not exist
            return 404, b"not found", TEXT, route.name, ""
        held = keeper.serve()
        if held is None:
            return NO_ANSWER, b"", TEXT, role, ""
        body = held.documents.imds if route.document == routes.CREDENTIALS else held.documents.extended
        return 200, body, TEXT, role, held.credentials.key_hint

    def _about_first(self, caller: Caller, document: str) -> Found:
        """What is said of the role that the list shows (rules 13, 16 and 20)."""
        role = next(iter(self._grants.roles_for(caller)), None)
        if role is None:
            return 404, NO_ROLE, TEXT, "", ""
        held = self._keepers[role].serve() if role in self._keepers else None
        if held is None:
            return 404, b"no credentials at this time", TEXT, role, ""
        match document:
            case routes.INFO:
                return 200, held.documents.info, JSON, role, ""
            case routes.IAM:
                return 200, b"info\nsecurity-credentials/", TEXT, role, ""
        return 200, role.encode(), TEXT, role, ""


def _ttl_line(seconds: int) -> str:
    return f"X-Aws-Ec2-Metadata-Token-Ttl-Seconds: {seconds}\r\n"
