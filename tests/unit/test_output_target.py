"""The file that an entry names (output_files/target_path.py)."""

import errno
import os
import stat
import struct

import pytest

from imds_proxy.errors import FileError
from imds_proxy.host.path_walk import UnsafePathError
from imds_proxy.output_files import target_path
from imds_proxy.output_files.named_access import NamedAccess

NOBODY = 65534


@pytest.fixture
def file(tmp_path):
    return tmp_path / "file"


def read(path):
    with target_path.opened(path, NamedAccess()) as found:
        return found.read()


def replace(path, content, access):
    with target_path.opened(path, access) as found:
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
    assert target_path.signature(file) == written


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
    assert target_path.signature(file) is None


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
    assert target_path.signature(file) == written
    assert replace(file, b"new", NamedAccess()) != written
    written = target_path.signature(file)
    file.chmod(0o644)
    assert target_path.signature(file) != written


# Users


A, B = 4001, 4002
SECRET = b"[default]\naws_secret_access_key = somebody's\n"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")


def own(path, uid, mode):
    os.chown(path, uid, uid, follow_symlinks=False)
    path.chmod(mode)
    return path


def refused(path, access, *, user=None):
    """Why nothing is read or written."""
    before = path.lstat() if os.path.lexists(path) else None
    with pytest.raises((FileError, UnsafePathError)) as caught, target_path.opened(path, access, user=user):
        pass
    assert (path.lstat() if os.path.lexists(path) else None) == before
    return caught.value.strerror if isinstance(caught.value, OSError) else caught.value.message


@pytest.fixture
def homes(tmp_path):
    """`a` and `b`, each of a user's."""
    for name, uid in (("a", A), ("b", B)):
        (tmp_path / name).mkdir()
        own(tmp_path / name, uid, 0o700)
    return tmp_path


@as_root
@pytest.mark.parametrize("owner", [None, str(A)])
def test_a_file_of_neither_the_owner_nor_the_daemon_is_not_touched(file, owner):
    """Its content would be given away, or what it is for would be lost."""
    file.write_bytes(SECRET)
    own(file, B, 0o600)
    assert f"belongs to uid {B}, neither its owner" in refused(file, NamedAccess(owner=owner))
    assert file.read_bytes() == SECRET


@as_root
def test_a_file_of_the_owner_or_the_daemon_is_replaced(file):
    """The owner was added to the config, or taken out of it for an own file of the owner's."""
    file.write_bytes(b"old")
    replace(file, b"new", NamedAccess(owner=str(A)))
    assert (file.read_bytes(), file.stat().st_uid) == (b"new", A)
    replace(file, b"newer", NamedAccess(owner=str(A)))
    assert file.read_bytes() == b"newer"
    assert "neither its owner (uid 0)" in refused(file, NamedAccess())


@as_root
def test_a_file_that_was_written_and_given_away_by_root_is_known_again(file):
    """A slip of an operator's is put right within seconds, as any other is."""
    written = replace(file, b"new", NamedAccess())
    os.chown(file, B, B)
    refused(file, NamedAccess())
    with target_path.opened(file, NamedAccess(), written) as found:
        assert found.read() == b"new"
        written = found.replace(b"newer")
    assert file.stat().st_uid == 0
    replace(file, SECRET, NamedAccess(owner=str(A)))  # with what else is A's in it
    with pytest.raises(FileError), target_path.opened(file, NamedAccess(owner=str(B)), target_path.signature(file)):
        pass
    assert written != target_path.signature(file)


@as_root
def test_a_file_of_roots_in_a_users_folder_is_not_given_to_the_user(homes):
    """The user can move any file of root's there that is in a folder of the user's."""
    path = homes / "a/file"
    path.write_bytes(SECRET)
    path.chmod(0o600)
    assert "may have been moved here by another user" in refused(path, NamedAccess(owner=str(A)))
    assert "may have been moved here by another user" in refused(path, NamedAccess(0o640, group=str(A)))
    replace(path, b"new", NamedAccess())  # shows nobody anything


@as_root
@pytest.mark.parametrize("mode", [0o775, 0o777, 0o1777, 0o2775])
def test_where_others_can_put_files_no_file_is_opened_to_more_users(homes, mode):
    """A user of the folder's group would read what another user, or root, keeps there."""
    shared = homes / "shared"
    shared.mkdir()
    own(shared, 0, mode)
    for uid in (0, A):
        path = shared / f"of{uid}"
        path.write_bytes(SECRET)
        own(path, uid, 0o600)
        assert "may have been moved" in refused(path, NamedAccess(0o640, owner=str(A), group=str(B)))
        own(path, A, 0o600)
        replace(path, b"new", NamedAccess(owner=str(A)))


@as_root
def test_a_file_is_given_to_nobody_in_the_folder_of_another(homes):
    assert f"is in a folder of uid {B}'s, not of its owner's" in refused(homes / "b/file", NamedAccess(owner=str(A)))
    replace(homes / "a/file", b"new", NamedAccess(owner=str(A)))
    replace(homes / "b/file", b"new", NamedAccess(0o640, group=str(B)))  # of root's, for a program of b's
    replace(homes / "b/file", b"newer", NamedAccess(0o640, group=str(B)))


