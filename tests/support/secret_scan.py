"""What no log of a run of tests may hold: its secrets, and complete key ids."""

import base64
from pathlib import Path
from urllib.parse import quote

import pytest

from support import kubernetes
from support.aws import sessions, user_keys
from support.daemon import ISSUED
from support.saved import read_session

ENOUGH_DAEMONS = 20
"""From that many on, some have renewed credentials: whatever part of the tests it was."""
FORMS = (bytes, bytes.hex, base64.b64encode, base64.urlsafe_b64encode, repr)


def scan(folder):
    """Fail where a log in the folder, which everything of the run is in, holds a secret or a complete key id."""
    logs = {path: path.read_bytes() for path in folder.rglob("*.log") if path.is_file()}
    secrets = dict(known_secrets(folder))
    if found := [*too_little(logs, secrets), *leaked_secrets(logs, secrets), *leaked_key_ids(logs)]:
        pytest.fail("\n".join(found), pytrace=False)  # a traceback would repeat the logs and the secrets


def too_little(logs, secrets):
    """A scan of nothing would pass for ever."""
    if not any(path.name == "pytest.log" for path in logs):
        yield "there is no log of this process"
    if sum(path.name == "daemon.log" for path in logs) >= ENOUGH_DAEMONS:
        if not any(b"credentials renewed" in text for text in logs.values()):
            yield "no daemon has logged a renewal"
        if len(secrets) < 5:
            yield f"only {len(secrets)} secrets are known"


def leaked_secrets(logs, secrets):
    """Logs are shipped to places where nobody guards them as keys are guarded."""
    wanted = [secret for secret in secrets if len(secret) >= 16]
    return [f"{secrets[secret]}: in {path}" for path, text in logs.items() for secret in wanted if is_in(secret, text)]


def leaked_key_ids(logs):
    """Key ids are shown by their last four characters only."""
    ids = [session.access_key_id.encode() for session in sessions()]
    ids += [key_id.encode() for _, key_id, _ in user_keys()]
    return [f"…{key_id[-4:].decode()} in {path}" for path, text in logs.items() for key_id in ids if key_id in text]


def known_secrets(folder):
    for name, key_id, secret in user_keys():
        yield secret.encode(), f"the secret key of {name} ({key_id[-4:]})"
    for session in sessions():
        yield session.secret_access_key.encode(), f"a secret key of session {session.access_key_id[-4:]}"
        yield session.session_token.encode(), f"the token of session {session.access_key_id[-4:]}"
    for path in (*folder.rglob("tokens/*"), *folder.rglob("previous-tokens/*")):
        yield path.read_bytes().strip(), f"container token {path}"
    for path in folder.rglob(ISSUED):
        for token in path.read_bytes().split():
            yield token, f"a session token (IMDSv2) of {path.parent}"
    for token in kubernetes.ISSUED:
        yield token.encode(), "a service account's token"
    for path in (*folder.rglob("token.key"), *folder.rglob("state.key")):
        for form in FORMS:
            yield as_bytes(form(path.read_bytes())), f"{path} as {form.__name__}"
    for path in filter(Path.is_file, folder.rglob("credentials/*.json")):
        yield from saved_secrets(path)


def saved_secrets(path):
    try:
        fields = read_session(path)["credentials"]
        yield fields["secret_access_key"].encode(), f"the secret key in {path}"
        yield fields["session_token"].encode(), f"the session token in {path}"
    except (ValueError, TypeError, KeyError, AttributeError):  # a test has put rubbish there
        return


def as_bytes(value):
    return value if isinstance(value, bytes) else value.encode()


def is_in(secret, text):
    """As it is, in a URL's writing, or the end of it: what is cut off is often the beginning or the rest."""
    return secret in text or quote(secret, safe="").encode() in text or (len(secret) >= 40 and secret[-20:] in text)
