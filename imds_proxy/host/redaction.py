"""Texts from outside, made fit for a message: one line of printable characters, bounded, without secrets.

Whatever a program, AWS, another service or a library says passes through here before it is in a message: it may repeat
what it was sent, or what it was about to hand out.
"""

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain, dropwhile
from typing import Final

from imds_proxy import partitions
from imds_proxy.credentials import Secret
from imds_proxy.host import sent_values
from imds_proxy.printable import printable

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
_LONG_TERM_OR_SESSION: Final = re.compile(r"(?:AKIA|ASIA)[A-Z0-9]{12,124}")
_MOMENT: Final = re.compile(r"\d{8}T\d{6}Z")

# Such a run stays if it reads as words: paths, host names, FIELD_NAMES, ErrorCodes, and the numbers of requests and of
# AWS's resources (UUIDs, ten or seventeen hexadecimal digits). Every piece of it has to: of a random secret key,
# 40 characters, that happens at most twice in a billion.
_WORD: Final = re.compile(
    r"[a-z]{1,18}\d{0,3}|[a-z0-9]{1,8}|[A-Z]{1,12}\d{0,3}|[A-Z]{0,4}(?:[A-Z][a-z]{2,14})+(?:Id)?|\d{1,12}"
    r"|[0-9a-f]{10}(?:[0-9a-f]{2}(?:[0-9a-f]{5})?)?|\d{8}T\d{6}Z"
)
_SEPARATOR: Final = re.compile(r"[/._=-]{1,2}")
# The issuer of an EKS cluster's tokens, whose id is no secret: it is in the cluster's own discovery document.
_ISSUER: Final = r"https://oidc\.eks\.[a-z0-9-]+\.(?:{})/id/[0-9A-F]{{32}}\b"
_ARN: Final = r"arn:aws[a-z-]*:[a-z0-9-]*:[a-z0-9-]*:\d*:[\w+=,.@/:-]+"
_ARN_PIECE: Final = re.compile(r"[^/:+=,.@_-]+")
_NAME: Final = re.compile(r".{1,32}|[0-9a-f]{1,40}")  # of roles and sessions, such as a certificate's serial number

# What calls itself a secret is one, however short: `password=hunter2`, `"SessionToken": "…"`, `https://user:pass@proxy`.
_NAMED: Final = re.compile(
    r"(?i)((?:secret\w*|passw\w*|passphrase|authorization|cookie|api_?key|\w*_token|\w*_key"
    r"|(?:session|security|access|refresh|bearer|auth|id)-?token)[\"']?\s*[:=]\s*[\"']?"
    r"(?:(?:bearer|basic)\s+)?)[^\s\"',;&}]+"
)
_USERINFO: Final = re.compile(r"(?<=://)[^\s/@]+(?=@)")

# "Authentication methods" of the Signature Version 4 documentation.
_SIGNATURE: Final = re.compile(r"Signature=([0-9a-fA-F]+)")

_PIECES: Final = re.compile(r"[^\s\"',:{}\[\]]+")

Values = Iterable[Secret | str]


def hidden(text: object, sent: Values = ()) -> str:
    """The first 500 characters of what was said, on one line, without control characters and secrets.

    Args:
        text: An answer's sentence, or an exception of a library's; may be of any size.
        sent: The secrets that were sent: keys, tokens, headers. No piece of them is repeated, in whatever writing; of a
            key id its last four characters are.
    """
    shown = _one_line(_without_secrets(_begin(str(text)), _revealed(sent)))
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"


def one_line(said: bytes, document: bytes = b"", sent: Values = ()) -> str:
    """The last 500 characters of a program's words, on one line, without control characters and secrets.

    Args:
        said: What it printed for people to read; may be cut off at the beginning.
        document: What it printed for programs; nothing that is a value there is repeated. Of more than 16 kB nobody
            knows what may be repeated, so then nothing is.
        sent: The secrets that it was given.
    """
    if len(document) > _LARGEST_DOCUMENT:
        return ""
    text = _end(said.decode("utf-8", "replace").replace("\r", "\n"))
    values = set(_values(document))
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, _HIDDEN)
    text = _one_line(_without_secrets(text, [*_revealed(sent), *filter(_is_token, values)]))
    return text if len(text) <= _LONGEST else f"…{text[-_LONGEST:]}"


