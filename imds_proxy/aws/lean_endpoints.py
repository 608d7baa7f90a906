"""botocore's data files, without the megabyte of every service's endpoints.

Of `endpoints.json` botocore still reads the partitions and the services that it makes clients of: which of them belong
to a region, and under which names. Only these services are kept: the endpoints are the same. Measured: 7 MB less for
the life of the process.
"""

import re
from collections.abc import Callable
from json import JSONDecoder
from pathlib import Path
from typing import Any, Final

from botocore.loaders import JSONFileLoader, Loader

SERVICES: Final = {"sts", "iam", "portal.sso", "oidc", "signin"}
"""What is called in this process, by the endpoint prefix of its model: ours, and what botocore's providers call."""

_GAP: Final = re.compile(r"[\s,:]*")
_decoded: Final = JSONDecoder().raw_decode

_Value = Callable[[str, int], tuple[Any, int]]
"""Reads one value of a text at a place; also returns where it ends."""


def lean_loader() -> Loader:
    """A loader of botocore's data, and of what `~/.aws/models` has in its place."""
    return Loader(file_loader=_LeanFiles())


class _LeanFiles(JSONFileLoader):  # type: ignore[misc]  # botocore publishes no types
    def load_file(self, file_path: str) -> Any:
        """The data of a file, named without its ending; None where there is none."""
        plain = Path(f"{file_path}.json")
        if plain.stem != "endpoints" or not plain.is_file():
            return super().load_file(file_path)
        return _object(plain.read_text("utf-8"), 0, {"partitions": _partitions})[0]


def _partitions(text: str, at: int) -> tuple[list[Any], int]:
    found = []
    at = _next(text, at + 1)
    while text[at] != "]":
        partition, at = _object(text, at, {"services": _services})
        found.append(partition)
        at = _next(text, at)
    return found, at + 1


def _services(text: str, at: int) -> tuple[dict[str, Any], int]:
    """Each service is read by itself, and let go of at once unless it is called: all of them take the 7 MB."""
    return _object(text, at, {}, SERVICES)


def _object(
    text: str, at: int, special: dict[str, _Value], wanted: set[str] | None = None
) -> tuple[dict[str, Any], int]:
    """A JSON object, with other readers for some of its members, and only those that are wanted."""
    found = {}
    at = _next(text, at + 1)
    while text[at] != "}":
        name, at = _decoded(text, at)
        value, at = special.get(name, _decoded)(text, _next(text, at))
        if wanted is None or name in wanted:
            found[name] = value
        at = _next(text, at)
    return found, at + 1


def _next(text: str, at: int) -> int:
    """Where the next value or the end of an array or object is."""
    match = _GAP.match(text, at)
    return match.end() if match else at
