"""Paragraphs for the terminal that `status --watch` shows its view on. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from imds_proxy.cli.status_facts import Level
from imds_proxy.cli.status_symbols import STYLES, Symbols


@dataclass(frozen=True, slots=True)
class Page:
    """What lines are made for.

    Args:
        console: Knows how wide a character is.
        width: In columns.
        height: In lines.
        symbols: Those that it can show.
    """

    console: Console
    width: int
    height: int
    symbols: Symbols

    def wrapped(self, text: str | Text, indent: int) -> Iterator[Text]:
        """A paragraph, indented. What is longer than a line without a space in it is broken."""
        return self.labelled(Text(" " * indent), text)

    def labelled(self, label: Text, text: str | Text) -> Iterator[Text]:
        """A paragraph with a label in the margin of its first line."""
        text = text if isinstance(text, Text) else Text(text)
        margin = label
        for line in text.wrap(self.console, max(self.width - label.cell_len, 10)):
            line.rstrip()
            yield Text.assemble(margin, line)
            margin = Text(" " * label.cell_len)

    def marked(self, level: Level, text: str, style: str = "") -> Iterator[Text]:
        """A paragraph with the symbol of its level before it."""
        return self.labelled(Text(f"{self.symbols.levels[level]} ", f"bold {STYLES[level]}"), Text(text, style))

    def advice(self, text: str, indent: int) -> Iterator[Text]:
        """What to do, if that is known."""
        return self.labelled(Text(f"{' ' * indent}{self.symbols.arrow} "), text) if text else iter(())
