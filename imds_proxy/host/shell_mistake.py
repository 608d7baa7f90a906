"""What only a shell understands, in a command that no shell runs: `~`, `$HOME`, `|`, `>`, `&&`, `*`, backquotes.

In: a command as the config has it. Out: what is wrong with it, in words that repeat no argument; None where nothing is.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Final, NamedTuple

# What hands its arguments to a shell, or is one: there they mean what they mean to that.
_SHELLS: Final = frozenset(
    ("sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "busybox", "ssh", "su", "runuser", "script", "xonsh")
)
# What has a language of its own with the same marks.
_LANGUAGES: Final = frozenset(("jq", "yq", "awk", "gawk", "mawk", "sed", "perl", "ruby", "php", "envsubst", "find"))
_BUILTINS: Final = frozenset(
    (".", "alias", "cd", "eval", "exec", "export", "set", "source", "ulimit", "umask", "unset")
)

_OPERATOR: Final = re.compile(r"\|\|?|&&|\d?>>?|<+|^&|&$|;$|^;")
_OPERATOR_ALONE: Final = re.compile(r"\|\|?|&&?|\d?>>?|<+|\d?>&\d|&>|\d?>/dev/null")
_EXPANDED: Final = re.compile(r"\$\(|`|\$\{?[A-Za-z_]\w*\}?")
_VARIABLE: Final = re.compile(r"\$\(|`|\$\{?[A-Z_][A-Z0-9_]*\}?")
_HOME: Final = re.compile(r"~[\w.-]*(?=/|$)")
_PATTERN: Final = re.compile(r"/[^\0]*?([*?\[])")
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_]\w*=")

_BY_A_SHELL: Final = '["sh", "-c", "…"] has one run it'
_QUOTED: Final = "\0"  # in the place of a character that no shell would look at


class _Word(NamedTuple):
    """One word of a line, as it is written: what stands in quotes is not what it seems."""

    text: str
    plain: str
    """Without what is quoted in any way."""
    expanded: str
    """Without what is quoted so that a shell would expand nothing in it."""


def shell_mistake(command: str | Sequence[str]) -> str | None:
    """What a shell would have made of a command, and how to write it; None for one that needs no shell.

    Args:
        command: One line, which `shlex.split` takes; or the program and its arguments.
    """
    words = list(_words(command)) if isinstance(command, str) else [_Word(part, part, part) for part in command]
    if not words:
        return None
    first = words[0].text
    if _ASSIGNMENT.match(first):
        name = first.partition("=")[0]
        return (
            f'no shell runs it, so {name}=… is taken for the program: ["env", "NAME=VALUE", "PROGRAM"] sets a variable'
        )
    if first in _BUILTINS:
        return f"{first} is a word of the shell and no program: {_BY_A_SHELL}"
    programs = {PurePosixPath(word.text).name for word in words}
    found = _in_line(words, programs) if isinstance(command, str) else _in_array(words, programs)
    if found is None:
        return None
    mark, instead = found
    as_it_is = "; what is meant as it stands goes into single quotes" if isinstance(command, str) else ""
    return f"no shell runs it, so {mark} would be an argument like any other: {instead}{_BY_A_SHELL}{as_it_is}"


def _in_line(words: list[_Word], programs: set[str]) -> tuple[str, str] | None:
    """The first mark that a shell would take for its own, and what to write in its place, if not a shell."""
    for word in words:
        if operator := _OPERATOR.search(word.plain):
            return operator[0], ""
    if programs & _SHELLS:
        return None
    for word in words:
        if variable := _EXPANDED.search(word.expanded):
            return _expansion(variable[0])
        if home := _HOME.match(word.plain):
            return home[0], _WHOLE_PATH
        if pattern := _PATTERN.match(word.plain):
            return pattern[1], _NAME_FILES
        if "*" in word.plain and not word.text.startswith("-") and "://" not in word.text:
            return "*", _NAME_FILES
    return None


def _in_array(words: list[_Word], programs: set[str]) -> tuple[str, str] | None:
    """The same of an array, where each element is meant as it stands, unless it can hardly be."""
    if programs & _SHELLS:
        return None
    for text in (word.text for word in words):
        if _OPERATOR_ALONE.fullmatch(text):
            return text, ""
        if home := _HOME.match(text):
            return home[0], _WHOLE_PATH
        if any(character.isspace() for character in text) or programs & _LANGUAGES:
            continue  # a program in another language
        if variable := _VARIABLE.search(text):
            return _expansion(variable[0])
        if text.startswith("/") and "*" in text:
            return "*", _NAME_FILES
    return None


_WHOLE_PATH: Final = "write the whole path, or "
_NAME_FILES: Final = "name the files, or "


def _expansion(found: str) -> tuple[str, str]:
    return (found, "write its value, or ") if found[-1] not in "(`" else (found, "")


def _words(line: str) -> Iterator[_Word]:
    """The words of a line by the rules of a POSIX shell, as `shlex.split` has them; open quotes end with the line."""
    text, plain, expanded, quote, is_word = "", "", "", "", False
    characters = iter(line)
    for character in characters:
        if not quote and character.isspace():
            if is_word:
                yield _Word(text, plain, expanded)
            text, plain, expanded, is_word = "", "", "", False
            continue
        is_word = True
        if character == quote or (not quote and character in "'\""):
            quote = "" if quote else character
            continue
        escaped = character == "\\" and quote != "'"
        taken = next(characters, "") if escaped else character
        text += taken
        plain += _QUOTED if quote or escaped else taken
        expanded += _QUOTED if quote == "'" or escaped else taken
    if is_word:
        yield _Word(text, plain, expanded)