@as_root
def test_in_the_folder_of_another_the_folder_gives_no_user_a_right_to_the_file(homes):
    """Its owner says there what every new file gets: a group, and users in an access control list."""
    own(homes / "a", A, 0o2700)
    entries = ((0x01, 6, 2**32 - 1), (0x02, 4, A), (0x04, 4, 2**32 - 1), (0x10, 6, 2**32 - 1), (0x20, 0, 2**32 - 1))
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(homes / "a", "system.posix_acl_default", acl)
    replace(homes / "a/file", b"new", NamedAccess(0o640))
    status = (homes / "a/file").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (0, 0, 0o640)
    assert "system.posix_acl_access" not in os.listxattr(homes / "a/file")


@as_root
@pytest.mark.parametrize("where", ["a/link", "a/link/inner"])
def test_a_folder_of_the_owners_that_is_a_link_is_refused(homes, where):
    (homes / "b/inner").mkdir()
    own(homes / "b/inner", B, 0o700)
    (homes / "a/link").symlink_to(homes / "b")
    os.chown(homes / "a/link", A, A, follow_symlinks=False)
    assert "is a symbolic link of uid 4001" in refused(homes / where / "file", NamedAccess(owner=str(A)))
    assert target_path.signature(homes / where / "file") is None


@as_root
def test_a_link_of_somebody_elses_in_a_shared_folder_is_refused(homes):
    """In /tmp a user could have any file of root's there replaced."""
    shared = homes / "shared"
    shared.mkdir()
    own(shared, 0, 0o1777)
    (shared / "real").write_bytes(SECRET)
    (shared / "file").symlink_to("real")
    os.chown(shared / "file", A, A, follow_symlinks=False)
    assert "is a symbolic link of uid 4001, whose folder it is not" in refused(shared / "file", NamedAccess())
    assert (shared / "real").read_bytes() == SECRET


@as_root
def test_a_link_of_the_users_in_the_users_folder_is_followed_to_the_users_own_file(homes):
    """As dotfile managers make them."""
    (homes / "a/file").symlink_to("real")
    os.chown(homes / "a/file", A, A, follow_symlinks=False)
    replace(homes / "a/file", b"new", NamedAccess(owner=str(A)))
    assert (homes / "a/real").read_bytes() == b"new"
    (homes / "a/file").unlink()
    (homes / "a/file").symlink_to(homes / "a/real")
    os.chown(homes / "a/file", A, A, follow_symlinks=False)
    replace(homes / "a/file", b"newer", NamedAccess(owner=str(A)))
    (homes / "a/real").unlink()
    (homes / "a/real").write_bytes(SECRET)
    assert "may have been moved here" in refused(homes / "a/file", NamedAccess(owner=str(A)))
    assert (homes / "a/real").read_bytes() == SECRET


@as_root
def test_what_is_swapped_between_the_look_and_the_read_is_not_read(homes):
    """The user renames the files of a folder as fast as the machine does."""
    path, other = homes / "a/file", homes / "a/other"
    replace(path, b"mine", NamedAccess(owner=str(A)))
    other.write_bytes(SECRET)
    with target_path.opened(path, NamedAccess(owner=str(A))) as found:
        other.rename(path)
        with pytest.raises(FileError, match="may have been moved here"):
            found.read()


@as_root
def test_what_is_given_to_another_while_it_is_read_is_not_used(file, monkeypatch):
    replace(file, b"mine", NamedAccess())
    real = os.fstat
    with target_path.opened(file, NamedAccess()) as found:

        def fstat(descriptor):
            status = real(descriptor)
            os.chown(file, B, B)
            return status

        monkeypatch.setattr(os, "fstat", fstat)
        with pytest.raises(FileError, match="while it was read"):
            found.read()


@as_root
def test_a_folder_that_is_swapped_after_the_check_is_not_written_to(homes):
    """One folder serves for the check, the read and the write."""
    (homes / "a/inner").mkdir()
    own(homes / "a/inner", A, 0o700)
    (homes / "b/file").write_bytes(SECRET)
    with target_path.opened(homes / "a/inner/file", NamedAccess(owner=str(A))) as found:
        (homes / "a/inner").rename(homes / "a/moved")
        (homes / "a/inner").symlink_to(homes / "b")
        assert found.read() == b""
        found.replace(b"new")
    assert (homes / "a/moved/file").read_bytes() == b"new"
    assert (homes / "b/file").read_bytes() == SECRET


@as_root
def test_the_daemon_may_be_another_user_than_root(homes):
    """Each looks with its own eyes: what is root's is not such a daemon's."""
    (homes / "a/file").write_bytes(b"roots")
    assert "neither its owner (uid 4001) nor the daemon's user (uid 4001)" in refused(
        homes / "a/file", NamedAccess(), user=A
    )
    own(homes / "a/file", A, 0o600)
    with target_path.opened(homes / "a/file", NamedAccess(), user=A) as found:
        assert found.read() == b"roots"
