"""The last good credentials on disk, so that a restart serves at once and needs no call to AWS."""

import json
from dataclasses import fields as dataclass_fields

from imds_proxy.credentials import Credentials, Secret
from imds_proxy.state import StateDir

_FOLDER = "credentials"


def save(state: StateDir, role: str, fingerprint: str, credentials: Credentials) -> None:
    """Keep `credentials` for the next start; raises StateError when the disk does not take them."""
    fields = {field.name: getattr(credentials, field.name) for field in dataclass_fields(credentials)} | {
        "secret_access_key": credentials.secret_access_key.reveal(),
        "session_token": credentials.session_token.reveal(),
    }
    state.write(f"{_FOLDER}/{role}.json", json.dumps({"fingerprint": fingerprint, "credentials": fields}).encode())


def load(state: StateDir, role: str, fingerprint: str) -> Credentials | None:
    """What was kept for this role; None when there is nothing, or it was shaped by other settings, or it is rubbish.

    Raises:
        StateError: The file cannot be trusted or read.
    """
    content = state.read(f"{_FOLDER}/{role}.json")
    if content is None:
        return None
    try:
        document = json.loads(content)
        if document["fingerprint"] != fingerprint:
            return None
        fields = document["credentials"]
        if not _well_formed(dict(fields)):
            return None
        secrets = {name: Secret(fields[name]) for name in ("secret_access_key", "session_token")}
        return Credentials(**fields | secrets)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


_LATEST = 2.0**32  # beyond any session, and far within what a date can hold


def _well_formed(fields: dict[str, object]) -> bool:
    """Whether every field has its type, and times are such: no rubbish may stop the daemon at every start."""
    times = [fields.pop("expiration"), fields.pop("obtained")]
    numbers = all(type(time) in {int, float} and 0 <= time < _LATEST for time in times)  # type: ignore[operator]
    unsaid = {"role_arn", "session_arn", "account"}
    return numbers and all(isinstance(v, str) or (v is None and name in unsaid) for name, v in fields.items())
