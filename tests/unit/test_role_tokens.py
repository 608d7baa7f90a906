"""The tokens of roles in the state directory (metadata/role_tokens.py): kept, rotated, and taken back."""

import asyncio
import os
import threading

import pytest

from imds_proxy.host.clock import Clock
from imds_proxy.host.state_dir import open_state_dir
from imds_proxy.metadata import role_tokens
from imds_proxy.metadata.role_tokens import ROTATE_EVERY, RoleTokens
from support.log_lines import logged

HOUR = 3600.0


class Host:
    """A state directory, and a daemon's role tokens on it, at a time that a test turns."""

    def __init__(self, folder):
        self.now = 1_800_000_000.0
        self.clock = Clock(lambda: self.now)
        self.state = open_state_dir(folder)
        self.running = []

    async def start(self, *roles, rotate=True, settled=True):
        """The tokens as after a start, and after the rotations that are due then."""
        tokens = RoleTokens(self.clock)
        self.running.append(tokens)
        await tokens.follow(self.state, roles or ("deploy",), rotate=rotate)
        if rotate and settled:
            await until(lambda: all(token.due(self.now) > self.now for token in tokens._tokens.values()))
        return tokens

    async def restart(self, *roles, rotate=True, settled=True):
        await self.running.pop().close()
        return await self.start(*roles, rotate=rotate, settled=settled)

    def token(self, role="deploy"):
        return (self.state.path / "tokens" / role).read_bytes()


@pytest.fixture
async def host(tmp_path):
    made = Host(tmp_path / "state")
    yield made
    for tokens in made.running:
        await tokens.close()


async def until(condition, seconds=3.0):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_token_is_replaced_after_a_day_and_the_old_one_holds_for_another(host):
    """A program that has just read the old one would be refused; and a stolen one would open the role for ever."""
    tokens = await host.start()
    first = host.token()
    host.now += ROTATE_EVERY - 1
    tokens = await host.restart()
    assert host.token() == first
    host.now += 1
    tokens = await host.restart()
    second = host.token()
    assert second != first
    assert tokens.accepts("deploy", first)
    assert tokens.accepts("deploy", second)
    host.now += ROTATE_EVERY
    tokens = await host.restart()
    third = host.token()
    assert [tokens.accepts("deploy", each) for each in (first, second, third)] == [False, True, True]
    host.now += ROTATE_EVERY - 1
    assert tokens.accepts("deploy", second)
    host.now += 1
    assert [tokens.accepts("deploy", each) for each in (second, third)] == [False, True]


async def test_a_restart_keeps_the_old_one_valid(host):
    """An update of the daemon would cost a program its role."""
    await host.start()
    first = host.token()
    host.now += ROTATE_EVERY
    await host.restart()
    host.now += HOUR
    tokens = await host.restart()
    assert tokens.accepts("deploy", first)
    assert tokens.accepts("deploy", host.token())
    path = host.state.path / "previous-tokens/deploy"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_a_running_daemon_rotates_by_itself(host, monkeypatch):
    """One that runs for a year would have one token for a year."""
    monkeypatch.setattr(role_tokens, "_RETRY", 0.02)
    monkeypatch.setattr("imds_proxy.host.clock._LONGEST_NAP", 0.02)
    tokens = await host.start("deploy", "other")
    first = {role: host.token(role) for role in ("deploy", "other")}
    host.now += ROTATE_EVERY
    await until(lambda: all(host.token(role) != token for role, token in first.items()))
    await until(lambda: tokens.accepts("other", host.token("other")))
    assert all(tokens.accepts(role, token) for role, token in first.items())
    assert not tokens.accepts("deploy", first["other"])


async def test_without_grants_a_token_stays(host):
    """Containers have the file mounted: a replaced one stays the old one in there."""
    await host.start(rotate=False)
    first = host.token()
    host.now += 400 * ROTATE_EVERY
    tokens = await host.restart(rotate=False)
    assert host.token() == first
    assert tokens.accepts("deploy", first)
    assert not (host.state.path / "previous-tokens").exists()


