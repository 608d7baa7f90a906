"""The audit's file is rotated by its size, whatever else is done to it (audit/rotation.py)."""

import asyncio
import ctypes
import os
import shutil
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from imds_proxy.audit.log_file import AuditFile
from imds_proxy.audit.rotation import Rotation
from imds_proxy.audit.writer import AuditWriter
from imds_proxy.config.reader import parse
from imds_proxy.errors import ConfigError
from imds_proxy.host.clock import Clock
from imds_proxy.telemetry.stats import RequestStats
from support.plane import role_table

LINES = [b"%05d %s\n" % (number, b"x" * (number % 90)) for number in range(400)]
"""Some 20 kB."""
SIZE = 1000
_CLONE_NEWNS = 0x20000


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / "log"
    folder.mkdir()
    return folder / "audit.log"


@pytest.fixture
def opened():
    files = []

    def make(path, keep=1000, size=SIZE):
        files.append(AuditFile(str(path), Rotation(size, keep)))
        return files[-1]

    yield make
    for file in files:
        file.close()


def add(file, lines, at_once=7):
    """As the writer does: what had no room is given again."""
    waiting = list(lines)
    while waiting:
        done = file.append(waiting[:at_once])
        assert done > 0
        del waiting[:done]


def rotated(path):
    return sorted(path.parent.glob(path.name + ".old.*"))


def whole(path):
    """Everything that is there, the oldest first."""
    return b"".join(each.read_bytes() for each in [*rotated(path), path])


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_no_file_is_larger_than_it_may_be_and_no_line_is_lost_or_cut(opened, path, at_once):
    """The disk of a host with many callers would be full one day."""
    add(opened(path), LINES, at_once)
    assert whole(path) == b"".join(LINES)
    files = [*rotated(path), path]
    assert len(files) >= sum(map(len, LINES)) // SIZE
    assert max(each.stat().st_size for each in files) <= SIZE
    assert all(each.read_bytes().endswith(b"\n") for each in files)


def test_a_line_that_is_longer_than_the_file_may_be_is_in_a_file_of_its_own(opened, path):
    file = opened(path, size=10)
    add(file, [b"a\n", b"b" * 100 + b"\n", b"c\n"])
    assert [each.read_bytes()[:1] for each in [*rotated(path), path]] == [b"a", b"b", b"c"]


def test_the_oldest_are_removed_and_the_newest_stay(opened, path):
    """The disk would be full after all, or an attacker would push out what others have not read yet."""
    add(opened(path, keep=3), LINES)
    assert len(rotated(path)) == 3
    assert b"".join(LINES).endswith(whole(path))
    last = int(rotated(path)[-1].name.rpartition(".")[2])
    assert [each.name for each in rotated(path)] == [f"audit.log.old.{last - 2 + number:06}" for number in range(3)]


def test_after_a_restart_the_numbers_go_on_and_fewer_to_keep_are_fewer(opened, path):
    add(opened(path, keep=5), LINES[:200])
    before = rotated(path)
    add(opened(path, keep=2), LINES[200:])
    assert len(rotated(path)) == 2
    assert min(rotated(path)) > max(before)


def test_who_may_read_the_log_may_read_the_next_one(opened, path):
    """A log shipper would stop at the first rotation."""
    path.touch()
    os.chown(path, -1, 4) if os.geteuid() == 0 else None
    path.chmod(0o660)
    before = path.stat()
    mask = os.umask(0o077)
    try:
        add(opened(path), LINES[:50])
    finally:
        os.umask(mask)
    assert rotated(path)
    assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_gid) == (0o660, before.st_gid)


def test_what_lies_at_a_name_of_a_rotated_file_is_neither_followed_nor_overwritten(opened, path):
    """A link that somebody has put there, or a folder: it would be written to, or stop the rotation."""
    target = path.with_name("target")
    target.write_text("root's\n")
    path.with_name("audit.log.old.000001").symlink_to(target)
    path.with_name("audit.log.old.000002").mkdir()
    path.with_name("audit.log.old.12").write_text("of an operator")
    path.with_name("audit.log.1").write_text("of logrotate")
    add(opened(path, keep=2), LINES)
    assert target.read_text() == "root's\n"
    assert path.with_name("audit.log.old.000001").is_symlink()
    assert path.with_name("audit.log.old.000002").is_dir()
    assert path.with_name("audit.log.old.12").read_text() == "of an operator"
    assert path.with_name("audit.log.1").read_text() == "of logrotate"
    ours = [each for each in rotated(path) if each.is_file() and not each.is_symlink() and each.suffix != ".12"]
    assert len(ours) == 2
    assert path.stat().st_size <= SIZE


def renamed(path):
    path.rename(path.with_name("audit.log.1"))
    return path.with_name("audit.log.1").read_bytes()


def renamed_and_made(path):
    taken = renamed(path)
    path.touch(0o640)
    return taken


