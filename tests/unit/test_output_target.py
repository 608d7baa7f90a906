"""The file that an entry names (files/target.py)."""

import errno
import os
import stat

import pytest

from imds_proxy.errors import FileError
from imds_proxy.files import target
from imds_proxy.files.target import NamedAccess

NOBODY = 65534


@pytest.fixture
def file(tmp_path):
    return tmp_path / "file"


def read(path):
    with target.opened(path, NamedAccess()) as found:
        return found.read()


def replace(path, content, access):
    with target.opened(path, access) as found:
        return found.replace(content)


def only(folder):
    return sorted(path.name for path in folder.iterdir())


def test_owner_and_group_by_name_and_number(file):
    replace(file, b"new", NamedAccess(0o640, "nobody", str(NOBODY)))
    assert (file.stat().st_uid, file.stat().st_gid) == (NOBODY, NOBODY)


@pytest.mark.parametrize(
    ("access", "said"),
    [
        (NamedAccess(owner="no-such-user"), 'no user "no-such-user"'),
        (NamedAccess(group="no-such-group"), 'no group "no-such-group"'),
        (NamedAccess(owner="4294967295"), "4294967295 is no number"),
    ],
)
def test_an_unknown_owner_leaves_the_old_file(file, access, said):
    """-1 would leave it to root, and whoever should read it could not."""
    file.write_bytes(b"old")
    with pytest.raises(FileError, match=said):
        replace(file, b"new", access)
    assert file.read_bytes() == b"old"
    assert only(file.parent) == ["file"]


def test_a_file_system_that_cannot_sync_folders_will_do(file, monkeypatch):
    """A file on a network file system would never be kept, though the next write would put it right."""
    real = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    written = replace(file, b"new", NamedAccess())
    assert file.read_bytes() == b"new"
    assert target.signature(file) == written


# Links


def test_a_link_within_the_folder_is_followed_and_stays(file):
    """A file that a configuration manager has linked to its real name."""
    (file.parent / "real").write_bytes(b"old")
    (file.parent / "second").symlink_to("real")
    file.symlink_to(file.parent / "second")
    replace(file, b"new", NamedAccess())
    assert (file.parent / "real").read_bytes() == read(file) == b"new"
    assert file.is_symlink()
    assert (file.parent / "second").is_symlink()


@pytest.mark.parametrize("link", ["../outside", "{outside}", "..", "inner/../../outside", "missing/file", "inner/file"])
def test_a_link_out_of_the_folder_is_refused(tmp_path, link):
    """Whoever may write the folder could have any file of root's replaced, or read."""
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.write_bytes(b"somebody's")
    (folder / "file").symlink_to(link.format(outside=outside))
    for attempt in (
        lambda: replace(folder / "file", b"new", NamedAccess()),
        lambda: read(folder / "file"),
    ):
        with pytest.raises(FileError, match="symbolic link out of its folder"):
            attempt()
    assert outside.read_bytes() == b"somebody's"
    assert only(folder) == ["file", "inner"]


def test_links_in_a_circle_are_refused(file):
    file.symlink_to("other")
    (file.parent / "other").symlink_to("file")
    with pytest.raises(FileError, match="circle"):
        replace(file, b"new", NamedAccess())


# What is read


def test_a_file_that_is_not_there_is_empty(file):
    assert read(file) == b""
    assert target.signature(file) is None


def test_what_is_no_small_regular_file_of_one_name_is_not_read(file):
    """A named pipe would hang the daemon; the beginning of a large file would replace all of it."""
    os.mkfifo(file)
    with pytest.raises(FileError, match="regular"):
        read(file)
    file.unlink()
    file.write_bytes(b"x" * ((1 << 20) + 1))
    with pytest.raises(FileError, match="1 MB"):
        read(file)
    file.write_bytes(b"x")
    os.link(file, file.parent / "shadow")
    with pytest.raises(FileError, match="hard links"):
        read(file)


def test_a_signature_tells_every_change(file):
    written = replace(file, b"new", NamedAccess())
    assert target.signature(file) == written
    assert replace(file, b"new", NamedAccess()) != written
    written = target.signature(file)
    file.chmod(0o644)
    assert target.signature(file) != written
