"""A word in the log for an account that asks for another role than it is granted: seldom, however often it asks."""

import logging
from collections.abc import Sequence
from typing import Final

from imds_proxy.callers.caller import ServiceAccount
from imds_proxy.host.clock import Clock
from imds_proxy.metadata.asked_role import NO_ROLE

log = logging.getLogger(__name__)

AGAIN_AFTER: Final = 300.0  # seconds
MOST_ROLES: Final = 3
"""Of one account, within that time: the audit tells the others."""
_MOST_ACCOUNTS: Final = 1000


class RefusedRoles:
    """Tells of each account and role once in five minutes.

    Args:
        clock: Wall time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: dict[str, tuple[float, set[str]]] = {}
        """When each account was first told of, and the roles since; the one told of first is the first."""

    def tell(self, account: ServiceAccount, asked: str, granted: Sequence[str], without_arn: Sequence[str]) -> None:
        """Log that `account` asks for `asked` and is granted other roles, those of `without_arn` by name alone."""
        if not self._is_news(str(account), asked):
            return
        extra = {
            "service_account": str(account),
            "asks_for": shown(asked),
            "granted": ", ".join(granted) or "nothing",
            "advice": _advice(granted, without_arn),
        }
        log.warning("a service account asks for another role than it is granted: refused", extra=extra)

    def _is_news(self, account: str, asked: str) -> bool:
        now = self._clock.wall()
        since, roles = self._told.get(account, (now, set()))
        if not since <= now < since + AGAIN_AFTER:  # the clock may have been set back
            since, roles = now, set()
        if asked in roles or len(roles) >= MOST_ROLES:
            return False
        roles.add(asked)
        self._told.pop(account, None)
        if len(self._told) >= _MOST_ACCOUNTS:
            del self._told[next(iter(self._told))]
        self._told[account] = (since, roles)
        return True


def shown(asked: str) -> str:
    """What is asked for, as logs and audit may have it: a client's words only where they have the form of a role."""
    return asked if asked != NO_ROLE else "something that is no role"


def _advice(granted: Sequence[str], without_arn: Sequence[str]) -> str:
    advice = "grant it that role in [[grants]], or annotate it (eks.amazonaws.com/role-arn) with a role that is granted"
    if not granted or not without_arn:
        return advice
    return f"{advice}; nothing here tells the ARN of {', '.join(without_arn)}: say role_arn, or ask for it by its name"
