"""Who is at the other end of a connection."""

import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_ADDRESSES_KEPT: Final = 1024


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """A Kubernetes service account, and the pod that showed its token."""

    namespace: str
    name: str
    pod: str = ""
    pod_uid: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    def tags(self) -> dict[str, str]:
        """Session tags of what is known, by the names that EKS Pod Identity gives them."""
        said = {
            "kubernetes-namespace": self.namespace,
            "kubernetes-service-account": self.name,
            "kubernetes-pod-name": self.pod,
            "kubernetes-pod-uid": self.pod_uid,
        }
        return {key: value for key, value in said.items() if value}


@dataclass(frozen=True, slots=True)
class Caller:
    """What is known of a client, once per connection. Equal callers may have the same.

    Args:
        address: Its IP address, without the IPv6 mapping that Java puts around IPv4. A process of this host counts as
            at loopback, whichever of the host's addresses it came from: else it could pass for a container.
        listener: The entry of `metadata.listen` that it connected to.
        principal: What its session tokens are bound to, and its share of the rate limit.
        uid: Owner of the client's socket; None where the kernel does not know (another network namespace, gone).
        user: That user's name, None where it has none.
        gids: Primary and supplementary groups.
        groups: Their names.
        unit: The unit of systemd's system manager whose process made the client's socket; not known where no grant
            names one.
        service_account: Whose token it showed, at `/v1/credentials` alone.
        token_file: Which file's token it showed, at `/roles/NAME` alone.
    """

    address: str
    listener: str
    principal: bytes
    uid: int | None = None
    user: str | None = None
    gids: frozenset[int] = frozenset()
    groups: frozenset[str] = frozenset()
    unit: str | None = None
    service_account: ServiceAccount | None = None
    token_file: str | None = None


@lru_cache(_ADDRESSES_KEPT)
def ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """A socket's address, without its scope and without the IPv6 mapping that Java puts around IPv4."""
    address = ipaddress.ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address
