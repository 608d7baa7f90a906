"""The last good credentials on disk, so that a restart serves at once and needs no call to AWS.

One sealed file for each role (`seal.py`). What was copied, changed, or obtained with other settings is not served: the
role is renewed as if there were nothing, and the log says why. No message holds anything of a file's content.
"""

import contextlib
import json
import logging
import os
import re
import stat
from collections.abc import Callable, Collection
from dataclasses import fields as dataclass_fields
from typing import Final

from imds_proxy.access_key import are_swapped
from imds_proxy.credentials import Credentials, Secret
from imds_proxy.host import safe_path
from imds_proxy.host.state_dir import StateDir, StateError
from imds_proxy.renewal.seal import OldFormatError, Seal, SealError
from imds_proxy.renewal.session_shape import SessionShape
from imds_proxy.sources.interface import LONGEST_LIFE

log = logging.getLogger(__name__)

_FOLDER: Final = "credentials"
# Ours, and what a crash in the middle of a write leaves of one.
_FILE: Final = re.compile(r"(?P<role>[A-Za-z0-9_][A-Za-z0-9_+=,.@-]{0,63})\.json")
_LEFTOVER: Final = re.compile(rf"\.{_FILE.pattern}\.imds-proxy\.[0-9a-f]{{8}}")
_BEGINNINGS: Final = (b'{"cipher":', b'{"fingerprint":')  # of a sealed file, and of one of a version before
_LONGEST_BEGINNING: Final = 16
_CLOCKS_DIFFER: Final = 900.0  # seconds; a request that is off by more is refused by AWS
_LATEST: Final = 2.0**32  # beyond any session, and far within what a date can hold


class SavedSessions:
    """The saved sessions of one state directory.

    Args:
        state: The directory.
        seal: Of this host; None: nothing is saved, loaded or kept.
    """

    def __init__(self, state: StateDir, seal: Seal | None) -> None:
        self._state = state
        self._seal = seal

    def save(self, role: str, shape: SessionShape, credentials: Credentials) -> None:
        """Keep `credentials` for the next start; raises StateError when the disk does not take them."""
        if self._seal is None:
            return
        fields = {field.name: getattr(credentials, field.name) for field in dataclass_fields(credentials)} | {
            "secret_access_key": credentials.secret_access_key.reveal(),
            "session_token": credentials.session_token.reveal(),
        }
        document = {"role": role, "shape": shape.digest, "credentials": fields}
        self._state.write(f"{_FOLDER}/{role}.json", self._seal.close(json.dumps(document).encode("ascii")))

    def load(self, role: str, shape: SessionShape, now: float) -> Credentials | None:
        """What was kept for this role, if it may be served on this host; else None, and the log says why.

        Args:
            role: Its name in the config.
            shape: What it has to have been obtained with.
            now: Seconds since the epoch.

        Raises:
            StateError: The file cannot be trusted or read.
        """
        content = self._state.read(f"{_FOLDER}/{role}.json") if self._seal is not None else None
        if content is None or self._seal is None:
            return None
        try:
            credentials = _checked(self._seal.open(content), role, shape, now)
        except (OldFormatError, _OtherSettingsError) as error:
            log.info("saved credentials are not used", extra={"role": role, "reason": f"the file {error.message}"})
            return None
        except SealError as error:
            extra = {"role": role, "error": f"the file {error.message}", "advice": error.advice}
            log.warning("saved credentials are refused", extra=extra)
            return None
        return credentials if credentials.expiration > now else None

    def keep_only(self, roles: Collection[str]) -> None:
        """Remove the files of all other roles, without a seal those of all; raises StateError where it cannot.

        Only what has the name and the beginning of what is written here: an operator's own file may be there too. A
        link is left alone, and so is a folder that is one.
        """
        kept = roles if self._seal is not None else ()
        self._remove(lambda role: role not in kept)

    def remove(self, roles: Collection[str]) -> None:
        """Remove the files of these roles, as `keep_only` does; raises StateError where it cannot."""
        self._remove(lambda role: role in roles)

    def _remove(self, is_meant: Callable[[str], bool]) -> None:
        path = self._state.path / _FOLDER
        try:
            with safe_path.open_folder(self._state.path) as state:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                folder = os.open(_FOLDER, flags, dir_fd=state.descriptor)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StateError(f"{path} cannot be looked at: {error.strerror}", _BY_HAND) from None
        try:
            _remove_those(folder, is_meant)
        except OSError as error:
            raise StateError(f"a file in {path} cannot be removed: {error.strerror}", _BY_HAND) from None
        finally:
            os.close(folder)


