"""The config file as typed models; nothing but the `config*.py` files knows its keys.

No I/O here; `config_file.py` reads the file and words the mistakes.
"""

import hashlib
import ipaddress
import json
from typing import Any, Self

from pydantic import Field, PrivateAttr, model_validator

from imds_proxy.addresses import DEFAULT_ADMIN_LISTEN, DEFAULT_LISTEN
from imds_proxy.config.ages import age_mistakes
from imds_proxy.config.grants import (
    AccountName,
    AuditConfig,
    GrantConfig,
    Network,
    ServiceAccountsConfig,
    grant_mistakes,
)
from imds_proxy.config.listeners import clash_mistakes, listener_mistakes
from imds_proxy.config.output_files import OutputFileConfig, file_mistakes
from imds_proxy.config.paths import path_mistakes
from imds_proxy.config.positions import Places
from imds_proxy.config.roles import PER_SERVICE_ACCOUNT, AnyRole
from imds_proxy.config.types import (
    DAY,
    HOUR,
    MINUTE,
    AbsolutePath,
    HostName,
    Listen,
    Region,
    RoleName,
    Seconds,
    StateDirectory,
    Table,
    Zone,
)


class MetadataConfig(Table):
    """`[metadata]`: the data plane."""

    listen: tuple[Listen, ...] = Field((DEFAULT_LISTEN,), min_length=1, description="where SDKs connect")
    imds_v1: bool = Field(default=False, description="answer requests that carry no session token")
    hop_limit: int = Field(1, ge=1, le=64, description="IP TTL of token answers on link-local listeners")
    allowed_hosts: tuple[HostName, ...] = Field(
        (), description="Host names besides the listeners' literals and localhost"
    )
    rate_limit: int = Field(
        500, ge=0, le=100_000, description="session tokens and refused requests a second, for each caller; 0: no limit"
    )


class AdminConfig(Table):
    """`[admin]`: the control plane."""

    listen: Listen = Field(DEFAULT_ADMIN_LISTEN, description="metrics, health and status")
    allowed_hosts: tuple[HostName, ...] = Field((), description="Host names besides address literals and localhost")
    allowed_users: tuple[AccountName, ...] = Field(
        (), description="users of this host who see everything, besides root and the daemon's own"
    )
    allowed_addresses: tuple[Network, ...] = Field(
        (), description="addresses and CIDRs of other hosts that see everything; any other sees whether it is healthy"
    )
    certificate: AbsolutePath | None = Field(None, description="PEM, with its intermediates; left out: no TLS")
    private_key: AbsolutePath | None = Field(None, description="of the certificate: PEM, mode 600")
    client_ca: AbsolutePath | None = Field(
        None, description="PEM: who shows a certificate of these CAs sees everything; left out: nobody is asked for one"
    )

    @model_validator(mode="after")
    def _has_all_of_tls(self) -> Self:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key go together: one without the other is no TLS")
        if self.client_ca is not None and self.certificate is None:
            raise ValueError("client_ca needs certificate and private_key: only over TLS a client shows a certificate")
        return self


class RenewalConfig(Table):
    """`[renewal]`."""

    max_age: Seconds | None = Field(None, ge=1, description="renew at least this often")
    start_grace: Seconds = Field(60, ge=0, description="report READY after this long even without first credentials")
    idle_after: Seconds = Field(
        2 * HOUR, ge=MINUTE, description='a role with serve = "on-demand" is let go when nobody asked for this long'
    )


class InstanceConfig(Table):
    """`[instance]`: what EC2 would say about this machine; every other key has a default made from it."""

    instance_id: str = Field(pattern=r"^m?i-[0-9a-f]{8,17}$", description="i-… or mi-…")
    availability_zone: Zone | None = Field(None, description="region and a letter, or a Local or Wavelength Zone")
    instance_type: str = "on-premises"
    image_id: str = "ami-00000000000000000"
    hostname: str | None = Field(None, description="left out: this host's name")
    local_ipv4: ipaddress.IPv4Address | None = Field(None, description="left out: the address of the default route")
    mac: str | None = Field(
        None, pattern=r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$", description="left out: the interface of local_ipv4"
    )
    tags: dict[str, str] = Field({}, description="served under tags/instance/")
    user_data: str | None = None


class BaseKeyConfig(Table):
    """`[base_key]`: the IAM user's key that this host starts from, in the shared credentials file."""

    rotate_every: Seconds | None = Field(None, ge=DAY, description="make a new key this often; left out: never")
    delete_after: Seconds = Field(DAY, ge=HOUR, description="how long the old key stays, deactivated, for a way back")
    profile: str = Field("default", min_length=1, description="the profile that holds the key")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.rotate_every is not None and self.delete_after > self.rotate_every:
            raise ValueError("delete_after is longer than rotate_every: IAM has no room for a third key meanwhile")
        return self


