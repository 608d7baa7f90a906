"""`[[grants]]`, `[service_accounts]` and `[audit]`: who may have which role, how that is told, and who was told."""

import ipaddress
import re
from collections.abc import Iterator
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from imds_proxy.addresses import DEFAULT_LISTEN
from imds_proxy.config.types import (
    MEGABYTE,
    MINUTE,
    AbsolutePath,
    Bytes,
    HttpUrl,
    Listen,
    OneOrSeveral,
    RoleName,
    Seconds,
    Table,
)

EKS_AUDIENCE = "pods.eks.amazonaws.com"


def _network(value: str) -> str:
    """An address or a CIDR as it is usually written."""
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        pass
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError('expected an address or a CIDR, as in "172.17.0.2" or "172.17.0.0/16"') from None
    raise ValueError(f'has bits set behind its prefix: write "{network}", or the address alone')


def _account(value: str) -> str:
    if value.isdecimal():
        raise ValueError("expected a name; a number goes into uid or gid")
    if "\0" in value:
        raise ValueError("holds a null character")
    return value


UNIT_NAME: Final = re.compile(r"[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\@-]+)?\.(service|scope)")
"""Of a service or a scope, which alone have processes of their own; not of a template, which has none."""
_ALL_INSTANCES: Final = re.compile(r"[A-Za-z0-9:_.\\-]+@\*\.service")
_LONGEST_UNIT: Final = 255


def _unit(value: str) -> str:
    if len(value) > _LONGEST_UNIT or not (UNIT_NAME.fullmatch(value) or _ALL_INSTANCES.fullmatch(value)):
        template, at, rest = value.partition("@")
        example = f"{template}@*.service" if at and rest == ".service" else "nginx.service"
        raise ValueError(f'expected the whole name of a service or a scope, as in "{example}"')
    return value


Network = Annotated[str, AfterValidator(_network)]
Unit = Annotated[str, AfterValidator(_unit)]
Issuer = Annotated[str, StringConstraints(min_length=1)]
Audience = Annotated[str, StringConstraints(min_length=1)]
Audiences = OneOrSeveral[Audience]
AccountName = Annotated[str, StringConstraints(min_length=1), AfterValidator(_account)]
AccountNumber = Annotated[int, Field(ge=0, lt=2**32 - 1)]
ServiceAccountName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,63}/([a-z0-9][a-z0-9.-]{0,252}|\*)$")]


class GrantConfig(Table):
    """One entry of `[[grants]]`: every key besides `role` has to fit the caller, and of a list one value."""

    role: RoleName = Field(description="what a caller that fits may have")
    user: OneOrSeveral[AccountName] = Field((), description="name of the user whose process connects")
    group: OneOrSeveral[AccountName] = Field((), description="a group of that user, primary or supplementary")
    uid: OneOrSeveral[AccountNumber] = ()
    gid: OneOrSeveral[AccountNumber] = ()
    unit: OneOrSeveral[Unit] = Field((), description="systemd's unit whose process made the socket, as nginx.service")
    address: OneOrSeveral[Network] = Field((), description="address or CIDR of a container or another machine")
    listener: OneOrSeveral[Listen] = Field((), description="the entry of metadata.listen that was connected to")
    service_account: OneOrSeveral[ServiceAccountName] = Field((), description='"NAMESPACE/NAME" or "NAMESPACE/*"')
    token_file: AbsolutePath | None = Field(None, description="holds the token for /roles/NAME; made where missing")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if not self.conditions:
            raise ValueError(
                "says nobody: add user, group, uid, gid, unit, address, listener, service_account or token_file"
            )
        if self.service_account and self.token_file is not None:
            raise ValueError("has both service_account and token_file: a caller shows one token")
        return self

    @property
    def conditions(self) -> dict[str, tuple[str | int, ...]]:
        """The keys that have to fit, in the order of this table, each with the values of which one has to."""
        several = {key: value if isinstance(value, tuple) else (value,) for key, value in self if value is not None}
        return {key: values for key, values in several.items() if values and key != "role"}


