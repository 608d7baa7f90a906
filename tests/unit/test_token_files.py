"""The token files that grants name (callers/grant_token_files.py)."""

import asyncio
import os
import stat
import subprocess
import threading

import pytest

from imds_proxy.callers import grant_token_files
from imds_proxy.callers.grant_token_files import TokenFiles
from support.certificates import put
from support.log_lines import logged

TOKEN = b"a-token-of-somebodys-own"


@pytest.fixture
async def files():
    subject = TokenFiles()
    yield subject
    await subject.close()


@pytest.fixture
def lines():
    with logged() as found:
        yield found


async def until(files, token, wanted, seconds=2.0):
    async with asyncio.timeout(seconds):
        while files.match(token) != wanted:
            await asyncio.sleep(0.02)


async def test_a_missing_file_is_made(files, tmp_path):
    """Fit for a header as it is, and readable by nobody else until the operator says so."""
    path = tmp_path / "shop.token"
    await files.follow([str(path)])
    token = path.read_bytes()
    assert len(token) == 43
    assert token.strip() == token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert files.match(token) == str(path)
    assert list(tmp_path.iterdir()) == [path]


async def test_a_token_is_its_files_alone(files, tmp_path):
    paths = [put(tmp_path / name, TOKEN + name.encode()) for name in ("a", "b", "c")]
    await files.follow(paths)
    assert [files.match(TOKEN + name) for name in (b"a", b"b", b"c")] == paths
    for other in (b"", TOKEN, TOKEN + b"d", TOKEN + b"A", TOKEN + b"aa", b"\0" * 32, b"\xff" * 40):
        assert files.match(other) is None


async def test_a_token_in_two_files_is_the_first_ones(files, tmp_path):
    paths = [put(tmp_path / name, TOKEN) for name in ("b", "a")]
    await files.follow(paths)
    assert files.match(TOKEN) == paths[0]


async def test_space_around_a_token_is_not_of_it(files, tmp_path):
    """Every editor writes a line end."""
    path = put(tmp_path / "token", b" " + TOKEN + b"\r\n")
    await files.follow([path])
    assert files.match(TOKEN) == path


async def test_a_file_is_read_again_when_it_changes(files, tmp_path):
    """Whoever replaces a token has closed the door to the old one, within a second or so."""
    path = put(tmp_path / "token", TOKEN)
    await files.follow([path])
    put(tmp_path / "token", TOKEN[::-1])
    await until(files, TOKEN[::-1], path)
    assert files.match(TOKEN) is None
    (tmp_path / "token").unlink()  # asks for another
    await until(files, TOKEN[::-1], None)
    assert files.match((tmp_path / "token").read_bytes()) == path


@pytest.mark.parametrize("mode", [0o601, 0o604, 0o602, 0o644, 0o666, 0o777])
async def test_a_file_that_everybody_may_read_lets_nobody_in(files, tmp_path, lines, mode):
    """Every container on the host could show it."""
    path = put(tmp_path / "token", TOKEN, mode)
    await files.follow([path])
    assert files.match(TOKEN) is None
    (line,) = lines()
    assert (line["level"], line["path"]) == ("error", path)
    assert f"chmod o-rwx {path}" in line["advice"]
    put(tmp_path / "token", TOKEN, 0o640)
    await until(files, TOKEN, path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o660])
async def test_a_file_may_be_the_containers_users(files, tmp_path, mode):
    """So that what runs there can read it."""
    path = put(tmp_path / "token", TOKEN, mode)
    os.chown(path, 12345, 12345)
    await files.follow([path])
    assert files.match(TOKEN) == path


@pytest.mark.parametrize("mode", [0o620, 0o660, 0o630])
async def test_a_file_of_the_daemons_own_that_a_group_may_change_lets_nobody_in(files, tmp_path, lines, mode):
    """The group would put a token that it knows there, and have the role."""
    path = put(tmp_path / "token", TOKEN, mode)
    await files.follow([path])
    assert files.match(TOKEN) is None
    (line,) = lines()
    assert line["error"] == f"{path} can be changed by its group"
    assert line["advice"].startswith(f"chmod g-w {path}")
    put(tmp_path / "token", TOKEN, 0o640)
    await until(files, TOKEN, path)


async def test_a_file_that_is_opened_to_all_later_lets_nobody_in(files, tmp_path):
    path = put(tmp_path / "token", TOKEN)
    await files.follow([path])
    (tmp_path / "token").chmod(0o644)
    await until(files, TOKEN, None)


@pytest.mark.parametrize("content", [b"", b"\n", b"short", b"fifteen-letters", b"two words that are long", b"a" * 5000])
async def test_what_is_no_token_lets_nobody_in(files, tmp_path, lines, content):
    """Nor is it guessed from a file that somebody has only begun to write."""
    path = put(tmp_path / "token", content)
    await files.follow([path])
    for sent in (content, content.strip(), b""):
        assert files.match(sent) is None
    (line,) = lines()
    assert "16 or more" in line["error"]
    assert content.strip() == b"" or content.decode() not in str(line)


