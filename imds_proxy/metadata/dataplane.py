"""The whole data plane as one plain function: `answer(request) -> response`."""

import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from imds_proxy.audit.recorder import Audit
from imds_proxy.callers.grants import Grants
from imds_proxy.config.model import Config
from imds_proxy.host.clock import Clock
from imds_proxy.metadata import routes
from imds_proxy.metadata.asked_role import AskedRoles
from imds_proxy.metadata.container import ContainerCredentials, Sessions, error
from imds_proxy.metadata.host_check import Guard
from imds_proxy.metadata.imds import InstanceMetadata
from imds_proxy.metadata.instance_documents import instance_documents
from imds_proxy.metadata.messages import NO_ANSWER, Request, Response
from imds_proxy.metadata.rate_limit import CallerLimits
from imds_proxy.metadata.routes import route
from imds_proxy.metadata.session_tokens import Tokens
from imds_proxy.renewal.keeper import Keeper

# Clients ask for the same few paths for ever; each is at most as long as a request target may be.
_ROUTES_KEPT: Final = 256

_REFUSED: Final = 400
_NOT_FOUND: Final = 404
_CONTAINER: Final = frozenset((routes.CONTAINER, routes.SERVICE_ACCOUNT))
_CREDENTIALS: Final = frozenset((routes.CREDENTIALS, routes.EXTENDED))


class DataPlane:
    """What the listeners serve under one config; a reload replaces it as a whole."""

    def __init__(
        self,
        *,
        guard: Guard,
        imds: InstanceMetadata,
        container: ContainerCredentials,
        limits: CallerLimits,
        audit: Audit,
        clock: Clock,
    ) -> None:
        self._guard = guard
        self._imds = imds
        self._container = container
        self._limits = limits
        self._audit = audit
        self._clock = clock
        self._route = lru_cache(_ROUTES_KEPT)(route)

    def answer(self, request: Request) -> Response:
        """The answer to `request`, from memory and at once."""
        if refusal := self._guard.refusal(request.headers):
            return self._refused(request, refusal)
        found = self._route(request.target)
        answerer = self._container if found.document in _CONTAINER else self._imds
        response = answerer.answer(request, found)
        if response.status >= _REFUSED or found.document == routes.TOKEN:
            response = self._limited(request, response)
        if response.document in _CREDENTIALS or (
            response.document == routes.ROLE_LIST and response.status == _NOT_FOUND
        ):
            self._record(request, response)
        return response

    def _refused(self, request: Request, refusal: str) -> Response:
        """What is said before anything is looked at; the audit hears of it where credentials were meant."""
        response = self._limited(request, Response(403, refusal.encode(), document="refused"))
        found = self._route(request.target)
        if found.document in _CREDENTIALS | _CONTAINER:
            self._record(request, response._replace(document=routes.CREDENTIALS, role=found.name))
        return response

    def _limited(self, request: Request, response: Response) -> Response:
        """The response, or what is said instead to a caller that asks for too much."""
        if self._limits.allows(request.caller.principal, self._clock.wall()):
            return response
        if response.protocol == "container":
            late = error(503, "Throttling", "too many requests; see rate_limit")
            return late._replace(slow=True, role=response.role, caller=response.caller)
        if response.document in _CREDENTIALS:  # any other answer there aborts the C runtime (PROTOCOL.md 16)
            return response._replace(status=NO_ANSWER, body=b"", slow=True)
        return response._replace(status=503, body=b"too many requests; see rate_limit", slow=True)

    def _record(self, request: Request, response: Response) -> None:
        self._audit.record(
            response.caller or request.caller,
            role=response.role,
            document=response.document,
            protocol=response.protocol,
            status=response.status,
            key=response.key,
            reason=response.reason,
            user_agent=request.headers.get("user-agent", ""),
            inode=request.inode,
        )


def data_plane(
    config: Config,
    served: Mapping[str, Keeper],
    sessions: Mapping[str, Sessions],
    *,
    clock: Clock,
    tokens: Tokens,
    region: str | None,
    hosts: Iterable[str],
    audit: Audit,
) -> DataPlane:
    """The data plane of a config.

    Args:
        config: The whole config.
        served: The keepers of the roles that are handed out.
        sessions: The roles with a session for each service account.
        clock: Wall time.
        tokens: What proves who asks.
        region: What clients are told; None where nobody said.
        hosts: Address literals of the listeners.
        audit: Told of every credential document.
    """
    default = config.default_role
    grants = Grants(config.grants, default)
    role_arns = {name: role.role_arn for name, role in config.roles.items()}
    imds = InstanceMetadata(
        grants=grants,
        keepers=served,
        asked=AskedRoles(role_arns, served),
        tokens=tokens.session,
        clock=clock,
        instance=instance_documents(config.instance, region, config.roles[default].account_id if default else None),
        imds_v1=config.metadata.imds_v1,
    )
    return DataPlane(
        guard=Guard(hosts, config.metadata.allowed_hosts),
        imds=imds,
        container=ContainerCredentials(
            grants=grants,
            keepers=served,
            sessions=sessions,
            role_arns=role_arns,
            tokens=tokens,
            clock=clock,
            role_token_uids=frozenset({0, os.geteuid()}) if config.grants else None,
        ),
        limits=CallerLimits(config.metadata.rate_limit),
        audit=audit,
        clock=clock,
    )
