"""The credentials file as the agent finds it: is there a session in it, and for how long.

In: a path. Out: whose key, and until when. Errors: ConfigError, which repeats no line. "Configuration and
credential file settings" of the AWS CLI user guide.
"""

import configparser
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imds_proxy.access_key import SWAPPED, are_swapped, hint
from imds_proxy.codedeploy import agent_file
from imds_proxy.credentials import parse_time
from imds_proxy.errors import ConfigError

_PROFILE: Final = "default"
_FIELDS: Final = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
_EXPIRATION: Final = "aws_expiration"


@dataclass(frozen=True, slots=True)
class Held:
    """What the agent would use."""

    key: str
    """`…` and the last four characters."""
    expires: float | None
    """Seconds since the epoch; None: it does not say."""


def load(path: Path) -> Held:
    """What the profile that the agent reads holds; raises ConfigError where that is no session."""
    parser = configparser.RawConfigParser(default_section="", strict=False)
    text, is_marked = agent_file.read(path)
    try:
        parser.read_string(text)
    except configparser.Error:  # its text repeats the line
        raise ConfigError(f"{path} is no INI file") from None
    if is_marked:
        raise ConfigError(f"{path} begins with a byte order mark, which the agent does not read past")
    fields = dict(parser[_PROFILE]) if parser.has_section(_PROFILE) else {}
    if missing := [name for name in _FIELDS if not fields.get(name)]:
        raise ConfigError(f"{path} has no {missing[0]} in [{_PROFILE}]")
    if are_swapped(fields[_FIELDS[0]], fields[_FIELDS[1]]):
        raise ConfigError(f"{path}: {SWAPPED}")
    return Held(f"…{hint(fields[_FIELDS[0]])}", parse_time(fields.get(_EXPIRATION)))
