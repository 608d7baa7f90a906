"""`[roles.NAME]`: one table for each way to obtain credentials, told apart by `source`."""

import unicodedata
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from imds_proxy.config.http_role import HttpConfig, in_the_clear, is_private_channel
from imds_proxy.config.role_base import RoleConfig
from imds_proxy.config.types import (
    DAY,
    HOUR,
    MINUTE,
    AbsolutePath,
    Command,
    HttpUrl,
    Policy,
    PolicyArn,
    ProfileArn,
    Region,
    RoleArn,
    RoleName,
    Seconds,
    SessionName,
    TagKey,
    TagValue,
    TrustAnchorArn,
)

DEFAULT_SOURCE = "assume-role"
PER_SERVICE_ACCOUNT = "service-account"
SERVICE_ACCOUNT_TAGS = {
    "kubernetes-namespace": "{namespace}",
    "kubernetes-service-account": "{service_account}",
    "kubernetes-pod-name": "{pod_name}",
    "kubernetes-pod-uid": "{pod_uid}",
}
"""What `tags = "service-account"` stands for; each session has its own values in the place of these, which AWS would
refuse. The names are those of EKS Pod Identity."""


def _tags(value: object) -> object:
    if isinstance(value, str) and value != PER_SERVICE_ACCOUNT:
        raise ValueError(f'expected a table of tags, or "{PER_SERVICE_ACCOUNT}"')
    return SERVICE_ACCOUNT_TAGS if value == PER_SERVICE_ACCOUNT else value


def _of_sts(tags: dict[str, str]) -> dict[str, str]:
    """Tags as STS takes them ("Pass session tags in AWS STS" of the IAM user guide)."""
    for key, value in tags.items() if tags != SERVICE_ACCOUNT_TAGS else ():
        if {"{", "}"} & {*key, *value}:
            raise ValueError(f"{key!r}: tags hold no placeholders: write the value out")
        if wrong := next((each for each in key + value if not _may_be_in_a_tag(each)), None):
            raise ValueError(f"{key!r}: AWS takes letters, numbers, spaces and _.:/=+-@ in a tag, and no {wrong!r}")
        if key.lower().startswith("aws:"):
            raise ValueError(f"{key!r}: tags that begin with aws: are AWS's own")
    return tags


def _may_be_in_a_tag(character: str) -> bool:
    return character in "_.:/=+-@" or unicodedata.category(character)[0] in "LNZ"


Tags = Annotated[
    dict[TagKey, TagValue],
    Field(max_length=50),
    AfterValidator(_of_sts),
    BeforeValidator(_tags, json_schema_input_type=dict[TagKey, TagValue] | Literal["service-account"]),
]


class StsConfig(RoleConfig):
    """What AssumeRole and AssumeRoleWithWebIdentity share. STS parameters are AWS's, by AWS's names."""

    role_arn: RoleArn
    session_name: SessionName = Field("{hostname}", description="may hold {hostname}, {fqdn} and {machine_id}")
    duration: Seconds = Field(HOUR, ge=15 * MINUTE, le=12 * HOUR)
    policy: Policy | None = Field(None, description="session policy")
    policy_arns: tuple[PolicyArn, ...] = Field((), max_length=10)
    sts_endpoint: HttpUrl | None = Field(None, description="a private STS endpoint")
    sts_regions: tuple[Region, ...] = Field((), description="tried in order; left out: the region above")
    allow_http: bool = Field(default=False, description="let sts_endpoint be plain HTTP beyond this host")

    @model_validator(mode="after")
    def _sends_nothing_in_the_clear(self) -> Self:
        if self.allow_http and self.sts_endpoint is None:
            raise ValueError("allow_http is for sts_endpoint")
        if self.sts_endpoint is not None and not self.allow_http and not is_private_channel(self.sts_endpoint):
            raise ValueError(in_the_clear("sts_endpoint"))
        return self


class AssumeRoleConfig(StsConfig):
    """`source = "assume-role"`, the default."""

    source: Literal["assume-role"] = "assume-role"
    from_: RoleName | None = Field(None, alias="from", description="the role here whose credentials call STS")
    external_id: str | None = Field(None, min_length=2, max_length=1224, pattern=r"^[A-Za-z0-9_+=,.@:/\\-]*$")
    tags: Tags = Field({}, description='"service-account": a session for each, with its name and pod in the tags')
    transitive_tag_keys: tuple[TagKey, ...] = Field((), max_length=50)
    source_identity: str | None = Field(None, min_length=2, max_length=64, pattern=r"^[A-Za-z0-9_+=,.@-]*$")
    profile: str | None = Field(None, min_length=1, description="the daemon's own AWS profile for this call")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.from_ is not None and self.profile is not None:
            raise ValueError("has both from and profile: one of them says whose credentials call STS")
        if missing := [key for key in self.transitive_tag_keys if key not in self.tags]:
            raise ValueError(f"transitive_tag_keys names {missing[0]!r}, which is not in tags")
        return self

    @property
    def parent(self) -> str | None:
        """The role named by `from`."""
        return self.from_

    @property
    def per_service_account(self) -> bool:
        """As `tags` says."""
        return self.tags == SERVICE_ACCOUNT_TAGS

    @property
    def nobodys(self) -> Self:
        """Without the placeholders, which AWS would refuse."""
        return self.with_tags({}) if self.per_service_account else self

    def with_tags(self, tags: dict[str, str]) -> Self:
        """The same role with other session tags, of which those stay transitive that were."""
        transitive = tuple(key for key in self.transitive_tag_keys if key in tags)
        return self.model_copy(update={"tags": tags, "transitive_tag_keys": transitive})


