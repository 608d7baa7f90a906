"""What is right of a config that has mistakes, so that this host can be looked at in the same run.

In: the data of the file. Out: a config without the tables, entries and keys that are mistaken, and the way back from
its key paths to those of the file.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from imds_proxy.cli.check_finding import Finding, Key
from imds_proxy.config.model import Config
from imds_proxy.config.words import without_source

_MOST_ROUNDS: Final = 20
_GONE: Final = object()
_STAND_IN: Final = {"-": {"source": "ambient"}}
"""A config has a role."""


@dataclass(frozen=True, slots=True)
class Salvaged:
    """The rest of a config.

    Args:
        config: Without what is mistaken.
        removed: What that is.
        kept: The numbers in the file of each array's entries.
    """

    config: Config
    removed: frozenset[Key]
    kept: dict[Key, list[int]]

    def in_file(self, finding: Finding) -> Finding | None:
        """A finding with the key path that it has in the file; None where it is of a default for what was removed."""
        key = _in_file(finding.key, self.kept)
        if any(key[: len(each)] == each for each in self.removed):
            return None
        return finding._replace(key=key)


def salvage(data: dict[str, Any]) -> Salvaged | None:
    """The rest of a config; None where there is nothing to look at."""
    whole: Any = json.loads(json.dumps(data, default=str))
    removed: set[Key] = set()
    for _ in range(_MOST_ROUNDS):
        kept: dict[Key, list[int]] = {}
        rest = _stripped(whole, (), kept)
        if not isinstance(rest.get("roles"), dict) or not rest["roles"]:
            removed.add(("roles",))
            rest["roles"] = _STAND_IN
        try:
            return Salvaged(Config.model_validate_json(json.dumps(rest), strict=True), frozenset(removed), kept)
        except ValidationError as error:
            for each in error.errors(include_url=False, include_input=False, include_context=False):
                location = tuple(part for part in without_source(list(each["loc"])) if part != "[key]")
                place = _deepest(whole, _in_file(location, kept))
                if not place:
                    return None
                removed.add(place)
                _remove(whole, place)
    return None


def _stripped(node: Any, place: Key, kept: dict[Key, list[int]]) -> Any:
    """A copy without what is gone; notes the numbers of the entries of arrays."""
    if isinstance(node, dict):
        return {key: _stripped(value, (*place, key), kept) for key, value in node.items() if value is not _GONE}
    if isinstance(node, list):
        kept[place] = [number for number, value in enumerate(node) if value is not _GONE]
        return [_stripped(node[number], (*place, number), kept) for number in kept[place]]
    return node


def _in_file(location: Key, kept: dict[Key, list[int]]) -> Key:
    place: Key = ()
    for part in location:
        numbers = kept.get(place, [])
        place = (*place, numbers[part] if isinstance(part, int) and part < len(numbers) else part)
    return place


def _deepest(whole: Any, location: Key) -> Key:
    """As much of a key path as the file has: what is missing is a mistake of the table that it is missing in."""
    node, depth = whole, 0
    for part in location:
        in_table = isinstance(node, dict) and part in node
        in_array = isinstance(node, list) and isinstance(part, int) and part < len(node)
        if not (in_table or in_array) or node[part] is _GONE:
            break
        node, depth = node[part], depth + 1
    return location[:depth]


def _remove(whole: Any, place: Key) -> None:
    for part in place[:-1]:
        whole = whole[part]
        if whole is _GONE:  # with what is around it
            return
    whole[place[-1]] = _GONE
