"""Reading the config file, and wording every mistake in it for the person who wrote it."""

import difflib
import json
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from imds_proxy.config import Config, cross_check
from imds_proxy.config_roles import ROLE_TABLES
from imds_proxy.config_toml import TomlError, read_toml
from imds_proxy.errors import ConfigError
from imds_proxy.host import access_advice


def load(path: Path) -> Config:
    """Read and validate `path`.

    Raises:
        ConfigError: With every mistake at once, each with its key path, what was expected and the nearest right key.
    """
    try:
        text = path.read_text("utf-8")
    except PermissionError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", (access_advice.readable(str(path)),)) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    try:
        data = read_toml(text)
    except TomlError as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}") from None
    return parse(data, str(path))


def parse(data: dict[str, Any], where: str) -> Config:
    """Validate data that came from `where`; raises ConfigError as `load` does."""
    mistakes = [f"{key}: {what}" for key, what in cross_check(data)]
    config = None
    try:
        # Through JSON, because strict there means TOML's own types: "yes" is no boolean, and an array is a tuple.
        config = Config.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        mistakes = [*map(_mistake, _causes(error.errors(include_url=False, include_input=False))), *mistakes]
    if config is None or mistakes:
        plural = "mistake" if len(mistakes) == 1 else "mistakes"
        raise ConfigError(f"{where}: {len(mistakes)} {plural}", tuple(mistakes))
    return config


def _causes(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """Without what only follows from others: an array whose every item is wrong also counts as too short."""
    deeper = {error["loc"][:-1] for error in errors}
    return [error for error in errors if error["type"] != "too_short" or error["loc"] not in deeper]


def _mistake(error: ErrorDetails) -> str:
    location = [part for part in error["loc"] if part != "[key]"]
    path = ".".join(str(part) for part in _without_tag(location))
    if error["type"] == "extra_forbidden":
        return f"{path}: unknown key{_nearest(location)}"
    if error["type"] == "union_tag_invalid":
        return f"{path}.source: expected one of {', '.join(ROLE_TABLES)}"
    if error["type"] == "missing":
        return f"{path}: is required"
    return f"{path}: {_expectation(error)}"


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
    "sts_regions": 'expected regions such as "eu-west-1"',
    "region": 'expected a region such as "eu-west-1"',
    "availability_zone": 'expected the region and one letter, such as "eu-west-1a"',
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


def _nearest(location: list[int | str]) -> str:
    """`; did you mean "x"?` for an unknown key, or which keys there are."""
    known = [field.alias or name for name, field in _model_at(location[:-1]).model_fields.items()]
    close = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else f"; known here: {', '.join(known)}"


def _without_tag(location: list[int | str]) -> list[int | str]:
    """A key path without the source that pydantic puts behind a role's name."""
    tagged = location[:1] == ["roles"] and len(location) > _TAG_AT and location[_TAG_AT] in ROLE_TABLES
    return location[:_TAG_AT] + location[_TAG_AT + 1 :] if tagged else location


_TAG_AT = 2


def _model_at(location: list[int | str]) -> type[BaseModel]:
    """The model whose table stands at a key path."""
    if location[:1] == ["roles"] and len(location) > _TAG_AT:
        return ROLE_TABLES[str(location[_TAG_AT])]
    model: type[BaseModel] = Config
    for part in location:
        field = model.model_fields.get(str(part))
        inner = next(_models_in(field.annotation), None) if field else None
        model = inner or model  # a role's name is a key of the file, not a field
    return model


def _models_in(annotation: object) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