class RolesAnywhereConfig(RoleConfig):
    """`source = "roles-anywhere"`: an X.509 certificate, by IAM Roles Anywhere."""

    source: Literal["roles-anywhere"]
    role_arn: RoleArn
    trust_anchor_arn: TrustAnchorArn
    profile_arn: ProfileArn
    certificate: AbsolutePath = Field(description="PEM, or PKCS#12 with its key; intermediates may follow in it")
    private_key: str | None = Field(None, description="PEM file, or pkcs11: URI; left out: in the certificate's file")
    intermediates: AbsolutePath | None = Field(None, description="PEM file of the certificates up to the trust anchor")
    passphrase_file: AbsolutePath | None = Field(
        None, description="of the private key, the PKCS#12 file or the token (PIN)"
    )
    pkcs11_module: AbsolutePath | None = Field(None, description="the token's library, for a pkcs11: private_key")
    session_name: SessionName | None = Field(None, description="only if the profile accepts one")
    duration: Seconds = Field(HOUR, ge=15 * MINUTE, le=12 * HOUR)
    region: Region | None = Field(None, description="left out: the trust anchor's")
    endpoint: HttpUrl | None = Field(None, description="a private Roles Anywhere endpoint")
    allow_http: bool = Field(default=False, description="let endpoint be plain HTTP beyond this host")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        key = self.private_key
        if key is not None and not key.startswith(("/", "pkcs11:")):
            raise ValueError("private_key is an absolute path or a pkcs11: URI")
        if (key or "").startswith("pkcs11:") != (self.pkcs11_module is not None):
            raise ValueError("pkcs11_module and a pkcs11: private_key go together")
        if self.trust_anchor_arn.split(":")[3] != self.profile_arn.split(":")[3]:
            raise ValueError("trust_anchor_arn and profile_arn are of different regions")
        if self.allow_http and self.endpoint is None:
            raise ValueError("allow_http is for endpoint")
        if self.endpoint is not None and not self.allow_http and not is_private_channel(self.endpoint):
            raise ValueError(in_the_clear("endpoint"))
        return self


class WebIdentityConfig(StsConfig):
    """`source = "web-identity"`: an OIDC token, from a file or a command."""

    source: Literal["web-identity"]
    token_file: AbsolutePath | None = Field(None, description="read at every renewal")
    token_command: Command | None = Field(None, description="prints the token")
    audience: str | None = Field(
        None, min_length=1, description="what the token's aud has to be; left out: AWS decides"
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if (self.token_file is None) == (self.token_command is None):
            raise ValueError("takes one of token_file and token_command")
        return self


class ProcessConfig(RoleConfig):
    """`source = "process"`: the credential_process contract, version 1."""

    source: Literal["process"]
    command: Command = Field(description="an array, or one line; no shell runs it")
    timeout: Seconds = Field(MINUTE, ge=1, le=10 * MINUTE)


class FileConfig(RoleConfig):
    """`source = "file"`: credentials that something else puts on the host."""

    source: Literal["file"]
    path: AbsolutePath
    format: Literal["json", "imds", "ini"] = Field("json", description="json: the credential_process document")
    profile: str = Field("default", min_length=1, description="of an INI file")
    lifetime: Seconds | None = Field(None, ge=MINUTE, le=7 * DAY, description="of an INI file that has no expiry")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.format != "ini" and (extra := self.model_fields_set & {"profile", "lifetime"}):
            raise ValueError(f'{min(extra)} is for format = "ini"; the other documents say it themselves')
        return self


class AmbientConfig(RoleConfig):
    """`source = "ambient"`: what the daemon's own AWS chain gives (SSO cache, profile, environment)."""

    source: Literal["ambient"]
    profile: str | None = Field(None, min_length=1, description="left out: as the AWS SDKs choose it")


def source_of(role: Any) -> str:
    """Which table a role's is."""
    source = role.get("source", DEFAULT_SOURCE) if isinstance(role, dict) else getattr(role, "source", DEFAULT_SOURCE)
    return source if isinstance(source, str) else ""


AnyRole = Annotated[
    Annotated[AssumeRoleConfig, Tag("assume-role")]
    | Annotated[RolesAnywhereConfig, Tag("roles-anywhere")]
    | Annotated[WebIdentityConfig, Tag("web-identity")]
    | Annotated[ProcessConfig, Tag("process")]
    | Annotated[FileConfig, Tag("file")]
    | Annotated[HttpConfig, Tag("http")]
    | Annotated[AmbientConfig, Tag("ambient")],
    Discriminator(source_of),
]
"""Any role; each source is a member of this union."""

ROLE_TABLES: dict[str, type[RoleConfig]] = {
    "assume-role": AssumeRoleConfig,
    "roles-anywhere": RolesAnywhereConfig,
    "web-identity": WebIdentityConfig,
    "process": ProcessConfig,
    "file": FileConfig,
    "http": HttpConfig,
    "ambient": AmbientConfig,
}
"""The same by the name in `source`."""
