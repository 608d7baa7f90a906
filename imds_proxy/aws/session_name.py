"""The role session name: fixed per host, because the CodeDeploy agent is registered by it."""

import re
import socket
from collections.abc import Callable, Mapping

from imds_proxy.errors import Invalid
from imds_proxy.host.machine_id import MACHINE_ID_FILES, read_machine_id

_LONGEST = 64
_SHORTEST = 2
_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9_+=,.@-]")
_FIELD = re.compile(r"\{(\w+)\}")
_MACHINE_ID_FILES = MACHINE_ID_FILES


def machine_id() -> str:
    """The id systemd gave this machine, 32 hexadecimal digits; raises Invalid where there is none."""
    if identity := read_machine_id(_MACHINE_ID_FILES):
        return identity
    raise Invalid(
        "session_name asks for {machine_id}, and this host has no /etc/machine-id", "systemd-machine-id-setup"
    )


def _short(hostname: str) -> str:
    return hostname.partition(".")[0]


FIELDS: dict[str, Callable[[], str]] = {
    "hostname": lambda: _short(socket.gethostname()),
    "fqdn": socket.getfqdn,
    "machine_id": machine_id,
}


def asks_dns(template: str) -> bool:
    """Whether `render` may wait for DNS: then it is called in a thread."""
    return "fqdn" in _FIELD.findall(template)


def render(template: str) -> str:
    """A template's name for this host, cleaned to what STS allows: 2 to 64 letters, digits and _+=,.@-.

    Raises:
        Invalid: For a field that does not exist, or has no value on this host.
    """
    return _render(template, FIELDS)


def render_without_dns(template: str, hostname: str) -> str:
    """The same on a host of this name, which stands in the place of {fqdn} too: another on every host that differs."""
    return _render(template, FIELDS | {"hostname": lambda: _short(hostname), "fqdn": lambda: hostname})


def _render(template: str, fields: Mapping[str, Callable[[], str]]) -> str:
    def value(match: re.Match[str]) -> str:
        field = fields.get(match[1])
        if field is None:
            raise Invalid(f"session_name asks for {match[0]}", f"use {', '.join(f'{{{name}}}' for name in fields)}")
        return field()

    name = _NOT_ALLOWED.sub("-", _FIELD.sub(value, template))[:_LONGEST]
    return name if len(name) >= _SHORTEST else f"{name or 'host'}-imds"
