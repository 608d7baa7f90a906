"""Replacing a file (files/atomic.py)."""

import errno
import os
import stat
import threading
import time

import pytest

from imds_proxy.errors import FileError
from imds_proxy.files import atomic
from imds_proxy.files.atomic import Access

NOBODY = 65534
LEFTOVER = ".file.imds-proxy.0123abcd"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "file"


def only(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o440])
def test_the_mode_is_the_one_asked_for_whatever_the_umask(file, umask, mode):
    file.write_bytes(b"old")
    file.chmod(0o666)
    before = os.umask(umask)
    try:
        atomic.replace(file, b"new", Access(mode))
    finally:
        os.umask(before)
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (b"new", mode)
    assert only(file.parent) == ["file"]


def test_owner_and_group_by_name_and_number(file):
    atomic.replace(file, b"new", Access(0o640, "nobody", str(NOBODY)))
    assert (file.stat().st_uid, file.stat().st_gid) == (NOBODY, NOBODY)


@pytest.mark.parametrize(
    ("access", "said"),
    [
        (Access(owner="no-such-user"), 'no user "no-such-user"'),
        (Access(group="no-such-group"), 'no group "no-such-group"'),
        (Access(owner="4294967295"), "4294967295 is no number"),
    ],
)
def test_an_unknown_owner_leaves_the_old_file(file, access, said):
    """-1 would leave it to root, and whoever should read it could not."""
    file.write_bytes(b"old")
    with pytest.raises(FileError, match=said):
        atomic.replace(file, b"new", access)
    assert file.read_bytes() == b"old"
    assert only(file.parent) == ["file"]


def test_nobody_else_can_read_it_at_any_moment(file, monkeypatch):
    """A process of another user that opens the file between its making and its chmod keeps it open."""
    steps = []

    def look(step):
        real = getattr(os, step)

        def looked(*arguments):
            found = [path.stat() for path in file.parent.iterdir()]
            steps.append((step, [(stat.S_IMODE(status.st_mode), status.st_size) for status in found]))
            return real(*arguments)

        monkeypatch.setattr(os, step, looked)

    look("fchmod")
    look("fsync")
    atomic.replace(file, b"new", Access(0o640))
    assert steps[:2] == [("fchmod", [(0o600, 0)]), ("fsync", [(0o640, 3)])]


def test_content_owner_and_mode_are_on_the_disk_before_the_name_is(file, monkeypatch):
    """After a power cut the file would be empty, as ext4 and xfs leave it."""
    steps = []
    for name in ("fchown", "fchmod", "fsync", "rename"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *args, _real=real, _name=name, **kw: (steps.append(_name), _real(*args, **kw))[1]
        )
    atomic.replace(file, b"new", Access(0o600, str(NOBODY)))
    assert steps == ["fchown", "fchmod", "fsync", "rename", "fsync"]


def test_it_is_not_given_to_whom_it_belongs_already(file, monkeypatch):
    """A service that may not so much as call fchown is killed for it (SystemCallFilter=~@privileged)."""
    monkeypatch.setattr(os, "fchown", lambda *_: pytest.fail("fchown"))
    atomic.replace(file, b"new", Access(0o600, str(os.geteuid()), str(os.getegid())))
    atomic.replace(file, b"new", Access())


