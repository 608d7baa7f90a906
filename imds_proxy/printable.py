"""Text from outside on its way to people: nothing in it moves a cursor, ends a line or turns the reading direction.

What Python calls not printable is taken out: the control characters of ASCII and of ISO 8859 (C0 and C1, among them the
escape that begins a terminal's commands), every separator but the space, invisible characters and marks of direction
(Unicode's Cf), private and unassigned ones, and bytes that were no text.
"""

import json
from typing import Final

LONGEST_NAME: Final = 200
"""Characters of a name in a message: of a certificate's subject, a token's claim, an instance."""


def printable(text: object, longest: int | None = None) -> str:
    """A text on one line: a space for every kind of blank and line end, a question mark for what else is not printable.

    Args:
        text: Of any size.
        longest: Characters, where it is to be cut.
    """
    line = str(text)[:longest]
    return line if line.isprintable() else "".join(map(_one, line))


def printable_lines(text: str) -> str:
    """The same for a text whose lines and tabs are this project's own."""
    if text.isprintable():
        return text
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))


def escaped(text: str) -> str:
    """A JSON text, or the lines of one, in which JSON's own escapes stand for what `printable` takes out."""
    return "\n".join(line if line.isprintable() else "".join(map(_escape, line)) for line in text.split("\n"))


def is_unicode(encoding: str | None) -> bool:
    """Whether a stream with that encoding can write every character; None has a stream of text that is kept as such."""
    return encoding is None or encoding.lower().replace("-", "").startswith("utf")


def _one(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else "?"


def _escape(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]
