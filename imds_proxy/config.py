"""The config file as typed models: the only place that knows its keys.

No I/O here; `config_file.py` reads the file and words the mistakes.
"""

import hashlib
import ipaddress
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

DEFAULT_PATH = Path("/etc/imds-proxy/config.toml")
DEFAULT_LISTEN = "127.0.0.1:1338"
DEFAULT_ADMIN_LISTEN = "127.0.0.1:9338"
SYSTEMD_PREFIX = "systemd:"

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def parse_duration(value: object) -> object:
    """`"1h"`, `"90m"`, `"1h30m"`, `"900s"` or a whole number of seconds; anything else raises ValueError."""
    if isinstance(value, str) and value and (match := _DURATION.fullmatch(value)):
        amounts = (int(amount or 0) for amount in match.groups())
        return sum(amount * unit for amount, unit in zip(amounts, (_DAY, _HOUR, _MINUTE, 1), strict=True))
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError('expected a duration such as "1h", "30m" or "900s"')


def split_listen(value: str) -> tuple[str, int]:
    """`"127.0.0.1:1338"` or `"[::1]:1338"` as (IP address literal, port); raises ValueError with the form expected."""
    host, colon, port = value.rpartition(":")
    if not colon or not port.isdecimal() or not 0 <= int(port) <= 65535:  # noqa: PLR2004 - the largest port
        raise ValueError('expected "ADDRESS:PORT", "[IPV6]:PORT" or "systemd:NAME"')
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if (":" in bare) != (bare != host):
        raise ValueError("an IPv6 address is written in brackets, as in [::1]:1338")
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        raise ValueError(f"expected an IP address, not {bare!r}") from None
    return bare, int(port)


def _listen(value: str) -> str:
    if value.startswith(SYSTEMD_PREFIX):
        if value == SYSTEMD_PREFIX:
            raise ValueError("expected the socket's FileDescriptorName after systemd:")
        return value
    split_listen(value)
    return value


def _policy(value: object) -> object:
    """An IAM policy as a TOML table or as JSON text; kept as compact JSON text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"expected an IAM policy as a table or as JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError("expected an IAM policy as a table or as JSON")  # noqa: TRY004 - pydantic reports ValueError
    return json.dumps(value, separators=(",", ":"))


Seconds = Annotated[int, BeforeValidator(parse_duration, json_schema_input_type=str | int)]
Listen = Annotated[str, AfterValidator(_listen)]
Policy = Annotated[str, BeforeValidator(_policy, json_schema_input_type=str | dict[str, Any])]
RoleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_+=,.@-]{0,63}$")]
RoleArn = Annotated[str, StringConstraints(pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]+$")]
PolicyArn = Annotated[
    str, StringConstraints(pattern=r"^arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/[A-Za-z0-9_+=,.@/-]+$")
]
Region = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]$")]
HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^/\s]+(/.*)?$")]
TagKey = Annotated[str, StringConstraints(min_length=1, max_length=128)]
TagValue = Annotated[str, StringConstraints(max_length=256)]


class Table(BaseModel):
    """A TOML table: unknown keys refused, never changed after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class MetadataConfig(Table):
    """`[metadata]`: the data plane."""

    listen: tuple[Listen, ...] = Field((DEFAULT_LISTEN,), min_length=1, description="where SDKs connect")
    imds_v1: bool = Field(default=False, description="answer requests that carry no session token")
    hop_limit: int = Field(1, ge=1, le=64, description="IP TTL of token answers on link-local listeners")
    allowed_hosts: tuple[str, ...] = Field((), description="Host names besides the listeners' literals and localhost")


class AdminConfig(Table):
    """`[admin]`: the control plane."""

    listen: Listen = Field(DEFAULT_ADMIN_LISTEN, description="metrics, health and status")


class RenewalConfig(Table):
    """`[renewal]`."""

    max_age: Seconds | None = Field(None, ge=1, description="renew at least this often")
    start_grace: Seconds = Field(60, ge=0, description="report READY after this long even without first credentials")


class InstanceConfig(Table):
    """`[instance]`: what EC2 would say about this machine; every other key has a default made from it."""

    instance_id: str = Field(pattern=r"^m?i-[0-9a-f]{8,17}$", description="i-… or mi-…")
    availability_zone: str | None = Field(
        None, pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9][a-z]$", description="region and a letter"
    )
    instance_type: str = "on-premises"
    image_id: str = "ami-00000000000000000"
    hostname: str | None = Field(None, description="left out: this host's name")
    local_ipv4: ipaddress.IPv4Address | None = Field(None, description="left out: the address of the default route")
    mac: str | None = Field(
        None, pattern=r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$", description="left out: the interface of local_ipv4"
    )
    tags: dict[str, str] = Field({}, description="served under tags/instance/")
    user_data: str | None = None


