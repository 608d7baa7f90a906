"""Finds values that are known, such as the secrets that were sent, in a text that repeats them in any writing.

In: a short text and the values. Out: where pieces of them are. A value is found as it is, percent-encoded, escaped for
HTML, XML, JSON or a shell, up to three times over, wrapped or spaced apart, in base64 and in hexadecimal digits; of a
value that is no word, each piece of eight letters and digits is found too. Pure; takes milliseconds.
"""

import base64
import html
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

_PIECE: Final = 8  # letters and digits: no text has so many of a random value by chance
_SHORTEST: Final = 6  # shorter values are words and numbers, and would hide half the text
_SHORT: Final = 96  # characters; the base64 of longer ones is a long run of its own, which is hidden as such
_NESTED: Final = 3  # times that a value may be escaped: a URL in JSON in a log
_SIGN: Final = re.compile(r"[^\w\s/+=.~-]")
_TOKEN: Final = re.compile(r"[A-Za-z0-9/+=_.~-]{12}")
_ESCAPE: Final = re.compile(
    r"%([0-9A-Fa-f]{2})|\\x([0-9A-Fa-f]{2})|\\u([0-9A-Fa-f]{4})|&#[xX]?[0-9A-Fa-f]{1,7};|&[a-z]{2,5};|\\([/\"'\\nrt])"
)


_LETTER: Final = re.compile(r"[\w/]")
_NO_SPACE: Final = re.compile(r"\S")
_NO_LETTERS: Final = re.compile(r"[^\w/]+")

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Text:
    """Characters, and where each of them stands in the text that they were made of."""

    characters: str
    spans: list[Span]

    def folded(self, *, signs: bool) -> "_Text":
        """What is left where it does not matter how a value is separated and quoted; as `_fold`."""
        kept = [match.start() for match in (_NO_SPACE if signs else _LETTER).finditer(self.characters)]
        return _Text("".join(map(self.characters.__getitem__, kept)).replace("_", "/"), [self.spans[at] for at in kept])


def found(text: str, values: Iterable[str], reads_as_words: Callable[[str], bool]) -> list[Span]:
    """The spans of `text` that hold a value or a piece of one, in order, none of them overlapping.

    Args:
        text: At most a few thousand characters.
        values: What to look for.
        reads_as_words: Whether a value is such as texts consist of: then only the whole of it is looked for.
    """
    pieces = _pieces(values, reads_as_words)
    hits = bytearray(len(text))
    for level in _levels(text):
        for signs in {signs for signs, _ in pieces}:
            folded = level.folded(signs=signs)
            for size, wanted in ((size, wanted) for (its, size), wanted in pieces.items() if its == signs):
                for at in range(len(folded.characters) - size + 1):
                    if folded.characters[at : at + size] in wanted:
                        start, end = folded.spans[at][0], folded.spans[at + size - 1][1]
                        hits[start:end] = b"\1" * (end - start)
    return [run.span() for run in re.finditer(b"\1+", hits)]


def _pieces(values: Iterable[str], reads_as_words: Callable[[str], bool]) -> dict[tuple[bool, int], set[str]]:
    """What to look for in a folded text, by whether that keeps the signs, and by its length."""
    pieces: dict[tuple[bool, int], set[str]] = {}
    for value in values:
        whole = reads_as_words(value) or not _TOKEN.search(value)
        for form in _forms(value):
            for signs in (False, True) if _SIGN.search(value) else (False,):
                needle = _fold(form, signs=signs)
                if len(needle) >= _SHORTEST:
                    size = len(needle) if whole and not signs else min(_PIECE, len(needle))
                    starts = range(len(needle) - size + 1)
                    pieces.setdefault((signs, size), set()).update(needle[at : at + size] for at in starts)
    return pieces


def _fold(value: str, *, signs: bool) -> str:
    """Letters, digits and slashes of a value; with `signs` everything but spaces.

    The underscore is base64's slash for URLs; the plus sign and its hyphen are left out, as what separates is.
    """
    return ("".join(value.split()) if signs else _NO_LETTERS.sub("", value)).replace("_", "/")


def _forms(value: str) -> Iterator[str]:
    """The value; where it is short, also as it would be without what looks like escapes, in base64 and hexadecimal."""
    if len(value) > _SHORT:
        yield value
        return
    for level in _levels(value):
        yield level.characters
        raw = level.characters.encode("utf-8", "surrogatepass")
        for before in range(3):  # at each of three places of a longer text
            encoded = base64.b64encode(b"\0" * before + raw).decode().rstrip("=")
            # The first and the last character are shared with what is beside it.
            yield encoded[before and before + 1 : len(encoded) - 1]
        yield raw.hex()
        yield raw.hex().upper()


def _levels(text: str) -> Iterator[_Text]:
    """The text as it is, and with its escapes undone: once, and once more for as long as there are any."""
    level = _Text(text, [(at, at + 1) for at in range(len(text))])
    yield level
    for _ in range(_NESTED):
        escaped = list(_ESCAPE.finditer(level.characters))
        if not escaped:
            return
        level = _unescaped(level, escaped)
        yield level


def _unescaped(level: _Text, escaped: list[re.Match[str]]) -> _Text:
    text, spans = level.characters, level.spans
    characters: list[str] = []
    placed: list[Span] = []
    at = 0
    for match in escaped:
        characters += [text[at : match.start()], _character(match)]
        placed += [*spans[at : match.start()], (spans[match.start()][0], spans[match.end() - 1][1])]
        at = match.end()
    return _Text("".join(characters) + text[at:], placed + spans[at:])


def _character(match: re.Match[str]) -> str:
    """The one character that an escape stands for; a space where there is none."""
    if digits := match[1] or match[2] or match[3]:
        return chr(int(digits, 16))
    if simple := match[4]:
        return " " if simple in "nrt" else simple
    text = html.unescape(match[0])
    return text if len(text) == 1 else " "
