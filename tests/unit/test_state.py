"""The state directory and what is saved in it (state.py, renewal/disk_cache.py)."""

import os
import stat
from pathlib import Path

import pytest

from imds_proxy.cli.check_paths import findings
from imds_proxy.cli.check_user import judge
from imds_proxy.config.reader import parse
from imds_proxy.host.path_walk import ANYONE
from imds_proxy.host.state_dir import StateError, default_state_dir, open_state_dir, private_folder
from support.plane import credentials
from support.saved import saved_sessions, shape

HELD = credentials()
NOW = HELD.obtained + 1
SHAPE = shape()


@pytest.fixture
def state(tmp_path):
    return open_state_dir(tmp_path / "state")


@pytest.fixture
def saved(state):
    return saved_sessions(state.path)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode) & 0o777


def test_it_is_made_for_this_user_alone(state):
    state.write("a/b", b"x")
    assert [mode(state.path), mode(state.path / "a"), mode(state.path / "a/b")] == [0o700, 0o700, 0o600]


def test_a_write_that_fails_leaves_the_old_file_whole_and_nothing_beside_it(state, monkeypatch):
    """A torn file is a deployment that fails."""
    state.write("file", b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StateError, match="No space left"):
        state.write("file", b"new")
    assert state.read("file") == b"old"
    assert [path.name for path in state.path.iterdir()] == ["file"]


@pytest.mark.parametrize("mode", [0o620, 0o640, 0o610, 0o602, 0o604, 0o601, 0o660, 0o666])
def test_a_file_that_others_can_get_at_is_not_taken(state, mode):
    """Another user's key would be believed, or this one's read."""
    path = state.write("token.key", os.urandom(32))
    path.chmod(mode)
    with pytest.raises(StateError, match="open to other users") as caught:
        state.read("token.key")
    assert caught.value.advice.startswith(f"chmod 600 {path}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_a_file_or_a_directory_of_another_users_is_not_taken(state):
    """Its owner can change it at any time, whatever its mode."""
    path = state.write("token.key", os.urandom(32))
    os.chown(path, 12345, 0)
    with pytest.raises(StateError, match="open to other users"):
        state.read("token.key")
    os.chown(state.path, 12345, 0)
    with pytest.raises(StateError, match="belongs to uid 12345"):
        open_state_dir(state.path)


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o770, 0o777, 0o1777, 0o2777, 0o3777])
def test_in_a_directory_that_others_may_write_there_is_one_for_this_user_alone(tmp_path, mode):
    """A mounted volume could not be used; or files in it could be replaced by others."""
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(mode)
    state = open_state_dir(volume)
    state.write("key", b"x")
    assert state.path == volume / f"uid-{os.geteuid()}" == private_folder(volume)
    assert stat.S_IMODE(state.path.stat().st_mode) & 0o777 == 0o700
    assert open_state_dir(volume).read("key") == b"x"
    assert state.others == (frozenset() if mode & stat.S_ISVTX else {ANYONE})
    assert stat.S_IMODE(volume.stat().st_mode) == mode


def test_a_directory_of_this_user_alone_is_used_itself(tmp_path):
    """Every host would lose its state with an update."""
    state = open_state_dir(tmp_path / "state")
    assert state.path == tmp_path / "state" == private_folder(tmp_path / "state")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
