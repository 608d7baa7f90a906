"""What to do about a key that its table does not have, or about a table with the wrong brackets."""

import difflib
from collections.abc import Iterator
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from imds_proxy.config.merge import are_tables
from imds_proxy.config.model import Config
from imds_proxy.config.roles import ROLE_TABLES

_TAG_AT: Final = 2
_MOST_TABLES: Final = 3
LISTS: Final = ("files", "grants")
"""The arrays of tables."""


def advice_for_unknown(location: list[int | str], value: object) -> str:
    """What to write in place of a key that its table does not have.

    Args:
        location: Of the key, with the source behind a role's name.
        value: What the file has there.
    """
    unknown = str(location[-1])
    known = _keys(_model_at(location[:-1]))
    if location[0] == "roles" and isinstance(value, dict) and "role_arn" in value:
        return f'it is in [roles.{location[1]}]: a role\'s name with a dot goes into quotes, as in [roles."a.b"]'
    same = [key for key in known if _letters(key) == _letters(unknown)]
    if not same and (tables := _tables_with(unknown, location, is_table=isinstance(value, dict) or are_tables(value))):
        return f"it belongs {' or '.join(tables[:_MOST_TABLES])}"
    close = same or difflib.get_close_matches(unknown.lower(), known, n=1, cutoff=0.6)
    return f'did you mean "{close[0]}"?' if close else f"known here: {', '.join(known)}"


def bracket_mistake(path: list[int | str], value: object) -> str | None:
    """What to write where another kind of table was written than is wanted; None where it was not.

    Args:
        path: Of a table, as the file has it.
        value: What the file has there.
    """
    key = ".".join(map(str, path))
    if path[0] in LISTS and len(path) == 1 and isinstance(value, dict):
        return f"is an array of tables: write [[{key}]], with two brackets, for each entry"
    if path == ["roles"] and are_tables(value):
        return "has a table for each role: write [roles.NAME], with the role's name in the brackets"
    if path[0] not in LISTS and are_tables(value):
        return f"is one table: write [{key}], with one bracket"
    return None


def nameless_role(path: list[int | str], data: dict[str, Any]) -> bool:
    """Whether a mistake is about a key in `[roles]` itself, where every key is a role's name."""
    return len(path) > 1 and path[0] == "roles" and not isinstance(value_at(path[:2], data), dict | list)


def value_at(path: list[int | str], data: Any) -> Any:
    """What the file has at a key path; None where there is nothing."""
    for part in path:
        if isinstance(part, int):
            data = data[part] if isinstance(data, list) and part < len(data) else None
        else:
            data = data.get(part) if isinstance(data, dict) else None
    return data


def without_source(location: list[int | str]) -> list[int | str]:
    """A key path without the source that pydantic puts behind a role's name."""
    tagged = location[:1] == ["roles"] and len(location) > _TAG_AT and location[_TAG_AT] in ROLE_TABLES
    return location[:_TAG_AT] + location[_TAG_AT + 1 :] if tagged else location


def _tables_with(unknown: str, location: list[int | str], *, is_table: bool) -> list[str]:
    """The tables that a key belongs in, in words; those of roles first for a key of a role.

    Args:
        unknown: The key, perhaps with other hyphens or capitals.
        location: Where it is.
        is_table: Whether it was written as a table.
    """
    letters = _letters(unknown)
    whole = {_letters(name): (name, field) for name, field in Config.model_fields.items()}
    if letters in whole and len(location) > 1:
        return [_place_of(*whole[letters])]
    if is_table:
        return []
    of_roles = [source for source, model in ROLE_TABLES.items() if letters in map(_letters, _keys(model))]
    others = [
        f"in {_header(name)}"
        for name, field in Config.model_fields.items()
        if name != "roles" and any(letters in map(_letters, _keys(model)) for model in _models_in(field.annotation))
    ]
    roles = [_of_roles(of_roles)] if of_roles else []
    return [*roles, *others] if location[0] == "roles" else [*others, *roles]


def _place_of(name: str, field: FieldInfo) -> str:
    if any(_models_in(field.annotation)):
        return f"in a table of its own, {_header(name)}"
    return "at the top of the file, before the first [table]"


def _header(name: str) -> str:
    return f"[[{name}]]" if name in LISTS else f"[{name}]"


def _of_roles(sources: list[str]) -> str:
    if len(sources) == len(ROLE_TABLES):
        return "in [roles.NAME]"
    quoted = [f'"{source}"' for source in sources]
    return f"in [roles.NAME] with source = {' or '.join(quoted)}"


def _letters(key: str) -> str:
    """A key as it sounds: `roleArn`, `role-arn` and `ROLE_ARN` are one."""
    return key.replace("-", "").replace("_", "").lower()


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


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


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
