"""Several TOML documents as one: tables are merged, arrays of tables appended, and what is set twice is a mistake."""

from dataclasses import dataclass, field
from typing import Any, TypeGuard

from imds_proxy.config.positions import Places, Source
from imds_proxy.config.toml import read_toml


@dataclass(slots=True)
class Merge:
    """What was read so far."""

    data: dict[str, Any] = field(default_factory=dict)
    sources: list[Source] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)
    """Keys that two files set, each with both places."""

    @property
    def places(self) -> Places:
        """Where each key is."""
        return Places(self.sources)

    def add(self, file: str, text: str) -> None:
        """Put what a file has to what is there. Raises TomlError, and has nothing of the file then.

        Args:
            file: Its path, as it is told.
            text: What is in it.
        """
        appended: dict[str, tuple[int, int]] = {}
        twice = list(_merge(self.data, read_toml(text), "", appended))
        before, source = self.places, Source(file, text, appended)
        self.sources.append(source)
        self.mistakes += [
            f"{source.place(key)}: {key}: {before.of(key)} sets it too: keep it in one of the two" for key in twice
        ]


def _merge(into: dict[str, Any], new: dict[str, Any], path: str, appended: dict[str, tuple[int, int]]) -> list[str]:
    """Put `new` to what is there; the key paths that both have."""
    twice: list[str] = []
    for key, value in new.items():
        here = f"{path}.{key}" if path else key
        old = into.get(key)
        if key not in into:
            into[key] = value
        elif isinstance(old, dict) and isinstance(value, dict):
            twice += _merge(old, value, here, appended)
        elif are_tables(old) and are_tables(value):
            appended[here] = (len(old), len(value))
            old += value
        else:
            twice.append(here)
    return twice


def are_tables(value: object) -> TypeGuard[list[dict[str, Any]]]:
    """Whether a value was written as `[[tables]]`, or as an array of such."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)