async def test_a_client_that_reads_the_file_at_once_is_not_refused(host, monkeypatch):
    """A 401 in that moment sends some SDKs on to the role of the host (PROTOCOL.md 28)."""
    write, written, go_on = role_tokens._write_following, threading.Event(), threading.Event()

    def slow(*given):
        write(*given)
        written.set()
        go_on.wait(5)

    monkeypatch.setattr(role_tokens, "_write_following", slow)
    await host.start()
    first = host.token()
    host.now += ROTATE_EVERY
    tokens = await host.restart(settled=False)
    await until(written.is_set)
    assert host.token() != first
    assert tokens.accepts("deploy", host.token())
    assert tokens.accepts("deploy", first)
    again = asyncio.create_task(tokens.follow(host.state, ("deploy",), rotate=True))
    await asyncio.sleep(0.05)
    assert not tokens.ready
    assert tokens.accepts("deploy", host.token())
    go_on.set()
    await again
    assert tokens.ready
    assert tokens.accepts("deploy", host.token())
    assert tokens.accepts("deploy", first)


async def test_a_disk_that_is_full_leaves_the_token_as_it_is(host, monkeypatch):
    def full(*_):
        raise role_tokens.StateError("it cannot be written: No space left on device")

    await host.start()
    first = host.token()
    host.now += ROTATE_EVERY
    monkeypatch.setattr(role_tokens, "_write_following", full)
    with logged() as lines:
        tokens = await host.restart(settled=False)
        await until(lambda: lines("could not be rotated"))
        (line,) = lines("could not be rotated")
    assert (line["level"], line["role"]) == ("warning", "deploy")
    assert tokens.accepts("deploy", first)
    assert host.token() == first


async def test_a_disk_that_hangs_does_not_hold_the_event_loop(host, monkeypatch):
    """No client would get anything until somebody mends a file server."""
    go_on = threading.Event()
    monkeypatch.setattr(role_tokens, "_load", lambda *_: go_on.wait(5) and {})
    monkeypatch.setattr(role_tokens, "_PATIENCE", 0.1)
    async with asyncio.timeout(2):
        with logged() as lines:
            tokens = await host.start()
            assert [line["level"] for line in lines("could not be read yet")] == ["warning"]
    assert not tokens.ready
    go_on.set()
    await until(lambda: tokens.ready)


async def test_a_clock_that_was_set_back_makes_no_token_hold_for_longer(host):
    await host.start()
    host.now += ROTATE_EVERY
    await host.restart()
    first = (host.state.path / "previous-tokens/deploy").read_bytes()
    host.now -= 30 * ROTATE_EVERY
    tokens = await host.restart(rotate=False)
    assert not tokens.accepts("deploy", first)
    second = host.token()
    tokens = await host.restart()
    assert host.token() != second
    assert tokens.accepts("deploy", second)


async def test_to_remove_a_token_takes_it_back_and_the_one_before(host):
    """After a theft the old one would hold for another day."""
    await host.start()
    first = host.token()
    host.now += ROTATE_EVERY
    tokens = await host.restart()
    second = host.token()
    (host.state.path / "tokens/deploy").unlink()
    await tokens.follow(host.state, ("deploy",), rotate=True)
    assert [tokens.accepts("deploy", each) for each in (first, second, host.token())] == [False, False, True]


async def test_a_role_that_is_there_no_more_has_no_token(host):
    tokens = await host.start("deploy", "other")
    other = host.token("other")
    await tokens.follow(host.state, ("deploy",), rotate=True)
    assert not tokens.accepts("other", other)
    await tokens.follow(None, ("deploy",), rotate=True)
    assert not tokens.accepts("deploy", host.token())


@pytest.mark.parametrize("role", ["deploy", "nonexistent"])
async def test_a_wrong_token_is_compared_as_often_as_a_right_one(host, monkeypatch, role):
    """Time would tell which roles there are, and how old a stolen token is."""
    compared, compare = [], role_tokens.hmac.compare_digest
    monkeypatch.setattr(role_tokens.hmac, "compare_digest", lambda *both: compared.append(both) or compare(*both))
    tokens = await host.start()
    for sent in (b"", b"wrong", b"x" * 8000, host.token()):
        compared.clear()
        tokens.accepts(role, sent)
        assert len(compared) == 3
        assert {len(each) for both in compared for each in both} == {32}


async def test_no_token_is_in_a_log_or_kept_in_memory(host):
    with logged() as lines:
        await host.start()
        host.now += ROTATE_EVERY
        tokens = await host.restart()
        text = str(lines()) + repr(tokens._tokens)
    for path in host.state.path.rglob("*tokens/*"):
        assert path.read_text() not in text
        assert str(path.stat().st_uid) == str(os.geteuid())
    assert "rotated" in text
