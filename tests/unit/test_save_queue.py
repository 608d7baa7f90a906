"""Sessions on their way to the disk (renewal/save_queue.py): one thread, the newest of each role, until written."""

import asyncio
import logging
import os
import threading
import time
from dataclasses import replace

import pytest

from support.plane import credentials
from support.saved import read_session, save_queue, saved_sessions, session_file, shape

ROLES = [f"role{number}" for number in range(100)]
NOW = time.time()


class Disk:
    """A file system whose syncs hang while `hangs`."""

    def __init__(self, monkeypatch):
        self._goes_on = threading.Event()
        self._goes_on.set()
        self.is_waited_for = threading.Event()
        self.syncs = 0
        sync = os.fsync

        def slow(descriptor):
            self.syncs += 1
            self.is_waited_for.set()
            self._goes_on.wait(30)
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", slow)

    def hang(self):
        self.is_waited_for.clear()
        self._goes_on.clear()

    def go_on(self):
        self._goes_on.set()


@pytest.fixture
def disk(monkeypatch):
    disk = Disk(monkeypatch)
    yield disk
    disk.go_on()


@pytest.fixture
async def queue(tmp_path):
    queue = save_queue(saved_sessions(tmp_path))
    yield queue
    await queue.close()


def session(number=0):
    return replace(credentials(now=NOW), access_key_id=f"ASIAEXAMPLE{number:09}")


def key(tmp_path, role="deploy"):
    try:
        return read_session(session_file(tmp_path, role))["credentials"]["access_key_id"]
    except FileNotFoundError:
        return None


def said(caplog, event):
    return [record for record in caplog.records if record.message == event]


async def until(condition, seconds=10):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def hanging(queue, disk, roles=("deploy",)):
    """Save, up to a write that does not end."""
    disk.hang()
    for role in roles:
        queue.save(role, shape, session())
    await until(disk.is_waited_for.is_set)


async def test_while_the_disk_hangs_one_thread_waits_and_then_the_newest_of_each_role_is_there(queue, disk, tmp_path):
    """Every renewal of every role would leave a thread behind; and the last to end might write the oldest session."""
    before = threading.active_count()
    await hanging(queue, disk, ROLES)
    for number in range(1, 11):
        for role in ROLES:
            queue.save(role, shape, session(number))
        await asyncio.sleep(0)
    assert threading.active_count() == before + 1
    disk.go_on()
    await until(lambda: {key(tmp_path, role) for role in ROLES} == {session(10).access_key_id})
    assert disk.syncs == 2 * (1 + len(ROLES))  # of each the file and the folder; and the one that hung


async def test_what_is_being_written_does_not_come_back_when_it_is_dropped(queue, disk, tmp_path):
    """A session that was revoked at AWS would be served after a restart."""
    queue.save("deploy", shape, session(1))
    await until(lambda: key(tmp_path) == session(1).access_key_id)
    await hanging(queue, disk)
    queue.drop(["deploy", "other"])
    disk.go_on()
    await until(lambda: key(tmp_path) is None)
    queue.drop(["deploy"])
    queue.save("deploy", shape, session(2))  # what has come in its place stays
    await until(lambda: key(tmp_path) == session(2).access_key_id)
    await queue.close()
    assert key(tmp_path) == session(2).access_key_id


async def test_what_is_dropped_while_it_is_loaded_is_not_served(queue, disk, tmp_path):
    """The same, where the disk is so slow that the daemon has begun without what was saved."""
    for role in ("a", "b", "c"):
        saved_sessions(tmp_path).save(role, shape(), session())
    await hanging(queue, disk, ["other"])
    loading = asyncio.create_task(queue.load(dict.fromkeys(("a", "b", "c"), shape), lambda: NOW))
    await asyncio.sleep(0)
    queue.drop(["b"])
    disk.go_on()
    assert set(await loading) == {"a", "c"}


async def test_no_file_comes_back_of_a_role_that_is_gone(queue, disk, tmp_path):
    """The keys of a role that the host has no more would stay on its disk."""
    await hanging(queue, disk, ["gone", "kept", "waits"])
    queue.keep_only({"kept"})
    disk.go_on()
    await until(lambda: key(tmp_path, "kept") is not None)
    await queue.close()
    assert [path.name for path in (tmp_path / "credentials").iterdir()] == ["kept.json"]


async def test_it_is_tried_until_it_is_written_with_one_line_for_the_trouble(queue, tmp_path, caplog):
    """After a full disk a restart would take a session that is about to end, or fill the log meanwhile."""
    caplog.set_level(logging.INFO)
    (tmp_path / "credentials").write_text("in the way")
    for number in range(3):
        queue.save("deploy", shape, session(number))
        queue.save("other", shape, session(number))
        await asyncio.sleep(0.3)
    (tmp_path / "credentials").unlink()
    await until(lambda: key(tmp_path) == key(tmp_path, "other") == session(2).access_key_id)
    await until(lambda: said(caplog, "sessions are saved again"))
    [line] = said(caplog, "a restart will need AWS")
    assert (line.levelname, line.role) == ("WARNING", "deploy")
    assert "cannot be written" in line.error


async def test_one_role_that_cannot_be_saved_keeps_no_other_from_it(queue, tmp_path):
    """Something else made a folder of that name."""
    session_file(tmp_path, "a").mkdir(parents=True, mode=0o700)
    (tmp_path / "credentials").chmod(0o700)
    for role in ("a", "b", "c"):
        queue.save(role, shape, session(1))
    await until(lambda: key(tmp_path, "b") == key(tmp_path, "c") == session(1).access_key_id)


async def test_a_defect_is_reported_and_tried_again(queue, tmp_path, caplog):
    """The writer would be gone, and nothing saved any more, without a word."""
    outcomes = iter(["secret", 1])

    def make_shape():
        int(next(outcomes))
        return shape()

    queue.save("deploy", make_shape, session(1))
    await until(lambda: key(tmp_path) == session(1).access_key_id)
    [line] = said(caplog, "a restart will need AWS")
    assert "ValueError" in line.error
    assert "secret" not in line.error


async def test_the_stop_writes_what_waits(tmp_path):
    queue = save_queue(saved_sessions(tmp_path))
    for role in ROLES:
        queue.save(role, shape, session(1))
    await queue.close()
    assert {key(tmp_path, role) for role in ROLES} == {session(1).access_key_id}


async def test_the_stop_does_not_wait_for_a_disk_that_hangs(disk, tmp_path, caplog):
    """systemd would kill the daemon after a minute and a half, at each restart."""
    queue = save_queue(saved_sessions(tmp_path))
    await hanging(queue, disk)
    began = time.monotonic()
    await queue.close()
    assert time.monotonic() - began < 8
    assert said(caplog, "the newest sessions are not saved")[0].roles == "deploy"


async def test_where_nothing_is_saved_nothing_is_kept(tmp_path):
    """Every session of a thousand roles would stay in memory for good."""
    queue = save_queue(None)
    queue.save("early", shape, session())
    await until(queue._task.done)
    queue.save("deploy", shape, session())
    queue.keep_only({"deploy"})
    assert await queue.load({"deploy": shape}, lambda: NOW) == {}
    assert not queue._sessions
    await queue.close()
