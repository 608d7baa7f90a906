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
_ENCODED: Final = 96  # characters; the base64 of longer ones is a long run of its own, which is hidden as such
_NESTED: Final = 3  # times that a value may be escaped: a URL in JSON in a log
_TOKEN: Final = re.compile(r"[A-Za-z0-9/+=_.~-]{12}")
_ESCAPE: Final = re.compile(
    r"%([0-9A-Fa-f]{2})|\\x([0-9A-Fa-f]{2})|\\u([0-9A-Fa-f]{4})|&#[xX]?[0-9A-Fa-f]{1,7};|&[a-z]{2,5};|\\([/\"'\\nrt])"
)


@dataclass(frozen=True, slots=True)
class _Folded:
    """The letters, digits and slashes of a text, and where each of them stands in it."""

    text: str
    spans: list[tuple[int, int]]


def found(text: str, values: Iterable[str], reads_as_words: Callable[[str], bool]) -> list[tuple[int, int]]:
    """The spans of `text` that hold a value or a piece of one, in order, none of them overlapping.

    Args:
        text: At most a few thousand characters.
        values: What to look for.
        reads_as_words: Whether a value is such as texts consist of: then only the whole of it is looked for.
    """
    folded = _folded(text)
    hits = bytearray(len(folded.text))
    pieces: dict[int, set[str]] = {}
    for value in values:
        for form in _forms(value):
            needle = _fold(form)
            if len(needle) < _SHORTEST:
                continue
            whole = reads_as_words(value) or not _TOKEN.search(value)
            size = len(needle) if whole else min(_PIECE, len(needle))
            pieces.setdefault(size, set()).update(needle[at : at + size] for at in range(len(needle) - size + 1))
    for size, wanted in pieces.items():
        for at in range(len(folded.text) - size + 1):
            if folded.text[at : at + size] in wanted:
                hits[at : at + size] = b"\1" * size
    return list(_spans(hits, folded.spans))


def _spans(hits: bytearray, spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Neighbouring hits as one span, with what separates them."""
    for run in re.finditer(b"\1+", hits):
        yield spans[run.start()][0], spans[run.end() - 1][1]


def _forms(value: str) -> Iterator[str]:
    """The value, and where it is short, its base64 at each of three places of a longer one, and its hexadecimal."""
    yield value
    raw = value.encode("utf-8", "surrogatepass")
    if len(raw) > _ENCODED:
        return
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + raw).decode().rstrip("=")
        # The first and the last character are shared with what is beside it.
        yield encoded[before and before + 1 : len(encoded) - 1]
    yield raw.hex()
    yield raw.hex().upper()


def _fold(text: str) -> str:
    return _folded(text, escapes=0).text


def _folded(text: str, escapes: int = _NESTED) -> _Folded:
    characters, spans = list(text), [(at, at + 1) for at in range(len(text))]
    for _ in range(escapes):
        joined = "".join(characters)
        escaped = list(_ESCAPE.finditer(joined))
        if not escaped:
            break
        characters, spans = _unescaped(joined, spans, escaped)
    kept = [(_same(c), span) for c, span in zip(characters, spans, strict=True) if c.isalnum() or c in "/_"]
    return _Folded("".join(c for c, _ in kept), [span for _, span in kept])


def _unescaped(
    text: str, spans: list[tuple[int, int]], escaped: list[re.Match[str]]
) -> tuple[list[str], list[tuple[int, int]]]:
    characters: list[str] = []
    placed: list[tuple[int, int]] = []
    at = 0
    for match in escaped:
        characters += text[at : match.start()]
        placed += spans[at : match.start()]
        characters.append(_character(match))
        placed.append((spans[match.start()][0], spans[match.end() - 1][1]))
        at = match.end()
    return characters + list(text[at:]), placed + spans[at:]


def _character(match: re.Match[str]) -> str:
    """The one character that an escape stands for; a space where there is none."""
    if digits := match[1] or match[2] or match[3]:
        return chr(int(digits, 16))
    if simple := match[4]:
        return " " if simple in "nrt" else simple
    text = html.unescape(match[0])
    return text if len(text) == 1 else " "


def _same(character: str) -> str:
    """Base64 for URLs has another character in the place of the slash."""
    return "/" if character == "_" else character
