"""The role session name: fixed per host, because the CodeDeploy agent is registered by it."""

import re
import socket
from collections.abc import Callable
from pathlib import Path

from imds_proxy.errors import Invalid

_LONGEST = 64
_SHORTEST = 2
_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9_+=,.@-]")
_FIELD = re.compile(r"\{(\w+)\}")
_MACHINE_ID_FILES = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))


def machine_id() -> str:
    """The id systemd gave this machine, 32 hexadecimal digits; raises Invalid where there is none."""
    for path in _MACHINE_ID_FILES:
        try:
            if identity := path.read_text("ascii").strip():
                return identity
        except (OSError, UnicodeDecodeError):
            continue
    raise Invalid(
        "session_name asks for {machine_id}, and this host has no /etc/machine-id", "systemd-machine-id-setup"
    )


FIELDS: dict[str, Callable[[], str]] = {
    "hostname": lambda: socket.gethostname().partition(".")[0],
    "fqdn": socket.getfqdn,
    "machine_id": machine_id,
}


def render(template: str) -> str:
    """A template's name for this host, cleaned to what STS allows: 2 to 64 letters, digits and _+=,.@-.

    Raises:
        Invalid: For a field that does not exist.
    """

    def value(match: re.Match[str]) -> str:
        field = FIELDS.get(match[1])
        if field is None:
            raise Invalid(f"session_name asks for {match[0]}", f"use {', '.join(f'{{{name}}}' for name in FIELDS)}")
        return field()

    name = _NOT_ALLOWED.sub("-", _FIELD.sub(value, template))[:_LONGEST]
    return name if len(name) >= _SHORTEST else f"{name or 'host'}-imds"
