"""Paths of the config that are one file: what one part of it writes, no other may read or write."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

_READ: Final = (
    ("admin", ("certificate", "private_key", "client_ca")),
    ("service_accounts", ("jwks_file", "ca_bundle", "token_file")),
)
_NO_STATE: Final = (
    'needs a state directory, which says what is under way should the daemon end meanwhile: take state_dir = "" out'
)


class _Place(NamedTuple):
    """A path of the config.

    Args:
        key: Where it stands.
        path: As written; whatever else may stand there.
        kind: Several of one kind may share a file, or are compared elsewhere.
    """

    key: str
    path: object
    kind: str


_ONLY_READ: Final = "read"
"""The kind of what the daemon does not write. It replaces, or adds to, what is at all other paths."""


def path_mistakes(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Mistakes that span tables, as (key path, what is wrong); in the raw data."""
    first: dict[str, list[_Place]] = {}
    for place in _places(data):
        if not isinstance(place.path, str) or not place.path:
            continue
        others = first.setdefault(place.path.rstrip("/") or "/", [])
        if clash := next((other for other in others if other.kind != place.kind), None):
            yield place.key, f"is the path of {clash.key} too: each needs one of its own"
        others.append(place)
    base_key = data.get("base_key")
    if data.get("state_dir") == "" and isinstance(base_key, dict) and "rotate_every" in base_key:
        yield "base_key.rotate_every", _NO_STATE


def _places(data: dict[str, Any]) -> Iterator[_Place]:
    """All but those of roles, which are compared with `[[files]]` in config_files.py."""
    yield _Place("state_dir", data.get("state_dir"), "state_dir")
    for table, keys in _READ:
        for key in keys:
            yield _Place(f"{table}.{key}", _table(data, table).get(key), _ONLY_READ)
    yield _Place("audit.file", _table(data, "audit").get("file"), "audit")
    for table, key in (("files", "path"), ("grants", "token_file")):
        for number, entry in _entries(data, table):
            yield _Place(f"{table}.{number}.{key}", entry.get(key), table)


def _table(data: dict[str, Any], name: str) -> dict[str, object]:
    table = data.get(name)
    return table if isinstance(table, dict) else {}


def _entries(data: dict[str, Any], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    array = data.get(name)
    for number, entry in enumerate(array if isinstance(array, list) else []):
        if isinstance(entry, dict):
            yield number, entry
