"""What authenticates and encrypts saved state (renewal/seal.py, encryption.py, saved_key.py; host/machine_id.py)."""

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.host import machine_id
from imds_proxy.host.machine_id import read_machine_id, stable_machine_id
from imds_proxy.host.state_dir import open_state_dir
from imds_proxy.renewal.encryption import Aes256Gcm
from imds_proxy.renewal.saved_key import CREDENTIAL, open_saved_sessions
from imds_proxy.renewal.seal import Seal, SealError, derive
from support.plane import credentials
from support.saved import KEY, session_file, shape

CONTENT = json.dumps({"secret": "session-token/of+the+test==", "role": "deploy"}).encode()
ID, OTHER_ID = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
PLAIN, ENCRYPTED = Seal(KEY, ID), Seal(KEY, ID, Aes256Gcm(b"k" * 32))
SEALS = pytest.mark.parametrize("seal", [PLAIN, ENCRYPTED], ids=["plain", "encrypted"])
CHANGES = st.one_of(
    st.tuples(st.just("replace"), st.integers(0, 10_000), st.integers(0, 255)),
    st.tuples(st.just("insert"), st.integers(0, 10_000), st.integers(0, 255)),
    st.tuples(st.just("cut"), st.integers(0, 10_000), st.just(0)),
    st.tuples(st.just("remove"), st.integers(0, 10_000), st.just(0)),
)


def changed(content: bytes, change) -> bytes:
    what, place, byte = change
    place %= len(content)
    head, tail = content[:place], content[place:]
    return {
        "replace": head + bytes([byte]) + tail[1:],
        "insert": head + bytes([byte]) + tail,
        "cut": head,
        "remove": head + tail[1:],
    }[what]


def test_keys_are_derived_as_rfc_5869_has_it():
    """Another implementation could not read what is here, and nobody could check it."""
    material, salt, info = b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA))  # test case 1
    assert derive(material, salt, info).hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"


@SEALS
def test_what_was_sealed_comes_back(seal):
    assert seal.open(seal.close(CONTENT)) == CONTENT


def test_what_is_encrypted_shows_nothing():
    """A backup or a stolen disk would hold the session."""
    assert b"session-token" in PLAIN.close(CONTENT)
    assert b"session-token" not in ENCRYPTED.close(CONTENT)
    assert ENCRYPTED.close(CONTENT) != ENCRYPTED.close(CONTENT)
    assert "session-token" not in repr((PLAIN, ENCRYPTED, ENCRYPTED._cipher))


@SEALS
def test_every_byte_is_authenticated(seal):
    """Whoever may write the file would say how long a session lives, or which it is."""
    sealed = seal.close(CONTENT)
    for place in range(len(sealed)):
        for bit in (1, 0x20, 0x80):
            with pytest.raises(SealError):
                seal.open(sealed[:place] + bytes([sealed[place] ^ bit]) + sealed[place + 1 :])


@SEALS
@given(changes=st.lists(CHANGES, min_size=1, max_size=4))
def test_no_change_is_believed(seal, changes):
    """The same of bytes that come, go and are cut off."""
    sealed = other = seal.close(CONTENT)
    for change in changes:
        other = changed(other, change) or b" "
    if other != sealed:
        with pytest.raises(SealError):
            seal.open(other)


@SEALS
@given(rubbish=st.binary(max_size=200) | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(str))
def test_rubbish_is_refused_and_nothing_else_is_raised(seal, rubbish):
    """One file would stop the daemon at every start."""
    with pytest.raises(SealError):
        seal.open(rubbish if isinstance(rubbish, bytes) else rubbish.encode())
    with pytest.raises(SealError):
        seal.open(b"[" * 100_000)


@pytest.mark.parametrize("field", ["cipher", "content", "host", "mac", "version"])
@pytest.mark.parametrize("value", [None, True, 1.0, -1, "", "é", [], {}, float("nan"), "none"], ids=repr)
def test_a_field_of_another_type_is_refused(field, value):
    document = json.loads(PLAIN.close(CONTENT))
    if document[field] == value:
        return
    document[field] = value
    with pytest.raises(SealError):
        PLAIN.open(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())