_BY_HAND: Final = "mend it, or remove by hand the files of roles that are not in the config any more; it is retried"


class _OtherSettingsError(SealError):
    """It was obtained with other settings, or under another name of this host."""


def _remove_those(folder: int, is_meant: Callable[[str], bool]) -> None:
    removed = False
    for name in os.listdir(folder):
        match = _FILE.fullmatch(name) or _LEFTOVER.fullmatch(name)
        if match is None or not is_meant(match["role"]):
            continue
        with contextlib.suppress(FileNotFoundError):
            if _LEFTOVER.fullmatch(name) or _is_ours(folder, name):
                os.unlink(name, dir_fd=folder)
                removed = True
                log.info("saved credentials of a role are removed", extra={"role": match["role"]})

    if removed:
        with contextlib.suppress(OSError):  # not every file system can sync a folder
            os.fsync(folder)  # no power cut brings them back


def _is_ours(folder: int, name: str) -> bool:
    if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        return False
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        return os.read(file, _LONGEST_BEGINNING).startswith(_BEGINNINGS)
    finally:
        os.close(file)


def _checked(content: bytes, role: str, shape: SessionShape, now: float) -> Credentials:
    """The credentials of a document that this host wrote. Raises SealError."""
    try:
        document = json.loads(content)
        written_for, digest, fields = document["role"], document["shape"], document["credentials"]
        if not _well_formed(dict(fields)) or are_swapped(fields["access_key_id"], fields["secret_access_key"]):
            raise ValueError("not well formed")  # noqa: TRY301 - as everything else that is
        secrets = {name: Secret(fields[name]) for name in ("secret_access_key", "session_token")}
        credentials = Credentials(**fields | secrets)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise SealError("holds no session in the form of this version") from None
    if written_for != role:
        raise SealError("is of another role", "nothing to do: it is renewed; find out what moves files there")
    _check_shape(credentials, digest, shape)
    _check_life(credentials, shape, now)
    return credentials


def _check_shape(credentials: Credentials, digest: str, shape: SessionShape) -> None:
    sent = (credentials.session_arn or "").rpartition("/")[2]
    if digest != shape.digest or shape.session_name not in {None, sent}:
        raise _OtherSettingsError("is of other settings, or of another name of this host")


def _check_life(credentials: Credentials, shape: SessionShape, now: float) -> None:
    """What `obtain` checks of a new one, and that it lives no longer than was asked for."""
    began, end = credentials.obtained, credentials.expiration
    if end - began > shape.longest_life + _CLOCKS_DIFFER or end > now + LONGEST_LIFE:
        advice = "nothing to do: it is renewed; compare this host's clock with AWS's"
        raise SealError("holds a session that lives longer than its source gives", advice)
    if began > now + _CLOCKS_DIFFER:
        raise SealError("was written in the future, by this host's clock", "set this host's clock")


def _well_formed(fields: dict[str, object]) -> bool:
    """Whether every field has its type, and times are such: no rubbish may stop the daemon at every start."""
    times = [fields.pop("expiration"), fields.pop("obtained")]
    numbers = all(type(time) in {int, float} and 0 <= time < _LATEST for time in times)  # type: ignore[operator]
    unsaid = {"role_arn", "session_arn", "account"}
    return numbers and all(isinstance(v, str) or (v is None and name in unsaid) for name, v in fields.items())
