"""Work that may block for good, in threads (threads.py)."""

import asyncio
import subprocess
import sys
import threading
import time

import pytest

from imds_proxy.threads import in_thread


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
