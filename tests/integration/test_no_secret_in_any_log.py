"""No secret of the whole run is in any log of it. `conftest.py` sorts this file last."""

import base64
from pathlib import Path
from urllib.parse import quote

import pytest

from support import kubernetes
from support.aws import sessions, user_keys
from support.daemon import ISSUED
from support.saved import read_session

FORMS = (bytes, bytes.hex, base64.b64encode, base64.urlsafe_b64encode, repr)


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Every log of this run, by its path."""
    return {path: path.read_bytes() for path in tmp_path_factory.getbasetemp().rglob("*.log") if path.is_file()}


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    """What may be in none of them, each with a word on what it is."""
    return dict(known_secrets(tmp_path_factory.getbasetemp()))


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


def test_there_is_something_to_scan(logs, secrets, request):
    """A scan of nothing would pass for ever."""
    if any("test_process.py" in item.nodeid for item in request.session.items):
        assert len(logs) > 20
    assert any(path.name == "pytest.log" for path in logs)
    if any(path.name == "daemon.log" for path in logs):
        assert sum(b"credentials renewed" in text for text in logs.values()) > 0
        assert len(secrets) >= 5


def test_no_secret_is_in_any_log(logs, secrets):
    """Logs are shipped to places where nobody guards them as keys are guarded."""
    wanted = [secret for secret in secrets if len(secret) >= 16]
    leaks = [f"{secrets[secret]}: in {path}" for path, text in logs.items() for secret in wanted if is_in(secret, text)]
    assert not leaks


def is_in(secret, text):
    """As it is, in a URL's writing, or the end of it: what is cut off is often the beginning or the rest."""
    return secret in text or quote(secret, safe="").encode() in text or (len(secret) >= 40 and secret[-20:] in text)


def test_no_complete_key_id_is_in_any_log(logs):
    """Key ids are shown by their last four characters only (ARCHITECTURE.md)."""
    ids = [session.access_key_id.encode() for session in sessions()]
    ids += [key_id.encode() for _, key_id, _ in user_keys()]
    leaks = [f"…{key_id[-4:].decode()} in {path}" for path, text in logs.items() for key_id in ids if key_id in text]
    assert not leaks
