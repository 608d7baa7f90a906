"""What another program said, made fit for a message: one line, no secret."""

import json
import re
from collections.abc import Iterator
from itertools import dropwhile
from typing import Final

_LONGEST: Final = 500  # characters
_LARGEST_DOCUMENT: Final = 1 << 14  # bytes; a session takes two thousand
# Time grows with the square of what is looked at, while the event loop waits. It is four times what may be shown, since
# what is hidden becomes shorter.
_LOOKED_AT: Final = 4 * _LONGEST
_HIDDEN: Final = "***"
_SHORTEST_KNOWN: Final = 6  # shorter values of a document are words and numbers, and would hide half the message

# Every secret of AWS's is a run of 20 or more of these characters: key id (20), secret key (40), session token
# (hundreds); so is nearly every other token. JSON and URLs may escape some of them by \ or %, and `base64` wraps lines.
_RUN: Final = re.compile(r"[A-Za-z0-9/+=_.~%\\-]{20,}(?:\n[A-Za-z0-9/+=_-]+(?=\n|$))*")
_KEY_ID: Final = re.compile(r"[A-Z0-9]{16,}")

# Such a run stays if it reads as words: paths, host names, FIELD_NAMES, ErrorCodes. Every piece of it has to: of a
# random secret key, 40 characters, that happens at most twice in a billion.
_WORD: Final = re.compile(
    r"[a-z]{1,18}\d{0,3}|[a-z0-9]{1,8}|[A-Z]{1,12}\d{0,2}|[A-Z]{0,4}(?:[A-Z][a-z]{2,14})+(?:Id)?|\d{1,12}"
)
_SEPARATOR: Final = re.compile(r"[/._=-]{1,2}")
_ARN: Final = r"arn:aws[a-z-]*:[a-z0-9-]*:[a-z0-9-]*:\d*:[\w./-]+"

# What calls itself a secret is one, however short: `password=hunter2`, `"SessionToken": "…"`, `https://user:pass@proxy`.
_NAMED: Final = re.compile(
    r"(?i)((?:secret\w*|passw\w*|passphrase|authorization|cookie|api_?key|\w+_?token|\w*_key)[\"']?\s*[:=]\s*[\"']?"
    r"(?:(?:bearer|basic)\s+)?)[^\s\"',;&}]+"
)
_USERINFO: Final = re.compile(r"(?<=://)[^\s/@]+(?=@)")


def one_line(said: bytes, document: bytes = b"") -> str:
    """The last 500 characters of a program's words, on one line, without control characters and secrets.

    Args:
        said: What it printed for people to read; may be cut off at the beginning.
        document: What it printed for programs; nothing that is a value there is repeated. Of more than 16 kB nobody
            knows what may be repeated, so then nothing is.
    """
    if len(document) > _LARGEST_DOCUMENT:
        return ""
    text = _end(said.decode("utf-8", "replace").replace("\r", "\n"))
    for value in sorted(set(_values(document)), key=len, reverse=True):
        text = text.replace(value, _HIDDEN)
    text = _USERINFO.sub(_HIDDEN, _NAMED.sub(rf"\1{_HIDDEN}", text))
    text = "".join(_without_runs(text))
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _LONGEST else f"…{text[-_LONGEST:]}"


def _end(text: str) -> str:
    """The last of a text, from a whole line of words on, or a whole word: half a secret would not look like one."""
    if len(text) <= _LOOKED_AT:
        return text
    end = text[-_LOOKED_AT:]
    whole = dropwhile(lambda line: " " not in line, end.split("\n")[1:])
    return "\n".join(whole) or end.partition(" ")[2] or _HIDDEN


def _without_runs(text: str) -> Iterator[str]:
    for index, part in enumerate(re.split(f"({_ARN})", text)):
        if index % 2:
            yield part
        else:
            yield _KEY_ID.sub(_HIDDEN, _RUN.sub(_unless_words, part))


def _unless_words(run: re.Match[str]) -> str:
    return run[0] if all(map(_reads_as_words, run[0].split("\n"))) else _HIDDEN


def _reads_as_words(run: str) -> bool:
    pieces = _SEPARATOR.split(run)
    pieces = pieces[not pieces[0] : len(pieces) - (not pieces[-1])]  # it may begin and end with a separator
    return bool(pieces) and all(_WORD.fullmatch(piece) for piece in pieces)


def _values(document: bytes) -> Iterator[str]:
    """Every string in a document, as it is and as JSON writes it; what is no JSON, in pieces."""
    text = document.decode("utf-8", "replace")
    try:
        found = list(_strings(json.loads(text)))
    except (ValueError, RecursionError):
        found = [piece for piece in re.findall(r"[^\s\"',:{}\[\]]+", text) if not _reads_as_words(piece)]
    for value in found:
        if len(value) >= _SHORTEST_KNOWN:
            yield from (value, json.dumps(value)[1:-1], json.dumps(value)[1:-1].replace("/", "\\/"))


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)
