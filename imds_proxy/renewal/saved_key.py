"""The keys that saved sessions are sealed with: where they are kept, and what happens where they cannot be had."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from imds_proxy.host.extras import how_to_install
from imds_proxy.host.machine_id import is_of_this_boot, read_machine_id, stable_machine_id
from imds_proxy.host.service_credential import read_credential
from imds_proxy.host.state_dir import StateDir, StateError
from imds_proxy.renewal.disk_cache import SavedSessions
from imds_proxy.renewal.seal import KEY_BYTES, Cipher, Seal, derive, new_key

log = logging.getLogger(__name__)

CREDENTIAL: Final = "imds-proxy.state-key"
"""The name in `LoadCredential=` of the key that saved sessions are encrypted with."""

_KEY_FILE: Final = "state.key"
_SHORTEST_CREDENTIAL: Final = 16  # bytes
_SALT: Final = b"imds-proxy state encryption, version 1"


def open_saved_sessions(state: StateDir | None, environment: Mapping[str, str]) -> SavedSessions | None:
    """The saved sessions of a state directory; takes its time where they are encrypted: call it beside the loop.

    Where the key cannot be had, nothing is saved and the log says why: neither in clear where it should be encrypted,
    nor so that anybody could change it. What was saved before is removed then.
    """
    if state is None:
        return None
    try:
        return SavedSessions(state, _seal(state, environment))
    except StateError as error:
        extra = {"error": error.message, "advice": error.advice}
        log.warning("no credentials are saved: a restart will need AWS", extra=extra)
        return SavedSessions(state, None)


def _seal(state: StateDir, environment: Mapping[str, str]) -> Seal:
    cipher = _cipher(environment)
    machine_id = stable_machine_id(
        read_machine_id(), environment, lambda path: Path(path).exists(), of_this_boot=is_of_this_boot()
    )
    return Seal(_load_or_make_key(state), machine_id, cipher)


def _load_or_make_key(state: StateDir) -> bytes:
    key = state.read(_KEY_FILE)
    if key is None:
        key = new_key()
        state.write(_KEY_FILE, key)
    if len(key) != KEY_BYTES:
        raise StateError(f"{state.path / _KEY_FILE} does not hold {KEY_BYTES} bytes", "remove it to have one made")
    return key


def _cipher(environment: Mapping[str, str]) -> Cipher | None:
    """As the service manager's key says; None where it gives none. Raises StateError where it cannot be used."""
    try:
        credential = read_credential(CREDENTIAL, environment)
    except OSError as error:
        raise StateError(f"the credential {CREDENTIAL} cannot be read: {error.strerror}", "see the unit") from None
    if credential is None:
        return None
    if len(credential) < _SHORTEST_CREDENTIAL:
        advice = f"make it of {KEY_BYTES} random bytes: head -c {KEY_BYTES} /dev/urandom"
        raise StateError(f"the credential {CREDENTIAL} has less than {_SHORTEST_CREDENTIAL} bytes", advice)
    try:
        from imds_proxy.renewal.encryption import Aes256Gcm  # noqa: PLC0415 - an extra, and 40 ms
    except ModuleNotFoundError as error:
        raise StateError(
            f"the service manager gives the key {CREDENTIAL}, and encryption needs the Python package {error.name},"
            " which is not installed",
            how_to_install("encrypted-state", str(error.name)),
        ) from None
    return Aes256Gcm(derive(credential, _SALT, b"saved sessions"))
