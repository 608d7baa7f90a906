"""The `[[files]]` entry that keeps the agent's credentials file fresh, added to a config that people wrote.

In: the config's text, a role, a path. Out: the text with the entry at its end, every other byte as it was. What is in
`conf.d` beside the config counts as said in it. Errors: ConfigError, where the result would not be a config, or an
entry that is there already would not do for the agent.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imds_proxy.config import document as config_read
from imds_proxy.config.reader import parse
from imds_proxy.errors import ConfigError

_FORMAT, _PROFILE = "ini", "default"
_ENTRY = {"format": _FORMAT, "profile": _PROFILE}


def entry(role: str, path: str) -> str:
    """The entry, as a table of its own."""
    values = {"role": role, "path": path} | _ENTRY
    # A JSON string is a TOML string, but for DEL, which no path that people write has in it.
    return "[[files]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


def added(text: str, role: str, path: str, config: Path) -> str | None:
    """The text of the config file with the entry at its end; None where the config has it already.

    Args:
        text: Of the config file; "" where there is none beside `conf.d`.
        role: Whose credentials.
        path: Of the credentials file.
        config: The path of the config file.

    Raises:
        ConfigError: The config is none, has no such role, keeps something else at `path`, or would be wrong with it.
    """
    document = config_read.read(config, text)
    data, where = document.data, document.where
    if role not in data.get("roles", {}):
        raise ConfigError(f"{where}: there is no role {role!r}; known here: {', '.join(data.get('roles', {}))}")
    there = [each for each in _entries(data) if each.get("path") == path]
    if mistakes := tuple(_mistakes(there, role)):
        raise ConfigError(f"{where}: [[files]] has {path} already, but not as the agent needs it", mistakes)
    if any(_profile(each) == _PROFILE for each in there):
        return None
    end = "\r\n" if "\r\n" in text else "\n"
    gap = "" if text.endswith("\n") or not text else end
    result = f"{text}{gap}{end}{entry(role, path).replace(chr(10), end)}"
    _refuse_if_wrong(config, result)
    return result


def _refuse_if_wrong(config: Path, text: str) -> None:
    try:
        document = config_read.read(config, text)
        parse(document.data, document.where, document.places)
    except ConfigError as error:
        raise ConfigError(f"with the entry added at its end, {error.message}") from None


def _entries(data: dict[str, Any]) -> list[dict[str, Any]]:
    files = data.get("files", [])
    return [each for each in files if isinstance(each, dict)] if isinstance(files, list) else []


def _mistakes(there: list[dict[str, Any]], role: str) -> Iterator[str]:
    """What would keep the agent from the role's credentials; other profiles of the same file do not."""
    for each in there:
        if each.get("format", _FORMAT) != _FORMAT:
            yield f"format: {each['format']!r}, and {_FORMAT!r} is needed"
        elif _profile(each) == _PROFILE and each.get("role") != role:
            yield f"role: {each.get('role')!r}, and {role!r} was asked for"


def _profile(entry: dict[str, Any]) -> Any:
    return entry.get("profile", _PROFILE)
