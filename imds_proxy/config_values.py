"""What a value in the config file may be: durations, addresses, ARNs, paths, commands."""

import json
import re
import shlex
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, StringConstraints

from imds_proxy.addresses import SYSTEMD_PREFIX, split_listen

MINUTE, HOUR, DAY = 60, 3600, 86400
KILOBYTE, MEGABYTE = 1000, 1000_000
_DURATION = re.compile(r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?", re.ASCII)


def parse_duration(value: object) -> object:
    """`"1h"`, `"90m"`, `"1h30m"`, `"900s"` or a whole number of seconds; anything else raises ValueError."""
    if isinstance(value, str) and value and (match := _DURATION.fullmatch(value)):
        amounts = (int(amount or 0) for amount in match.groups())
        return sum(amount * unit for amount, unit in zip(amounts, (DAY, HOUR, MINUTE, 1), strict=True))
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError('expected a duration such as "1h", "30m" or "900s"')


_SIZE = re.compile(r"([0-9]{1,15})([kMG]?B)")
_SIZE_UNITS = {"B": 1, "kB": KILOBYTE, "MB": MEGABYTE, "GB": 1000 * MEGABYTE}


def parse_size(value: object) -> object:
    """`"64MB"`, `"500kB"`, `"2GB"` or a whole number of bytes; anything else raises ValueError. Units are decimal."""
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        return int(match[1]) * _SIZE_UNITS[match[2]]
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError('expected a size such as "64MB" or "2GB"')


def _listen(value: str) -> str:
    if value.startswith(SYSTEMD_PREFIX):
        if value == SYSTEMD_PREFIX:
            raise ValueError("expected the socket's FileDescriptorName after systemd:")
        return value
    split_listen(value)
    return value


def _policy(value: object) -> object:
    """An IAM policy as a TOML table or as JSON text; kept as compact JSON text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"expected an IAM policy as a table or as JSON: {error}") from None
        except (ValueError, RecursionError):  # a number of thousands of digits; nested deep
            raise ValueError("expected an IAM policy as a table or as JSON") from None
    if not isinstance(value, dict):
        raise ValueError("expected an IAM policy as a table or as JSON")  # noqa: TRY004 - pydantic reports ValueError
    return json.dumps(value, separators=(",", ":"))


def _absolute(value: str) -> str:
    if not PurePosixPath(value).is_absolute() or "\0" in value:
        raise ValueError("expected an absolute path, as in /etc/imds-proxy/…")
    return value


def _command(value: object) -> object:
    """A program and its arguments: an array, or one line that is split as a shell would, but never run by one."""
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError as error:
            raise ValueError(f"cannot be split into arguments: {error}") from None
    if not isinstance(value, list) or not value or not all(isinstance(part, str) for part in value) or not value[0]:
        raise ValueError('expected a command, as in ["/usr/bin/helper", "--option"] or "/usr/bin/helper --option"')
    if any("\0" in part for part in value):
        raise ValueError("an argument holds a null character")
    return tuple(value)


Seconds = Annotated[int, BeforeValidator(parse_duration, json_schema_input_type=str | int)]
Bytes = Annotated[int, BeforeValidator(parse_size, json_schema_input_type=str | int)]
Listen = Annotated[str, AfterValidator(_listen)]
Policy = Annotated[str, BeforeValidator(_policy, json_schema_input_type=str | dict[str, Any])]
AbsolutePath = Annotated[str, AfterValidator(_absolute)]
Command = Annotated[tuple[str, ...], BeforeValidator(_command, json_schema_input_type=str | list[str])]
RoleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_+=,.@-]{0,63}$")]
RoleArn = Annotated[str, StringConstraints(pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]+$")]
PolicyArn = Annotated[
    str, StringConstraints(pattern=r"^arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/[A-Za-z0-9_+=,.@/-]+$")
]
Region = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]$")]
TrustAnchorArn = Annotated[
    str, StringConstraints(pattern=r"^arn:aws[a-z-]*:rolesanywhere:[a-z0-9-]+:[0-9]{12}:trust-anchor/[0-9a-f-]{36}$")
]
ProfileArn = Annotated[
    str, StringConstraints(pattern=r"^arn:aws[a-z-]*:rolesanywhere:[a-z0-9-]+:[0-9]{12}:profile/[0-9a-f-]{36}$")
]
HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^/\s]+(/.*)?$")]
TagKey = Annotated[str, StringConstraints(min_length=1, max_length=128)]
TagValue = Annotated[str, StringConstraints(max_length=256)]


class Table(BaseModel):
    """A TOML table: unknown keys refused, never changed after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