class ServiceAccountsConfig(Table):
    """`[service_accounts]`: whose Kubernetes service-account tokens are believed at `/v1/credentials`.

    Several issuers are those of one cluster, whose `--service-account-issuer` is given more than once while it changes:
    its API server serves one key set for all of them. Two clusters would need a key set each, and grants that say which
    cluster's `NAMESPACE/NAME` they mean.
    """

    issuer: OneOrSeveral[Issuer] = Field(description="a token's iss has to be it; of a list, one of them")
    jwks_url: HttpUrl | None = Field(None, description="the cluster's keys, as in https://API-SERVER/openid/v1/jwks")
    jwks_file: AbsolutePath | None = Field(None, description="the same in a file; read again when it changes")
    audience: Audiences = Field((EKS_AUDIENCE,), description="a token's aud has to hold it; of a list, one of them")
    ca_bundle: AbsolutePath | None = Field(None, description="for jwks_url; left out: AWS_CA_BUNDLE, or the system's")
    token_file: AbsolutePath | None = Field(None, description="bearer token for jwks_url; read at every fetch")
    leeway: Seconds = Field(30, ge=0, le=5 * MINUTE, description="how far clocks may differ")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if (self.jwks_url is None) == (self.jwks_file is None):
            raise ValueError("takes one of jwks_url and jwks_file")
        if self.jwks_url is None and (self.ca_bundle or self.token_file):
            raise ValueError("ca_bundle and token_file are for jwks_url")
        if self.jwks_url is not None and not self.jwks_url.startswith("https:"):
            raise ValueError("jwks_url has to be https: who answers it decides whom this host believes")
        return self


class AuditConfig(Table):
    """`[audit]`: a line for every credential document handed out or refused."""

    file: AbsolutePath | None = Field(None, description="JSON lines; left out: the log")
    max_size: Bytes = Field(64 * MEGABYTE, ge=0, description="the file is rotated before it is larger; 0: never")
    keep: int = Field(4, ge=1, le=1000, description="how many rotated files are kept beside it")

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        if 0 < self.max_size < MEGABYTE:
            raise ValueError("max_size: expected 1MB or more, or 0 for a file that is never rotated")
        return self


def grant_mistakes(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Mistakes that span `[[grants]]` and other tables, as (key path, what is wrong); in the raw data."""
    roles, grants, metadata = data.get("roles"), data.get("grants"), data.get("metadata")
    listen = (metadata if isinstance(metadata, dict) else {}).get("listen", [DEFAULT_LISTEN])
    for number, grant in enumerate(grants if isinstance(grants, list) else []):
        if not isinstance(grant, dict):
            continue
        yield from _role_mistakes(f"grants.{number}", grant, roles if isinstance(roles, dict) else {})
        yield from _listener_mistakes(f"grants.{number}.listener", grant.get("listener"), listen)
        if "service_account" in grant and "service_accounts" not in data:
            yield (
                f"grants.{number}.service_account",
                "needs a table [service_accounts], which says whose tokens to believe",
            )


def _listener_mistakes(key: str, given: object, listen: object) -> Iterator[tuple[str, str]]:
    """The listeners of a grant, one or several, that are none of metadata.listen."""
    keyed = (
        [(f"{key}.{number}", each) for number, each in enumerate(given)] if isinstance(given, list) else [(key, given)]
    )
    for each_key, listener in keyed:
        if isinstance(listener, str) and isinstance(listen, list) and listener not in listen:
            yield each_key, f"is none of metadata.listen: {', '.join(map(str, listen))}"


def _role_mistakes(key: str, grant: dict[str, Any], roles: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What a grant and its role do not agree on."""
    name = grant.get("role")
    role = roles.get(name) if isinstance(name, str) else None
    if isinstance(name, str) and name not in roles:
        yield f"{key}.role", f"there is no role {name!r}"
    if not isinstance(role, dict):
        return
    if role.get("serve", True) is False:
        yield f"{key}.role", f"roles.{name} has serve = false and is never handed out"
    if role.get("tags") == "service-account" and "service_account" not in grant:
        yield f"{key}.role", f'roles.{name} has tags = "service-account": only a service_account can have it'