def test_an_error_in_the_middle_leaves_the_old_file_and_nothing_else(file, monkeypatch):
    def rename(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    file.write_bytes(b"old")
    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(OSError, match="Input/output"):
        atomic.replace(file, b"new", Access())
    assert file.read_bytes() == b"old"
    assert only(file.parent) == ["file"]


# Links


def test_a_link_within_the_folder_is_followed_and_stays(file):
    """A file that a configuration manager has linked to its real name."""
    (file.parent / "real").write_bytes(b"old")
    (file.parent / "second").symlink_to("real")
    file.symlink_to(file.parent / "second")
    atomic.replace(file, b"new", Access())
    assert (file.parent / "real").read_bytes() == atomic.read(file) == b"new"
    assert file.is_symlink()
    assert (file.parent / "second").is_symlink()


@pytest.mark.parametrize(
    "target", ["../outside", "{outside}", "..", "inner/../../outside", "missing/file", "inner/file"]
)
def test_a_link_out_of_the_folder_is_refused(tmp_path, target):
    """Whoever may write the folder could have any file of root's replaced, or read."""
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.write_bytes(b"somebody's")
    (folder / "file").symlink_to(target.format(outside=outside))
    for attempt in (lambda: atomic.replace(folder / "file", b"new", Access()), lambda: atomic.read(folder / "file")):
        with pytest.raises(FileError, match="symbolic link out of its folder"):
            attempt()
    assert outside.read_bytes() == b"somebody's"
    assert only(folder) == ["file", "inner"]


def test_links_in_a_circle_are_refused(file):
    file.symlink_to("other")
    (file.parent / "other").symlink_to("file")
    with pytest.raises(FileError, match="circle"):
        atomic.replace(file, b"new", Access())


def test_a_folder_that_is_swapped_for_a_link_meanwhile_is_the_one_that_was_opened(tmp_path, monkeypatch):
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    real = os.fchmod

    def swap(*arguments):
        folder.rename(tmp_path / "moved")
        folder.symlink_to(elsewhere)
        real(*arguments)

    monkeypatch.setattr(os, "fchmod", swap)
    atomic.replace(folder / "file", b"new", Access())
    assert only(elsewhere) == []
    assert only(tmp_path / "moved") == ["file"]


# What is read


def test_a_file_that_is_not_there_is_empty(file):
    assert atomic.read(file) == b""
    assert atomic.signature(file) is None


def test_what_is_no_small_regular_file_of_one_name_is_not_read(file):
    """A named pipe would hang the daemon; the beginning of a large file would replace all of it."""
    os.mkfifo(file)
    with pytest.raises(FileError, match="regular"):
        atomic.read(file)
    file.unlink()
    file.write_bytes(b"x" * ((1 << 20) + 1))
    with pytest.raises(FileError, match="1 MB"):
        atomic.read(file)
    file.write_bytes(b"x")
    os.link(file, file.parent / "shadow")
    with pytest.raises(FileError, match="hard links"):
        atomic.read(file)


def test_a_signature_tells_every_change(file):
    written = atomic.replace(file, b"new", Access())
    assert atomic.signature(file) == written
    assert atomic.replace(file, b"new", Access()) != written
    written = atomic.signature(file)
    file.chmod(0o644)
    assert atomic.signature(file) != written


# What a crash leaves


def test_old_leftovers_of_this_file_are_removed_and_nothing_else(file):
    """Each crash would leave one more copy of credentials."""
    old = time.time() - 3600
    others = [".file.imds-proxy.0123abcx", ".file.0123abcd", ".other.imds-proxy.0123abcd", "file.imds-proxy.0123abcd"]
    for name in [LEFTOVER, *others]:
        (file.parent / name).write_bytes(b"x")
        os.utime(file.parent / name, (old, old))
    young = file.parent / ".file.imds-proxy.89abcdef"
    young.write_bytes(b"x")
    atomic.replace(file, b"new", Access())
    assert only(file.parent) == sorted(["file", young.name, *others])


@pytest.mark.parametrize("kind", ["link", "folder", "somebody's"])
def test_what_only_looks_like_a_leftover_stays(file, kind):
    path = file.parent / LEFTOVER
    if kind == "link":
        path.symlink_to("elsewhere")
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"x")
        os.chown(path, 1234, 1234)
    os.utime(path, (1, 1), follow_symlinks=False)
    atomic.replace(file, b"new", Access())
    assert os.path.lexists(path)


def test_a_reader_never_sees_half_of_it(file):
    """A program that reads in the wrong moment would get half a key."""
    contents = [bytes([letter]) * 50_000 for letter in b"ab"]
    atomic.replace(file, contents[0], Access())
    seen, stop = set(), threading.Event()

    def read():
        while not stop.is_set():
            seen.add(file.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(200):
        atomic.replace(file, contents[turn % 2], Access())
    stop.set()
    reader.join()
    assert seen == set(contents)
