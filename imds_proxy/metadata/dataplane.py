"""The whole data plane as one plain function: `answer(request) -> response`."""

from collections.abc import Iterable, Mapping
from functools import lru_cache

from imds_proxy.callers import Grants
from imds_proxy.clock import Clock
from imds_proxy.config import Config
from imds_proxy.metadata.container import ContainerCredentials
from imds_proxy.metadata.guard import Guard
from imds_proxy.metadata.imds import InstanceMetadata
from imds_proxy.metadata.instance import instance_documents
from imds_proxy.metadata.message import Request, Response
from imds_proxy.metadata.routes import CONTAINER, route
from imds_proxy.metadata.tokens import SessionTokens
from imds_proxy.renewal.keeper import Keeper

# Clients ask for the same few paths for ever; each is at most as long as a request target may be.
_ROUTES_KEPT = 256


class DataPlane:
    """What the listeners serve under one config; a reload replaces it as a whole."""

    def __init__(self, guard: Guard, imds: InstanceMetadata, container: ContainerCredentials) -> None:
        self._guard = guard
        self._imds = imds
        self._container = container
        self._route = lru_cache(_ROUTES_KEPT)(route)

    def answer(self, request: Request) -> Response:
        """The answer to `request`, from memory and at once."""
        if refusal := self._guard.refusal(request.headers):
            return Response(403, refusal.encode(), document="refused")
        found = self._route(request.target)
        if found.document == CONTAINER:
            return self._container.answer(request, found.name)
        return self._imds.answer(request, found)


def data_plane(
    config: Config,
    served: Mapping[str, Keeper],
    *,
    clock: Clock,
    tokens: SessionTokens,
    container_tokens: Mapping[str, bytes],
    region: str | None,
    hosts: Iterable[str],
) -> DataPlane:
    """The data plane of a config.

    Args:
        config: The whole config.
        served: The keepers of the roles that are handed out.
        clock: Wall time.
        tokens: Session tokens.
        container_tokens: The container protocol's token of each role that has one.
        region: What clients are told; None where nobody said.
        hosts: Address literals of the listeners.
    """
    default = config.default_role
    account = config.roles[default].account_id if default else None
    imds = InstanceMetadata(
        grants=Grants(served, default),
        tokens=tokens,
        clock=clock,
        instance=instance_documents(config.instance, region, account),
        imds_v1=config.metadata.imds_v1,
    )
    container = ContainerCredentials(served, container_tokens)
    return DataPlane(Guard(hosts, config.metadata.allowed_hosts), imds, container)