@pytest.mark.parametrize("mode", [0o700, 0o755, 0o777])
def test_a_directory_of_another_users_is_refused_whatever_its_mode(tmp_path, mode):
    """Its owner can change it at any time."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs").chmod(mode)
    os.chown(tmp_path / "theirs", 4001, 4001)
    with pytest.raises(StateError, match=r"uid 4001|no folder can be made") as caught:
        open_state_dir(tmp_path / "theirs")
    assert "chown" in caught.value.advice
    assert list((tmp_path / "theirs").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
@pytest.mark.parametrize("mode", [0o700, 0o755, 0o777])
def test_what_a_neighbour_puts_in_its_place_is_neither_read_nor_written(tmp_path, mode):
    """Who shares the volume would have the daemon use a key of theirs, or be given its sessions."""
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o2777)
    state = open_state_dir(volume)
    state.write("key", b"x")
    state.path.rename(volume / "moved")
    state.path.mkdir()
    for content in ("key", "sub/key"):
        path = state.path / content
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"theirs")
        path.chmod(0o600)
    for path in [state.path, *state.path.rglob("*")]:
        os.chown(path, 4001, 4001)
    state.path.chmod(mode)
    for name in ("key", "sub/key"):
        with pytest.raises(StateError, match="open to other users"):
            state.read(name)
    for name in ("key", "new", "sub/new"):
        with pytest.raises(StateError, match="was replaced by one of uid 4001"):
            state.write(name, b"secret")
    with pytest.raises(StateError, match="belongs to uid 4001"):
        open_state_dir(volume)
    assert sorted(path.name for path in state.path.rglob("*")) == ["key", "key", "sub"]
    assert (state.path / "key").read_bytes() == b"theirs"


def test_one_that_was_moved_away_is_made_again(tmp_path):
    """A neighbour in the volume could keep the daemon from saving anything."""
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o2777)
    state = open_state_dir(volume)
    state.path.rename(volume / "moved")
    state.write("a/b", b"x")
    assert [mode(state.path), mode(state.path / "a")] == [0o700, 0o700]


def test_a_link_is_not_read(state, tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"x")
    (state.path / "file").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError, match="cannot be read"):
        state.read("file")


def test_a_file_in_its_place_is_told(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StateError, match="cannot be used"):
        open_state_dir(tmp_path / "file")


def test_systemd_chooses_the_place_where_it_does(monkeypatch):
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/private/x:/other")
    assert default_state_dir() == Path("/var/lib/private/x")
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_state_dir() == Path("/var/lib/imds-proxy")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", "/home/u/state")
    assert default_state_dir() == Path("/home/u/state/imds-proxy")
    for unset in (lambda: monkeypatch.setenv("XDG_STATE_HOME", ""), lambda: monkeypatch.delenv("XDG_STATE_HOME")):
        unset()
        assert default_state_dir() == Path.home() / ".local/state/imds-proxy"


def test_saved_credentials_come_back_whole(state, saved):
    saved.save("deploy", SHAPE, HELD)
    assert saved.load("deploy", SHAPE, NOW) == HELD
    assert mode(state.path / "credentials/deploy.json") == 0o600


def test_credentials_shaped_by_other_settings_do_not_come_back(saved):
    saved.save("deploy", SHAPE, HELD)
    assert saved.load("deploy", shape("other"), NOW) is None
    assert saved.load("other", SHAPE, NOW) is None


@pytest.mark.parametrize("rubbish", [b"", b"{", b"[]", b"null", b'{"fingerprint": "shape"}', b"\xff"])
def test_rubbish_is_nothing(state, saved, rubbish):
    state.write("credentials/deploy.json", rubbish)
    assert saved.load("deploy", SHAPE, NOW) is None


def test_half_a_document_is_nothing(state, saved):
    saved.save("deploy", SHAPE, HELD)
    path = state.path / "credentials/deploy.json"
    path.write_bytes(path.read_bytes().replace(b"expiration", b"expires"))
    assert saved.load("deploy", SHAPE, NOW) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_a_user_cannot_put_another_folder_in_its_place(tmp_path):
    """The daemon would take its keys from there, or leave its secrets in any folder of root's."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for folder in (home, elsewhere):
        folder.mkdir()
    os.chown(home, 4001, 4001)
    with pytest.raises(StateError, match="cannot be used"):
        open_state_dir(home / "state")
    assert list(home.iterdir()) == []
    state = open_state_dir(elsewhere / "state")
    state.write("key", b"x")
    (elsewhere / "state").rename(elsewhere / "moved")
    (elsewhere / "state").symlink_to("moved")
    os.chown(elsewhere / "state", 4001, 4001, follow_symlinks=False)
    with pytest.raises(StateError, match="is a symbolic link of uid 4001"):
        state.read("key")
    with pytest.raises(StateError, match="is a symbolic link of uid 4001"):
        state.write("key", b"y")
    assert (elsewhere / "moved/key").read_bytes() == b"x"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_check_says_what_neighbours_can_do_to_it(tmp_path):
    """An operator would take a shared volume for a private one."""
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o2777)
    role = {"a": {"role_arn": "arn:aws:iam::123456789012:role/A"}}
    config = parse({"roles": role, "state_dir": str(volume)}, "test")

    def said():
        return [finding.what for finding in findings(config, judge(None, None), tmp_path) if finding.is_remark]

    assert said() == []
    open_state_dir(volume)
    assert "move it away" in said()[0]
    volume.chmod(0o1777)
    assert said() == []
