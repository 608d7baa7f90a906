"""What stands for what in the view of `status --watch`; each can be told from the others without colour."""

from dataclasses import dataclass
from typing import Final

from imds_proxy.cli.status_facts import Level


@dataclass(frozen=True, slots=True)
class Symbols:
    """The characters of one terminal.

    Args:
        levels: By level.
        full: Life that is left.
        empty: Life that is gone.
        mark: On a life, where the next renewal is planned.
        success: A column of the last day in which a renewal succeeded.
        nothing: One in which nothing was tried.
        arrow: Before advice.
    """

    levels: dict[Level, str]
    full: str
    empty: str
    mark: str
    success: str
    nothing: str
    arrow: str


UNICODE: Final = Symbols({Level.WELL: "✓", Level.ATTENTION: "!", Level.TROUBLE: "✗"}, "━", "╌", "┃", "■", "·", "→")
ASCII: Final = Symbols({Level.WELL: "+", Level.ATTENTION: "!", Level.TROUBLE: "x"}, "#", "-", "|", "o", ".", "->")
STYLES: Final = {Level.WELL: "green", Level.ATTENTION: "yellow", Level.TROUBLE: "red"}
STATES: Final = {"ok": "green", "idle": "cyan", "unused": "dim", "failing": "yellow", "expired": "red"}
OUTCOMES: Final = {
    "success": ("", "green"),
    "throttled": ("t", "yellow"),
    "unreachable": ("u", "bold yellow"),
    "invalid": ("i", "bold magenta"),
    "denied": ("D", "bold red"),
}
"""A column of the last day by its worst outcome: letter and style; success has the terminal's own symbol."""