def copied_and_cut(path):
    taken = path.read_bytes()
    os.truncate(path, 0)
    return taken


def removed(path):
    taken = path.read_bytes()
    path.unlink()
    return taken


@pytest.mark.parametrize("rotate", [renamed, renamed_and_made, copied_and_cut, removed])
def test_beside_what_rotates_from_outside_no_line_is_lost(opened, path, rotate):
    """logrotate on a host where it was before; what it took and what is here is all there was."""
    file, taken = opened(path), []
    for start in range(0, len(LINES), 25):
        add(file, LINES[start : start + 25])
        taken.append(rotate(path))
    lines = b"".join([*taken, *(each.read_bytes() for each in rotated(path))]).splitlines(keepends=True)
    lines += path.read_bytes().splitlines(keepends=True) if path.exists() else []
    assert sorted(lines) == LINES
    assert rotated(path)


def test_the_folder_is_removed_and_comes_back(opened, path):
    file = opened(path)
    add(file, LINES[:30])
    shutil.rmtree(path.parent)
    with pytest.raises(FileNotFoundError):
        file.append(LINES[30:31])
    path.parent.mkdir()
    add(file, LINES[30:])
    assert whole(path) == b"".join(LINES[30:])


@pytest.fixture
def in_mounts():
    """`in_mounts(call)`: its result, in a thread with a mount namespace of its own."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(_own_mounts).result(10)
        yield lambda call: thread.submit(call).result(30)


def _own_mounts():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        pytest.skip(f"no right to make a mount namespace: {os.strerror(ctypes.get_errno())}")
    mount("--make-rprivate", "/")


def mount(*arguments):
    subprocess.run(["mount", *map(str, arguments)], check=True, timeout=10)


def test_it_fits_on_a_small_disk(opened, path, in_mounts):
    """40 kB for a log of 10 kB and two before it, and ten times as much to tell."""

    def write():
        mount("-t", "tmpfs", "-o", "size=40k", "audit", path.parent)
        file = opened(path, keep=2, size=8000)
        for _ in range(20):
            add(file, LINES)
        return file.rotation_error, whole(path)

    error, text = in_mounts(write)
    assert error is None
    assert (b"".join(LINES) * 20).endswith(text)


async def test_a_file_that_cannot_be_renamed_grows_on_and_is_told_of_once(path, in_mounts, caplog):
    """A container with the one file mounted into it: to lose lines would be worse than too many."""
    path.touch(0o640)
    file = in_mounts(lambda: AuditFile(str(path), Rotation(SIZE, 2)))

    def write():
        mount("--bind", path, path)
        add(file, LINES)
        file.close()

    in_mounts(write)
    assert path.read_bytes() == b"".join(LINES)
    assert file.rotation_error.strerror == "Device or resource busy"
    writer = AuditWriter(str(path), Clock(), RequestStats(), Rotation(SIZE, 2))
    writer._file.rotation_error = file.rotation_error
    for _ in range(3):
        writer._tell_of_rotation()
    await writer.close()
    (said,) = [r for r in caplog.records if r.message == "the audit file is not rotated; it grows"]
    assert said.error == f"{path} cannot be renamed: Device or resource busy"


async def test_the_writer_rotates_and_a_reload_changes_when(path):
    writer = AuditWriter(str(path), Clock(), RequestStats(), Rotation(SIZE, 2))
    for line in LINES:
        writer.put(line.decode().rstrip("\n"))
    async with asyncio.timeout(10):
        while writer._lines:
            await asyncio.sleep(0.01)
    assert len(rotated(path)) == 2
    writer.follow(str(path))
    before = rotated(path)
    for line in LINES:
        writer.put(line.decode().rstrip("\n"))
    await writer.close()
    assert rotated(path) == before
    assert path.read_bytes().endswith(b"".join(LINES))


@pytest.mark.parametrize(
    ("text", "size"),
    [("64MB", 64_000_000), ("2GB", 2_000_000_000), ("5000kB", 5_000_000), ("1000000B", 1_000_000), (0, 0), ("0B", 0)],
)
def test_a_size_in_the_config(text, size):
    assert parse({"roles": role_table(), "audit": {"max_size": text}}, "test").audit.max_size == size


@pytest.mark.parametrize(
    "text", ["64 MB", "64mb", "1MiB", "-1", "1.5MB", "", "MB", True, "9" * 20 + "GB", "999kB", 5, -1]
)
def test_a_size_that_is_none_is_refused(text):
    """A slip would fill the disk, or keep nothing."""
    with pytest.raises(ConfigError, match="max_size"):
        parse({"roles": role_table(), "audit": {"max_size": text}}, "test")


def test_what_is_said_by_nothing():
    audit = parse({"roles": role_table()}, "test").audit
    assert (audit.max_size, audit.keep) == (64_000_000, 4)