class AssumeRoleConfig(Table):
    """`[roles.NAME]` with `source = "assume-role"`, the default. STS parameters are AWS's, by AWS's names."""

    source: Literal["assume-role"] = "assume-role"
    role_arn: RoleArn
    from_: RoleName | None = Field(None, alias="from", description="the role here whose credentials call STS")
    session_name: str = Field("{hostname}", min_length=1, description="may hold {hostname}, {fqdn} and {machine_id}")
    duration: Seconds = Field(_HOUR, ge=15 * _MINUTE, le=12 * _HOUR)
    external_id: str | None = Field(None, min_length=2, max_length=1224, pattern=r"^[A-Za-z0-9_+=,.@:/\\-]*$")
    policy: Policy | None = Field(None, description="session policy")
    policy_arns: tuple[PolicyArn, ...] = Field((), max_length=10)
    tags: dict[TagKey, TagValue] = Field({}, max_length=50)
    transitive_tag_keys: tuple[TagKey, ...] = Field((), max_length=50)
    source_identity: str | None = Field(None, min_length=2, max_length=64, pattern=r"^[A-Za-z0-9_+=,.@-]*$")
    sts_endpoint: HttpUrl | None = Field(None, description="a private STS endpoint")
    sts_regions: tuple[Region, ...] = Field((), description="tried in order; left out: the region above")
    profile: str | None = Field(None, min_length=1, description="the daemon's own AWS profile for this call")
    serve: bool = Field(default=True, description="false: a step of a chain, never handed out")
    default: bool | None = Field(None, description="the role that callers without a grant of their own get")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.from_ is not None and self.profile is not None:
            raise ValueError("has both from and profile: one of them says whose credentials call STS")
        if missing := [key for key in self.transitive_tag_keys if key not in self.tags]:
            raise ValueError(f"transitive_tag_keys names {missing[0]!r}, which is not in tags")
        return self

    @property
    def account_id(self) -> str:
        """The account of the role."""
        return self.role_arn.split(":")[4]


RoleConfig = AssumeRoleConfig
"""Any role; each further source is a member of this union, told apart by `source`."""


class Config(Table):
    """The whole file."""

    region: Region | None = Field(
        None, description="for STS, and what clients are told; left out: as the AWS SDKs find it"
    )
    state_dir: str | None = Field(None, description='last good credentials and keys; "" keeps nothing on disk')
    metadata: MetadataConfig = MetadataConfig()
    admin: AdminConfig = AdminConfig()
    renewal: RenewalConfig = RenewalConfig()
    roles: dict[RoleName, RoleConfig] = Field(min_length=1)
    instance: InstanceConfig | None = None

    def fingerprint(self, name: str) -> str:
        """Equal for two roles only if everything that shapes their session is equal, all the way up the chain."""
        role = self.roles[name]
        parent = self.fingerprint(role.from_) if role.from_ else None
        shape = role.model_dump(mode="json", exclude={"serve", "default"}) | {"from": parent, "region": self.region}
        return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()

    @property
    def default_role(self) -> str | None:
        """The name of the role that the list shows: the one marked, or the only one there is to serve."""
        served = {name: role for name, role in self.roles.items() if role.serve}
        marked = [name for name, role in served.items() if role.default]
        unmarked = [name for name, role in served.items() if role.default is None]
        return marked[0] if marked else unmarked[0] if len(served) == 1 and unmarked else None


def cross_check(data: dict[str, Any]) -> list[tuple[str, str]]:
    """Mistakes that span tables, as (key path, what is wrong); in the raw data, so that they show with all others."""
    roles = data.get("roles")
    tables = {name: role for name, role in roles.items() if isinstance(role, dict)} if isinstance(roles, dict) else {}
    served = {name: role for name, role in tables.items() if role.get("serve", True) is True}
    marked = [name for name, role in served.items() if role.get("default") is True]
    mistakes: list[tuple[str, str]] = []
    if tables and not served:
        mistakes.append(("roles", "no role is served: every one has serve = false"))
    mistakes += [(f"roles.{name}.default", f"roles.{marked[0]} is the default already") for name in marked[1:]]
    if len(served) > 1 and not marked and any("default" not in role for role in served.values()):
        mistakes.append(("roles", f"{len(served)} roles are served: mark one of them default = true"))
    return mistakes + _chain_mistakes({name: role.get("from") for name, role in tables.items()})


def _chain_mistakes(parents: dict[str, Any]) -> list[tuple[str, str]]:
    """Roles assumed from a role that is not there, and every cycle once."""
    mistakes: list[tuple[str, str]] = []
    cyclic: set[str] = set()
    for name in parents:
        chain = [name]
        while isinstance(parent := parents.get(chain[-1]), str) and parent in parents and parent not in chain:
            chain.append(parent)
        if isinstance(parent, str) and parent not in parents and len(chain) == 1:
            mistakes.append((f"roles.{name}.from", f"there is no role {parent!r}"))
        if parent == name and name not in cyclic:
            cyclic.update(chain)
            mistakes.append((f"roles.{name}.from", f"is a cycle: {' → '.join([*chain, name])}"))
    return mistakes