@pytest.mark.parametrize(
    ("writer", "reader", "reason"),
    [
        (PLAIN, Seal(KEY, OTHER_ID), "was copied from another host"),
        (PLAIN, Seal(KEY, None), "was copied from another host"),
        (PLAIN, Seal(b"x" * 32, ID), "was copied from another host"),
        (ENCRYPTED, PLAIN, "is encrypted, and the service manager gives no key"),
        (PLAIN, ENCRYPTED, "is not encrypted, and the service manager gives a key"),
        (ENCRYPTED, Seal(KEY, ID, Aes256Gcm(b"l" * 32)), "is encrypted with another key"),
    ],
    ids=["machine-id", "no machine-id", "key file", "no key", "now a key", "another key"],
)
def test_what_another_host_or_key_wrote_is_refused_and_why(writer, reader, reason):
    """A copied state directory would give a host the sessions of another."""
    with pytest.raises(SealError, match=reason) as caught:
        reader.open(writer.close(CONTENT))
    assert caught.value.advice
    assert "session-token" not in str(caught.value) + caught.value.advice


# Which machine id counts


@pytest.mark.parametrize(
    ("identity", "environment", "files", "counts"),
    [
        (ID, {}, (), True),
        (ID, {"container": ""}, (), True),
        (None, {}, (), False),
        ("uninitialized", {}, (), False),
        ("0" * 32, {}, (), False),
        (ID.upper(), {}, (), False),
        (ID[:-1], {}, (), False),
        (ID, {"container": "podman"}, (), False),
        (ID, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, (), False),
        (ID, {}, ("/.dockerenv",), False),
        (ID, {}, ("/run/.containerenv",), False),
        (ID, {}, ("/run/systemd/container",), False),
    ],
)
def test_a_machine_id_counts_only_where_it_stays_and_is_no_others(identity, environment, files, counts):
    """A container would refuse its own sessions at each start, or a host believe those of a clone."""
    for of_this_boot in (False, True):
        stable = stable_machine_id(identity, environment, files.__contains__, of_this_boot=of_this_boot)
        assert stable == (identity if counts and not of_this_boot else None)


@pytest.mark.parametrize("kind", ["mounted", "other", "none"])
def test_the_id_that_systemd_makes_for_one_boot_is_known(tmp_path, monkeypatch, kind):
    """A host that boots from a read-only image would call its own sessions another host's at each boot."""
    identity, run = tmp_path / "etc", tmp_path / "run"
    identity.write_text(ID)
    if kind == "mounted":  # the same file, as a mount over the other shows
        run.hardlink_to(identity)
    elif kind == "other":
        run.write_text(ID)
    monkeypatch.setattr(machine_id, "MACHINE_ID_FILES", (identity,))
    monkeypatch.setattr(machine_id, "_OF_THIS_BOOT", run)
    assert machine_id.is_of_this_boot() is (kind == "mounted")


def test_a_machine_id_that_cannot_be_read_is_none(tmp_path):
    (tmp_path / "empty").write_bytes(b"\n")
    (tmp_path / "binary").write_bytes(b"\xff")
    assert read_machine_id([tmp_path, tmp_path / "missing", tmp_path / "empty", tmp_path / "binary"]) is None


# Where the keys are


def saved_in(tmp_path, environment=None, content=None):
    """The saved sessions of a state directory, for a service whose credential has this content."""
    environment = dict(environment or {})
    if content is not None:
        folder = tmp_path / "service"
        folder.mkdir(exist_ok=True)
        (folder / CREDENTIAL).write_bytes(content)
        environment["CREDENTIALS_DIRECTORY"] = str(folder)
    return open_saved_sessions(open_state_dir(tmp_path / "state"), environment)


HELD = credentials()


def load(saved):
    return saved.load("deploy", shape(), HELD.obtained)


