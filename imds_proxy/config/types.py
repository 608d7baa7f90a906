"""What a value in the config file may be: durations, addresses, ARNs, paths, commands."""

import ipaddress
import json
import re
import shlex
from pathlib import PurePosixPath
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from imds_proxy.addresses import SYSTEMD_PREFIX, split_listen
from imds_proxy.host.shell_mistake import shell_mistake
from imds_proxy.partitions import check_region, check_zone, is_known, of_region, region_mistake

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
    host = ipaddress.ip_address(split_listen(value)[0])
    if host.is_multicast:
        raise ValueError(f"{host} is the address of a group of hosts, where nothing connects to")
    if isinstance(host, ipaddress.IPv6Address):
        if host.ipv4_mapped is not None:
            raise ValueError(f"write {host.ipv4_mapped} in place of {host}: an IPv6 listener takes IPv6 alone")
        if host.is_link_local and host.scope_id is None:
            raise ValueError(f"a link-local address needs its interface, as in [{host}%eth0]:PORT")
    return value


_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,254}}$){_LABEL}(\.{_LABEL})*\.?")
_HOST_IN_URL = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*://)?(?:\[([^\]]*)\]|([^:/?#]*))(?::[0-9]*)?(?:[/?#].*)?")


def _host_name(value: str) -> str:
    """A name as a Host header has it, without its port; an address without brackets."""
    if _is_host(value):
        return value
    if value.isascii() and (match := _HOST_IN_URL.fullmatch(value)) and _is_host(name := match[1] or match[2] or ""):
        raise ValueError(f'expected a name alone, without scheme, port, path or brackets: write "{name}"')
    if "*" in value:
        raise ValueError("expected a host name: there are no wildcards, each name is written out")
    if not value.isascii():
        raise ValueError("expected a host name in ASCII, as clients send it: xn--… in place of other letters")
    raise ValueError('expected a host name, such as "metadata.internal"')


def _is_host(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return _HOST_NAME.fullmatch(value) is not None
    return True


SESSION_NAME_FIELDS = ("hostname", "fqdn", "machine_id")
"""What a session_name may hold in braces; `aws/session_name.py` has their values."""
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def _session_name(value: str) -> str:
    known = ", ".join(f"{{{name}}}" for name in SESSION_NAME_FIELDS)
    for name in _PLACEHOLDER.findall(value):
        if name not in SESSION_NAME_FIELDS:
            raise ValueError(f"there is no {{{name}}}: expected {known}")
    if set("{}") & set(_PLACEHOLDER.sub("", value)):
        raise ValueError(f"holds a brace that is not one of a pair: expected {known}")
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
    if "\0" in value:
        raise ValueError("holds a null character")
    if value.startswith("~"):
        raise ValueError("expected an absolute path: no shell reads it, and so ~ is no home: write it out")
    if not PurePosixPath(value).is_absolute():
        raise ValueError("expected an absolute path, as in /etc/imds-proxy/…")
    return value


def _state_dir(value: str) -> str:
    return _absolute(value) if value else value


def _command(value: object) -> object:
    """A program and its arguments: an array, or one line that is split as a shell would, but never run by one."""
    written = value
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError as error:
            raise ValueError(f"cannot be split into arguments: {error}") from None
    if not isinstance(value, list) or not value or not all(isinstance(part, str) for part in value) or not value[0]:
        raise ValueError('expected a command, as in ["/usr/bin/helper", "--option"] or "/usr/bin/helper --option"')
    if any("\0" in part for part in value):
        raise ValueError("an argument holds a null character")
    if mistake := shell_mistake(written if isinstance(written, str) else value):
        raise ValueError(mistake)
    program = value[0]
    if program.startswith("~") or ("/" in program and not program.startswith("/")):
        raise ValueError(
            "expected the program's absolute path, or a name that is looked for in PATH: no shell reads it, and the"
            " daemon's working folder is not yours"
        )
    return tuple(value)


def _listed(value: object) -> object:
    """A single value as a list of one; a list as the tuple that strict validation wants once it went through here."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) != len(values):
        raise ValueError("names the same twice")
    return values


class _OneOrSeveralSchema:
    """The JSON Schema of a value that is one item or an array of items."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        array = handler.resolve_ref_schema(handler(schema))
        return {"anyOf": [array["items"], array]}


Item = TypeVar("Item")
OneOrSeveral = Annotated[
    tuple[Item, ...],
    Field(min_length=1),
    AfterValidator(_distinct),
    BeforeValidator(_listed),
    _OneOrSeveralSchema(),
]
"""`"a"` or `["a", "b"]` in the file, a tuple in the model; an empty array, which could mean all or none, is refused."""


def _of_a_region(arn: str) -> str:
    """An ARN that names a region, and the partition that this is in."""
    _, partition, _, region, *_ = arn.split(":")
    if mistake := region_mistake(region):
        raise ValueError(f"its region: {mistake}")
    if is_known(region) and (name := of_region(region).name) != partition:
        raise ValueError(
            f"the region {region} is in the partition {name}: expected arn:{name}:…, not arn:{partition}:…"
        )
    return arn


Seconds = Annotated[int, BeforeValidator(parse_duration, json_schema_input_type=str | int)]
Bytes = Annotated[int, BeforeValidator(parse_size, json_schema_input_type=str | int)]
Listen = Annotated[str, AfterValidator(_listen)]
Policy = Annotated[str, BeforeValidator(_policy, json_schema_input_type=str | dict[str, Any])]
AbsolutePath = Annotated[str, AfterValidator(_absolute)]
StateDirectory = Annotated[str, AfterValidator(_state_dir)]
HostName = Annotated[str, AfterValidator(_host_name)]
SessionName = Annotated[str, StringConstraints(min_length=1), AfterValidator(_session_name)]
Command = Annotated[tuple[str, ...], BeforeValidator(_command, json_schema_input_type=str | list[str])]
RoleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_+=,.@-]{0,63}$")]
RoleArn = Annotated[str, StringConstraints(pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]+$")]
PolicyArn = Annotated[
    str, StringConstraints(pattern=r"^arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/[A-Za-z0-9_+=,.@/-]+$")
]
Region = Annotated[
    str, AfterValidator(check_region), WithJsonSchema({"type": "string", "pattern": "^[a-z]+(-[a-z]+)+(-[0-9]+)?$"})
]
Zone = Annotated[
    str,
    AfterValidator(check_zone),
    WithJsonSchema({"type": "string", "pattern": "^[a-z]+(-[a-z]+)+-[0-9]+[a-z0-9-]+$"}),
]
TrustAnchorArn = Annotated[
    str,
    StringConstraints(pattern=r"^arn:aws[a-z-]*:rolesanywhere:[a-z0-9-]+:[0-9]{12}:trust-anchor/[0-9a-f-]{36}$"),
    AfterValidator(_of_a_region),
]
ProfileArn = Annotated[
    str,
    StringConstraints(pattern=r"^arn:aws[a-z-]*:rolesanywhere:[a-z0-9-]+:[0-9]{12}:profile/[0-9a-f-]{36}$"),
    AfterValidator(_of_a_region),
]
HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^/\s]+(/.*)?$")]
TagKey = Annotated[str, StringConstraints(min_length=1, max_length=128)]
TagValue = Annotated[str, StringConstraints(max_length=256)]


class Table(BaseModel):
    """A TOML table: unknown keys refused, never changed after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
