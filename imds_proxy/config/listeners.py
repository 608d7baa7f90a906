"""Listeners: each has an address and port of its own, and one that other machines reach needs `[[grants]]`."""

import contextlib
import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any, Final

from imds_proxy.addresses import DEFAULT_ADMIN_LISTEN, DEFAULT_LISTEN, SYSTEMD_PREFIX, canonical, split_listen
from imds_proxy.config.http_role import is_local_address

_IPV4: Final = 4
_BRIDGE: Final = ipaddress.ip_network("172.17.0.0/16")
_BRIDGES: Final = ipaddress.ip_network("172.16.0.0/12")
"""Docker's networks."""


def listener_mistakes(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Listeners that other machines or containers reach, where no grant says who may have what; in the raw data."""
    metadata, roles = data.get("metadata"), data.get("roles")
    listen = metadata.get("listen") if isinstance(metadata, dict) else None
    if data.get("grants") or not isinstance(listen, list) or not isinstance(roles, dict):
        return
    for number, listener in enumerate(listen):
        if isinstance(listener, str) and not listener.startswith(SYSTEMD_PREFIX):
            with contextlib.suppress(ValueError):  # no address: told of elsewhere
                host = split_listen(listener)[0]
                yield from ((f"metadata.listen.{number}", text) for text in without_grants(listener, host, roles))


def clash_mistakes(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Listeners of which only one could be opened, of both planes; in the raw data."""
    entries = [(key, value) for key, value in _listeners(data) if isinstance(value, str)]
    for number, (key, value) in enumerate(entries):
        other = next((other for other in entries[:number] if _clash(value, other[1])), None)
        if other is None:
            continue
        first, second = (other[0], other[1]), (key, value)
        if not _is_written(data, key):  # by default: what can be mended is the other one
            first, second = second, first
        yield second[0], _CLASH.format(second=second[1], first=first[1], key=first[0])


_CLASH: Final = (
    "{second} and {first} ({key}) cannot both be opened: give each plane and entry a port or address of its own"
)


def _listeners(data: dict[str, Any]) -> list[tuple[str, Any]]:
    """Every entry of `listen`, with its key path; defaults where the config has none."""
    metadata, admin = data.get("metadata"), data.get("admin")
    listen = (metadata if isinstance(metadata, dict) else {}).get("listen", [DEFAULT_LISTEN])
    found = [
        (f"metadata.listen.{number}", value) for number, value in enumerate(listen if isinstance(listen, list) else [])
    ]
    return [*found, ("admin.listen", (admin if isinstance(admin, dict) else {}).get("listen", DEFAULT_ADMIN_LISTEN))]


def _is_written(data: dict[str, Any], key: str) -> bool:
    table = data.get(key.partition(".")[0])
    return isinstance(table, dict) and "listen" in table


def _clash(one: str, other: str) -> bool:
    """Whether two entries are of one socket: a wildcard has each address of its family, and IPv6 has none of IPv4."""
    if SYSTEMD_PREFIX in {one[: len(SYSTEMD_PREFIX)], other[: len(SYSTEMD_PREFIX)]}:
        return one == other
    try:
        (host, port), (others, its) = split_listen(one), split_listen(other)
    except ValueError:  # told of by its own table
        return False
    if port != its or port == 0 or (":" in host) != (":" in others):
        return False
    hosts = {canonical(host), canonical(others)}
    return len(hosts) == 1 or bool(hosts & _WILDCARDS)


_WILDCARDS: Final = frozenset(("0.0.0.0", "::"))


def without_grants(listener: str, host: str, roles: Mapping[str, Any]) -> Iterator[str]:
    """Why a listener needs grants, with the lines to write; nothing where only this host reaches it.

    Args:
        listener: As in `metadata.listen`.
        host: The address it is bound to.
        roles: Of the config, by name: as read, or as written.
    """
    if is_local_address(host):
        return
    served = [name for name, role in roles.items() if _of(role, "serve", default=True) is not False]
    role = next((name for name in served if _of(roles[name], "default", default=False)), next(iter(served), "ROLE"))
    ours = "::1" if ":" in host else "127.0.0.1"
    yield (
        f"others than this host reach {listener}: say in [[grants]] who may have which role, as in\n"
        f'    [[grants]]\n    role = "{role}"\n    address = "{_neighbours(host)}"\n    listener = "{listener}"\n'
        f'    # and for the processes of this host\n    [[grants]]\n    role = "{role}"\n    address = "{ours}"'
    )


def _of(role: Any, key: str, *, default: object) -> object:
    return role.get(key, default) if isinstance(role, dict) else getattr(role, key, default)


def _neighbours(host: str) -> str:
    """The network that a listener is probably for."""
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        return str(_BRIDGE) if address.version == _IPV4 else "fd00::/64"
    if address.version != _IPV4:
        return str(ipaddress.ip_network(f"{host.partition('%')[0]}/64", strict=False))
    return str(ipaddress.ip_network(f"{host}/{16 if address in _BRIDGES else 24}", strict=False))
