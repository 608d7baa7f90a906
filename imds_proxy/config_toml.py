"""TOML text as data: within what TOML and this program have room for, and every mistake in words.

`tomllib` raises RecursionError for what is nested deep, and a ValueError of Python's own for a number of thousands of
digits; it also reads numbers of any size in base 16, which nothing after it could write down.
"""

import tomllib
from typing import Any, Final

_DEEPEST: Final = 32
"""Tables and arrays within each other; the config has five."""
_LARGEST: Final = 2**63
"""TOML 1.0.0, "Integer": 64 bits with a sign."""
_NESTED: Final = f"tables or arrays are nested more than {_DEEPEST} deep"


class TomlError(ValueError):
    """The text is no such document; the message says why."""


def read_toml(text: str) -> dict[str, Any]:
    """The document. Raises TomlError."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TomlError(str(error)) from None
    except RecursionError:
        raise TomlError(_NESTED) from None
    except ValueError:
        raise TomlError("a number has more digits than any that TOML has") from None
    _check(data)
    return data


def _check(data: dict[str, Any]) -> None:
    """Refuse what is nested too deep, and numbers that are too large."""
    level: list[tuple[str, Any]] = [("", data)]
    for _ in range(_DEEPEST):
        level = [inner for path, value in level for inner in _inside(path, value)]
        for path, value in level:
            if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
                raise TomlError(f"{path}: a number has more than 64 bits")
    if level:
        raise TomlError(_NESTED)


def _inside(path: str, value: object) -> list[tuple[str, Any]]:
    """What a table or an array holds, each with its key path."""
    if isinstance(value, dict):
        return [(f"{path}.{key}" if path else key, inner) for key, inner in value.items()]
    return [(f"{path}.{number}", inner) for number, inner in enumerate(value)] if isinstance(value, list) else []
