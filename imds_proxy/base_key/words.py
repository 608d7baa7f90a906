"""Whose a message is: errors of roles, in words that name none."""

from typing import Final

from imds_proxy.errors import SourceError

LABEL: Final = "base key"
_PREFIX: Final = f'role "{LABEL}": '


def told(error: SourceError, *, and_so: str = "", advice: str | None = None) -> SourceError:
    """The same error without the role it is not about.

    Args:
        error: What was raised.
        and_so: What follows from it, for the message.
        advice: In place of the error's own.
    """
    message = error.message.replace(_PREFIX, "") + (f"; {and_so}" if and_so else "")
    same = type(error)(message, error.advice if advice is None else advice)
    same.is_of_the_clock = error.is_of_the_clock
    return same
