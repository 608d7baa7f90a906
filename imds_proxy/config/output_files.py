"""`[[files]]`: files that the daemon keeps fresh."""

import os
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from imds_proxy.config.types import HOUR, MINUTE, AbsolutePath, Command, RoleName, Table, parse_duration

SHORTEST_DURATION: Final = 35 * MINUTE
"""Of a role's sessions, where a file holds them: with five minutes to spare they are renewed every four."""
SHARED_CREDENTIALS_FILE: Final = (
    "is a shared credentials file that this daemon may take its own key from, and that the CodeDeploy agent reads only"
    " once if it is its user's; other programs overwrite it too: use a file of its own"
)

_SECRET_FOR_OTHERS: Final = 0o007
_MODE: Final = re.compile(r"0?[0-7]{3}")
_PROFILE: Final = re.compile(r"[A-Za-z0-9_.,@:/+=-]+")
_ACCOUNT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]*\$?")
_LONGEST_NAME: Final = 230  # bytes; the temporary file beside it has a longer one
_DURATIONS: Final = ("assume-role", "roles-anywhere", "web-identity")


def own_credentials_files() -> set[str]:
    """The shared credentials files of root, and of the user that asks."""
    paths = {"/root/.aws/credentials", "~/.aws/credentials", os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "")}
    return {os.path.expanduser(path) for path in paths if path}  # noqa: PTH111 - leaves a home that is not there


def _path(value: str) -> str:
    if os.path.normpath(value) != value or value == "/":
        raise ValueError("expected the path of a file, without ., .. or repeated slashes")
    if len(os.fsencode(PurePosixPath(value).name)) > _LONGEST_NAME:
        raise ValueError("is too long a file name")
    if value in own_credentials_files():
        raise ValueError(SHARED_CREDENTIALS_FILE)
    return value


def _mode(value: str) -> str:
    if not _MODE.fullmatch(value):
        raise ValueError('expected a mode such as "0600"')
    if int(value, 8) & _SECRET_FOR_OTHERS:
        raise ValueError("would let every user of this host at the credentials: name an owner or a group instead")
    return value


def _profile(value: str) -> str:
    if not _PROFILE.fullmatch(value):
        raise ValueError("expected letters, digits or _.,@:/+=-")
    if value == "DEFAULT":
        raise ValueError('is a section for all profiles to some programs; "default" is the profile')
    return value


def _number_or_name(value: object) -> object:
    """A user's or group's number as text."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _account(value: str) -> str:
    if not _ACCOUNT.fullmatch(value):
        raise ValueError("expected a name or a number")
    return value


Account = Annotated[str, BeforeValidator(_number_or_name, json_schema_input_type=str | int), AfterValidator(_account)]


class OutputFileConfig(Table):
    """One entry of `[[files]]`; several for one path are profiles of one INI file."""

    role: RoleName = Field(description="whose credentials")
    path: Annotated[AbsolutePath, AfterValidator(_path)]
    format: Literal["ini", "json", "env"] = Field("ini", description="json: the credential_process document")
    profile: Annotated[str, AfterValidator(_profile)] = Field("default", description="of an INI file")
    mode: Annotated[str, AfterValidator(_mode)] = "0600"
    owner: Account | None = Field(None, description="name or number; left out: whoever the daemon runs as")
    group: Account | None = Field(None, description="name or number; left out: whoever the daemon runs as")
    after: Command | None = Field(None, description="run after a change: an array, or one line; no shell runs it")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.format != "ini" and "profile" in self.model_fields_set:
            raise ValueError('profile is for format = "ini"')
        return self


def file_mistakes(data: dict[str, Any]) -> list[tuple[str, str]]:
    """Mistakes that span `[[files]]` and other tables, as (key path, what is wrong); in the raw data."""
    roles, files = data.get("roles"), data.get("files")
    tables = [(f"files.{number}", file) for number, file in enumerate(files if isinstance(files, list) else [])]
    entries = [(key, file) for key, file in tables if isinstance(file, dict)]
    found = list(_disagreements(entries))
    for key, file in entries:
        found += _with_roles(key, file, roles if isinstance(roles, dict) else {})
    return found


def _disagreements(entries: list[tuple[str, dict[str, Any]]]) -> Iterator[tuple[str, str]]:
    """Entries of one path that cannot be profiles of one file."""
    first: dict[Any, tuple[str, dict[str, Any]]] = {}
    profiles: set[tuple[Any, Any]] = set()
    for key, file in entries:
        path = str(file.get("path"))
        other, its = first.setdefault(path, (key, file))
        profile = (path, str(file.get("profile", "default")))
        if other != key and {_format(file), _format(its)} != {"ini"}:
            yield f"{key}.path", f'is that of {other}, and only files of format = "ini" hold several roles'
        elif profile in profiles:
            yield f"{key}.profile", f'"{profile[1]}" of this file is taken already'
        elif different := [name for name in _OF_A_FILE if _text(file, name) != _text(its, name)]:
            yield f"{key}.{different[0]}", f"is another than that of {other}, which is the same file"
        profiles.add(profile)


def _with_roles(key: str, file: dict[str, Any], roles: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What a file and the roles do not agree on."""
    name = file.get("role")
    role = roles.get(name) if isinstance(name, str) else None
    if isinstance(name, str) and name not in roles:
        yield f"{key}.role", f"there is no role {name!r}"
    if isinstance(role, dict) and (life := session_life(role)) is not None and life < SHORTEST_DURATION:
        yield f"{key}.role", _TOO_SHORT.format(name=name, life=life // MINUTE, shortest=SHORTEST_DURATION // MINUTE)
    for other, table in roles.items():
        reads = [name for name, value in table.items() if value == file.get("path")] if isinstance(table, dict) else []
        if reads and isinstance(file.get("path"), str):
            yield f"{key}.path", f"is what roles.{other}.{reads[0]} reads: it would be overwritten"


_TOO_SHORT: Final = (
    "roles.{name} has sessions of {life} min, and a file has to hold 30 min of life at any time (the CodeDeploy agent"
    ' keeps what it has read for as long): set its duration to "{shortest}m" or more'
)
_OF_A_FILE: Final = ("mode", "owner", "group")


def _format(file: dict[str, Any]) -> object:
    return str(file.get("format", "ini"))


def _text(file: dict[str, Any], key: str) -> str:
    """A value in one way of writing it."""
    value = str(file.get(key, "0600" if key == "mode" else ""))
    return value.removeprefix("0") if key == "mode" else value


def session_life(role: dict[str, Any]) -> int | None:
    """How long a role's sessions live, in seconds, where the config says it; in the raw data."""
    if role.get("source", "assume-role") not in _DURATIONS:
        return None
    try:
        duration = parse_duration(role.get("duration", HOUR))
    except ValueError:  # told of by its own table
        return None
    if not isinstance(duration, int):
        return None
    return min(duration, HOUR) if "from" in role else duration  # AWS makes no longer ones of a chain
