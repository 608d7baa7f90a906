"""Files that something else keeps fresh: read, and told of when they change (host/watched_files.py)."""

import asyncio
import threading
import time
from pathlib import Path

import pytest

from imds_proxy.host import file_lane
from imds_proxy.host.watched_files import WatchedFiles


def write(path, content=b"x", mode=0o600):
    path.write_bytes(content)
    path.chmod(mode)
    return path


def read(path):
    return Path(path).read_bytes()


async def watched(*paths):
    """Files that were read as they are now."""
    watch = WatchedFiles(*map(str, paths))
    await watch.read(lambda: None)
    return watch


async def seen_within(watch, act, seconds=5.0):
    """How long after `act()` the watch tells; None: not in time."""
    changed = asyncio.create_task(watch.changed())
    await asyncio.sleep(0.1)
    act()
    began = time.monotonic()
    done, _ = await asyncio.wait({changed}, timeout=seconds)
    changed.cancel()
    return time.monotonic() - began if done else None


def append(path):
    with path.open("ab") as file:
        file.write(b"more")


def renamed_over(path):
    write(path.with_suffix(".new"), b"y").rename(path)


def swapped(path):
    """As Kubernetes does: the link `..data` is renamed over, and what is seen is a link through it."""
    folder = path.parent
    (folder / "2").mkdir()
    write(folder / "2" / "f", b"y")
    (folder / "new").symlink_to("2")
    (folder / "new").rename(folder / "..data")


CHANGES = {
    "renamed over": renamed_over,
    "rewritten": lambda path: path.write_bytes(b"y"),
    "appended to": append,
    "touched": lambda path: path.touch(),
    "made readable": lambda path: path.chmod(0o640),
    "removed": lambda path: path.unlink(),
}


@pytest.mark.parametrize("kind", CHANGES)
async def test_every_change_is_told_within_a_second(tmp_path, kind):
    """Credentials that were renewed in time would be taken too late."""
    watch = await watched(write(tmp_path / "f"))
    assert await seen_within(watch, lambda: CHANGES[kind](tmp_path / "f")) is not None


async def test_a_swapped_link_is_told(tmp_path):
    """Kubernetes changes no file that it has mounted."""
    (tmp_path / "1").mkdir()
    write(tmp_path / "1" / "f")
    (tmp_path / "..data").symlink_to("1")
    (tmp_path / "f").symlink_to("..data/f")
    watch = await watched(tmp_path / "f")
    assert await seen_within(watch, lambda: swapped(tmp_path / "f")) is not None


async def test_a_file_that_comes_to_be_is_told(tmp_path):
    watch = await watched(tmp_path / "f")
    assert await seen_within(watch, lambda: write(tmp_path / "f")) is not None


async def test_any_of_several_files_is_told_of(tmp_path):
    """A certificate and its key are two."""
    watch = await watched(write(tmp_path / "a"), write(tmp_path / "b"))
    assert await seen_within(watch, lambda: write(tmp_path / "b", b"y")) is not None


async def test_what_does_not_change_is_not_told_of(tmp_path):
    """Every role would be renewed for ever."""
    watch = await watched(write(tmp_path / "f"), tmp_path / "none")
    assert await seen_within(watch, lambda: read(tmp_path / "f"), 1.2) is None


async def test_what_changed_before_somebody_waits_is_told(tmp_path):
    """A change during a renewal would be lost."""
    watch = await watched(write(tmp_path / "f"))
    write(tmp_path / "f", b"yy")
    assert await seen_within(watch, lambda: None) is not None


async def test_what_was_read_is_no_news(tmp_path):
    watch = WatchedFiles(str(write(tmp_path / "f")))
    write(tmp_path / "f", b"yy")
    assert await watch.read(read, tmp_path / "f") == b"yy"
    assert await seen_within(watch, lambda: None, 1.2) is None


async def test_a_file_is_told_of_once_it_is_left_alone(tmp_path):
    """Half of a document would be read."""
    path = write(tmp_path / "f")
    watch = await watched(path)
    changed = asyncio.create_task(watch.changed())
    for _ in range(10):
        append(path)
        await asyncio.sleep(0.1)
        assert not changed.done()
    async with asyncio.timeout(5):
        await changed


# A file server that hangs


class Hanging:
    """Work that hangs until `go_on`."""

    def __init__(self):
        self.calls = 0
        self._goes_on = threading.Event()

    def __call__(self, *_):
        self.calls += 1
        assert self._goes_on.wait(20)
        return None, False

    def go_on(self):
        self._goes_on.set()


async def test_a_read_that_hangs_is_given_up_and_hangs_alone(tmp_path):
    """Whoever else uses the loop, or the threads of an executor, must not notice."""
    watch, hanging = WatchedFiles(str(tmp_path / "f")), Hanging()
    for _ in range(20):
        with pytest.raises(TimeoutError):
            await watch.read(hanging, within=0.02)
    assert hanging.calls == 1
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "answered"), 1) == "answered"
    hanging.go_on()
    assert await watch.read(read, write(tmp_path / "f", b"fresh"), within=1) == b"fresh"


async def test_a_look_that_hangs_hangs_alone(tmp_path, monkeypatch):
    """Each try of a renewal waits for a change, and gives that up again."""
    watch, hanging = WatchedFiles(str(write(tmp_path / "f"))), Hanging()
    await watch.read(read, tmp_path / "f")
    with monkeypatch.context() as patched:
        patched.setattr("imds_proxy.host.file_lane._look_at_file", hanging)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(watch.changed(), 0.8)
        assert hanging.calls == 1
        hanging.go_on()
    assert await seen_within(watch, lambda: write(tmp_path / "f", b"yy")) is not None


async def test_a_look_that_began_before_the_first_read_does_not_make_it_blind(tmp_path, monkeypatch):
    """What was renewed while the first look was slow would never be noticed."""
    watch, slow = WatchedFiles(str(write(tmp_path / "f", b"old"))), threading.Event()
    look = file_lane._look_at_file
    with monkeypatch.context() as patched:
        patched.setattr(file_lane, "_look_at_file", lambda path: slow.wait(20) and look(path))
        looking = asyncio.create_task(watch.changed())
        await asyncio.sleep(0.1)
        looking.cancel()
        assert await watch.read(read, tmp_path / "f") == b"old"
        write(tmp_path / "f", b"renewed")
        slow.set()
        assert await seen_within(watch, lambda: None) is not None


async def test_where_no_thread_can_be_started_it_is_tried_again(tmp_path, monkeypatch):
    """Whoever waits for a change would be told of one without end, or never be told again."""
    watch = await watched(write(tmp_path / "f"))
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none_left)
        changed = asyncio.create_task(watch.changed())
        await asyncio.sleep(0.1)
        assert not changed.done()
    write(tmp_path / "f", b"yy")
    await asyncio.wait_for(changed, 5)


def none_left(_):
    raise RuntimeError("can't start new thread")
