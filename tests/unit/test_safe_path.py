"""The way to a file, where other users own a part of it (host/safe_path.py, host/path_walk.py)."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from imds_proxy.host import safe_path
from imds_proxy.host.path_walk import ANYONE, UnsafePathError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")

A, B, SERVICE = 4001, 4002, 4003


def own(path, uid, mode=None):
    os.chown(path, uid, uid, follow_symlinks=False)
    if mode is not None:
        path.chmod(mode)
    return path


def folder(path, uid=0, mode=0o755):
    path.mkdir()
    return own(path, uid, mode)


def link(path, target, uid=0):
    path.symlink_to(target)
    return own(path, uid)


def file(path, uid=0, content=b"content"):
    path.write_bytes(content)
    return own(path, uid, 0o600)


@pytest.fixture
def homes(tmp_path):
    """Folders of the users a and b, and of root's."""
    for name, uid in (("a", A), ("b", B), ("root", 0)):
        folder(tmp_path / name, uid)
    return tmp_path


def others(path, user=None):
    with safe_path.open_folder(path, user=user) as found:
        return set(found.others)


def refused(path, user=None):
    """Why neither the folder nor a file in it can be had; nothing is made there."""
    with pytest.raises(UnsafePathError) as caught, safe_path.open_folder(path, user=user):
        pass
    for flags in (os.O_RDONLY, os.O_RDWR | os.O_CREAT):
        with pytest.raises(UnsafePathError):
            safe_path.open_file(Path(path) / "file", flags, user=user)
    return caught.value.strerror


def content(path, **options):
    with os.fdopen(safe_path.open_file(path, os.O_RDONLY, **options), "rb") as opened:
        return opened.read()


# Steps between folders


def test_roots_folder_leads_to_any_users_and_that_to_its_own_alone(homes):
    """A home is where a user's programs look."""
    folder(homes / "a/inner", A)
    assert others(homes / "a/inner") == {A}
    assert others(homes / "root") == set()
    folder(homes / "a/theirs", B)
    assert refused(homes / "a/theirs") == f"{homes}/a/theirs belongs to uid {B}, but its folder to uid {A}"


def test_a_folder_of_roots_in_a_users_is_not_entered(homes):
    """The user can put another of root's folders in its place, by renaming it."""
    folder(homes / "a/roots")
    assert "belongs to uid 0" in refused(homes / "a/roots")


def test_the_daemons_own_folders_lead_anywhere(homes):
    """Who runs it as a user of its own has everything in that user's home."""
    folder(homes / "a/roots")
    assert others(homes / "a/roots", user=A) == set()
    assert others(homes / "b", user=A) == {B}


def test_who_can_swap_a_folder_is_known(homes):
    """What such a user puts at the path of a file is not taken for the daemon's own."""
    for mode, sticky, writable in ((0o1777, set(), {ANYONE}), (0o777, {ANYONE}, {ANYONE}), (0o775, {ANYONE}, {ANYONE})):
        (homes / "root").chmod(0o755)
        shared = folder(homes / f"shared{mode:o}", mode=mode)
        assert others(folder(shared / "roots")) == sticky
        assert others(shared) == writable
        assert others(folder(shared / "a", A)) == sticky | {A}


def test_in_a_folder_that_is_not_searched_nothing_is_found(homes, tmp_path):
    with pytest.raises(FileNotFoundError), safe_path.open_folder(homes / "missing/inner"):
        pass
    file(homes / "file")
    with pytest.raises(NotADirectoryError), safe_path.open_folder(homes / "file/inner"):
        pass


# Links


def test_a_link_of_a_user_is_not_followed_wherever_it_is(homes):
    """It may be another one a moment after it was looked at."""
    folder(homes / "a/real", A)
    for where, target in (("a/link", "real"), ("a/away", "/"), ("a/up", ".."), ("root/link", homes / "root")):
        path = link(homes / where, target, A)
        assert refused(path) == f"{path} is a symbolic link of uid {A}, and only root's are followed"
    assert "symbolic link" in refused(link(homes / "root/b", homes / "b", B), user=A)


def test_a_link_of_roots_or_the_daemons_is_followed(homes):
    """/var/run, and the home of a user that was moved to a larger disk."""
    folder(homes / "a/inner", A)
    file(homes / "a/inner/file", A)
    for name, target in (("absolute", homes / "a"), ("relative", "a"), ("dots", "./root/../a"), ("chain", "absolute")):
        assert content(link(homes / name, target) / "inner/file") == b"content"
    assert others(link(homes / "own", "a", SERVICE) / "inner", user=SERVICE) == {A}


def test_no_link_leads_out_of_a_users_folder(homes):
    """The user can put another link of root's in its place, by renaming it."""
    folder(homes / "a/inner", A)
    with pytest.raises(UnsafePathError, match=r"leads out of .*/a, a folder of uid 4001"):
        content(link(homes / "a/absolute", homes / "root") / "file")
    with pytest.raises(UnsafePathError, match=r"a/\.\. belongs to uid 0, but its folder to uid 4001"):
        content(link(homes / "a/up", "../root") / "file")
    file(homes / "a/inner/file", A)
    assert content(link(homes / "a/within", "inner") / "file") == b"content"


def test_dots_in_a_path_are_steps_too(homes):
    file(homes / "root/file")
    assert content(homes / "root/../root/./file") == b"content"
    assert "belongs to uid 0" in refused(f"{homes}/a/../root")


