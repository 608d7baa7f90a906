"""TOML text as data: within what TOML and this program have room for, and every mistake in words.

`tomllib` raises RecursionError for what is nested deep, and a ValueError of Python's own for a number of thousands of
digits; it also reads numbers of any size in base 16, which nothing after it could write down.
"""

import re
import tomllib
from typing import Any, Final

from imds_proxy.host import utf8
from imds_proxy.host.utf8 import NotUtf8Error

_DEEPEST: Final = 32
"""Tables and arrays within each other; the config has five."""
_LARGEST: Final = 2**63
"""TOML 1.0.0, "Integer": 64 bits with a sign."""
_NESTED: Final = f"tables or arrays are nested more than {_DEEPEST} deep"


_AT: Final = re.compile(r" \(at line (\d+), (column \d+)\)$")
_SINGLE: Final = re.compile(r"\s*\[\s*(grants|files)\s*\]")
_HINTS: Final = {
    "Invalid value": 'text goes into quotes, as in "text"; true and false are in lower case',
    "Unclosed array": 'a comma goes between two items, and text into quotes, as in "text"',
    "Expected ']'": 'a name with other characters than letters, digits, _ and - goes into quotes, as in [roles."a@b"]',
    "Unescaped": "text with backslashes goes into single quotes, as in 'C:\\text'",
}


class TomlError(ValueError):
    """The text is no such document; the message says why.

    Args:
        what: What is wrong.
        line: Where, counted from 1; None where it is not known.
    """

    def __init__(self, what: str, line: int | None = None) -> None:
        super().__init__(what if line is None else f"{what} (line {line})")
        self.what = what
        self.line = line


def decoded(raw: bytes) -> str:
    """A file's text, without a byte order mark. Raises TomlError."""
    try:
        return utf8.decoded(raw)
    except NotUtf8Error as error:
        raise TomlError(f"{error.what}: {error.advice}", error.line) from None


def read_toml(text: str) -> dict[str, Any]:
    """The document of a text that has no byte order mark. Raises TomlError."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _worded(str(error), text) from None
    except RecursionError:
        raise TomlError(f"is not valid TOML: {_NESTED}") from None
    except ValueError:
        raise TomlError("is not valid TOML: a number has more digits than any that TOML has") from None
    _check(data)
    return data


def _worded(error: str, text: str) -> TomlError:
    """What `tomllib` says, which never repeats the line, with its number apart and with what to do."""
    lines = text.split("\n")
    if at := _AT.search(error):
        what, line = f"{error[: at.start()]} in {at[2]}", int(at[1])
    else:
        what, line = error.replace("(at end of document)", "at the end of the file"), len(text.rstrip().split("\n"))
    if what.startswith("Cannot declare") and (single := _SINGLE.match(lines[line - 1])):
        what = f"[{single[1]}] is there twice: write [[{single[1]}]], with two brackets, for each entry"
    else:
        what += next((f": {hint}" for start, hint in _HINTS.items() if what.startswith(start)), "")
    return TomlError(f"is not valid TOML: {what}", line)


def _check(data: dict[str, Any]) -> None:
    """Refuse what is nested too deep, and numbers that are too large."""
    level: list[tuple[str, Any]] = [("", data)]
    for _ in range(_DEEPEST):
        level = [inner for path, value in level for inner in _inside(path, value)]
        for path, value in level:
            if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
                raise TomlError(f"is not valid TOML: {path}: a number has more than 64 bits")
    if level:
        raise TomlError(f"is not valid TOML: {_NESTED}")


def _inside(path: str, value: object) -> list[tuple[str, Any]]:
    """What a table or an array holds, each with its key path."""
    if isinstance(value, dict):
        return [(f"{path}.{key}" if path else key, inner) for key, inner in value.items()]
    return [(f"{path}.{number}", inner) for number, inner in enumerate(value)] if isinstance(value, list) else []
