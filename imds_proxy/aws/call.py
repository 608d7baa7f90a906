"""One call of AWS, as messages name it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from imds_proxy.credentials import Secret


@dataclass(frozen=True, slots=True)
class Call:
    """What was tried, for the message: never holds a secret."""

    role: str
    action: str
    target: str = ""
    endpoint: str = ""
    identity: str = ""
    """Who called: an ARN where known, else which provider of the chain the key came from and its last four."""
    sent: Iterable[Secret | str] = field(default=(), repr=False)
    """The secrets that were sent: nothing of them is shown of what the other end says."""

    @property
    def is_of_sts(self) -> bool:
        """Whether STS was asked, and not another service of AWS's."""
        return self.action.startswith("sts:")

    def message(self, what: str) -> str:
        """What happened, with the role and the call before it."""
        return f'role "{self.role}": {self}: {what}'

    def __str__(self) -> str:
        said = (("", self.action), ("on ", self.target), ("as ", self.identity), ("at ", self.endpoint))
        return " ".join(f"{word}{value}" for word, value in said if value)
