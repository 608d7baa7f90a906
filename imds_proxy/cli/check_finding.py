"""What `imds-proxy check` finds on this host: where in the config it is from, what it is, and what to do."""

from typing import NamedTuple

from imds_proxy.errors import ImdsProxyError

Key = tuple[str | int, ...]
"""A key path; empty: of the config file itself."""


class Finding(NamedTuple):
    """One of them.

    Args:
        key: Of the config.
        what: In one line.
        advice: Empty where there is nothing to say.
        is_remark: Whether the daemon serves all the same, as it should.
    """

    key: Key
    what: str
    advice: str = ""
    is_remark: bool = False

    @classmethod
    def of(cls, key: Key, error: ImdsProxyError) -> "Finding":
        """That of an error, in its words."""
        return cls(key, error.message, error.advice)

    @property
    def path(self) -> str:
        """The key path as the config's mistakes have it: `roles.deploy.duration`."""
        return ".".join(map(str, self.key))
