"""The tables of metrics in grafana/README.md, as values."""

import re
from pathlib import Path
from typing import NamedTuple

README = Path(__file__).parents[2] / "grafana/README.md"


class Row(NamedTuple):
    name: str
    kind: str
    unit: str
    labels: list[str]
    meaning: str
    query: str


def metrics() -> list[Row]:
    """Every metric that the table has."""
    return [
        Row(_code(name)[0], *kind.split(", ", 1), _code(labels), meaning, _code(query)[0])
        for name, kind, labels, meaning, query in _table("metric")
    ]


def label_values() -> dict[tuple[str, str], set[str]]:
    """The values of each label that is not the config's, by metric and label."""
    return {
        (metric, _code(label)[0]): set(_code(values)) for label, of, values in _table("label") for metric in _code(of)
    }


def _table(first: str) -> list[list[str]]:
    """The cells of the table whose first heading this is."""
    text = README.read_text().partition(f"\n| {first} |")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]


def _code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)
