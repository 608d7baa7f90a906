"""AWS settings of this host that cannot be used: what is wrong with one, what says it, and what to mend.

They are found before a request is sent. Nobody else is to blame for them, and trying again does not help.
"""

from imds_proxy.errors import Invalid, SourceError


class SettingError(Exception):
    """A setting of the environment or of the AWS files.

    botocore and aiohttp raise it through, or as the cause of an error of their own.

    Args:
        error: What is wrong, in words that name the setting and no role; of the kind that the role's error will be.
    """

    def __init__(self, error: SourceError) -> None:
        super().__init__(error.message)
        self.error = error

    @classmethod
    def invalid(cls, message: str, advice: str) -> "SettingError":
        """The usual kind."""
        return cls(Invalid(message, advice))