def test_the_key_is_made_once_and_for_this_user_alone(tmp_path):
    saved_in(tmp_path).save("deploy", shape(), HELD)
    key = tmp_path / "state/state.key"
    assert (key.stat().st_mode & 0o777, len(key.read_bytes())) == (0o600, 32)
    assert load(saved_in(tmp_path)) == HELD
    key.unlink()
    assert load(saved_in(tmp_path)) is None


@pytest.mark.parametrize("trouble", ["rubbish", "open", "linked"])
def test_with_a_key_that_cannot_be_trusted_nothing_is_saved_or_loaded(tmp_path, caplog, trouble):
    """Whoever knows the key can make a session that is believed."""
    saved_in(tmp_path).save("deploy", shape(), HELD)
    key = tmp_path / "state/state.key"
    if trouble == "rubbish":
        key.write_bytes(b"x")
    elif trouble == "open":
        key.chmod(0o644)
    else:
        key.rename(tmp_path / "key")
        key.symlink_to(tmp_path / "key")
    saved = saved_in(tmp_path)
    assert "no credentials are saved: a restart will need AWS" in caplog.text
    assert load(saved) is None
    saved.keep_only({"deploy"})
    saved.save("deploy", shape(), HELD)
    assert not session_file(tmp_path / "state").exists()


def test_a_key_of_the_service_manager_encrypts(tmp_path):
    """The disk would hold the session in clear."""
    saved_in(tmp_path, content=b"0123456789abcdef").save("deploy", shape(), HELD)
    content = session_file(tmp_path / "state").read_bytes()
    assert b"aes-256-gcm" in content
    assert not any(field in content for field in (b"secret-access-key", b"session-token", b"ASIA"))
    assert load(saved_in(tmp_path, content=b"0123456789abcdef")) == HELD
    assert load(saved_in(tmp_path, content=b"0123456789abcdeX")) is None
    assert load(saved_in(tmp_path)) is None


def test_an_unsuitable_credential_leaves_nothing_in_clear(tmp_path, caplog):
    """The operator asked for encryption, and would find the session readable."""
    saved_in(tmp_path).save("deploy", shape(), HELD)
    saved = saved_in(tmp_path, content=b"short")
    assert f"{CREDENTIAL} has less than 16 bytes" in caplog.records[-1].error
    assert "urandom" in caplog.records[-1].advice
    saved.keep_only({"deploy"})
    saved.save("deploy", shape(), HELD)
    assert list((tmp_path / "state/credentials").iterdir()) == []


def test_a_unit_without_that_credential_has_no_key(tmp_path):
    (tmp_path / "service").mkdir()
    saved_in(tmp_path, {"CREDENTIALS_DIRECTORY": str(tmp_path / "service")}).save("deploy", shape(), HELD)
    assert b'"cipher":"none"' in session_file(tmp_path / "state").read_bytes()


WITHOUT_THE_PACKAGE = """
import logging, os, sys
sys.modules["cryptography"] = None
logging.basicConfig(format="%(message)s %(error)s %(advice)s")
from pathlib import Path
from imds_proxy.renewal.saved_key import open_saved_sessions
from imds_proxy.host.state_dir import open_state_dir
saved = open_saved_sessions(open_state_dir(Path(sys.argv[1])), os.environ)
saved.keep_only({"deploy"})
print(sorted(path.name for path in Path(sys.argv[1]).rglob("*.json")))
"""


@pytest.mark.parametrize("key", [True, False])
def test_without_the_package_a_key_keeps_everything_off_the_disk(tmp_path, key):
    """In clear is what the operator asked not to have; and without a key the package is not needed."""
    saved_in(tmp_path).save("deploy", shape(), HELD)
    environment = os.environ | {"PYTHONWARNINGS": "error"}
    if key:
        (tmp_path / CREDENTIAL).write_bytes(b"0123456789abcdef")
        environment["CREDENTIALS_DIRECTORY"] = str(tmp_path)
    command = [sys.executable, "-c", WITHOUT_THE_PACKAGE, tmp_path / "state"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ("[]" if key else "['deploy.json']")
    assert (f"{sys.executable} -m pip install 'imds-proxy[encrypted-state]'" in done.stderr) is key
