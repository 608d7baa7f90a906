"""A role as the running daemon has it, from its `/status.json`.

In: that document. Out: the session's ARN, its key's last four, its life. Errors: ImdsProxyError, where the agent could
not live from the role.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from imds_proxy.codedeploy.onpremises import session_arn_mistake
from imds_proxy.credentials import parse_time
from imds_proxy.errors import ImdsProxyError

SHORTEST_LIFE: Final = 30 * 60
"""Seconds. The agent believes what it has read for as long (CODEDEPLOY.md), so a session has to live longer."""


@dataclass(frozen=True, slots=True)
class RunningRole:
    """What is held for a role now; None: nothing."""

    name: str
    session_arn: str | None
    key: str | None
    """`…` and the last four characters."""
    life: float | None
    """Seconds, from when the session was obtained to its end."""
    expires: float | None
    """Seconds since the epoch."""
    default: bool

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """From one of the document's `roles`."""
        obtained, expires = parse_time(document.get("obtained")), parse_time(document.get("expires"))
        life = expires - obtained if obtained is not None and expires is not None else None
        name, arn, key = document["role"], document.get("session_arn"), document.get("key")
        return cls(name, arn, key, life, expires, bool(document.get("default")))


def roles(status: Mapping[str, Any]) -> dict[str, RunningRole]:
    """Every role, by its name."""
    return {role["role"]: RunningRole.of(role) for role in status.get("roles", [])}


def usable_session_arn(name: str, known: Mapping[str, RunningRole]) -> str:
    """The ARN by which the agent is known at AWS.

    Raises:
        ImdsProxyError: There is no such role or session, AWS did not say whose it is, or it is too short.
    """
    role = known.get(name)
    if role is None:
        raise ImdsProxyError(
            f'the daemon has no role "{name}"',
            f"this user sees: {', '.join(known) or 'none'}; after a change: systemctl reload imds-proxy",
        )
    if role.life is None:
        raise ImdsProxyError(f'role "{name}" has no session yet', "imds-proxy status says why")
    if role.session_arn is None or session_arn_mistake(role.session_arn):
        raise ImdsProxyError(
            f'role "{name}": its source does not say which session of which role it is',
            "use a role by assume-role, roles-anywhere or web-identity; the agent is registered by its session's ARN",
        )
    if role.life <= SHORTEST_LIFE:
        raise ImdsProxyError(
            f'role "{name}": its sessions live for {role.life / 60:.0f} minutes, and the agent uses what it read for'
            " 30: it would go on with a dead key",
            'set duration = "1h" for the role, or a longer life where its sessions come from',
        )
    return role.session_arn
