"""What a valid config says about callers that its writer may not have meant."""

import grp
import pwd
from collections.abc import Callable, Iterator

from imds_proxy.addresses import SYSTEMD_PREFIX, split_listen
from imds_proxy.callers.caller import ip_address
from imds_proxy.callers.cgroups import hindrance
from imds_proxy.callers.socket_owner import SocketOwners
from imds_proxy.config.grants import GrantConfig
from imds_proxy.config.keep_mode import Need, needed
from imds_proxy.config.model import Config

Remark = tuple[str, str]
"""The key path, and what there is to say about it."""


def remarks(config: Config) -> Iterator[str]:
    """A sentence for each, with where it is. Asks for users and groups, which may take its time.

    Args:
        config: With or without grants.
    """
    yield from (config.places.told(key, what) for key, what in _remarks(config))


def _remarks(config: Config) -> Iterator[Remark]:
    for number, grant in enumerate(config.grants):
        yield from _of_a_grant(f"grants.{number}", grant)
    first = next((number for number, grant in enumerate(config.grants) if grant.unit), None)
    if first is not None and (why := _no_units()) is not None:
        yield f"grants.{first}.unit", f"no grant with a unit fits on this host: {why}"
    yield from _of_the_control_plane(config)
    if config.service_accounts is not None and not any(grant.service_account for grant in config.grants):
        given = "no grant names one" if config.grants else "every account gets the default role"
        yield "service_accounts", f"{given}: say in [[grants]] which service_account may have which role"
    needs = needed(config).needs
    for name, role in config.roles.items():
        if config.grants and role.default:
            yield f"roles.{name}.default", "beside [[grants]] there is no default: a caller that none fits gets nothing"
        if needs[name] is Need.NONE:
            yield f"roles.{name}", "nobody may have it, and no file or other role needs it: it is not renewed"


def _of_a_grant(key: str, grant: GrantConfig) -> Iterator[Remark]:
    for user in grant.user:
        if not _exists(pwd.getpwnam, user):
            yield f"{key}.user", f'there is no user "{user}" on this host'
    for group in grant.group:
        if not _exists(grp.getgrnam, group):
            yield f"{key}.group", f'there is no group "{group}" on this host'
    if list(grant.conditions) == ["listener"]:
        yield key, "names a listener alone: whoever reaches it has the role, this host's users too"


def _no_units() -> str | None:
    owners = SocketOwners()
    try:
        return hindrance(owners.own_cgroup())
    except OSError as error:
        return f"its cgroups cannot be read: {error.strerror}"
    finally:
        owners.close()


def _of_the_control_plane(config: Config) -> Iterator[Remark]:
    for number, user in enumerate(config.admin.allowed_users):
        if not _exists(pwd.getpwnam, user):
            yield f"admin.allowed_users.{number}", f'there is no user "{user}" on this host'
    if _is_remote(config.admin.listen) and not config.admin.allowed_addresses and config.admin.client_ca is None:
        seen = "other hosts see only whether the daemon is healthy"
        yield "admin.listen", f"{seen}: say in [admin] allowed_addresses, or by client_ca, which of them see more"


def _is_remote(listen: str) -> bool:
    """Whether other hosts may reach it; not known of a socket that is passed."""
    return not listen.startswith(SYSTEMD_PREFIX) and not ip_address(split_listen(listen)[0]).is_loopback


def _exists(find: Callable[[str], object], name: str) -> bool:
    try:
        find(name)
    except KeyError:
        return False
    return True
