"""Everything that can go wrong, in words for the operator.

The library raises; only the command line exits. No message holds a secret.
"""

from typing import ClassVar, Final, Self

from imds_proxy.printable import printable, printable_lines

_LINES_OF_A_MISTAKE: Final = "\n    "


class ImdsProxyError(Exception):
    """Base of every error this project raises on purpose. Its words may be shown anywhere: they are made printable.

    Args:
        message: What happened, in one line.
        advice: What to do about it; may span lines, empty when there is nothing to do.
    """

    def __init__(self, message: str, advice: str = "") -> None:
        self.message = printable(message)
        super().__init__(self.message)
        self.advice = printable_lines(advice)


class ConfigError(ImdsProxyError):
    """The config file cannot be used.

    Args:
        message: As above.
        mistakes: Every one found, each a line of its own; further lines of it, such as an example's, begin with four
            spaces, so that no text from outside can look like another message.
    """

    def __init__(self, message: str, mistakes: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.mistakes = tuple(
            _LINES_OF_A_MISTAKE.join(map(printable, each.split(_LINES_OF_A_MISTAKE))) for each in mistakes
        )
        self.message = "\n".join((self.message, *(f"  {mistake}" for mistake in self.mistakes)))
        self.args = (self.message,)


class ListenError(ImdsProxyError):
    """A listener could not be bound."""


class DaemonUnreachableError(ImdsProxyError):
    """A command needed the running daemon and did not get its answer."""


class ConnectionClosedError(DaemonUnreachableError):
    """The daemon closed the connection without an answer, as it does for a role without credentials."""


class NoCredentialsYetError(ImdsProxyError):
    """The daemon has no credentials of a role now: it may have them in a moment."""


class OutputError(ImdsProxyError):
    """Standard output cannot be written."""


class CannotRunError(ImdsProxyError):
    """A command could not be run. `code` is what a shell ends with then: 127 where there is none, 126 otherwise."""

    def __init__(self, message: str, advice: str, code: int) -> None:
        super().__init__(message, advice)
        self.code = code


class ForeignListenerError(ImdsProxyError):
    """Another user listens where the daemon was expected; nothing was sent there."""


class FileError(ImdsProxyError):
    """A file could not be kept fresh; the one before is whole."""


class SourceError(ImdsProxyError):
    """Credentials could not be obtained. `outcome` is the label in `renewals_total`."""

    outcome: ClassVar[str] = "invalid"
    is_of_the_clock = False
    """Whether AWS refused a signature for its time. It says what time it is there: the next one may be right."""
    retry_after = 0.0
    """Seconds that the service asked us to wait; 0 where it did not."""


class Denied(SourceError):  # noqa: N818 - the four outcomes are named as the metric's label is
    """AWS answered no: trust, permission, or the base credentials themselves."""

    outcome = "denied"

    @classmethod
    def of_the_clock(cls, message: str, advice: str) -> Self:
        """The error for a signature that was refused for its time."""
        error = cls(message, advice)
        error.is_of_the_clock = True
        return error


class Throttled(SourceError):  # noqa: N818
    """AWS asked for fewer calls, in `retry_after` seconds if it said so."""

    outcome = "throttled"

    def __init__(self, message: str, advice: str = "", retry_after: float = 0.0) -> None:
        super().__init__(message, advice)
        self.retry_after = retry_after


class Unreachable(SourceError):  # noqa: N818
    """No answer: network, DNS, proxy, TLS, time limit, or a server-side error."""

    outcome = "unreachable"


class Invalid(SourceError):  # noqa: N818
    """The request or the answer makes no sense; trying harder will not help."""

    outcome = "invalid"
