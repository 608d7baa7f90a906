"""What every source is."""

from typing import Protocol

from imds_proxy.credentials import Credentials


class Source(Protocol):
    """One way to obtain one role's credentials."""

    async def fetch(self) -> Credentials:
        """Obtain fresh credentials; ends by itself within a time limit of its own.

        Raises:
            SourceError: As Denied, Throttled, Unreachable or Invalid, in words for the operator.
        """
