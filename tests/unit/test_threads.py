"""Work that may block for good, in threads (threads.py)."""

import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref

import pytest

from imds_proxy.threads import OneByOne, in_thread


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
from imds_proxy.threads import in_thread

async def main():
    in_thread(time.sleep, 60)

asyncio.run(main())
"""


def test_nothing_waits_for_what_hangs_at_the_end():
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, timeout=30, check=True)
    assert time.monotonic() - began < 20
    assert done.stderr == b""
