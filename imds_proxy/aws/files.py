"""The AWS files of this host where botocore says nothing of them: it takes one that it may not read for an empty one.

In: the environment. Out: paths, a token, or the error for a file that cannot be used; it names no role. Blocks.
"""

import os
from collections.abc import Callable
from typing import Any, Final

from imds_proxy.access_key import fault
from imds_proxy.aws.setting_error import SettingError
from imds_proxy.errors import Denied, Invalid, SourceError
from imds_proxy.host import access_advice, utf8
from imds_proxy.host.open_files import exhausted
from imds_proxy.host.utf8 import NotUtf8Error
from imds_proxy.printable import printable

CONFIG: Final = "AWS_CONFIG_FILE"
CREDENTIALS: Final = "AWS_SHARED_CREDENTIALS_FILE"
AWS_FILES: Final = ((CONFIG, "~/.aws/config"), (CREDENTIALS, "~/.aws/credentials"))
"""The variable that names each of the two files, and where it is without that."""

_LARGEST: Final = 1 << 20  # bytes; AWS takes a token of 20000
_IN_ENVIRONMENT: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_IN_FILE: Final = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
_NUMBERS: Final = ("AWS_METADATA_SERVICE_TIMEOUT", "AWS_METADATA_SERVICE_NUM_ATTEMPTS")
"""botocore reads them whether or not instance metadata is asked for."""
_PROFILES: Final = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE")
_METHODS: Final = {"shared-credentials-file": 1, "config-file": 0}
"""What botocore calls credentials that stand in one of the files."""


def paths() -> list[str]:
    """Of the config file and of the credentials file."""
    return [file_of(variable, usual) for variable, usual in AWS_FILES]


def file_of(variable: str, usual: str) -> str:
    """The path of one of the `AWS_FILES`, as botocore finds it."""
    return os.path.expanduser(os.path.expandvars(os.environ.get(variable, usual)))  # noqa: PTH111 - as botocore does


def check_readable(*needed: str) -> None:
    """Raise SettingError for a file that is there and cannot be read.

    Args:
        needed: Variables: the file that one of them names has to be there.
    """
    files = [(file_of(*file), file[0], file[0] in os.environ) for file in AWS_FILES]
    for has_to_be in (False, True):  # what may not be read says more
        for path, variable, is_named in files:
            what = f"{variable} names {printable(path)}, which" if is_named else printable(path)
            if error := _unreadable(path, what, needed=has_to_be and is_named and variable in needed):
                raise SettingError(error)


def _unreadable(path: str, what: str, *, needed: bool) -> SourceError | None:
    try:
        with open(path, "rb", opener=_without_waiting):
            return None
    except PermissionError:
        return Denied(f"{what} may not be read by this user", access_advice.readable(path))
    except FileNotFoundError:
        return Invalid(f"{what} does not exist", "correct the variable, or put the file there") if needed else None
    except IsADirectoryError:
        return Invalid(f"{what} is a folder", "name the file itself")
    except OSError as error:
        return None if exhausted(error) else Invalid(f"{what} cannot be read: {error.strerror}", "correct it")


def _without_waiting(path: str, flags: int) -> int:
    """A pipe without a writer would hold the thread up."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def check_variables() -> None:
    """Raise SettingError for a variable that is no number, or a profile's name with an end of line."""
    for name in _NUMBERS:
        if not os.environ.get(name, "0").isdecimal():
            raise SettingError.invalid(f"{name} is no number", f"correct {name}, or remove it")
    for name in _PROFILES:
        if (value := os.environ.get(name, "")) != value.strip():
            raise SettingError.invalid(f"{name} begins or ends with a space or an end of line", f"correct {name}")


def token_of(path: str) -> Callable[[], str]:
    """Botocore's loader of a web identity token, which says what is wrong with the file and drops an end of line."""

    def load() -> str:
        named = os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE") == path
        setting = "AWS_WEB_IDENTITY_TOKEN_FILE" if named else "web_identity_token_file of the AWS profile"
        what = f"{setting} names {printable(path)}, which"
        try:
            if error := _unreadable(path, what, needed=True):
                raise SettingError(error)
            with open(path, "rb") as file:  # noqa: PTH123 - a path as botocore has it
                token = utf8.decoded(file.read(_LARGEST)).strip()
        except NotUtf8Error as error:
            raise SettingError.invalid(f"{what} {error.message}", error.advice) from None
        if not token.isascii():
            raise SettingError.invalid(f"{what} holds no token", "put the OpenID Connect token itself there")
        if not token:
            raise SettingError.invalid(f"{what} is empty", "see why whatever writes the token there does not")
        return token

    return load


def check_key(frozen: Any, method: str) -> None:
    """Raise SettingError where a part of a key can be sent in no request.

    Args:
        frozen: botocore's `ReadOnlyCredentials`.
        method: What botocore calls the place where it was found.
    """
    values = (frozen.access_key, frozen.secret_key, frozen.token)
    for number, value in enumerate(values):
        if (value is not None or number < len(values) - 1) and (what := fault(value or "")) is not None:
            raise SettingError.invalid(f"{_place(number, method)} {what}", "write it again, without what surrounds it")


def _place(number: int, method: str) -> str:
    if method == "env":
        return _variable(number)
    if (which := _METHODS.get(method)) is not None:
        return f"{_IN_FILE[number]} in {printable(paths()[which])}"
    return f"{_IN_FILE[number]} of {method}"


def _variable(number: int) -> str:
    name = _IN_ENVIRONMENT[number]
    return name if name in os.environ else "AWS_SECURITY_TOKEN"
