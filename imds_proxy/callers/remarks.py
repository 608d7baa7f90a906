"""What a valid config says about grants that its writer may not have meant."""

import grp
import pwd
from collections.abc import Callable, Iterator

from imds_proxy.callers.grants import granted_roles
from imds_proxy.config import Config


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
    if config.grants:
        yield from _about_roles(config)


def _about_roles(config: Config) -> Iterator[str]:
    used = granted_roles(config.grants) | {file.role for file in config.files}
    used |= {role.parent for role in config.roles.values() if role.parent}
    for name, role in config.roles.items():
        if role.default:
            yield f"roles.{name}.default: beside [[grants]] there is no default: a caller that none fits gets nothing"
        if role.serve and name not in used:
            yield f"roles.{name}: no grant gives it and no file needs it: it is not renewed"


def _exists(find: Callable[[str], object], name: str) -> bool:
    try:
        find(name)
    except KeyError:
        return False
    return True
