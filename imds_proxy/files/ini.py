"""Profiles of an INI file replaced, and every other byte left as it is.

"Configuration and credential file settings" of the AWS CLI user guide. In: the text and the keys of each profile. Out:
the text with them. Errors: FileError, whose message goes on after the path and repeats no line of it. Pure functions.
"""

import configparser
import io
import re
from collections.abc import Iterator, Mapping
from typing import Final

from imds_proxy.errors import FileError
from imds_proxy.sources.ini import EXPIRATIONS

Fields = Mapping[str, str]

_LINES: Final = re.compile(
    r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+"
)  # str.splitlines knows more ends of lines than a file has
_HEADER: Final = re.compile(r"\[([^\]\r\n]+)\]")
_OPTION: Final = re.compile(r"([^\s:=#;\[][^:=\r\n]*?)\s*[:=]")
_OURS: Final = frozenset(
    {"aws_access_key_id", "aws_secret_access_key", "aws_session_token", "aws_security_token", *EXPIRATIONS}
)
_UNFIT: Final = "write it as [PROFILE] and one line for each key, none of them indented; or use a file of its own"


def replaced(text: str, profiles: Mapping[str, Fields]) -> str:
    """The text with the keys of a session in `profiles` as given, and the rest as it was, a profile's other keys too.

    Raises:
        FileError: It is no INI file, or cannot be changed without touching anything else.
    """
    wanted = _parsed(text)
    for name, fields in profiles.items():
        kept = {key: value for key, value in wanted.get(name, {}).items() if key not in _OURS}
        wanted[name] = kept | dict(fields)
    lines = _LINES.findall(text)
    end = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    blocks = {name: [f"{key} = {value}{end}" for key, value in fields.items()] for name, fields in profiles.items()}
    result = "".join(_with(lines, blocks, end))
    if _parsed(result) != wanted:  # proven by reading it
        raise FileError("cannot be changed without touching more than its profile", _UNFIT)
    return result


def _with(lines: list[str], blocks: Mapping[str, list[str]], end: str) -> Iterator[str]:
    """The lines, with a block under the header of each of its profiles in the place of what it replaces."""
    there: list[str] = []
    for section, line in _kept(lines, blocks):
        if section is None:
            yield line
            continue
        if section in there:
            raise FileError(f'has the profile "{section}" twice', "remove one of them")
        there.append(section)
        yield _ended(line, end)
        yield from blocks[section]
    missing = [name for name in blocks if name not in there]
    if missing and lines and _ended(lines[-1], end) != lines[-1]:
        yield end
    for name in missing:
        yield f"[{name}]{end}"
        yield from blocks[name]


def _kept(lines: list[str], blocks: Mapping[str, list[str]]) -> Iterator[tuple[str | None, str]]:
    """Every line but the keys that are replaced; with the profile's name where it is the header of one of `blocks`."""
    section, drop = "", False
    for line in lines:
        if header := _HEADER.match(line):
            section, drop = header[1], False
            yield (section if section in blocks else None), line
            continue
        if section in blocks and (option := _OPTION.match(line)):
            drop = option[1].lower() in _OURS
        if not drop or not line.strip() or line.lstrip()[0] in "#;":  # a long value goes on in indented lines
            yield None, line


def _ended(line: str, end: str) -> str:
    return line if line.endswith(("\r", "\n")) else line + end


def _parsed(text: str) -> dict[str, dict[str, str]]:
    """As botocore reads it, but for its refusal of a section or a key that is there twice."""
    parser = configparser.RawConfigParser(strict=False, default_section="")
    try:
        parser.read_file(io.StringIO(text, newline=None))  # every end of line is one, as for botocore
    except configparser.Error:  # its text repeats the line
        raise FileError("is no INI file that can be read", _UNFIT) from None
    return {name: dict(parser[name]) for name in parser.sections()}
