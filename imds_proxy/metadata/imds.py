"""The instance metadata protocol, as PROTOCOL.md has measured it. No `await` anywhere: every answer is at hand."""

import re
from collections.abc import Mapping
from typing import Final

from imds_proxy.callers import Grants
from imds_proxy.clock import Clock
from imds_proxy.metadata.instance import InstanceDocuments
from imds_proxy.metadata.message import JSON, NO_ANSWER, TEXT, Request, Response
from imds_proxy.metadata.tokens import LONGEST_TTL, SessionTokens
from imds_proxy.renewal.keeper import Held, Keeper

TOKEN_HEADER: Final = "x-aws-ec2-metadata-token"  # noqa: S105 - a header's name
TTL_HEADER: Final = "x-aws-ec2-metadata-token-ttl-seconds"
_TTL_ANSWER: Final = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds: {}\r\n"

_VERSION = re.compile(r"latest|1\.0|20\d\d-\d\d-\d\d")
_VERSIONS = b"1.0\n2021-03-23\n2024-04-11\nlatest"
_TTL = re.compile(r"[0-9]{1,5}")


class InstanceMetadata:
    """Answers every path that is not the container protocol's.

    Args:
        grants: Which roles a caller may have.
        tokens: Session tokens.
        clock: Wall time.
        instance: The other documents, from the region and the `[instance]` table.
        imds_v1: Whether a request without a session token is answered.
    """

    def __init__(
        self, *, grants: Grants, tokens: SessionTokens, clock: Clock, instance: InstanceDocuments, imds_v1: bool
    ) -> None:
        self._grants = grants
        self._tokens = tokens
        self._clock = clock
        self._instance = instance
        self._imds_v1 = imds_v1

    def answer(self, request: Request, path: list[str]) -> Response:
        """The answer for a path, given as its decoded segments."""
        if path == ["latest", "api", "token"]:
            return self._token(request)
        if request.method not in {"GET", "HEAD"}:
            return Response(405, b"only GET and HEAD", headers="Allow: GET, HEAD\r\n", document=_kind(path))
        token = request.headers.get(TOKEN_HEADER)
        if token is None:
            if not self._imds_v1:
                return Response(401, b"a session token is required", document=_kind(path), protocol="imds_v1")
            return self._document(request, path, "imds_v1", "")
        left = self._tokens.seconds_left(token, request.caller.principal, self._clock.wall())
        if not left:
            return Response(401, b"the session token is not valid", document=_kind(path))
        return self._document(request, path, "imds_v2", _TTL_ANSWER.format(left))

    def _token(self, request: Request) -> Response:
        """Rules 7 and 8."""
        if request.method != "PUT":
            return Response(405, b"only PUT", headers="Allow: PUT\r\n", document="token")
        if "x-forwarded-for" in request.headers:
            return Response(403, b"not through a proxy", document="token")
        asked = request.headers.get(TTL_HEADER, "")
        if not _TTL.fullmatch(asked) or not 1 <= int(asked) <= LONGEST_TTL:
            words = f"X-aws-ec2-metadata-token-ttl-seconds must be from 1 to {LONGEST_TTL}"
            return Response(400, words.encode(), document="token")
        token = self._tokens.issue(int(asked), request.caller.principal, self._clock.wall())
        return Response(200, token.encode(), headers=_TTL_ANSWER.format(asked), document="token")

    def _document(self, request: Request, path: list[str], protocol: str, headers: str) -> Response:
        status, body, content_type = self._find(request, path)
        return Response(status, body, content_type, headers, protocol, _kind(path))

    def _find(self, request: Request, path: list[str]) -> tuple[int, bytes, str]:
        """Status, body and content type."""
        match path:
            case []:
                return 200, _VERSIONS, TEXT
            case [version, *_] if not _VERSION.fullmatch(version):
                return _not_found()
            case [_, "meta-data", "iam", *rest]:
                return self._iam(self._grants.roles_for(request.caller), rest)
            case [_, *rest]:
                found = self._instance.find("/".join(rest))
                return (200, *found) if found is not None else _not_found()
        return _not_found()

    def _iam(self, roles: Mapping[str, Keeper], path: list[str]) -> tuple[int, bytes, str]:
        first = next(iter(roles.items()), None)
        held = first[1].live() if first else None
        if path and path[0] in _DOCUMENTS and path[1:]:
            return _role_document(roles, path[0], path[1:])
        if first is None or held is None:  # the list is where clients can be told so (rule 16)
            return 404, b"no credentials at this time", TEXT
        match path:
            case []:
                return 200, b"info\nsecurity-credentials/", TEXT
            case ["info"]:
                return 200, held.documents.info, JSON
            case ["security-credentials" | "security-credentials-extended"]:
                return 200, first[0].encode(), TEXT
        return _not_found()


_DOCUMENTS = {
    "security-credentials": lambda held: held.documents.imds,
    "security-credentials-extended": lambda held: held.documents.extended,
}


def _role_document(roles: Mapping[str, Keeper], kind: str, name: list[str]) -> tuple[int, bytes, str]:
    keeper = roles.get(name[0]) if len(name) == 1 else None
    if keeper is None:
        return _not_found()
    held: Held | None = keeper.live()
    if held is None:
        return NO_ANSWER, b"", TEXT
    return 200, _DOCUMENTS[kind](held), TEXT


def _not_found() -> tuple[int, bytes, str]:
    return 404, b"not found", TEXT


def _kind(path: list[str]) -> str:
    """The metrics' word for a path: one of a few, whatever a client sends."""
    match path:
        case ["latest", "api", "token"]:
            return "token"
        case [_, "meta-data", "iam", "security-credentials" | "security-credentials-extended"]:
            return "role_list"
        case [_, "meta-data", "iam", "security-credentials" | "security-credentials-extended", _]:
            return "credentials"
        case [_, "meta-data", "iam", "info"]:
            return "info"
        case [_, "meta-data", *_]:
            return "meta_data"
        case [_, "dynamic", "instance-identity", "document"]:
            return "identity"
    return "other"
