"""Work that may block for good, in threads (threads.py)."""

import asyncio
import contextlib
import gc
import subprocess
import sys
import threading
import time
import weakref

import pytest

from imds_proxy.base_key.task import BaseKeyTask
from imds_proxy.host.clock import Clock
from imds_proxy.host.threads import OneByOne, cancel_and_wait, in_thread
from imds_proxy.renewal.keeper import Keeper
from imds_proxy.sources import Source
from imds_proxy.telemetry.stats import RenewalStats


def raise_key_error():
    raise KeyError("k")


async def test_a_result_comes_back():
    assert await in_thread(divmod, 7, 2) == (3, 1)


async def test_an_error_comes_back():
    with pytest.raises(KeyError, match="k"):
        await in_thread(raise_key_error)


async def test_who_gives_up_is_not_told_of_the_end():
    """Else a late end would be an error in the log."""
    unexpected, goes_on = [], threading.Event()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unexpected.append(context))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(in_thread(goes_on.wait, 10), 0.01)
    goes_on.set()
    await asyncio.sleep(0.05)
    assert unexpected == []


class Work:
    """Work that ends when it may, and counts how many are at it at once."""

    def __init__(self):
        self.going = self.most = 0
        self._may_end = threading.Event()

    def __call__(self, outcome):
        self.going += 1
        self.most = max(self.most, self.going)
        assert self._may_end.wait(10)
        self.going -= 1
        return outcome()

    def may_end(self):
        self._may_end.set()


async def test_one_piece_of_work_goes_on_at_a_time():
    works, work = OneByOne(), Work()
    doing = [asyncio.create_task(works.do(work, lambda n=n: n, within=10)) for n in range(5)]
    await asyncio.sleep(0.05)
    work.may_end()
    assert await asyncio.gather(*doing) == [0, 1, 2, 3, 4]
    assert work.most == 1


async def test_of_many_that_wait_for_one_end_one_begins():
    """Each would begin beside the others: a file read while it is written, a token that two look-ups make."""
    works, first, next_ones = OneByOne(), threading.Event(), threading.Event()
    begun = []

    def work():
        begun.append(len(begun))
        assert next_ones.wait(10)

    doing = [asyncio.create_task(works.do(first.wait, 10, within=20))]
    await asyncio.sleep(0)  # it has begun
    doing += [asyncio.create_task(works.do(work, within=20)) for _ in range(3)]
    await asyncio.sleep(0.01)  # they wait for it
    first.set()
    async with asyncio.timeout(10):
        while not begun:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert begun == [0]
    next_ones.set()
    await asyncio.gather(*doing)
    assert begun == [0, 1, 2]


async def test_what_has_ended_is_waited_for_no_more():
    """A file would be waited for that nobody reads any more."""
    works = OneByOne()
    async with asyncio.timeout(5):
        await works.ended()
        with pytest.raises(KeyError):
            await works.do(raise_key_error, within=10)
        await works.ended()


def test_what_ends_after_its_loop_says_nothing(monkeypatch):
    """At the end of the daemon there would be a traceback, which may hold a secret, for a file that hung."""
    unexpected, goes_on = [], threading.Event()
    monkeypatch.setattr(threading, "excepthook", unexpected.append)
    loop = asyncio.new_event_loop()

    async def begin():
        in_thread(goes_on.wait, 10)

    before = set(threading.enumerate())
    loop.run_until_complete(begin())
    (thread,) = set(threading.enumerate()) - before
    loop.close()
    goes_on.set()
    thread.join(10)
    assert not thread.is_alive()
    assert unexpected == []


async def test_an_error_after_who_asked_gave_up_is_nobodys():
    """Of a mount that is given up, each file would be an unexpected error in the log."""
    unexpected, works, work = [], OneByOne(), Work()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unexpected.append(context))
    with pytest.raises(TimeoutError):
        await works.do(work, raise_key_error, within=0.05)
    work.may_end()
    assert await works.do(work, lambda: "next", within=10) == "next"
    gc.collect()
    assert unexpected == []


async def test_what_it_brought_is_not_kept():
    """It may be a key or a token."""
    works = OneByOne()
    secret = await works.do(Secret, within=10)
    kept = weakref.ref(secret)
    del secret
    async with asyncio.timeout(5):  # the thread has to end first
        while kept() is not None:
            gc.collect()
            await asyncio.sleep(0.01)


class Secret:
    """Something that is there or not."""


ENDS = """
import asyncio, time
from imds_proxy.host.threads import in_thread

async def main():
    in_thread(time.sleep, 60)

asyncio.run(main())
"""


def test_nothing_waits_for_what_hangs_at_the_end():
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, timeout=30, check=True)
    assert time.monotonic() - began < 20
    assert done.stderr == b""


# Tasks that are cancelled


async def slow_to_end(ends):
    try:
        await asyncio.sleep(60)
    finally:
        await ends.wait()


async def begun(work):
    task = asyncio.create_task(work)
    await asyncio.sleep(0)
    return task


async def test_who_cancels_a_task_and_waits_for_its_end_can_be_cancelled_too():
    """Its own cancellation would be taken for the task's: one that is stopped would go on in the middle of it."""
    ends = asyncio.Event()
    task = await begun(slow_to_end(ends))
    waiting = await begun(cancel_and_wait(task))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not task.done()
    ends.set()
    await cancel_and_wait(task)
    assert task.cancelled()


async def test_a_task_that_ends_with_an_error_when_it_is_cancelled_is_no_error_of_who_cancels():
    async def work():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        raise_key_error()

    task = await begun(work())
    await cancel_and_wait(task)
    await cancel_and_wait(task)
    assert isinstance(task.exception(), KeyError)


class NeverThere(Source):
    """Takes its time to end."""

    def __init__(self):
        self.ends = asyncio.Event()

    async def fetch(self):
        await slow_to_end(self.ends)


async def test_a_keeper_whose_close_is_cancelled_says_so():
    """A reload that is cancelled in there would go on, beside the stop."""
    source, keeper = NeverThere(), Keeper("deploy", clock=Clock(), stats=RenewalStats())
    running = await begun(keeper.run(source))
    while not keeper._attempts.is_under_way:
        await asyncio.sleep(0.01)
    closing = await begun(keeper.close())
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    source.ends.set()
    await cancel_and_wait(running)
    await keeper.close()


async def test_a_rotation_whose_end_is_waited_for_can_be_left():
    """The same, of the base key."""
    ends, rotating = asyncio.Event(), BaseKeyTask(Clock(), RenewalStats())
    rotating._task = await begun(slow_to_end(ends))
    closing = await begun(rotating.close())
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    ends.set()
