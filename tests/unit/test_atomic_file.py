"""Replacing a file (atomic_file.py)."""

import errno
import os
import shutil
import stat
import subprocess
import sys
import threading
import time

import pytest

from imds_proxy.host import atomic_file
from imds_proxy.host.atomic_file import PRIVATE, Access
from imds_proxy.output_files import target_path
from imds_proxy.output_files.named_access import NamedAccess

NOBODY = 65534
LEFTOVER = ".file.imds-proxy.0123abcd"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "file"


def replace_output(path, content, access):
    with target_path.opened(path, access) as found:
        found.replace(content)


def only(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o440])
def test_the_mode_is_the_one_asked_for_whatever_the_umask(file, umask, mode):
    file.write_bytes(b"old")
    file.chmod(0o666)
    before = os.umask(umask)
    try:
        atomic_file.replace(file, b"new", Access(mode))
    finally:
        os.umask(before)
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (b"new", mode)
    assert only(file.parent) == ["file"]


def test_owner_and_group_are_those_asked_for(file):
    atomic_file.replace(file, b"new", Access(0o640, NOBODY, NOBODY))
    assert (file.stat().st_uid, file.stat().st_gid) == (NOBODY, NOBODY)
    assert Access.of(file.stat()) == Access(0o640, NOBODY, NOBODY)


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
    atomic_file.replace(file, b"new", Access(0o640))
    assert steps[:2] == [("fchmod", [(0o600, 0)]), ("fsync", [(0o640, 3)])]


def test_content_owner_and_mode_are_on_the_disk_before_the_name_is(file, monkeypatch):
    """After a power cut the file would be empty, as ext4 and xfs leave it."""
    steps = []
    for name in ("fchown", "fchmod", "fsync", "rename"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *args, _real=real, _name=name, **kw: (steps.append(_name), _real(*args, **kw))[1]
        )
    atomic_file.replace(file, b"new", Access(0o600, NOBODY))
    assert steps == ["fchmod", "fchown", "fsync", "rename", "fsync"]


CAP_CHOWN_ALONE = ("setpriv", "--bounding-set=-all,+chown", "--inh-caps=-all,+chown")
GIVE_AWAY = """
import sys
from pathlib import Path
from imds_proxy.host.atomic_file import Access, replace
replace(Path(sys.argv[1]), b"new", Access(0o640, 1, 2))
"""


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="takes root and setpriv")
def test_the_right_to_give_files_away_is_all_that_it_takes(file):
    """The shipped unit offers CAP_CHOWN and no more: the mode of another's file could not be set any more."""
    subprocess.run([*CAP_CHOWN_ALONE, sys.executable, "-c", GIVE_AWAY, file], check=True, timeout=30)
    status = file.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o640, 1, 2)
    assert file.read_bytes() == b"new"


def test_it_is_not_given_to_whom_it_belongs_already(file, monkeypatch):
    """A service that may not so much as call fchown is killed for it (SystemCallFilter=~@privileged)."""
    monkeypatch.setattr(os, "fchown", lambda *_: pytest.fail("fchown"))
    atomic_file.replace(file, b"new", Access(0o600, os.geteuid(), os.getegid()))
    atomic_file.replace(file, b"new", PRIVATE)


def test_an_error_in_the_middle_leaves_the_old_file_and_nothing_else(file, monkeypatch):
    def rename(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    file.write_bytes(b"old")
    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(OSError, match="Input/output"):
        atomic_file.replace(file, b"new", PRIVATE)
    assert file.read_bytes() == b"old"
    assert only(file.parent) == ["file"]


def test_a_folder_that_cannot_be_synced_is_an_error_but_for_whom_that_will_do(file, monkeypatch):
    """After a power cut the old key could be in the file again, which AWS refuses by then."""
    real = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(failure, os.strerror(failure))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    failure = errno.EINVAL
    with pytest.raises(OSError, match="Invalid argument"):
        atomic_file.replace(file, b"new", PRIVATE)
    with atomic_file.open_folder(file.parent) as folder:
        atomic_file.replace_in(folder, "file", b"newer", PRIVATE, folder_sync_required=False)
        assert file.read_bytes() == b"newer"
        failure = errno.EIO
        with pytest.raises(OSError, match="Input/output"):
            atomic_file.replace_in(folder, "file", b"newest", PRIVATE, folder_sync_required=False)


# Links


def test_a_link_is_replaced_and_not_followed(file, tmp_path):
    """Whoever may write the folder could have any file of root's replaced."""
    (tmp_path / "target").write_bytes(b"safe")
    file.symlink_to("target")
    atomic_file.replace(file, b"new", PRIVATE)
    assert (tmp_path / "target").read_bytes() == b"safe"
    assert not file.is_symlink()


@pytest.mark.parametrize(
    ("replace", "access"),
    [(atomic_file.replace, PRIVATE), (replace_output, NamedAccess())],
    ids=["any", "output"],
)
def test_a_folder_that_is_swapped_for_a_link_meanwhile_is_the_one_that_was_opened(
    tmp_path, monkeypatch, replace, access
):
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    real = os.fchmod

    def swap(*arguments):
        folder.rename(tmp_path / "moved")
        folder.symlink_to(elsewhere)
        real(*arguments)

    monkeypatch.setattr(os, "fchmod", swap)
    replace(folder / "file", b"new", access)
    assert only(elsewhere) == []
    assert only(tmp_path / "moved") == ["file"]


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
    atomic_file.replace(file, b"new", PRIVATE)
    assert only(file.parent) == sorted(["file", young.name, *others])


def test_a_caller_that_writes_alone_has_young_ones_removed_too(file):
    """A key's copy would lie there until the next rotation."""
    (file.parent / LEFTOVER).write_bytes(b"x")
    with atomic_file.open_folder(file.parent) as folder:
        atomic_file.remove_leftovers(folder, "file", -1)
        assert only(file.parent) == [LEFTOVER]
        atomic_file.remove_leftovers(folder, "file", -1, any_age=True)
    assert only(file.parent) == []


def test_leftovers_that_were_given_away_already_are_removed(file):
    """A crash after that would leave them for ever."""
    (file.parent / LEFTOVER).write_bytes(b"x")
    os.chown(file.parent / LEFTOVER, NOBODY, NOBODY)
    os.utime(file.parent / LEFTOVER, (1, 1))
    atomic_file.replace(file, b"new", Access(0o600, NOBODY))
    assert only(file.parent) == ["file"]


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
    atomic_file.replace(file, b"new", PRIVATE)
    assert os.path.lexists(path)


def test_a_reader_never_sees_half_of_it(file):
    """A program that reads in the wrong moment would get half a key."""
    contents = [bytes([letter]) * 50_000 for letter in b"ab"]
    atomic_file.replace(file, contents[0], PRIVATE)
    seen, stop = set(), threading.Event()

    def read():
        while not stop.is_set():
            seen.add(file.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(200):
        atomic_file.replace(file, contents[turn % 2], PRIVATE)
    stop.set()
    reader.join()
    assert seen == set(contents)
