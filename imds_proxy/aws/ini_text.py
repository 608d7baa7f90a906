"""INI text as botocore reads it: Python's `RawConfigParser`, which is strict about what is there twice.

`lines` is the same rules once more, for whoever changes a file and has to know which line is what; what is made with it
is proven by `parse`. In: text. Out: a parser, or lines. Errors: IniError, which repeats no line. Pure functions.
"""

import configparser
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from imds_proxy.errors import ImdsProxyError

_LINES: Final = re.compile(
    r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+"
)  # str.splitlines knows more ends of lines than a file has
_HEADER: Final = configparser.RawConfigParser.SECTCRE
_OPTION: Final = configparser.RawConfigParser.OPTCRE
_KINDS: Final = {
    configparser.DuplicateSectionError: "the same profile twice",
    configparser.DuplicateOptionError: "the same key twice",
    configparser.MissingSectionHeaderError: "no [profile] above the first key",
}

EXPIRATIONS: Final = (
    "x_security_token_expires",
    "aws_session_expiration",
    "aws_expiration",
    "aws_credential_expiration",
    "expiration",
)


class IniError(ImdsProxyError):
    """botocore would not read it; the message says why and in which line, to go on after the file's name."""

    def __init__(self, what: str, line: int | None) -> None:
        super().__init__(f"{what}{f' (line {line})' if line else ''}")


@dataclass(frozen=True, slots=True)
class Line:
    """One line, and what it is to a parser; a comment or an empty line is neither header nor of a key.

    Args:
        text: With its end.
        number: From 1.
        section: It is in, or begins.
        is_header: Whether it begins a section.
        key: It begins, or goes on with, in lower case.
        value: What it says of the key.
        goes_on: Whether it goes on with a key.
    """

    text: str
    number: int
    section: str = ""
    is_header: bool = False
    key: str | None = None
    value: str = ""
    goes_on: bool = False


def parse(text: str, *, strict: bool = True) -> configparser.RawConfigParser:
    """The sections, each with what [DEFAULT] gives to all. Not `strict`: what is there twice is read as one.

    Raises:
        IniError: It is no such file.
    """
    parser = configparser.RawConfigParser(strict=strict)  # raw: a token may hold a per cent sign
    try:
        parser.read_file(io.StringIO(text, newline=None))  # every end of line is one, as for botocore
    except configparser.Error as error:
        raise in_words(error) from None
    return parser


def in_words(error: configparser.Error) -> IniError:
    """What is wrong and where, without the line, which the error's own text repeats."""
    errors = getattr(error, "errors", None)
    line = errors[0][0] if errors else getattr(error, "lineno", None)
    return IniError(_KINDS.get(type(error), "a line that is neither KEY = VALUE nor [PROFILE]"), line)


def lines(text: str) -> Iterator[Line]:
    """Every line of a file that `parse` takes, in their order; joined they are the text."""
    section, key, level = "", None, 0
    for number, line in enumerate(_LINES.findall(text), 1):
        bare = line.strip()
        if not bare or bare.startswith(("#", ";")):
            yield Line(line, number, section)
            continue
        indent = len(line) - len(line.lstrip())
        if key is not None and indent > level:
            yield Line(line, number, section, key=key, value=bare, goes_on=True)
            continue
        level = indent
        if header := _HEADER.match(bare):
            section, key = header["header"], None
            yield Line(line, number, section, is_header=True)
        else:
            option = _OPTION.match(bare)
            key = option["option"].rstrip().lower() if option else None
            yield Line(line, number, section, key=key, value=option["value"].strip() if option else "")
