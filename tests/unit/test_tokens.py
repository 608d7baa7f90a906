"""Session tokens (metadata/session_tokens.py)."""

import stat

from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.host.state_dir import open_state_dir
from imds_proxy.metadata.session_tokens import LONGEST_TTL, SessionTokens, load_or_make_key

TOKENS = SessionTokens(b"k" * 32)
NOW = 1_800_000_000.5

ttl = st.integers(1, LONGEST_TTL)


@given(ttl, st.floats(0, LONGEST_TTL - 1))
def test_a_token_holds_as_long_as_was_asked_and_not_a_second_more(ttl, later):
    token = TOKENS.issue(ttl, b"local", NOW)
    left = TOKENS.seconds_left(token, b"local", NOW + later)
    assert abs(left - (ttl - later)) < 1.002 if later < ttl else left == 0


@given(ttl)
def test_a_token_is_header_safe_ascii(ttl):
    token = TOKENS.issue(ttl, b"local", NOW)
    assert token.isascii()
    assert all(c.isalnum() or c in "-_" for c in token)


@given(ttl, st.integers(0, 31), st.characters(codec="ascii", categories=("L", "N")))
def test_a_changed_token_is_no_token(ttl, place, character):
    token = TOKENS.issue(ttl, b"local", NOW)
    forged = token[:place] + character + token[place + 1 :]
    assert forged == token or TOKENS.seconds_left(forged, b"local", NOW) == 0


@given(st.text())
def test_anything_else_is_no_token(text):
    assert TOKENS.seconds_left(text, b"local", NOW) == 0


def test_another_callers_token_or_another_keys_is_none():
    token = TOKENS.issue(60, b"local", NOW)
    assert TOKENS.seconds_left(token, b"other", NOW) == 0
    assert SessionTokens(b"x" * 32).seconds_left(token, b"local", NOW) == 0


def test_a_clock_set_back_makes_no_token_eternal():
    token = TOKENS.issue(60, b"local", NOW)
    assert TOKENS.seconds_left(token, b"local", NOW - 10**6) == LONGEST_TTL


def test_the_key_is_kept_in_a_file_of_this_user_alone(tmp_path):
    """After a restart that forgets tokens the Rust SDK repeats its dead one for six hours."""
    state = open_state_dir(tmp_path / "state")
    key = load_or_make_key(state)
    assert load_or_make_key(state) == key
    assert stat.S_IMODE((tmp_path / "state/token.key").stat().st_mode) == 0o600


def test_rubbish_in_place_of_the_key_is_told_and_left_alone(tmp_path, caplog):
    state = open_state_dir(tmp_path / "state")
    state.write("token.key", b"rubbish")
    assert len(load_or_make_key(state)) == 32
    assert "does not hold 32 bytes" in caplog.records[0].error
    assert (tmp_path / "state/token.key").read_bytes() == b"rubbish"


def test_a_key_that_others_could_read_is_not_used(tmp_path, caplog):
    state = open_state_dir(tmp_path / "state")
    key = load_or_make_key(state)
    (tmp_path / "state/token.key").chmod(0o644)
    assert load_or_make_key(state) != key
    assert "open to other users" in caplog.records[0].error
    assert "chmod 600" in caplog.records[0].advice


def test_without_a_state_directory_there_is_a_key_all_the_same():
    assert len(load_or_make_key(None)) == 32


def test_a_key_that_is_read_late_takes_the_tokens_of_before_and_keeps_those_given_meanwhile():
    """Where the disk hangs at the start: some SDKs repeat a dead token for hours (PROTOCOL.md 9)."""
    kept = SessionTokens(b"k" * 32)
    tokens = SessionTokens()
    before, meanwhile = kept.issue(60, b"c", 0), tokens.issue(60, b"c", 0)
    assert [tokens.seconds_left(token, b"c", 0) for token in (before, meanwhile)] == [0, 60]
    tokens.use_key(b"k" * 32)
    assert [tokens.seconds_left(token, b"c", 0) for token in (before, meanwhile)] == [60, 60]
    assert kept.seconds_left(tokens.issue(60, b"c", 0), b"c", 0) == 60
