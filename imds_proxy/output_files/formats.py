"""What goes into a file: credentials as INI profiles, as the credential_process document, or as shell assignments.

"Configuration and credential file settings", "Sourcing credentials with an external process" and "Environment variables
to configure the AWS CLI" of the AWS CLI user guide. In: what is there now, and credentials. Out: what has to be there.
Errors: FileError, whose message goes on after the path. Pure functions.
"""

import json
import re
from collections.abc import Mapping
from typing import Final

from imds_proxy.aws.shared_credentials import replaced
from imds_proxy.credentials import Credentials, timestamp
from imds_proxy.documents import imds_document, process_document
from imds_proxy.errors import FileError
from imds_proxy.host import utf8
from imds_proxy.host.utf8 import NotUtf8Error

# A file of assignments is read by shells, some of them root's: nothing that means anything to one may get into it.
_PLAIN: Final = re.compile(r"[A-Za-z0-9+/=_.,:@%~-]+")
_PRINTABLE: Final = re.compile(r"(?![#;])[!-~]+")  # some SDKs take a value that begins so for a comment


def ini(current: bytes, profiles: Mapping[str, Credentials]) -> bytes:
    """An INI file in which `profiles` are as given, and every other profile is as it was."""
    try:
        # Written without a byte order mark, which most SDKs do not read past; other bytes of other people stay.
        text = utf8.without_mark(current).decode("utf-8", "surrogateescape")
    except NotUtf8Error as error:
        raise FileError(error.message, error.advice) from None
    fields = {name: _checked(_fields(credentials), _PRINTABLE) for name, credentials in profiles.items()}
    return replaced(text, fields).encode("utf-8", "surrogateescape")


def document(credentials: Credentials) -> bytes:
    """The credential_process document, for `credential_process = cat FILE`."""
    return json.dumps(process_document(imds_document(credentials)), indent=2).encode() + b"\n"


def env(credentials: Credentials) -> bytes:
    """Assignments for a shell, `env $(cat FILE)`, systemd's EnvironmentFile, `docker --env-file`: nothing is quoted."""
    names = {key.upper(): value for key, value in _fields(credentials).items() if key != "aws_expiration"}
    names["AWS_CREDENTIAL_EXPIRATION"] = timestamp(credentials.expiration)
    return "".join(f"{name}={value}\n" for name, value in _checked(names, _PLAIN).items()).encode()


def _fields(credentials: Credentials) -> dict[str, str]:
    return {
        "aws_access_key_id": credentials.access_key_id,
        "aws_secret_access_key": credentials.secret_access_key.reveal(),
        "aws_session_token": credentials.session_token.reveal(),
        "aws_expiration": timestamp(credentials.expiration),  # AWS has no key for it; source = "file" reads this one
    }


def _checked(fields: dict[str, str], allowed: re.Pattern[str]) -> dict[str, str]:
    for name, value in fields.items():
        if not allowed.fullmatch(value):
            advice = 'AWS has none: see what the source hands out, or use format = "json"'
            raise FileError(f"cannot hold an {name} with such characters as this one has", advice)
    return fields