def test_a_relative_path_begins_where_the_process_does(homes, monkeypatch):
    """state_dir may be one."""
    monkeypatch.chdir(homes / "root")
    file(homes / "root/file")
    assert content("file") == content("../root/file") == b"content"


def test_links_in_a_circle_end(homes):
    link(homes / "one", "two")
    link(homes / "two", "one")
    with pytest.raises(OSError, match="Too many levels") as caught:
        content(homes / "one/file")
    assert caught.value.errno == errno.ELOOP
    with pytest.raises(OSError, match="Too many levels"):
        content(homes / "two")


@pytest.mark.parametrize("path", ["/proc/self/root/etc", "/proc/thread-self/cwd", "/proc/1/root", "/dev/fd/0"])
def test_a_link_that_the_kernel_makes_is_not_followed(path):
    """That of a container's process says "/", and leads to the container's own."""
    if not os.path.lexists(path):
        pytest.skip(f"there is no {path} here")
    with pytest.raises(UnsafePathError, match="leads elsewhere than it says"):
        content(path)


# Files


def test_a_file_of_another_in_a_users_folder_is_refused(homes):
    file(homes / "a/roots")
    file(homes / "a/own", A)
    file(homes / "root/theirs", B)
    with pytest.raises(UnsafePathError, match="belongs to uid 0, but its folder to uid 4001"):
        content(homes / "a/roots")
    assert content(homes / "a/roots", any_owner=True) == content(homes / "a/own") == b"content"
    assert content(homes / "root/theirs") == b"content"


def test_no_file_is_made_in_a_users_folder(homes):
    """A lock, or a log, would be in the user's hands."""
    with pytest.raises(UnsafePathError, match="would be made in a folder of uid 4001"):
        safe_path.open_file(homes / "a/file", os.O_RDWR | os.O_CREAT)
    assert list((homes / "a").iterdir()) == []
    os.close(safe_path.open_file(homes / "root/file", os.O_RDWR | os.O_CREAT))
    assert stat.S_IMODE((homes / "root/file").stat().st_mode) == 0o600


def test_the_links_that_kubernetes_mounts_are_followed(homes):
    """Nothing else is mounted for a pod's tokens."""
    folder(homes / "volume", mode=0o1777)
    folder(homes / "volume/..2026_11_28")
    file(homes / "volume/..2026_11_28/token")
    link(homes / "volume/..data", "..2026_11_28")
    link(homes / "volume/token", "..data/token")
    assert content(homes / "volume/token", user=SERVICE) == b"content"
    with pytest.raises(OSError, match="Too many levels"):
        content(homes / "volume/token", follow=False)


def test_folders_are_made_where_root_or_the_daemon_owns_the_one_above(homes):
    safe_path.make_folder(homes / "root/one/two", 0o700)
    safe_path.make_folder(homes / "root/one/two", 0o700)
    assert stat.S_IMODE((homes / "root/one/two").stat().st_mode) == 0o700
    with pytest.raises(FileNotFoundError):
        safe_path.make_folder(homes / "a/one", 0o700)
    assert list((homes / "a").iterdir()) == []


def test_a_folder_that_is_swapped_while_it_is_walked_is_the_one_that_was_judged(homes, monkeypatch):
    """A look at a path, and an open of it a moment later, find two different folders."""
    folder(homes / "a/inner", A)
    file(homes / "a/inner/file", A, b"mine")
    file(homes / "b/file", B, b"theirs")
    real = os.open

    def swap(name, *arguments, **options):
        found = real(name, *arguments, **options)
        if name == "inner":
            monkeypatch.setattr(os, "open", real)
            (homes / "a/inner").rename(homes / "a/moved")
            link(homes / "a/inner", homes / "b", A)
        return found

    monkeypatch.setattr(os, "open", swap)
    assert content(homes / "a/inner/file") == b"mine"
    assert "symbolic link" in refused(homes / "a/inner")


def test_no_descriptor_is_left_open(homes):
    """The daemon would run out of them within a day."""
    folder(homes / "a/theirs", B)
    link(homes / "a/link", "theirs", A)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the same way twice
    for name in ("a/theirs", "a/link", "a/missing", "a/../b", "b"):
        for _ in range(5):
            for attempt in (others, lambda path: content(path / "file")):
                try:
                    attempt(homes / name)
                except OSError:
                    continue
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


# User namespaces


IN_NAMESPACE = """
import os, sys
from imds_proxy.host import path_walk, safe_path
for path in sys.argv[1:]:
    try:
        with safe_path.open_folder(path):
            print("ok")
    except path_walk.UnsafePathError as error:
        print(error.strerror)
"""


def test_users_that_a_user_namespace_does_not_know_are_not_taken_for_one(homes):
    """In a rootless container each of them is "nobody", and one's link would lead to the file of any other."""
    homes.chmod(0o755)
    folder(homes / "a/theirs", B)
    folder(homes / "a/own", A)
    one_user = ["unshare", "--user", "--map-root-user"]
    if subprocess.run([*one_user, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no right to make a user namespace")
    paths = [str(homes / name) for name in ("root", "a", "a/theirs", "a/own")]
    done = subprocess.run(
        [*one_user, sys.executable, "-c", IN_NAMESPACE, *paths], capture_output=True, text=True, check=True, timeout=30
    )
    said = done.stdout.splitlines()
    assert said[:2] == ["ok", "ok"]
    assert all("a user that this user namespace does not know" in line for line in said[2:])
    assert len(said) == 4
