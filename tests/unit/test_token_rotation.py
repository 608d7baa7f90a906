"""New tokens in token files (callers/token_rotation.py, cli/rotate_tokens.py), as the daemon takes them."""

import asyncio
import os
import stat

import pytest

from imds_proxy.callers import grant_token_files, token_rotation
from imds_proxy.callers.grant_token_files import TokenFiles
from imds_proxy.callers.token_rotation import rotate
from imds_proxy.cli.rotate_tokens import token_files as chosen
from imds_proxy.config.reader import parse
from imds_proxy.errors import ConfigError, ImdsProxyError
from support.certificates import put
from support.log_lines import logged
from support.plane import role_table

TOKEN = b"a-token-of-somebodys-own"


def made(path, token, mode=0o600):
    put(path, token, mode)
    return path


@pytest.fixture
async def files():
    subject = TokenFiles()
    yield subject
    await subject.close()


async def until(condition, seconds=5.0):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_rotated_token_is_taken_before_a_container_can_show_it(files, tmp_path, monkeypatch):
    """A 401 in that moment sends some SDKs on to the role of the host (PROTOCOL.md 28)."""
    monkeypatch.setattr(grant_token_files, "_GRACE", 0.5)
    path = made(tmp_path / "web.token", TOKEN)
    await files.follow([str(path)])
    rotating, refused = asyncio.create_task(asyncio.to_thread(rotate, [path])), []
    while not rotating.done():
        if files.match(path.read_bytes()) != str(path):
            refused.append(path.read_bytes())
        await asyncio.sleep(0.001)
    assert await rotating == {path: None}
    new = path.read_bytes()
    assert refused == []
    assert new != TOKEN
    assert len(new) == 43
    assert files.match(new) == files.match(TOKEN) == str(path)
    await until(lambda: files.match(TOKEN) is None)
    assert files.match(new) == str(path)
    assert list(tmp_path.iterdir()) == [path]


async def test_a_token_that_is_replaced_without_a_word_holds_no_more(files, tmp_path):
    """It may have been stolen: whoever puts another one there has closed the door."""
    path = made(tmp_path / "web.token", TOKEN)
    await files.follow([str(path)])
    await asyncio.to_thread(rotate, [path])
    await until(lambda: not list(tmp_path.glob(".*")))
    rotated = path.read_bytes()
    await until(lambda: files.match(rotated) == str(path))
    put(path, TOKEN[::-1])
    await until(lambda: files.match(TOKEN[::-1]) == str(path))
    assert files.match(rotated) is files.match(TOKEN) is None


async def test_what_is_announced_is_not_believed_of_everybody(files, tmp_path):
    """A file that others may write would let them in."""
    path = made(tmp_path / "web.token", TOKEN)
    put(grant_token_files.announcement(path), grant_token_files.hashlib.sha256(TOKEN[::-1]).hexdigest().encode(), 0o666)
    await files.follow([str(path)])
    assert files.match(TOKEN[::-1]) is None
    assert files.match(TOKEN) == str(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_owner_group_and_mode_stay(tmp_path, monkeypatch):
    """The container could not read its token any more, or everybody could."""
    monkeypatch.setattr(token_rotation, "_UNTIL_READ", 0)
    path = made(tmp_path / "web.token", TOKEN, 0o640)
    os.chown(path, 12345, 23456)
    assert rotate([path]) == {path: None}
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12345, 23456, 0o640)


def test_what_cannot_be_rotated_is_named_and_the_others_are(tmp_path, monkeypatch):
    """Of twenty files one that is gone would leave the others with stolen tokens."""
    monkeypatch.setattr(token_rotation, "_UNTIL_READ", 0)
    good = made(tmp_path / "good", TOKEN)
    link, gone, nowhere = tmp_path / "link", tmp_path / "gone", tmp_path / "no" / "folder"
    link.symlink_to(good)
    outcomes = rotate([link, gone, nowhere, good])
    assert outcomes[good] is None
    assert good.read_bytes() != TOKEN
    assert "not a regular file" in outcomes[link].message
    assert "is not there" in outcomes[gone].message
    assert "is not there" in outcomes[nowhere].message
    assert all(outcomes[path].advice for path in (link, gone, nowhere))


CONFIG = parse(
    {
        "roles": role_table("web") | role_table("jobs"),
        "grants": [
            {"role": "web", "token_file": "/t/web"},
            {"role": "jobs", "token_file": "/t/jobs"},
            {"role": "jobs", "token_file": "/t/both"},
            {"role": "web", "token_file": "/t/both"},
            {"role": "web", "uid": 0},
        ],
    },
    "test",
)


@pytest.mark.parametrize(
    ("wanted", "paths"),
    [
        ([], ["/t/web", "/t/jobs", "/t/both"]),
        (["web"], ["/t/web", "/t/both"]),
        (["/t/jobs"], ["/t/jobs"]),
        (["/t/jobs", "web"], ["/t/web", "/t/jobs", "/t/both"]),
    ],
)
def test_a_role_or_a_path_says_which(wanted, paths):
    assert list(chosen(CONFIG, wanted)) == paths
    assert chosen(CONFIG, ["/t/both"]) == {"/t/both": ["jobs", "web"]}


def test_what_is_neither_is_a_mistake():
    """A typing mistake would pass as a rotation."""
    with pytest.raises(ConfigError, match="wbe"):
        chosen(CONFIG, ["web", "wbe"])
    with pytest.raises(ImdsProxyError, match="no grant has a token_file"):
        chosen(parse({"roles": role_table("web")}, "test"), [])


async def test_no_token_is_in_a_log_or_an_error(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(token_rotation, "_UNTIL_READ", 0)
    path = made(tmp_path / "web.token", TOKEN)
    with logged() as lines:
        await files.follow([str(path)])
        outcome = await asyncio.to_thread(rotate, [path])
        text = str(lines()) + str(outcome) + str(capsys.readouterr())
    assert path.read_text() not in text
    assert TOKEN.decode() not in text
