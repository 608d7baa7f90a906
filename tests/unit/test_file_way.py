"""The way to a file, and what it is mounted on (host/file_way.py, host/mounts.py)."""

import pytest

from imds_proxy.host.file_way import find_way
from imds_proxy.host.mounts import parse

TABLE = """\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
22 21 0:20 / /proc rw - proc proc rw
30 21 0:44 / /mnt/server rw,relatime - nfs4 server:/export rw,vers=4.2
31 30 0:45 / /mnt/server/local rw - tmpfs tmpfs rw
32 21 0:46 / /mnt/with\\040space rw - fuse.sshfs host: rw
33 21 0:47 / /over rw - ext4 /dev/sdb1 rw
34 33 0:48 / /over rw - cifs //server/share rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "tells"),
    [
        ("/etc/credentials", "ext4", True),
        ("/mnt/server/role.json", "nfs4", False),
        ("/mnt/server", "nfs4", False),
        ("/mnt/serverless", "ext4", True),
        ("/mnt/server/local/x", "tmpfs", True),
        ("/mnt/with space/x", "fuse.sshfs", False),
        ("/over/x", "cifs", False),
        ("/", "ext4", True),
    ],
)
def test_a_path_is_on_the_longest_mount_above_it(path, kind, tells):
    """A file that nothing tells of would never be looked at again."""
    mount = parse(TABLE).of(path)
    assert (mount.kind, mount.tells) == (kind, tells)


def test_where_the_mounts_cannot_be_read_nothing_is_trusted_to_tell():
    assert not parse("").of("/etc/credentials").tells


def test_what_was_mounted_or_unmounted_is_seen():
    before = parse(TABLE)
    assert parse(TABLE.replace("34 33", "35 33")).changed_points(before) == {"/over"}
    assert parse(TABLE.replace("/proc", "/prac")).changed_points(before) == {"/proc", "/prac"}


def on(folder):
    """Everything tells, but what is in `folder`/server."""
    return parse(f"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:9 / {folder}/server rw - nfs server: rw\n")


def test_every_folder_through_which_a_link_leads_is_on_the_way(tmp_path):
    """A link that is swapped in one of them would not be noticed."""
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "f").touch()
    (tmp_path / "..data").symlink_to("1")
    (tmp_path / "f").symlink_to("..data/f")
    way = find_way(str(tmp_path / "f"), on(tmp_path))
    here = str(tmp_path)
    assert way.steps[-4:] == ((here, "f"), (here, "..data"), (here, "1"), (f"{here}/1", "f"))
    assert way.target == f"{here}/1/f"
    assert not way.silent


def test_what_is_missing_ends_the_way_where_it_would_come_to_be(tmp_path):
    way = find_way(str(tmp_path / "none" / "deep" / "f"), on(tmp_path))
    assert way.steps[-1] == (str(tmp_path), "none")


def test_a_link_into_a_mount_that_may_hang_is_not_followed(tmp_path):
    """The watcher of all local files would hang with it."""
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "f").symlink_to("/etc/hostname")
    (tmp_path / "link").symlink_to("server/f")
    mounts = on(tmp_path)
    way = find_way(str(tmp_path / "link"), mounts)
    server = mounts.of(str(tmp_path / "server" / "f"))
    assert way.silent == {server}
    assert way.steps[-1] == (str(tmp_path), "server")
    entered = find_way(str(tmp_path / "link"), mounts, frozenset({server}))
    assert (entered.target, entered.silent) == ("/etc/hostname", {server})


def test_links_in_a_circle_end(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert len(find_way(str(tmp_path / "a"), on(tmp_path)).steps) < 100
