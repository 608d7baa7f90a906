"""Profiles of an INI file replaced, and every other byte left as it is.

Nothing is returned that has not been read again as botocore reads it, the strictest of the SDKs about a file that is
written in an unusual way ("Configuration and credential file settings" of the AWS CLI user guide). In: the text and the
keys of each profile. Out: the text with them. Errors: FileError, whose message goes on after the path and repeats no
line of it. Pure functions.
"""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from configparser import DEFAULTSECT, RawConfigParser
from dataclasses import replace
from typing import Final

from imds_proxy.aws.ini_text import EXPIRATIONS, IniError, Line, lines, parse
from imds_proxy.errors import FileError

Fields = Mapping[str, str]
Sections = dict[str, dict[str, str]]

_NAME: Final = re.compile(r"\s*\[([^\]]*)\]")
_OURS: Final = frozenset(
    {"aws_access_key_id", "aws_secret_access_key", "aws_session_token", "aws_security_token", *EXPIRATIONS}
)
_UNFIT: Final = "write it as [PROFILE] and one line for each key, none of them indented; or use a file of its own"
_ONCE: Final = "let it be there once: SDKs refuse the whole file"


def replaced(text: str, profiles: Mapping[str, Fields]) -> str:
    """The text with the keys of a session in `profiles` as given, and the rest as it was, a profile's other keys too.

    Raises:
        FileError: SDKs do not read it, it does not say one thing to all of them, or it cannot be changed without
            touching anything else.
    """
    try:
        before = sections_of(parse(text, strict=False))  # a key of ours that is there twice goes
    except IniError as error:
        raise FileError(f"is no INI file that can be read: {error.message}", _UNFIT) from None
    there = list(lines(text))
    names = {name: _section(name, before, profiles) for name in profiles}
    fields = {names[name]: its for name, its in profiles.items()}
    _refuse_what_sdks_do_not_read(there, fields)
    _refuse_inherited(there, fields)
    _refuse_other_readings(there, names)
    result = "".join(_with(there, fields))
    if not reads(result, _wanted(before, fields)):
        raise FileError("cannot be changed without touching more than its profile", _UNFIT)
    return result


def sections_of(parser: RawConfigParser) -> Sections:
    """Everything that a parser has read, the section that all others inherit from too."""
    return {name: dict(parser[name]) for name in (*parser.sections(), DEFAULTSECT)}


def reads(text: str, wanted: Sections) -> bool:
    """Whether botocore reads from the text exactly what is wanted: the proof before a file is replaced."""
    try:
        return sections_of(parse(text)) == wanted
    except IniError:
        return False


def _section(profile: str, before: Sections, profiles: Mapping[str, Fields]) -> str:
    """The section of a profile: [NAME], or what it is called in a config file if that is there in its place."""
    if profile not in before:
        for section in before:
            if _in_a_config_file(section) == profile and section not in profiles:
                return section
    return profile


def _in_a_config_file(section: str) -> str | None:
    """NAME of [profile NAME]; None for another section."""
    try:
        words = shlex.split(section)
    except ValueError:  # a quotation mark without the other
        return None
    return words[1] if len(words) == 2 and words[0] == "profile" else None  # noqa: PLR2004 - the word and the name


def _refuse_what_sdks_do_not_read(there: Sequence[Line], fields: Mapping[str, Fields]) -> None:
    """What would keep them from the whole file, with the line; of what is replaced anyway, nothing does."""
    found: set[tuple[str, str | None]] = set()
    opened: Line | None = None
    """A key whose value begins in the next line: a table, so botocore wants KEY = VALUE in each of its lines."""
    for line in there:
        if line.goes_on:
            parts = line.value.splitlines()  # knows more ends of lines than a file has, and botocore uses it here
            if opened is not None and any("=" not in part for part in parts if part.strip()):
                what = f"a table within a profile with a line that is not KEY = VALUE (line {line.number})"
                raise FileError(f"is not read by SDKs: it has {what}", "correct that line, or remove it")
        elif line.is_header or line.key is not None:
            is_ours = line.section in fields and line.key in _OURS
            opened = line if line.key is not None and not line.value and not is_ours else None
            if (line.section, line.key) in found and not is_ours and not _is_default(line):
                what = "the same profile twice" if line.is_header else "the same key of a profile twice"
                raise FileError(f"is not read by SDKs: it has {what} (line {line.number})", _ONCE)
            found.add((line.section, line.key))


