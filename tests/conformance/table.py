"""The table of a run, client by situation, as Markdown."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from clients import CONTAINER, ENV, ENV_SLASH, LINK_LOCAL, Client
from situations import Cell

COLUMNS = {
    ENV_SLASH: "variable, `…/`",
    ENV: "variable",
    LINK_LOCAL: "link-local",
    CONTAINER: "container",
    "rotation": "rotation",
    "restart": "restart",
    "long job": "long job",
    "no credentials": "no credentials",
    "denied": "denied",
    "not granted": "not granted",
    "slow AWS": "slow AWS",
}
"""Situations, and their headings."""

_BEGIN, _END = "<!-- conformance: begin -->\n", "<!-- conformance: end -->\n"


def markdown(clients: Sequence[Client], cells: Mapping[tuple[str, str], Cell]) -> str:
    """Rows of clients; what a client has not stands below, once for all that have not."""
    lacks: dict[str, int] = {}

    def text(client: Client, situation: str) -> str:
        cell = cells.get((client.name, situation), Cell(""))
        if cell.verdict != "n/a":
            return str(cell)
        return f"n/a <sup>{lacks.setdefault(cell.words, len(lacks) + 1)}</sup>"

    rows = [(client.title, *(text(client, situation) for situation in COLUMNS)) for client in clients]
    lines = [
        *(_row(row) for row in (("client", *COLUMNS.values()), ("---",) * (len(COLUMNS) + 1), *rows)),
        "",
        *(f"{number}. The client has {lack}." for lack, number in lacks.items()),
    ]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def put(table: str, file: Path) -> None:
    """Write a table to a file, or into one that has a place for it."""
    text = file.read_text() if file.exists() else ""
    if _BEGIN in text:
        before, _, rest = text.partition(_BEGIN)
        table = f"{before}{_BEGIN}{table}{_END}{rest.partition(_END)[2]}"
    file.write_text(table)
