"""What the metadata service says about the machine itself (PROTOCOL.md 21 to 23).

By default only the region and a zone. With an `[instance]` table the whole set, consistent in itself.
"""

import json
import platform
import socket
from dataclasses import dataclass
from pathlib import Path

from imds_proxy.config.model import InstanceConfig
from imds_proxy.metadata.messages import JSON, TEXT
from imds_proxy.partitions import of_region, region_of_zone

Found = tuple[bytes, str]
"""A body and its content type."""

_ARCHITECTURES = {"aarch64": "arm64"}
_ANY_ADDRESS_OUTSIDE = ("192.0.2.1", 9)  # RFC 5737; a UDP connect only picks a route, nothing is sent


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What `[instance]` leaves to this host."""

    hostname: str
    local_ipv4: str
    mac: str


def host_facts() -> HostFacts:
    """This host's name, and the address and hardware address of its default route."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(_ANY_ADDRESS_OUTSIDE)
            address = probe.getsockname()[0]
    except OSError:
        address = "127.0.0.1"
    return HostFacts(socket.gethostname(), address, _mac_of_default_route())


def _mac_of_default_route() -> str:
    try:
        routes = [line.split() for line in Path("/proc/net/route").read_text("ascii").splitlines()[1:]]
        interface = next(route[0] for route in routes if route[1] == "00000000")
        return Path(f"/sys/class/net/{interface}/address").read_text("ascii").strip()
    except (OSError, StopIteration, IndexError):
        return "00:00:00:00:00:00"


class InstanceDocuments:
    """Every document under `/VERSION/`, by its path.

    Args:
        leaves: Path to text.
        listed: Whether folders answer with a listing. Off unless the operator opted in: a 200 at `/latest/meta-data`
            makes the CodeDeploy agent take this host for EC2 (PROTOCOL.md 22).
    """

    def __init__(self, leaves: dict[str, str], *, listed: bool) -> None:
        self._found: dict[str, Found] = {
            path: (text.encode(), JSON if path == _IDENTITY else TEXT) for path, text in leaves.items()
        }
        if listed:
            paths = [*leaves, "meta-data/iam/"]
            self._found |= {folder: (listing(paths, folder), TEXT) for folder in _folders(paths)}

    def find(self, path: str) -> Found | None:
        """The document or listing at a path without leading or final slash."""
        return self._found.get(path)


_IDENTITY = "dynamic/instance-identity/document"


def instance_documents(
    config: InstanceConfig | None, region: str | None, account_id: str | None, facts: HostFacts | None = None
) -> InstanceDocuments:
    """The documents for a config.

    Args:
        config: The `[instance]` table, if there is one.
        region: What clients are told; None where nobody said.
        account_id: Of the default role, for the identity document.
        facts: Of this host; looked up where left out.
    """
    if config is None:
        return InstanceDocuments(_placement(region, None), listed=False)
    facts = facts or host_facts()
    zone = config.availability_zone
    region = region_of_zone(zone) if zone else region
    hostname = config.hostname or facts.hostname
    address = str(config.local_ipv4 or facts.local_ipv4)
    partition = of_region(region)
    leaves = {
        "meta-data/ami-id": config.image_id,
        "meta-data/hostname": hostname,
        "meta-data/instance-id": config.instance_id,
        "meta-data/instance-type": config.instance_type,
        "meta-data/local-hostname": hostname,
        "meta-data/local-ipv4": address,
        "meta-data/mac": config.mac or facts.mac,
        "meta-data/services/domain": partition.dns_suffix,
        "meta-data/services/partition": partition.name,
        **_placement(region, zone),
        **{f"meta-data/tags/instance/{key}": value for key, value in config.tags.items()},
        _IDENTITY: _identity_document(config, region, zone, account_id, address),
    }
    if config.user_data is not None:
        leaves["user-data"] = config.user_data
    return InstanceDocuments(leaves, listed=True)


def _placement(region: str | None, zone: str | None) -> dict[str, str]:
    if region is None:
        return {}
    # Clients strip one letter from the zone to get the region.
    return {"meta-data/placement/availability-zone": zone or f"{region}a", "meta-data/placement/region": region}


def _identity_document(
    config: InstanceConfig, region: str | None, zone: str | None, account_id: str | None, address: str
) -> str:
    document = {
        "accountId": account_id,
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "availabilityZone": zone or (f"{region}a" if region else None),
        "imageId": config.image_id,
        "instanceId": config.instance_id,
        "instanceType": config.instance_type,
        "privateIp": address,
        "region": region,
        "version": "2017-09-30",
    }
    return json.dumps(document, indent=2)


def _folders(paths: list[str]) -> set[str]:
    return {"/".join(parts[:depth]) for path in paths for parts in [path.split("/")] for depth in range(len(parts))}


def listing(paths: list[str], folder: str) -> bytes:
    """One item a line, LF between items and none at the end, folders with a final slash (PROTOCOL.md 23)."""
    prefix = f"{folder}/" if folder else ""
    items = set()
    for path in paths:
        if path.startswith(prefix):
            name, slash, _ = path[len(prefix) :].partition("/")
            items.add(name + slash)
    return "\n".join(sorted(items - {""})).encode()
