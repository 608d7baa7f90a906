"""What a valid config says about grants that its writer may not have meant."""

import grp
import pwd
from collections.abc import Callable, Iterator

from imds_proxy.config import Config
from imds_proxy.renewal.need import Need, needed


def remarks(config: Config) -> Iterator[str]:
    """A sentence for each. Asks for users and groups, which may take its time.

    Args:
        config: With or without grants.
    """
    for number, grant in enumerate(config.grants):
        if grant.user is not None and not _exists(pwd.getpwnam, grant.user):
            yield f'grants.{number}.user: there is no user "{grant.user}" on this host'
        if grant.group is not None and not _exists(grp.getgrnam, grant.group):
            yield f'grants.{number}.group: there is no group "{grant.group}" on this host'
        if list(grant.conditions) == ["listener"]:
            yield f"grants.{number}: names a listener alone: whoever reaches it has the role, this host's users too"
    if config.service_accounts is not None and not any(grant.service_account for grant in config.grants):
        given = "no grant names one" if config.grants else "every account gets the default role"
        yield f"service_accounts: {given}: say in [[grants]] which service_account may have which role"
    needs = needed(config).needs
    for name, role in config.roles.items():
        if config.grants and role.default:
            yield f"roles.{name}.default: beside [[grants]] there is no default: a caller that none fits gets nothing"
        if needs[name] is Need.NONE:
            yield f"roles.{name}: nobody may have it, and no file or other role needs it: it is not renewed"


def _exists(find: Callable[[str], object], name: str) -> bool:
    try:
        find(name)
    except KeyError:
        return False
    return True
