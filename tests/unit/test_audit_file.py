"""The audit's file: whole lines, whatever others do to it (audit/log_file.py, audit_writer.py)."""

import asyncio
import ctypes
import itertools
import json
import logging
import os
import shutil
import stat
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from imds_proxy.audit import log_file
from imds_proxy.audit import writer as audit_writer
from imds_proxy.audit.log_file import AuditFile
from imds_proxy.audit.recorder import Audit
from imds_proxy.audit.writer import AuditWriter
from imds_proxy.callers.caller import Caller
from imds_proxy.config.grants import AuditConfig
from imds_proxy.errors import FileError
from imds_proxy.host.clock import Clock
from imds_proxy.telemetry.stats import RequestStats
from support.plane import credentials

NOBODY = 65534
_CLONE_NEWNS = 0x20000


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / "log"
    folder.mkdir()
    return folder / "audit.log"


@pytest.fixture
def file(path):
    opened = AuditFile(str(path))
    yield opened
    opened.close()


# The file


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_it_is_made_for_its_owner_and_the_group_that_reads_logs(file, path, umask):
    before = os.umask(umask)
    try:
        assert file.append([b"one\n", b"two\n"]) == 2
    finally:
        os.umask(before)
    assert path.read_bytes() == b"one\ntwo\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_what_is_in_it_stays_and_so_does_its_mode(file, path):
    path.write_bytes(b"old\n")
    path.chmod(0o600)
    file.append([b"new\n"])
    assert path.read_bytes() == b"old\nnew\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_line_that_a_crash_cut_off_stays_apart(file, path):
    path.write_bytes(b'{"event": "credenti')
    file.append([b"new\n"])
    assert path.read_bytes() == b'{"event": "credenti\nnew\n'


def renamed(path):
    path.rename(path.with_suffix(".1"))


def renamed_and_made(path):
    renamed(path)
    path.touch(0o640)


def copied_and_cut(path):
    shutil.copy(path, path.with_suffix(".1"))
    os.truncate(path, 0)


@pytest.mark.parametrize("rotate", [renamed, renamed_and_made, copied_and_cut])
def test_after_rotation_lines_go_to_the_new_file(file, path, rotate):
    """The old one is compressed and deleted, and what is written to it then is gone."""
    file.append([b"one\n"])
    rotate(path)
    file.append([b"two\n"])
    assert path.with_suffix(".1").read_bytes() == b"one\n"
    assert path.read_bytes() == b"two\n"


def test_a_file_that_was_removed_is_made_again(file, path):
    file.append([b"one\n"])
    path.unlink()
    file.append([b"two\n"])
    assert path.read_bytes() == b"two\n"


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_rotation_leaves_no_descriptor_open(file, path):
    """A year of days is more than a service may have open."""
    file.append([b"one\n"])
    before = descriptors()
    for _ in range(20):
        path.unlink()
        file.append([b"two\n"])
    assert descriptors() == before


def linked(path):
    target = path.with_name("target")
    target.write_bytes(b"root's\n")
    path.symlink_to(target)


def linked_to_nothing(path):
    path.symlink_to(path.with_name("target"))


def hard_linked(path):
    target = path.with_name("target")
    target.write_bytes(b"root's\n")
    path.hardlink_to(target)


def of_another_user(path):
    path.touch()
    os.chown(path, NOBODY, NOBODY)


def writable_by_all(path):
    path.touch()
    path.chmod(0o666)


def pipe(path):
    os.mkfifo(path)


@pytest.mark.parametrize("plant", [linked, linked_to_nothing, hard_linked, of_another_user, writable_by_all, pipe])
@pytest.mark.parametrize("when", ["before", "while it is open"])
def test_what_another_user_could_have_put_there_is_not_written_to(file, path, plant, when):
    """The daemon may be root: it would write where the planter may not, or tell it where he can change it."""
    if when == "while it is open":
        file.append([b"one\n"])
        path.unlink()
    plant(path)
    with pytest.raises((FileError, OSError)):
        file.append([b"two\n"])
    target = path.with_name("target")
    assert not target.exists() or target.read_bytes() == b"root's\n"
    path.unlink()
    target.unlink(missing_ok=True)
    assert file.append([b"two\n"]) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_in_a_users_folder_no_log_is_made_or_written_to(path):
    """The user could have lines added to any file of root's, or take the log away."""
    home, elsewhere = path.parent / "home", path.parent / "elsewhere"
    for folder in (home, elsewhere):
        folder.mkdir()
    (home / "link").symlink_to(elsewhere)
    for each in (home, home / "link"):
        os.chown(each, 4001, 4001, follow_symlinks=False)
    for where in (home / "audit.log", home / "link/audit.log"):
        with pytest.raises(OSError, match="uid 4001"):
            AuditFile(str(where)).append([b"line\n"])
    (home / "roots").write_bytes(b"")
    with pytest.raises(OSError, match="belongs to uid 0, but its folder to uid 4001"):
        AuditFile(str(home / "roots")).append([b"line\n"])
    assert (home / "roots").read_bytes() == b""
    assert sorted(home.iterdir()) == [home / "link", home / "roots"]
    assert list(elsewhere.iterdir()) == []


