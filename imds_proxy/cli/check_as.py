"""`imds-proxy check --as …`: what a caller would get, and by which grant; without asking AWS or the daemon."""

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from imds_proxy.config.model import Config
from imds_proxy.errors import ConfigError
from imds_proxy.printable import printable

if TYPE_CHECKING:
    from imds_proxy.callers.caller import Caller
    from imds_proxy.callers.grants import Grants
    from imds_proxy.config.grants import GrantConfig

KEYS: Final = ("user", "group", "uid", "gid", "unit", "address", "listener", "service-account", "role", "token-file")
_OF_A_PROCESS: Final = {"user", "group", "uid", "gid", "unit"}


def check_as(config: Config, who: str) -> int:
    """Print what the caller `who` (`KEY=VALUE[,KEY=VALUE…]`) would get; 1 if that is nothing, or not what it asks."""
    from imds_proxy.callers.grants import Grants

    given = _parsed(who)
    caller = _caller(config, given)
    print(printable(_described(caller)))
    grants = Grants(config.grants, config.default_role)
    roles = grants.roles_for(caller)
    if "role" in given:
        _print_grants(config, grants, caller)
        return _print_asked(config, roles, given["role"])
    if not config.grants:
        print(f"{roles[0]}: there are no grants, every caller gets it" if roles else _NO_DEFAULT)
        return 0 if roles else 1
    _print_grants(config, grants, caller)
    shows = "" if caller.token_file else f"; its list shows {roles[0]}" if roles else ""
    print(f"gets {', '.join(roles)}{shows}" if roles else "gets nothing")
    return 0 if roles else 1


_NO_DEFAULT: Final = "gets nothing: there are no grants, and no role is the default"


def _print_grants(config: Config, grants: "Grants", caller: "Caller") -> None:
    for number, (grant, misfits) in enumerate(grants.considered(caller)):
        place = config.places.of(f"grants.{number}")
        print(f"  grants.{number}  {_verdict(grant, misfits)}{f' ({place})' if place else ''}")


def _print_asked(config: Config, roles: tuple[str, ...], value: str) -> int:
    """What a service account gets whose annotation has `value`. A session may tell an ARN that the config does not."""
    from imds_proxy.metadata.asked_role import AskedRoles, asked_role
    from imds_proxy.metadata.refused_roles import shown

    asked = asked_role(value)
    name = AskedRoles({name: config.roles[name].role_arn for name in roles}, {}).among(roles, asked)
    if name is None:
        print(f"asks for {shown(asked)} and gets nothing; granted: {', '.join(roles) or 'nothing'}")
        return 1
    sure = name == asked or config.roles[name].role_arn is not None
    print(f"asks for {asked} and gets {name}{'' if sure else ', if its session turns out to be of that role'}")
    return 0


def _verdict(grant: "GrantConfig", misfits: list[str]) -> str:
    conditions = [f"{key} = {_as_written(values)}" for key, values in grant.conditions.items()]
    if not misfits:
        return f"gives {grant.role}: {', '.join(conditions)}"
    # A token that is shown asks for a grant that names it, which this one does not.
    named = [condition for condition in conditions if condition.partition(" ")[0] in misfits] or [
        f"it names no {misfits[0]}"
    ]
    return f"does not give {grant.role}: {', '.join(named)}"


def _as_written(values: tuple[str | int, ...]) -> str:
    return json.dumps(values if len(values) > 1 else values[0])


def _parsed(who: str) -> dict[str, str]:
    """The keys and values of `who`; raises ConfigError."""
    found = {}
    for part in who.split(","):
        key, equals, value = part.partition("=")
        if key not in KEYS or not equals or not value:
            raise ConfigError(f"--as {who}: expected KEY=VALUE with a key of {', '.join(KEYS)}")
        found[key] = value
    if "role" in found and "service-account" not in found:
        raise ConfigError(f"--as {who}: who asks for a role is a service-account")
    if "address" in found and (process := _OF_A_PROCESS & set(found)):
        raise ConfigError(f"--as {who}: who has a {min(process)} is on this host, and counts as at 127.0.0.1")
    return found


def _caller(config: Config, given: dict[str, str]) -> "Caller":
    from imds_proxy.callers.caller import Caller, ServiceAccount

    listener = given.get("listener", config.metadata.listen[0])
    if listener not in config.metadata.listen:
        raise ConfigError(f"--as listener={listener}: is none of metadata.listen: {', '.join(config.metadata.listen)}")
    caller = Caller("::1" if listener.startswith("[") else "127.0.0.1", listener, b"")
    if "address" in given:
        caller = replace(caller, address=_address(given["address"]))
    if _OF_A_PROCESS & set(given):
        caller = _process(caller, given)
    if "service-account" in given:
        namespace, slash, name = given["service-account"].partition("/")
        if not slash:
            raise ConfigError("--as service-account: expected NAMESPACE/NAME")
        caller = replace(caller, service_account=ServiceAccount(namespace, name))
    return replace(caller, token_file=given.get("token-file"))


def _process(caller: "Caller", given: dict[str, str]) -> "Caller":
    """A caller that is a process of this host, with what this host knows of its user."""
    from imds_proxy.callers.user_database import look_up, look_up_name

    if "user" in given:
        account = look_up_name(given["user"])
        if account is None:
            raise ConfigError(f"--as user={given['user']}: there is no such user on this host")
    elif "uid" in given:
        account = look_up(_number("uid", given["uid"]))
    else:
        account = None
    if account is not None:
        caller = replace(caller, uid=account.uid, user=account.user, gids=account.gids, groups=account.groups)
    if "group" in given:
        caller = replace(caller, groups=caller.groups | {given["group"]})
    if "gid" in given:
        caller = replace(caller, gids=caller.gids | {_number("gid", given["gid"])})
    return replace(caller, unit=_unit(given["unit"])) if "unit" in given else caller


def _unit(value: str) -> str:
    from imds_proxy.config.grants import UNIT_NAME

    if not UNIT_NAME.fullmatch(value):
        raise ConfigError(f"--as unit={value}: expected the whole name of a service or a scope, as in nginx.service")
    return value


def _number(key: str, value: str) -> int:
    if not value.isdecimal():
        raise ConfigError(f"--as {key}={value}: expected a number")
    return int(value)


def _address(value: str) -> str:
    from imds_proxy.callers.caller import ip_address

    try:
        return str(ip_address(value))
    except ValueError:
        raise ConfigError(f"--as address={value}: expected an IP address") from None


def _described(caller: "Caller") -> str:
    parts = []
    if caller.uid is not None:
        parts.append(f"user {caller.user or 'without a name'} (uid {caller.uid})")
    if caller.groups:
        parts.append(f"groups {', '.join(sorted(caller.groups))}")
    if caller.unit is not None:
        parts.append(f"unit {caller.unit}")
    if caller.service_account is not None:
        parts.append(f"service account {caller.service_account}")
    if caller.token_file is not None:
        parts.append(f"the token of {caller.token_file}")
    return ", ".join([*parts, f"from {caller.address} to {caller.listener}"])