def secrets_of_header(value: str) -> Iterator[str]:
    """What is secret of a header's value: a signature alone of what AWS's signing writes, else all but a scheme."""
    if signature := _SIGNATURE.search(value):
        yield signature[1]
        return
    words = value.split()
    yield from words[1:] or words


def secrets_of_arguments(arguments: Iterable[str]) -> tuple[str, ...]:
    """What may be secret of a command's arguments: every piece that does not read as words."""
    pieces = chain.from_iterable(_PIECES.findall(argument) for argument in arguments)
    return tuple(piece for piece in pieces if not _reads_as_words(piece))


def _begin(text: str) -> str:
    """The beginning of a text, to the end of a whole word: half a secret would not look like one."""
    if len(text) <= _LOOKED_AT:
        return text
    whole = re.match(r"(?s).*\s", text[:_LOOKED_AT])
    return f"{whole[0]}…" if whole else _HIDDEN


def _end(text: str) -> str:
    """The last of a text, from a whole line of words on, or a whole word: half a secret would not look like one."""
    if len(text) <= _LOOKED_AT:
        return text
    end = text[-_LOOKED_AT:]
    whole = dropwhile(lambda line: " " not in line, end.split("\n")[1:])
    return "\n".join(whole) or end.partition(" ")[2] or _HIDDEN


def _revealed(sent: Values) -> list[str]:
    return [value.reveal() if isinstance(value, Secret) else value for value in sent]


def _without_secrets(text: str, known: list[str]) -> str:
    for key_id in filter(_LONG_TERM_OR_SESSION.fullmatch, known):
        text = text.replace(key_id, f"…{key_id[-4:]}")
    for start, end in reversed(sent_values.found(text, known, _reads_as_words)):
        text = f"{text[:start]}{_HIDDEN}{text[end:]}"
    text = _USERINFO.sub(_HIDDEN, _NAMED.sub(rf"\1{_HIDDEN}", text))
    return "".join(_without_runs(text))


def _one_line(text: str) -> str:
    return " ".join(printable(text).split())


@cache
def _readable() -> re.Pattern[str]:
    """ARNs and issuers of clusters: what they hold is judged by other rules than a run of characters."""
    suffixes = "|".join(sorted({re.escape(partition.dns_suffix) for partition in partitions.load().values()}))
    return re.compile(f"({_ARN}|{_ISSUER.format(suffixes)})")


def _without_runs(text: str) -> Iterator[str]:
    for index, part in enumerate(_readable().split(text)):
        if index % 2 and part.startswith("https"):
            yield part
        elif index % 2:
            yield _KEY_ID.sub(_last_four, _ARN_PIECE.sub(_unless_name, part))
        else:
            yield _KEY_ID.sub(_last_four, _RUN.sub(_unless_words, part))


def _unless_name(piece: re.Match[str]) -> str:
    return piece[0] if _NAME.fullmatch(piece[0]) or _reads_as_words(piece[0]) else _HIDDEN


def _last_four(run: re.Match[str]) -> str:
    if _MOMENT.fullmatch(run[0]):
        return run[0]
    return f"…{run[0][-4:]}" if _LONG_TERM_OR_SESSION.fullmatch(run[0]) else _HIDDEN


def _unless_words(run: re.Match[str]) -> str:
    if _LONG_TERM_OR_SESSION.fullmatch(run[0]) or all(map(_reads_as_words, run[0].split("\n"))):
        return run[0]
    return _HIDDEN


def _reads_as_words(run: str) -> bool:
    pieces = _SEPARATOR.split(run)
    pieces = pieces[not pieces[0] : len(pieces) - (not pieces[-1])]  # it may begin and end with a separator
    return bool(pieces) and all(_WORD.fullmatch(piece) for piece in pieces)


def _is_token(value: str) -> bool:
    """Whether a value of a document is so long and random that no piece of it may be repeated either."""
    return bool(_RUN.fullmatch(value)) and not _reads_as_words(value)


def _values(document: bytes) -> Iterator[str]:
    """Every string in a document, as it is and as JSON writes it; what is no JSON, in pieces."""
    text = document.decode("utf-8", "replace")
    try:
        found = list(_strings(json.loads(text)))
    except (ValueError, RecursionError):
        found = [piece for piece in _PIECES.findall(text) if not _reads_as_words(piece)]
    for value in found:
        if len(value) >= _SHORTEST_KNOWN:
            yield from (value, json.dumps(value)[1:-1], json.dumps(value)[1:-1].replace("/", "\\/"))


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)
