"""Which roles a caller may have: a pure decision over `[[grants]]`."""

import ipaddress
from collections.abc import Iterator, Sequence
from functools import lru_cache

from imds_proxy.callers.caller import Caller, ServiceAccount
from imds_proxy.config_callers import GrantConfig

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
        self._grants = [(grant, _network(grant)) for grant in grants]
        self._default = (default,) if default is not None and not grants else ()
        self.roles_for = lru_cache(_DECISIONS_KEPT)(self._decide)
        """The names of the roles that a caller may have, the one its list shows first."""

    def considered(self, caller: Caller) -> Iterator[tuple[GrantConfig, list[str]]]:
        """Every grant, with the keys of it that do not fit."""
        for grant, network in self._grants:
            yield grant, list(_misfits(grant, network, caller))

    def _decide(self, caller: Caller) -> tuple[str, ...]:
        fitting = [grant.role for grant, network in self._grants if not any(_misfits(grant, network, caller))]
        return tuple(dict.fromkeys(fitting)) or self._default


def describe(grant: GrantConfig) -> str:
    """Whom a grant fits, in words: `user codedeploy, address 10.0.0.0/8`."""
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in grant.conditions.items())


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(grant: GrantConfig) -> Network | None:
    return ipaddress.ip_network(grant.address) if grant.address is not None else None


def _misfits(grant: GrantConfig, network: Network | None, caller: Caller) -> Iterator[str]:
    """The keys of a grant that do not fit; a grant fits if there is none.

    Who shows a token is asked about that token: what the connection alone may have is not added to it.
    """
    if grant.user not in {None, caller.user}:
        yield "user"
    if grant.group is not None and grant.group not in caller.groups:
        yield "group"
    if grant.uid not in {None, caller.uid}:
        yield "uid"
    if grant.gid is not None and grant.gid not in caller.gids:
        yield "gid"
    if network is not None and ipaddress.ip_address(caller.address) not in network:
        yield "address"
    if grant.listener not in {None, caller.listener}:
        yield "listener"
    if not _is_of(grant.service_account, caller.service_account):
        yield "service_account"
    if grant.token_file != caller.token_file:
        yield "token_file"


def _is_of(pattern: str | None, account: ServiceAccount | None) -> bool:
    """Whether an account is the one meant by `NAMESPACE/NAME` or `NAMESPACE/*`."""
    if pattern is None or account is None:
        return pattern is None and account is None
    namespace, _, name = pattern.partition("/")
    return namespace == account.namespace and name in {"*", account.name}
