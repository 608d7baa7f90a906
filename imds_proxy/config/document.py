"""The text of the config as one document: the file itself, and then those of `conf.d` beside it.

Everything that reads the config reads it here. Nothing here takes long to import: `status --check` runs every few
seconds and wants no more than one table.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imds_proxy.config import folder
from imds_proxy.config.folder import UnreadableError
from imds_proxy.config.merge import Merge
from imds_proxy.config.positions import Places
from imds_proxy.config.toml import TomlError, decoded
from imds_proxy.errors import ConfigError
from imds_proxy.host import access_advice


@dataclass(frozen=True, slots=True)
class Document:
    """The config before it is validated."""

    data: dict[str, Any]
    places: Places
    where: str
    """The file, or the file and the folder, for a message about all of it."""


def exists(path: Path) -> bool:
    """Whether there is a config: the file, or files of `conf.d` beside it. Raises ConfigError as `read` does."""
    try:
        path.lstat()
    except PermissionError as error:
        raise _unreadable(path, error) from None
    except OSError:
        return bool(folder.files(path))
    return True


def read(path: Path, text: str | None = None) -> Document:
    """The config at `path` and in `conf.d` beside it; the file itself may be missing where the folder has some.

    Args:
        path: Of the file itself.
        text: What would be in it, to be tried before it is written.

    Raises:
        UnreadableError: This user may not read all of it.
        ConfigError: With what is wrong in every file: it is missing, no TOML, not the operator's, or sets a key that
            another has set.
    """
    further = folder.files(path)
    merge = Merge()
    errors: list[ConfigError] = []
    has_main = text is not None or not further or os.path.lexists(path)
    for each in [path, *further] if has_main else further:
        try:
            raw = folder.read(each) if each is not path else _content(path) if text is None else text.encode()
            merge.add(_shown(each), decoded(raw))
        except TomlError as error:
            errors.append(ConfigError(f"{_shown(each)}{f':{error.line}' if error.line else ''}: {error.what}"))
        except ConfigError as error:
            errors.append(error)
    if unreadable := [error for error in errors if isinstance(error, UnreadableError)]:
        raise unreadable[0]
    where = f"{path} and {folder.folder_of(path)}" if further else str(path)
    if len(errors) == 1 and not merge.mistakes:
        raise errors[0]
    if mistakes := (*map(_in_one_line, errors), *merge.mistakes):
        raise ConfigError(f"{where}: {told_number(mistakes)}", mistakes)
    return Document(merge.data, merge.places, where)


def told_number(mistakes: tuple[str, ...]) -> str:
    """How many mistakes there are, in words."""
    return f"{len(mistakes)} {'mistake' if len(mistakes) == 1 else 'mistakes'}"


def _shown(path: Path) -> str:
    """A path that can be printed: a name on disk may be no text."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def _content(path: Path) -> bytes:
    """What is in the file itself, whosever it is: its path was given, or it is the system's."""
    try:
        return path.read_bytes()
    except PermissionError as error:
        raise _unreadable(path, error) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def _unreadable(path: Path, error: OSError) -> UnreadableError:
    return UnreadableError(f"{path}: cannot be read: {error.strerror}", (access_advice.readable(str(path)),))


def _in_one_line(error: ConfigError) -> str:
    return " → ".join(line.strip() for line in error.message.splitlines())