class Config(Table):
    """The whole file."""

    region: Region | None = Field(
        None, description="for STS, and what clients are told; left out: as the AWS SDKs find it"
    )
    state_dir: StateDirectory | None = Field(
        None, description='last good credentials and keys; "" keeps nothing on disk'
    )
    metadata: MetadataConfig = MetadataConfig()
    admin: AdminConfig = AdminConfig()
    renewal: RenewalConfig = RenewalConfig()
    base_key: BaseKeyConfig | None = None
    roles: dict[RoleName, AnyRole] = Field(min_length=1)
    instance: InstanceConfig | None = None
    files: tuple[OutputFileConfig, ...] = Field((), description="files to keep fresh")
    grants: tuple[GrantConfig, ...] = Field((), description="who may have which role; with one, nobody else anything")
    service_accounts: ServiceAccountsConfig | None = None
    audit: AuditConfig = AuditConfig()
    _places: Places = PrivateAttr(default_factory=Places)

    @property
    def places(self) -> Places:
        """Where in which file each key is, for what is said about it later."""
        return self._places

    def read_from(self, places: Places) -> Self:
        """The same config, with where its keys are."""
        self._places = places
        return self

    def fingerprint(self, name: str) -> str:
        """Equal for two roles only if everything that shapes their session is equal, all the way up the chain."""
        role = self.roles[name]
        parent = self.fingerprint(role.parent) if role.parent else None
        shape = role.model_dump(mode="json", exclude={"serve", "default", "allow_http"}) | {
            "from": parent,
            "region": self.region,
        }
        return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()

    @property
    def default_role(self) -> str | None:
        """The role that every caller may have: the one marked, or the only one there is to serve; none with grants."""
        if self.grants:
            return None
        served = {name: role for name, role in self.roles.items() if role.serve}
        marked = [name for name, role in served.items() if role.default]
        unmarked = [name for name, role in served.items() if role.default is None]
        return marked[0] if marked else unmarked[0] if len(served) == 1 and unmarked else None


def cross_check(data: dict[str, Any]) -> list[tuple[str, str]]:
    """Mistakes that span tables, as (key path, what is wrong); in the raw data, so that they show with all others."""
    roles = data.get("roles")
    tables = {name: role for name, role in roles.items() if isinstance(role, dict)} if isinstance(roles, dict) else {}
    served = {name: role for name, role in tables.items() if role.get("serve", True) is not False}
    marked = [name for name, role in served.items() if role.get("default") is True]
    mistakes: list[tuple[str, str]] = []
    if tables and not served:
        mistakes.append(("roles", "no role is served: every one has serve = false"))
    mistakes += [(f"roles.{name}.default", f"roles.{marked[0]} is the default already") for name in marked[1:]]
    unsaid = any("default" not in role for role in served.values())
    if len(served) > 1 and unsaid and not marked and not data.get("grants"):
        advice = "mark one of them default = true, or say in [[grants]] who may have which"
        mistakes.append(("roles", f"{len(served)} roles are served: {advice}"))
    mistakes += _chain_mistakes({name: role.get("from") for name, role in tables.items()})
    mistakes += _per_service_account_mistakes(tables, data)
    mistakes += [*file_mistakes(data), *path_mistakes(data), *grant_mistakes(data), *age_mistakes(data)]
    return [*mistakes, *listener_mistakes(data), *clash_mistakes(data)]


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


def _per_service_account_mistakes(tables: dict[str, Any], data: dict[str, Any]) -> list[tuple[str, str]]:
    """What cannot be of a role with a session for each service account, because it has none of its own."""
    tagged = {name: role for name, role in tables.items() if role.get("tags") == PER_SERVICE_ACCOUNT}
    files = data.get("files")
    entries = [file if isinstance(file, dict) else {} for file in files] if isinstance(files, list) else []
    wrong = [(f"files.{number}.role", file.get("role")) for number, file in enumerate(entries)]
    wrong += [(f"roles.{name}.from", role.get("from")) for name, role in tables.items()]
    wrong += [(f"roles.{name}.default", name) for name, role in tagged.items() if role.get("default") is True]
    why = f'roles.{{}} has tags = "{PER_SERVICE_ACCOUNT}": it has sessions for service accounts and none besides'
    mistakes = [(key, why.format(name)) for key, name in wrong if isinstance(name, str) and name in tagged]
    if not data.get("grants"):
        what = "say in [[grants]] which service_account may have the role"
        mistakes += [(f"roles.{name}.tags", what) for name in tagged]
    return mistakes
