"""On which line of which file a key of the config stands. `tomllib` does not say, so valid TOML is scanned once more.

Key paths are those of the mistakes: `roles.deploy.duration`, `grants.3.user`, where the number counts the entries of
all files together.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Final, TypeVar

Found = TypeVar("Found")


class Source:
    """One of the files that the config was read from.

    Args:
        file: Its path, as it is told.
        text: What is in it: valid TOML.
        appended: For each array of tables that other files began: how many entries they have, and how many this one.
    """

    def __init__(self, file: str, text: str, appended: Mapping[str, tuple[int, int]] | None = None) -> None:
        self.file = file
        self._text = text
        self._appended = dict(appended or {})

    @cached_property
    def lines(self) -> dict[str, int]:
        """The line of each key and header, by the key path in the whole config."""
        here = lines_of(self._text)
        for path, (_, number) in self._appended.items():
            whole = here.pop(path, 1)  # of `grants = [{…}]` no more is known
            for index in range(number):
                here.setdefault(f"{path}.{index}", whole)
        return {self._in_the_whole(key): line for key, line in here.items()}

    def place(self, key: str) -> str:
        """`FILE:LINE` of a key path, or of the nearest table around it or in it; the file alone where none is known."""
        line = next((found for _, found in _around(self.lines, key)), None)
        return self.file if line is None else f"{self.file}:{line}"

    def _in_the_whole(self, key: str) -> str:
        for path, (before, _) in self._appended.items():
            if key.startswith(f"{path}."):
                index, dot, rest = key.removeprefix(f"{path}.").partition(".")
                return f"{path}.{int(index) + before}{dot}{rest}" if index.isdecimal() else key
        return key


class Places:
    """Where each key of a config stands; of a config that is from no file, nothing is known.

    Args:
        sources: The files, in the order they were read in.
    """

    def __init__(self, sources: Sequence[Source] = ()) -> None:
        self._sources = tuple(sources)

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of the files, in the order they were read in."""
        return tuple(source.file for source in self._sources)

    def of(self, key: str) -> str:
        """`FILE:LINE` of a key path, or of the nearest table around it or in it; the file, or "", where that is all."""
        places = [place for _, place in _around(self._known, key)]
        if len({place.rpartition(":")[0] for place in places}) == 1:
            return places[0]
        return self._sources[0].file if len(self._sources) == 1 else ""

    def told(self, key: str, what: str) -> str:
        """A mistake or remark with where it is: `FILE:LINE: KEY: WHAT`."""
        place = self.of(key)
        return f"{place}: {key}: {what}" if place else f"{key}: {what}"

    @cached_property
    def _known(self) -> dict[str, str]:
        """By key path. It is asked for only where something is wrong, because it takes as long as the parser."""
        known: dict[str, str] = {}
        for source in self._sources:
            for key, line in source.lines.items():
                known.setdefault(key, f"{source.file}:{line}")
        return known


class Options(Places):
    """The same for a config that was made of command line options.

    Args:
        options: By the key path that each became.
    """

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__()
        self._options = options

    def told(self, key: str, what: str) -> str:
        """A mistake with the option in the key's place, which nobody wrote: `--role-arn: WHAT`."""
        option = next((option for path, option in _around(self._options, key) if key.startswith(path)), key)
        return f"{option}: {what}"


def _around(known: Mapping[str, Found], key: str) -> list[tuple[str, Found]]:
    """What is known of a key path, or of the longest one that it begins with, or else of all that begin with it.

    `[[roles.deploy]]` is known as `roles.deploy.0`, and `[roles.deploy]` says where `roles` begins.
    """
    around = key
    while around and around not in known:
        around = around.rpartition(".")[0]
    if around:
        return [(around, known[around])]
    return [(path, found) for path, found in known.items() if path.startswith(f"{key}.")]


_STRING: Final = (
    r'"""(?:[^"\\]|\\.|"(?!""))*+"{3,5}'
    r"|'''(?:[^']|'(?!''))*+'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*+"'
    r"|'[^'\n]*+'"
)
_BETWEEN: Final = re.compile(r"(?:\s|#[^\n]*)*+")
_OPENING: Final = re.compile(r"\[\[?[ \t]*+")
_PART: Final = re.compile(rf"(?:{_STRING}|[A-Za-z0-9_-]++)", re.DOTALL)
_DOT: Final = re.compile(r"[ \t]*+\.[ \t]*+")
_IN_VALUE: Final = re.compile(rf"(?:{_STRING})|#[^\n]*+|[\[\]{{}}\n]|[^\"'#\[\]{{}}\n]++", re.DOTALL)


def lines_of(text: str) -> dict[str, int]:
    """The line, counted from 1, of each key and of each header of a table.

    Keys of inline tables, and the items of arrays that are no `[[tables]]`, are not told apart: what is around them is.

    Args:
        text: Valid TOML; of other text, what is known up to where it is not.
    """
    found: dict[str, int] = {}
    counts: dict[str, int] = {}
    table, line, counted = "", 1, 0
    for start, parts, brackets in _statements(text):
        line, counted = line + text.count("\n", counted, start), start
        if brackets:
            table = path = _resolved(parts, counts, is_new=brackets == "[[")
        else:
            path = ".".join((table, *parts) if table else parts)
        found.setdefault(path, line)
    return found


def _statements(text: str) -> Iterator[tuple[int, tuple[str, ...], str]]:
    """Where each statement begins, the parts of its key, and the brackets before them, if any."""
    position = 0
    while (position := _end(_BETWEEN, text, position)) < len(text):
        start = position
        opening = _OPENING.match(text, position)
        parts, position = _key(text, opening.end() if opening else position)
        if not parts:
            return
        yield start, parts, opening[0].strip() if opening else ""
        position = _end_of_line(text, position)


def _key(text: str, position: int) -> tuple[tuple[str, ...], int]:
    parts: list[str] = []
    while part := _PART.match(text, position):
        parts.append(_unquoted(part[0]))
        dot = _DOT.match(text, part.end())
        position = dot.end() if dot else part.end()
        if not dot:
            break
    return tuple(parts), position


def _unquoted(part: str) -> str:
    if part.startswith('"'):
        try:
            return str(json.loads(part))
        except ValueError:  # an escape that only TOML has
            return part
    return part.strip("'")


def _end_of_line(text: str, position: int) -> int:
    """Behind the rest of a statement, however many lines its value has."""
    depth = 0
    while token := _IN_VALUE.match(text, position):
        position = token.end()
        depth += (token[0] in "[{") - (token[0] in "]}")
        if token[0] == "\n" and depth <= 0:
            break
    return position if token else len(text)


def _resolved(parts: tuple[str, ...], counts: dict[str, int], *, is_new: bool) -> str:
    """The key path of a header, with the number of the entry in each array of tables on it."""
    path = ""
    for depth, part in enumerate(parts, start=1):
        path = f"{path}.{part}" if path else part
        if is_new and depth == len(parts):
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = f"{path}.{counts[path]}"
    return path


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position
