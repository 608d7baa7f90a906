"""The config as validated values, with every mistake in it at once."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from imds_proxy import partitions
from imds_proxy.config import document as config_read
from imds_proxy.config.document import told_number
from imds_proxy.config.model import Config, cross_check
from imds_proxy.config.positions import Places
from imds_proxy.config.roles import ROLE_TABLES
from imds_proxy.config.words import advice_for_unknown, bracket_mistake, nameless_role, value_at, without_source
from imds_proxy.errors import ConfigError

Also = Callable[[dict[str, Any]], tuple[str, list[tuple[str, str]]]]
"""What else is wrong, looked for where there are mistakes: words for the message, and each as (key path, what)."""


def load(path: Path, also: Also | None = None) -> Config:
    """Read and validate the config at `path`, and in `conf.d` beside it.

    Args:
        path: Of the file.
        also: Looks for more to tell of beside mistakes.

    Raises:
        UnreadableError: This user may not read all of it.
        ConfigError: With every mistake at once, each with its file, line and key path, what was expected and the
            nearest right key.
    """
    document = config_read.read(path)
    return parse(document.data, document.where, document.places, also)


def parse(data: dict[str, Any], where: str, places: Places | None = None, also: Also | None = None) -> Config:
    """Validate data that came from `where`; raises ConfigError as `load` does.

    Args:
        data: As TOML has it.
        where: For a message about all of it.
        places: Where each key is; left out: mistakes are told by their key paths alone.
        also: As for `load`.
    """
    partitions.load()  # here, where a file may be read: whoever asks for one later is on the event loop
    found = cross_check(data)
    config = None
    try:
        # Through JSON, because strict there means TOML's own types: "yes" is no boolean, and an array is a tuple.
        config = Config.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        found = [*_worded(error.errors(include_url=False, include_input=False), data), *found]
    places = places or Places()
    if config is None or found:
        mistakes = tuple(dict.fromkeys(places.told(key, what) for key, what in found))
        words, others = also(data) if also is not None else ("", [])
        told = (places.told(key, what) if key else what for key, what in others)
        raise ConfigError(f"{where}: {told_number(mistakes)}{words}", (*mistakes, *told))
    return config.read_from(places)


def _causes(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """Without what only follows from others: an array whose every item is wrong also counts as too short."""
    deeper = {error["loc"][:-1] for error in errors}
    return [error for error in errors if error["type"] != "too_short" or error["loc"] not in deeper]


def _worded(errors: list[ErrorDetails], data: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Each mistake as its key path, as the file has it, and what is wrong."""
    for error in _causes(errors):
        location = [part for part in error["loc"] if part != "[key]"]
        path = _in_file(without_source(location), data)
        if nameless_role(path, data):
            yield "roles", "has a table for each role: write [roles.NAME], with the role's name in the brackets"
        elif error["type"] == "union_tag_invalid":
            yield _joined([*path, "source"]), f"expected one of {', '.join(ROLE_TABLES)}"
        else:
            yield _joined(path), _what(error, location, value_at(path, data))


def _what(error: ErrorDetails, location: list[int | str], value: object) -> str:
    if error["type"] == "extra_forbidden":
        return f"unknown key; {advice_for_unknown(location, value)}"
    if error["type"] == "missing":
        return "is required"
    if error["type"] in _OF_A_TABLE and (mistake := bracket_mistake(without_source(location), value)) is not None:
        return mistake
    return _expectation(error) + _quotes(value, error)


_OF_A_TABLE = {"dict_type", "model_type", "tuple_type"}


def _joined(location: list[int | str]) -> str:
    return ".".join(map(str, location))


def _in_file(location: list[int | str], data: Any) -> list[int | str]:
    """A key path as the file has it: a single value in place of an array is no item 0 of one."""
    for depth, part in enumerate(location):
        if isinstance(part, int) and not isinstance(data, list):
            return location[:depth]
        data = data[part] if isinstance(part, int) else data.get(part) if isinstance(data, dict) else None
    return location


def _quotes(value: object, error: ErrorDetails) -> str:
    """For text that would be right without its quotes."""
    if not isinstance(value, str):
        return ""
    wants_number = error["type"] == "int_type" and value.isdecimal()
    wants_truth = "expected true" in _expectation(error) and value in {"true", "false"}
    return ", without quotes" if wants_number or wants_truth else ""


def _expectation(error: ErrorDetails) -> str:
    key = next((part for part in reversed(error["loc"]) if isinstance(part, str)), "")
    if error["type"] == "string_pattern_mismatch" and key in _PATTERNS:
        return _PATTERNS[key]
    if error["type"] in {"greater_than_equal", "less_than_equal"} and key == "duration":
        return "expected from 15m to 12h"
    if error["type"] in _TYPES:
        return _TYPES[error["type"]]
    return (
        error["msg"].removeprefix("Value error, ").replace("String should", "should").replace("Input should", "should")
    )


# What pydantic calls a type, as somebody who writes TOML would.
_TYPES = {
    "bool_type": "expected true or false",
    "dict_type": "expected a table",
    "int_type": "expected a whole number",
    "model_type": "expected a table",
    "string_type": 'expected text in quotes, as in "text"',
    "too_short": "expected at least one",
    "tuple_type": 'expected an array, as in ["one", "two"]',
}

# What a pattern means, for the keys where a regular expression would not tell the operator.
_PATTERNS = {
    "[key]": "a role name has 1 to 64 letters, digits or _+=,.@-",
    "role_arn": "expected arn:aws:iam::ACCOUNT:role/NAME, with the account's 12 digits",
    "policy_arns": "expected the ARN of a managed policy, such as arn:aws:iam::aws:policy/ReadOnlyAccess",
    "external_id": "expected letters, digits or _+=,.@:/-",
    "source_identity": "expected letters, digits or _+=,.@-",
    "instance_id": "expected i- or mi- and 8 to 17 hexadecimal digits",
    "trust_anchor_arn": "expected arn:aws:rolesanywhere:REGION:ACCOUNT:trust-anchor/ID",
    "profile_arn": "expected arn:aws:rolesanywhere:REGION:ACCOUNT:profile/ID (of Roles Anywhere, not of IAM)",
    "url": "expected an http:// or https:// URL",
    "endpoint": "expected an http:// or https:// URL",
    "mac": "expected a MAC address such as 02:00:5e:00:53:01",
    "service_account": 'expected "NAMESPACE/NAME" or "NAMESPACE/*"',
    "jwks_url": "expected an https:// URL, such as https://API-SERVER:6443/openid/v1/jwks",
    "sts_endpoint": 'expected a URL such as "https://vpce-….sts.eu-west-1.vpce.amazonaws.com"',
}
