"""Where panels are on the page: lines of them under the titles of rows."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from panels import Json

_COLUMNS: Final = 24

Line = tuple[tuple[int, int, Json], ...]
"""Panels beside one another, each after its width and height in units of the grid."""


def line(height: int, *panels: Json, widths: Sequence[int] = ()) -> Line:
    """Panels of one height, and of one width where no widths are given."""
    each = widths or [_COLUMNS // len(panels)] * len(panels)
    return tuple((width, height, panel) for width, panel in zip(each, panels, strict=True))


def place(rows: Mapping[str, Iterable[Line]]) -> list[Json]:
    """Give each panel its id and its place.

    Args:
        rows: Their lines, from top to bottom, by their titles; a row without a title shows none.
    """
    placed: list[Json] = []
    top = 0
    for title, lines in rows.items():
        header = {"type": "row", "title": title, "collapsed": False, "panels": []}
        for each in (line(1, header), *lines) if title else lines:
            left = 0
            for width, height, panel in each:
                grid = {"w": width, "h": height, "x": left, "y": top}
                placed.append({"id": len(placed) + 1} | panel | {"gridPos": grid})
                left += width
            top += each[0][1]
    return placed