async def test_a_folder_is_not_made(files, tmp_path, lines):
    """Whose it should be is the operator's to say; it is enough to make it."""
    path = tmp_path / "shop" / "token"
    other = put(tmp_path / "other", TOKEN)
    await files.follow([str(path), other])
    (line,) = [line for line in lines() if line["level"] == "error"]
    assert "No such file or directory" in line["error"]
    assert f"make {path.parent}" in line["advice"]
    assert files.match(TOKEN) == other


async def test_a_file_that_could_not_be_made_is_tried_again(files, tmp_path, monkeypatch):
    monkeypatch.setattr("imds_proxy.callers.grant_token_files._RETRY", 0.2)
    path = tmp_path / "shop" / "token"
    await files.follow([str(path)])
    path.parent.mkdir()
    async with asyncio.timeout(3):
        while not path.exists():
            await asyncio.sleep(0.02)
    await until(files, path.read_bytes(), str(path))


async def test_what_is_no_file_does_not_hold_the_start_up(files, tmp_path, lines):
    """A pipe that nobody writes to."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir()
    async with asyncio.timeout(2):
        await files.follow([str(tmp_path / "pipe"), str(tmp_path / "folder")])
    assert len([line for line in lines() if line["level"] == "error"]) == 2


async def test_a_file_that_hangs_is_not_tried_yet(files, tmp_path, monkeypatch):
    """Its token would be a wrong one, and a 401 sends some SDKs on to another identity."""
    goes_on, read = threading.Event(), grant_token_files._read_or_make
    monkeypatch.setattr(grant_token_files, "_PATIENCE", 0.05)
    monkeypatch.setattr(grant_token_files, "_read_or_make", lambda path: goes_on.wait(10) and read(path))
    path = put(tmp_path / "token", TOKEN)
    assert not files.ready
    await files.follow([path])
    assert not files.ready
    goes_on.set()
    await until(files, TOKEN, path)
    assert files.ready


async def test_a_reload_keeps_and_drops_files(files, tmp_path):
    one, other = put(tmp_path / "one", TOKEN), put(tmp_path / "other", TOKEN[::-1])
    await files.follow([one, other, one])
    await files.follow([other])
    assert (files.match(TOKEN), files.match(TOKEN[::-1])) == (None, other)
    assert len([task for task in asyncio.all_tasks() if task.get_name().startswith("keep ")]) == 1
    await files.follow([one, other])
    assert files.match(TOKEN) == one


async def test_no_token_is_in_a_log_or_kept_in_memory(files, tmp_path, lines):
    path = tmp_path / "token"
    await files.follow([str(path)])
    token = path.read_bytes().decode()
    put(path, TOKEN)
    await until(files, TOKEN, str(path))
    assert not [each for each in (token, TOKEN.decode()) if each in str(lines())]
    held = [getattr(file, name) for file in files._files.values() for name in vars(file)]
    assert not [value for value in held if value in (TOKEN, TOKEN.decode())]


@pytest.fixture
def full_disk(tmp_path):
    """A file system with no room for one file; skipped where none may be mounted."""
    options = ["-t", "tmpfs", "-o", "size=4k,nr_inodes=1", "tmpfs"]
    if subprocess.run(["mount", *options, tmp_path], check=False, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


async def test_a_full_disk_is_told(full_disk, files, lines):
    await files.follow([str(full_disk / "token")])
    (line,) = lines()
    assert "No space left" in line["error"]
    assert files.match(b"") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
async def test_a_users_link_opens_no_other_grants_door_and_has_no_file_made(files, tmp_path, lines):
    """Root would make a file of the user's choice, anywhere."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home/token").symlink_to(put(tmp_path / "others", TOKEN))
    (tmp_path / "home/folder").symlink_to(tmp_path)
    for path in (tmp_path / "home/token", tmp_path / "home/folder", tmp_path / "home"):
        os.chown(path, 12345, 12345, follow_symlinks=False)
    await files.follow([str(tmp_path / "home/token"), str(tmp_path / "home/folder/made")])
    assert files.match(TOKEN) is None
    assert not (tmp_path / "made").exists()
    assert ["is a symbolic link of uid 12345" in line["error"] for line in lines()] == [True, True]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
async def test_a_token_of_roots_in_a_users_folder_counts(files, tmp_path):
    """As the daemon makes it, for a group of the user's to read."""
    (tmp_path / "home").mkdir()
    os.chown(tmp_path / "home", 12345, 12345)
    await files.follow([str(tmp_path / "home/token")])
    assert files.match((tmp_path / "home/token").read_bytes()) == str(tmp_path / "home/token")