def _is_default(line: Line) -> bool:
    return line.is_header and line.section == DEFAULTSECT


def _refuse_inherited(there: Sequence[Line], fields: Mapping[str, Fields]) -> None:
    """What a profile of ours would have besides, for botocore: another token, or another end."""
    inherited = _OURS.difference(*fields.values())
    for line in there:
        if line.section == DEFAULTSECT and line.key in inherited:
            what = f"has {line.key} in [{DEFAULTSECT}] (line {line.number}), which every profile inherits"
            raise FileError(what, "remove it there")


def _refuse_other_readings(there: Sequence[Line], names: Mapping[str, str]) -> None:
    """A header that some SDKs take for a profile of ours, and botocore for another."""
    for line in there:
        if not line.is_header or line.section in names.values():
            continue
        name = match[1].strip() if (match := _NAME.match(line.text)) else ""
        if name in {*names, *names.values()}:
            what = f'has a header (line {line.number}) that is profile "{name}" for some SDKs and another for others'
            raise FileError(what, f"write it as [{name}], and brackets nowhere else in that line")


def _wanted(before: Sections, fields: Mapping[str, Fields]) -> Sections:
    """What has to be read from the result."""
    wanted = dict(before)
    for name, its in fields.items():
        kept = {key: value for key, value in before.get(name, before[DEFAULTSECT]).items() if key not in _OURS}
        wanted[name] = kept | dict(its)
    return wanted


def _with(there: Sequence[Line], fields: Mapping[str, Fields]) -> Iterator[str]:
    """The lines, with a block in each of its sections in the place of what it replaces."""
    end = "\r\n" if there and there[0].text.endswith("\r\n") else "\n"
    kept = [line for line in there if line.section not in fields or line.key not in _OURS]
    follows_ours = False
    for number, part in enumerate(_parts(kept)):
        is_ours = number > 0 and part[0].section in fields
        if number > 0 and (is_ours or follows_ours):
            # Indented, it would go on with our last key; and not every SDK knows ours by an indented header.
            part[0] = replace(part[0], text=part[0].text.lstrip())
        yield from _with_block(part, fields[part[0].section], end) if is_ours else (line.text for line in part)
        follows_ours = is_ours
    missing = fields.keys() - {line.section for line in there}
    if missing and kept and _ended(kept[-1].text, end) != kept[-1].text:
        yield end
    for name in fields:
        if name in missing:
            yield f"[{name}]{end}"
            yield from _block(fields[name], end)


def _parts(there: Sequence[Line]) -> list[list[Line]]:
    """The lines before the first header, and each section with its header."""
    parts: list[list[Line]] = [[]]
    for line in there:
        if line.is_header:
            parts.append([])
        parts[-1].append(line)
    return parts


def _with_block(part: Sequence[Line], fields: Fields, end: str) -> Iterator[str]:
    """A section with the block below its header; below its last key where keys are indented.

    Those would go on with our last key; and indented as they are, ours would be left out by every SDK but botocore.
    """
    keys = [at for at, line in enumerate(part) if line.key is not None]
    above = keys[-1] + 1 if keys and part[keys[0]].text[:1].isspace() else 1
    yield from (_ended(line.text, end) for line in part[:above])
    yield from _block(fields, end)
    yield from (line.text for line in part[above:])


def _block(fields: Fields, end: str) -> Iterator[str]:
    return (f"{key} = {value}{end}" for key, value in fields.items())


def _ended(line: str, end: str) -> str:
    return line if line.endswith(("\r", "\n")) else line + end
