"""One watcher of every file (host/file_watcher.py): what it may miss, and what it costs."""

import asyncio
import errno
import os
import threading

import pytest

from imds_proxy.host import file_lane, file_watcher
from imds_proxy.host.file_watcher import FileWatcher
from imds_proxy.host.inotify_watches import InotifyWatches
from imds_proxy.host.mounts import parse
from imds_proxy.host.watched_files import WatchedFiles

IN_TIME = 5.0
STEADY = 0.1  # seconds until what was just begun waits for the kernel


def write(path, content="x"):
    path.write_text(content)
    return path


@pytest.fixture
def watcher(monkeypatch):
    monkeypatch.setattr(file_lane, "_LINGER", 0.2)
    return FileWatcher()


async def waiting(watcher, *paths):
    """Who waits for changes of files that were read as they are now."""
    files = WatchedFiles(*map(str, paths), watcher=watcher)
    await files.read(lambda: None)
    return asyncio.create_task(files.changed())


async def is_told(task, act):
    """Whether a change is told once all is steady."""
    await asyncio.sleep(STEADY)
    assert not task.done()
    act()
    done, _ = await asyncio.wait({task}, timeout=IN_TIME)
    task.cancel()
    return bool(done)


def lanes():
    return [thread for thread in threading.enumerate() if thread.name == "look at files"]


def no_polling(monkeypatch):
    """From here on only what the kernel tells of is looked at."""
    monkeypatch.setattr(file_lane, "_POLL", 3600)


def moved_aside(folder):
    """Another folder is renamed into the place of one, as some tools replace a whole tree."""
    other = folder.with_name("other")
    other.mkdir()
    write(other / "f", "new")
    folder.rename(folder.with_name("old"))
    other.rename(folder)


async def test_a_thousand_files_are_watched_by_one_thread(watcher, tmp_path, monkeypatch):
    """A thread for each was a tenth of a core, and each change went through all of them."""
    no_polling(monkeypatch)
    before, lanes_before = set(threading.enumerate()), set(lanes())
    tasks = [await waiting(watcher, write(tmp_path / f"f{number}")) for number in range(1000)]
    await asyncio.sleep(STEADY)
    assert len(set(lanes()) - lanes_before) == 1
    assert len(set(threading.enumerate()) - before) < 20
    write(tmp_path / "f7", "new")
    done, left = await asyncio.wait(tasks, timeout=IN_TIME, return_when=asyncio.FIRST_COMPLETED)
    assert done == {tasks[7]}
    for number in range(1000):
        write(tmp_path / f"f{number}", "newer")
    assert not (await asyncio.wait(left, timeout=4 * IN_TIME))[1]


async def test_the_thread_ends_once_nobody_waits(watcher, tmp_path):
    """A daemon whose files are gone from its config would keep descriptors and threads."""
    before = set(lanes())
    task = await waiting(watcher, write(tmp_path / "f"))
    await asyncio.sleep(STEADY)
    (lane,) = set(lanes()) - before
    task.cancel()
    await asyncio.to_thread(lane.join, IN_TIME)
    assert not lane.is_alive()
    assert await is_told(await waiting(watcher, tmp_path / "f"), lambda: write(tmp_path / "f", "new"))


@pytest.mark.parametrize("deep", ["f", "a/f", "a/b/c/f"])
async def test_a_file_whose_folders_come_to_be_later_is_seen(watcher, tmp_path, monkeypatch, deep):
    no_polling(monkeypatch)

    def make():
        (tmp_path / deep).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / deep)

    assert await is_told(await waiting(watcher, tmp_path / deep), make)


async def test_a_folder_that_another_takes_the_place_of_is_seen(watcher, tmp_path, monkeypatch):
    no_polling(monkeypatch)
    folder = tmp_path / "deep" / "folder"
    folder.mkdir(parents=True)
    task = await waiting(watcher, write(folder / "f"))
    assert await is_told(task, lambda: moved_aside(folder))
    again = await waiting(watcher, folder / "f")
    assert await is_told(again, lambda: write(folder / "f", "and again"))


