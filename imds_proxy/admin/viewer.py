"""Who sees what of the control plane: decided for each request, by the config as it is then."""

import ipaddress
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from imds_proxy.addresses import SYSTEMD_PREFIX
from imds_proxy.callers.caller import Caller
from imds_proxy.callers.grants import Grants
from imds_proxy.config.model import Config

LIMITED: Final = "limited to roles that this user may have: [admin] allowed_users names those who see everything"
_ROOT: Final = 0


@dataclass(frozen=True, slots=True)
class View:
    """What one caller sees.

    Args:
        everything: Every role, file, warning and error text.
        documents: Metrics and status at all; else only whether the daemon is healthy.
        roles: Those it sees where it does not see everything.
    """

    everything: bool = False
    documents: bool = False
    roles: frozenset[str] = frozenset()

    def shows(self, role: str) -> bool:
        """Whether a role is seen."""
        return self.everything or role in self.roles

    @property
    def only(self) -> frozenset[str] | None:
        """The roles that are seen; None: every one."""
        return None if self.everything else self.roles


EVERYTHING: Final = View(everything=True, documents=True)
HEALTH: Final = View()


class Viewers:
    """The decision.

    Args:
        config: The present one.
        uid: The daemon's own.
    """

    def __init__(self, config: Callable[[], Config], uid: int | None = None) -> None:
        self._config = config
        self._uid = os.geteuid() if uid is None else uid
        self._seen: Config | None = None
        self._grants: Grants
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network]

    def view(self, caller: Caller) -> View:
        """What a caller sees now. A process of this host is at 127.0.0.1 or ::1, as for a grant."""
        config = self._config()
        if config is not self._seen:
            self._grants = Grants(config.grants, config.default_role)
            self._networks = [ipaddress.ip_network(network) for network in config.admin.allowed_addresses]
            self._seen = config
        address = ipaddress.ip_address(caller.address)
        if self.is_operator(caller):
            return EVERYTHING
        if caller.user is not None and caller.user in config.admin.allowed_users:
            return EVERYTHING
        if any(address in network for network in self._networks):
            return EVERYTHING
        if not address.is_loopback:
            return HEALTH
        return View(documents=True, roles=self._roles(caller, config))

    def is_operator(self, caller: Caller) -> bool:
        """Whether a caller is root or the daemon's user, by the owner of its socket: the only ones who change anything.

        No setting and no certificate makes another one of them.
        """
        return caller.uid is not None and caller.uid in {_ROOT, self._uid}

    def _roles(self, caller: Caller, config: Config) -> frozenset[str]:
        """The roles that it may have by any listener but those that systemd passed: one may be in another namespace."""
        listeners = [listen for listen in config.metadata.listen if not listen.startswith(SYSTEMD_PREFIX)]
        callers = (replace(caller, listener=listen) for listen in (caller.listener, *listeners))
        return frozenset(role for each in callers for role in self._grants.roles_for(each))