@pytest.fixture
def on_a_small_disk(path):
    """`on_a_small_disk(call)`: its result, in a thread where the file's folder is a file system of 64 kB."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(_mount, path.parent).result(10)
        yield lambda call: thread.submit(call).result(20)


def _mount(folder):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        pytest.skip(f"no right to make a mount namespace: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True, timeout=10)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "audit", str(folder)], check=True, timeout=10)


def test_a_full_disk_has_whole_lines_alone_and_none_twice(file, path, on_a_small_disk):
    """A half line spoils the one after it for whatever reads the file."""
    lines = [b"%06d %s\n" % (number, b"x" * (number % 97)) for number in range(3000)]

    def fill():
        done = 0
        with suppress(OSError):
            while done < len(lines):
                done += file.append(lines[done : done + 7])
        full = path.read_bytes()
        path.rename(path.with_suffix(".1"))
        os.truncate(path.with_suffix(".1"), 0)
        rest = lines[done : done + 50]
        assert file.append(rest) == 50
        return full, done, path.read_bytes() == b"".join(rest)

    full, done, rest_is_whole = on_a_small_disk(fill)
    assert 0 < done < 3000
    assert full == b"".join(lines[:done])
    assert rest_is_whole


# Its writer


@pytest.fixture
def quick(monkeypatch):
    """Tries again ten times a second."""
    monkeypatch.setattr(audit_writer, "_LONGEST_RETRY", 0.1)


@pytest.fixture
async def writer(path, quick):
    stats = RequestStats()
    made = AuditWriter(str(path), Clock(), stats)
    made.stats = stats
    yield made
    await made.close()


async def until(condition, seconds=5.0):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def content(path):
    return path.read_text() if path.exists() else ""


async def test_the_file_is_there_before_the_first_line(writer, path):
    """A path that cannot be used is told of at the start, not at the first line."""
    await until(path.exists)


async def test_lines_are_in_order_and_none_is_lost_through_rotations(writer, path):
    expected = [str(number) for number in range(2000)]
    for number, line in enumerate(expected):
        writer.put(line)
        if number % 100 == 50:
            await until(path.exists)
            path.rename(path.with_suffix(f".{number}"))
        if not number % 10:
            await asyncio.sleep(0)
    await until(lambda: not writer._lines and path.exists())
    rotated = sorted(path.parent.glob("audit.*"), key=lambda p: int(p.suffix[1:]) if p != path else 9999)
    assert len(rotated) > 10
    assert list(itertools.chain(*(p.read_text().split() for p in rotated))) == expected


def warnings(caplog):
    return [r for r in caplog.records if r.levelno >= logging.WARNING]


async def test_a_folder_that_is_missing_is_told_of_once_and_no_line_is_lost(writer, path, caplog):
    await until(path.exists)
    shutil.rmtree(path.parent)
    writer.put("one")
    await until(lambda: writer.stats.audit_write_failures > 3)
    writer.put("two")
    (warning,) = warnings(caplog)
    assert warning.error == f"{path} cannot be written: No such file or directory"
    assert warning.advice == "create its folder (LogsDirectory= of the unit)"
    path.parent.mkdir()
    await until(lambda: content(path) == "one\ntwo\n")
    await until(lambda: "the audit file is written again" in caplog.text)
    assert len(warnings(caplog)) == 1


async def test_a_symbolic_link_is_told_of_with_the_way_out(path, caplog, quick):
    path.symlink_to("elsewhere")
    writer = AuditWriter(str(path), Clock(), RequestStats())
    await until(lambda: warnings(caplog))
    assert warnings(caplog)[0].advice == "configure the path of the file itself, not of a symbolic link"
    await writer.close()


async def test_lines_that_wait_are_bounded_and_what_is_lost_is_said_in_the_file(writer, path, caplog, monkeypatch):
    """A reader of the file would take silence for peace."""
    monkeypatch.setattr(audit_writer, "MOST_LINES", 100)
    await until(path.exists)
    shutil.rmtree(path.parent)
    await asyncio.sleep(0)
    for number in range(250):
        writer.put(json.dumps({"number": number}))
    await until(lambda: writer.stats.audit_write_failures)
    assert len(writer._lines) == 100
    path.parent.mkdir()
    await until(lambda: "audit lines lost" in content(path))
    lines = [json.loads(line) for line in content(path).splitlines()]
    assert [line["number"] for line in lines[:-1]] == list(range(100))
    assert (lines[-1]["event"], lines[-1]["level"], lines[-1]["count"]) == ("audit lines lost", "warning", 150)
    assert [r.count for r in caplog.records if r.message == "audit lines lost"] == [150]


async def test_refusals_that_wait_leave_room_for_what_was_handed_out(writer, path, monkeypatch):
    """Whoever is refused all the time could have the lines lost that say who got the keys."""
    monkeypatch.setattr(audit_writer, "MOST_LINES", 100)
    await until(path.exists)
    shutil.rmtree(path.parent)
    for number in range(250):
        writer.put(json.dumps({"refused": number}), refusal=True)
    for number in range(50):
        writer.put(json.dumps({"handed out": number}))
    path.parent.mkdir()
    await until(lambda: "audit lines lost" in content(path))
    lines = [json.loads(line) for line in content(path).splitlines()]
    assert [line["handed out"] for line in lines if "handed out" in line] == list(range(50))
    assert lines[-1]["count"] == 200


async def test_what_could_not_be_written_at_the_stop_is_told_of(path, caplog, quick):
    shutil.rmtree(path.parent)
    writer = AuditWriter(str(path), Clock(), RequestStats())
    writer.put("one")
    began = time.monotonic()
    await writer.close()
    assert time.monotonic() - began < 2
    assert [r.count for r in caplog.records if r.message == "audit lines lost"] == [1]


async def test_a_disk_that_hangs_holds_up_nobody_and_is_told_of(writer, path, caplog, monkeypatch):
    """The loop answers requests: a write on it would stop them all."""
    await until(path.exists)
    await asyncio.sleep(0.1)
    monkeypatch.setattr(audit_writer, "_PATIENCE", 0.1)
    go_on, real = threading.Event(), os.write

    def hang(descriptor, data):
        go_on.wait(20)
        return real(descriptor, data)

    monkeypatch.setattr(log_file.os, "write", hang)
    writer.put("one")
    longest, last, deadline = 0.0, time.monotonic(), time.monotonic() + 0.5
    while last < deadline:
        writer.put("more")
        await asyncio.sleep(0.001)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    assert longest < 0.2
    assert "the disk does not answer" in warnings(caplog)[0].error
    monkeypatch.setattr(log_file.os, "write", real)
    go_on.set()
    await until(lambda: "more\n" in content(path))
    await until(lambda: "written again" in caplog.text)


async def test_a_defect_stops_no_line_for_good(writer, path, caplog, monkeypatch):
    await until(path.exists)
    monkeypatch.setattr(AuditFile, "append", lambda *_: 1 // 0)
    writer.put("one")
    await until(lambda: "ZeroDivisionError" in warnings(caplog)[0].error if warnings(caplog) else False)
    monkeypatch.undo()
    await until(lambda: content(path) == "one\n")


# Across reloads


@pytest.fixture
async def audit(quick):
    made = Audit(Clock(), lambda *_: None, RequestStats())
    yield made
    await made.close()


def record(audit, role):
    who = Caller("127.0.0.1", "127.0.0.1:1338", b"uid 0", uid=0, user="root")
    answer = {"document": "credentials", "protocol": "imds_v2", "status": 200, "user_agent": "x", "inode": 0}
    audit.record(who, role=role, key=credentials().key_hint, **answer)


def roles(path):
    return [json.loads(line)["role"] for line in content(path).splitlines()]


async def test_the_file_has_the_lines_of_the_log(audit, path):
    await audit.follow(AuditConfig(file=str(path)))
    record(audit, "deploy")
    await until(lambda: content(path))
    line = json.loads(content(path))
    assert list(line)[:3] == ["time", "level", "event"]
    assert (line["event"], line["user"], line["key"], line["count"]) == ("credentials handed out", "root", "AAAA", 1)


async def test_a_reload_moves_to_another_file_with_what_waits(audit, path):
    """The disk is full, and the operator says where there is room."""
    shutil.rmtree(path.parent)
    await audit.follow(AuditConfig(file=str(path)))
    record(audit, "one")
    await asyncio.sleep(1.2)
    other = path.parent.with_name("other.log")
    await audit.follow(AuditConfig(file=str(other)))
    await until(lambda: roles(other) == ["one"])
    record(audit, "two")
    await until(lambda: roles(other) == ["one", "two"])
    assert not path.exists()


async def test_a_reload_to_the_log_and_back_loses_nothing(audit, path, caplog):
    caplog.set_level(logging.INFO, "imds_proxy.audit")
    await audit.follow(AuditConfig(file=str(path)))
    record(audit, "one")
    await until(lambda: roles(path) == ["one"])
    await audit.follow(AuditConfig())
    record(audit, "two")
    await asyncio.sleep(1.2)
    await audit.follow(AuditConfig(file=str(path)))
    record(audit, "three")
    await audit.close()
    assert roles(path) == ["one", "three"]
    assert [r.role for r in caplog.records if r.name == "imds_proxy.audit"] == ["two"]


async def test_a_reload_opens_the_file_again(audit, path):
    await audit.follow(AuditConfig(file=str(path)))
    await until(path.exists)
    path.rename(path.with_suffix(".1"))
    await audit.follow(AuditConfig(file=str(path)))
    await until(path.exists)


async def test_the_stop_writes_what_was_not_written(audit, path):
    await audit.follow(AuditConfig(file=str(path)))
    for number in range(300):
        record(audit, f"role-{number}")
    await audit.close()
    assert len(roles(path)) == 300
