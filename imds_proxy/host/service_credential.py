"""Secrets that the service manager hands to this service ("System and Service Credentials" of systemd)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

_FOLDER: Final = "CREDENTIALS_DIRECTORY"


def read_credential(name: str, environment: Mapping[str, str]) -> bytes | None:
    """A credential of `LoadCredential=` or `LoadCredentialEncrypted=`; None where the unit has none of this name.

    Its owner and mode are the service manager's affair: some versions of systemd give access by an ACL, which shows as
    a group's right.

    Raises:
        OSError: It is there and cannot be read.
    """
    folder = environment.get(_FOLDER)
    if not folder:
        return None
    try:
        return (Path(folder) / name).read_bytes()
    except FileNotFoundError:
        return None
