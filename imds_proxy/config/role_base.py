"""What the table of every role has, whatever its `source` is."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field

from imds_proxy.config.types import RoleArn, Table

ON_DEMAND = "on-demand"


def _serve(value: object) -> object:
    if not isinstance(value, bool) and value != ON_DEMAND:
        raise ValueError(f'expected true, false or "{ON_DEMAND}"')
    return value


Serve = Annotated[bool | Literal["on-demand"], BeforeValidator(_serve)]


class RoleConfig(Table):
    """What every role has."""

    source: str
    role_arn: RoleArn | None = Field(None, description="what clients are told; nothing is checked against it")
    serve: Serve = Field(
        default=True,
        description='false: a step of a chain only, never handed out; "on-demand": kept while somebody asks for it',
    )
    default: bool | None = Field(None, description="the role that callers without a grant of their own get")

    @property
    def parent(self) -> str | None:
        """The role whose credentials obtain this one's."""
        return None

    @property
    def per_service_account(self) -> bool:
        """Whether each service account and pod gets a session of its own."""
        return False

    @property
    def nobodys(self) -> Self:
        """The same role for nobody in particular, to try whether it can be had: without a service account's tags."""
        return self

    @property
    def account_id(self) -> str | None:
        """The account of the role, where the config says it."""
        return self.role_arn.split(":")[4] if self.role_arn else None