async def test_a_file_that_is_changed_by_another_of_its_names_is_seen(watcher, tmp_path, monkeypatch):
    """Its folder is told nothing of that."""
    no_polling(monkeypatch)
    (tmp_path / "elsewhere").mkdir()
    task = await waiting(watcher, write(tmp_path / "f"))
    os.link(tmp_path / "f", tmp_path / "elsewhere" / "g")
    task.cancel()
    task = await waiting(watcher, tmp_path / "f")
    assert await is_told(task, lambda: write(tmp_path / "elsewhere" / "g", "new"))


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EACCES])
async def test_where_no_folder_can_be_watched_files_are_looked_at_and_a_shortage_is_said_once(
    watcher, tmp_path, monkeypatch, caplog, reason
):
    """Some other program of the user has taken all watches; or a folder may be entered, but not read."""

    def refuse(*_):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(InotifyWatches, "add", refuse)
    tasks = [await waiting(watcher, write(tmp_path / f"f{number}")) for number in range(3)]
    for number, task in enumerate(tasks):
        assert await is_told(task, lambda number=number: write(tmp_path / f"f{number}", "new"))
    said = [record for record in caplog.records if "inotify" in record.message]
    assert len(said) == (reason != errno.EACCES)


async def test_without_an_inotify_instance_files_are_looked_at(watcher, tmp_path, monkeypatch, caplog):
    def refuse():
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(file_lane, "InotifyWatches", refuse)
    assert await is_told(await waiting(watcher, write(tmp_path / "f")), lambda: write(tmp_path / "f", "new"))
    assert "max_user_instances" in caplog.records[0].advice


async def test_what_the_kernel_has_lost_count_of_is_looked_at(watcher, tmp_path, monkeypatch):
    """More happens at once than the queue holds: the change would be seen at the next one, days later."""
    no_polling(monkeypatch)
    really = InotifyWatches.happened
    monkeypatch.setattr(InotifyWatches, "happened", lambda self: (set(), bool(really(self)[0])))
    assert await is_told(await waiting(watcher, write(tmp_path / "f")), lambda: write(tmp_path / "f", "new"))


class Server:
    """A mount that nothing tells of, and that hangs from `hang` to `go_on`, as the table of mounts says."""

    def __init__(self, path, monkeypatch):
        self.path = path
        path.mkdir()
        self._answers = threading.Event()
        self._answers.set()
        table = f"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:9 / {path} rw - nfs server: rw\n"
        monkeypatch.setattr(file_watcher, "read_mounts", lambda: parse(table))
        for name in ("stat", "readlink"):
            monkeypatch.setattr(os, name, self._slow(getattr(os, name)))
        self.hang, self.go_on = self._answers.clear, self._answers.set

    def _slow(self, really):
        def call(path, *given, **named):
            if isinstance(path, str) and path.startswith(str(self.path)):
                assert self._answers.wait(20)
            return really(path, *given, **named)

        return call


@pytest.fixture
def server(tmp_path, monkeypatch):
    server = Server(tmp_path / "server", monkeypatch)
    yield server
    server.go_on()


async def test_a_mount_that_tells_nothing_is_looked_at(watcher, server):
    file = write(server.path / "f")
    assert await is_told(await waiting(watcher, file), lambda: write(file, "new"))


async def test_a_mount_that_hangs_holds_up_only_what_is_on_it(watcher, server, tmp_path):
    """One file server would keep every other file of the host from being noticed."""
    write(server.path / "f")
    (tmp_path / "link").symlink_to("server/f")
    remote = [await waiting(watcher, path) for path in (server.path / "f", tmp_path / "link")]
    local = [await waiting(watcher, write(tmp_path / "f")), await waiting(watcher, tmp_path / "g")]
    await asyncio.sleep(STEADY)
    server.hang()
    await asyncio.sleep(2 * file_lane._POLL)
    before = threading.active_count()
    late = [WatchedFiles(str(server.path / f"late{number}"), watcher=watcher) for number in range(20)]
    hanging = [asyncio.create_task(each.changed()) for each in late]
    assert await is_told(local[0], lambda: write(tmp_path / "f", "new"))
    assert await is_told(local[1], lambda: write(tmp_path / "g", "new"))
    assert threading.active_count() <= before
    write(server.path / "f", "new")
    assert not any(task.done() for task in remote)
    server.go_on()
    assert not (await asyncio.wait(remote, timeout=IN_TIME))[1]
    for task in hanging:
        task.cancel()


async def test_a_defect_of_the_watcher_blinds_nobody_for_good(watcher, tmp_path, monkeypatch, caplog):
    """No file of the host would be read again until somebody restarts the daemon."""
    task = await waiting(watcher, write(tmp_path / "f"))
    await asyncio.sleep(STEADY)
    with monkeypatch.context() as broken:
        broken.setattr(file_lane, "find_way", lambda *_: 1 / 0)
        write(tmp_path / "f", "new")
        await asyncio.sleep(STEADY)
    assert (await asyncio.wait({task}, timeout=IN_TIME))[0]
    assert "ZeroDivisionError" in {getattr(record, "error", "") for record in caplog.records}
