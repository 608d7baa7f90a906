"""Which roles a caller may have over the instance metadata protocol."""

from collections.abc import Mapping

from imds_proxy.callers.caller import Caller
from imds_proxy.renewal.keeper import Keeper


class Grants:
    """The decision, for one config. Without a grant of its own a caller has the default role and no other.

    Other roles are reached over the container protocol, with the token of each.
    """

    def __init__(self, keepers: Mapping[str, Keeper], default: str | None) -> None:
        self._default = {default: keepers[default]} if default is not None else {}

    def roles_for(self, caller: Caller) -> Mapping[str, Keeper]:  # noqa: ARG002 - one answer until grants are configured
        """The roles `caller` may have, the one its list shows first."""
        return self._default
