"""Files that sources read (host/read_private.py)."""

import os
import socket
import tempfile
import time
from pathlib import Path

import pytest

from imds_proxy.errors import Denied, Invalid
from imds_proxy.host.read_private import read_file

NOBODY = 65534


def read(path, *, private=True):
    return read_file("deploy", str(path), "token", private=private)


def refused(path, *, private=True, error=Invalid):
    """Why the file is not read; the message says role, what and path."""
    with pytest.raises(error) as caught:
        read(path, private=private)
    assert caught.value.message.startswith(f'role "deploy": token {path} ')
    assert caught.value.advice
    return caught.value


def write(path, content=b"x", mode=0o600):
    path.write_bytes(content)
    path.chmod(mode)
    return path


def as_nobody(work):
    """Do `work` in a process of another user; what it returned."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(writer, repr(work()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        return pipe.read()


# Reading


@pytest.mark.parametrize("content", [b"", b"x", b"\0\xff", b"y" * (1 << 20)], ids=len)
def test_a_file_is_read_as_it_is(tmp_path, content):
    assert read(write(tmp_path / "f", content)) == content


def test_a_symbolic_link_is_followed(tmp_path):
    """Kubernetes mounts nothing else."""
    write(tmp_path / "f", b"content")
    (tmp_path / "link").symlink_to("f")
    assert read(tmp_path / "link") == b"content"


def test_what_is_not_there_is_said(tmp_path):
    assert "No such file or directory" in refused(tmp_path / "f").message
    (tmp_path / "dangling").symlink_to("f")
    assert "No such file or directory" in refused(tmp_path / "dangling").message


def test_what_is_no_file_is_refused_at_once(tmp_path):
    """A pipe without a writer, read as a file is, would hold up every role."""
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "folder").mkdir()
    began = time.monotonic()
    for name in ("fifo", "folder"):
        assert "is not a regular file" in refused(tmp_path / name).message
    assert "is not a regular file" in refused("/dev/zero").message
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        assert "cannot be read" in refused(tmp_path / "socket").message
    assert time.monotonic() - began < 1


def test_no_descriptor_is_left_open(tmp_path):
    """The daemon would run out of them."""
    (tmp_path / "folder").mkdir()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        refused(tmp_path / "folder")
        refused(write(tmp_path / "open", mode=0o644))
        read(write(tmp_path / "f"))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("size", [(1 << 20) + 1, 10 << 20])
def test_what_is_too_large_to_be_right_is_refused(tmp_path, size):
    """A path to the wrong file would take the daemon's memory."""
    assert "larger than 1 MB" in refused(write(tmp_path / "f", b"x" * size)).message


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o644, 0o666, 0o777, 0o620, 0o660])
def test_a_secret_that_others_can_read_or_change_is_refused_with_the_command_that_mends_it(tmp_path, mode):
    error = refused(write(tmp_path / "f", mode=mode))
    assert "can be read or changed by other users" in error.message
    assert error.advice.startswith(f"chmod 600 {tmp_path / 'f'}")
    assert read(tmp_path / "f", private=False) == b"x"


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
def test_root_may_let_a_group_read_its_secret(tmp_path, mode):
    """Where the daemon is not root, that is how root lets it."""
    assert read(write(tmp_path / "f", mode=mode)) == b"x"


def test_a_secret_of_another_user_is_refused(tmp_path):
    """Whoever owns it can put credentials of their own there, and see what the host does with them."""
    os.chown(write(tmp_path / "f"), NOBODY, NOBODY)
    error = refused(tmp_path / "f")
    assert f"belongs to another user (uid {NOBODY})" in error.message
    assert error.advice.startswith("chown")


@pytest.fixture
def open_folder():
    """A folder that every user may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_what_this_user_may_not_read_is_said_with_what_would_let_it(open_folder):
    path = write(open_folder / "f")
    message = as_nobody(lambda: str(refused(path, error=Denied).message))
    assert "may not be read by this user" in message


def test_a_user_that_is_not_root_reads_its_own_and_roots_but_no_group_may_read_its_own(open_folder):
    own, group, roots = (open_folder / name for name in ("own", "group", "roots"))
    os.chown(write(own, b"own"), NOBODY, NOBODY)
    os.chown(write(group, mode=0o640), NOBODY, NOBODY)
    os.chown(write(roots, b"roots", mode=0o640), 0, NOBODY)
    assert as_nobody(lambda: (read(own), read(roots))) == repr((b"own", b"roots"))
    assert "chmod 600" in as_nobody(lambda: refused(group).advice)
    roots.chmod(0o644)
    assert "chmod 640" in as_nobody(lambda: refused(roots).advice)


@pytest.mark.parametrize("mode", [0o620, 0o660, 0o610, 0o640, 0o602, 0o604])
@pytest.mark.parametrize("owner", [0, NOBODY], ids=["roots", "its own"])
def test_a_user_that_is_not_root_takes_no_secret_that_a_group_can_change(open_folder, owner, mode):
    """The group would put credentials, or a key, of its own there; what it may do is read what root owns."""
    path = write(open_folder / "secret", mode=mode)
    os.chown(path, owner, NOBODY)
    if owner == 0 and mode == 0o640:
        assert as_nobody(lambda: read(path)) == repr(b"x")
    elif owner == 0 and mode & 0o040 == 0:
        assert "may not be read by this user" in as_nobody(lambda: refused(path, error=Denied).message)
    else:
        wanted = "chmod 640" if owner == 0 else "chmod 600"
        assert wanted in as_nobody(lambda: refused(path).advice)


# Other users' folders


@pytest.fixture
def homes(tmp_path):
    """`a`, of a user's, and `private`, of root's, with a secret in it."""
    for name in ("a", "private"):
        (tmp_path / name).mkdir()
    os.chown(tmp_path / "a", NOBODY, NOBODY)
    write(tmp_path / "private/f", b"another role's")
    return tmp_path


@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize("link", ["f", "folder"])
def test_a_link_of_a_user_leads_to_no_other_file(homes, link, private):
    """A role of the user's would have the credentials that another one's file holds."""
    (homes / "a" / link).symlink_to(homes / "private" / ("f" if link == "f" else ""))
    os.chown(homes / "a" / link, NOBODY, NOBODY, follow_symlinks=False)
    error = refused(homes / "a" / ("f" if link == "f" else "folder/f"), private=private)
    assert f"a/{link} is a symbolic link of uid {NOBODY}" in error.message
    assert "belong to root or to the user the daemon runs as" in error.advice


def test_a_secret_of_roots_in_a_users_folder_is_refused(homes):
    """The user can put any of them in the place of another."""
    write(homes / "a/f")
    assert "belongs to uid 0, but its folder to uid" in refused(homes / "a/f").message


def test_a_file_that_decides_whom_to_believe_is_nobody_elses_to_change(homes):
    """Who swaps it between the read and the look at its owner would be believed."""

    def read_trusted(path):
        return read_file("deploy", str(path), "key set", private=False, trusted=True)

    assert read_trusted(write(homes / "f", mode=0o644)) == b"x"
    with pytest.raises(Invalid, match="can be changed by other users"):
        read_trusted(write(homes / "f", mode=0o664))
    os.chown(write(homes / "f"), NOBODY, NOBODY)
    with pytest.raises(Invalid, match="can be changed by other users"):
        read_trusted(homes / "f")
