"""Which roles a caller may have: a pure decision over `[[grants]]`."""

import ipaddress
from collections.abc import Iterator, Sequence
from functools import lru_cache

from imds_proxy.callers.caller import Caller, ServiceAccount
from imds_proxy.callers.cgroups import instances
from imds_proxy.config.grants import GrantConfig

_DECISIONS_KEPT = 1024


class Grants:
    """The decision, for one config.

    Every grant that fits a caller gives its role; the first is what its list shows. Without any grant in the config
    each caller has the default role and no other.

    Args:
        grants: In the order of the file.
        default: The role of every caller, where there are no grants.
    """

    def __init__(self, grants: Sequence[GrantConfig], default: str | None) -> None:
        self._grants = [(grant, _networks(grant)) for grant in grants]
        self._default = (default,) if default is not None and not grants else ()
        self.roles_for = lru_cache(_DECISIONS_KEPT)(self._decide)
        """The names of the roles that a caller may have, the one its list shows first."""

    def considered(self, caller: Caller) -> Iterator[tuple[GrantConfig, list[str]]]:
        """Every grant, with the keys of it that do not fit."""
        for grant, networks in self._grants:
            yield grant, list(_misfits(grant, networks, caller))

    def _decide(self, caller: Caller) -> tuple[str, ...]:
        fitting = [grant.role for grant, networks in self._grants if not any(_misfits(grant, networks, caller))]
        return tuple(dict.fromkeys(fitting)) or self._default


def describe(grant: GrantConfig) -> str:
    """Whom a grant fits, in words: `user codedeploy or build, address 10.0.0.0/8`."""
    return ", ".join(f"{key.replace('_', ' ')} {_alternatives(values)}" for key, values in grant.conditions.items())


def _alternatives(values: tuple[str | int, ...]) -> str:
    *others, last = map(str, values)
    return f"{', '.join(others)} or {last}" if others else last


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(grant: GrantConfig) -> tuple[Network, ...]:
    return tuple(map(ipaddress.ip_network, grant.address))


def _misfits(grant: GrantConfig, networks: tuple[Network, ...], caller: Caller) -> Iterator[str]:
    """The keys of a grant that do not fit; a grant fits if there is none.

    Who shows a token is asked about that token: what the connection alone may have is not added to it.
    """
    if grant.user and caller.user not in grant.user:
        yield "user"
    if grant.group and caller.groups.isdisjoint(grant.group):
        yield "group"
    if grant.uid and caller.uid not in grant.uid:
        yield "uid"
    if grant.gid and caller.gids.isdisjoint(grant.gid):
        yield "gid"
    if grant.unit and (caller.unit is None or {caller.unit, instances(caller.unit)}.isdisjoint(grant.unit)):
        yield "unit"
    if networks and not _is_in(caller.address, networks):
        yield "address"
    if grant.listener and caller.listener not in grant.listener:
        yield "listener"
    if not _is_one_of(grant.service_account, caller.service_account):
        yield "service_account"
    if grant.token_file != caller.token_file:
        yield "token_file"


def _is_in(address: str, networks: tuple[Network, ...]) -> bool:
    found = ipaddress.ip_address(address)
    return any(found in network for network in networks)


def _is_one_of(patterns: tuple[str, ...], account: ServiceAccount | None) -> bool:
    """Whether an account is one of those meant by `NAMESPACE/NAME` or `NAMESPACE/*`; without either, true."""
    if account is None or not patterns:
        return account is None and not patterns
    return not {str(account), f"{account.namespace}/*"}.isdisjoint(patterns)
