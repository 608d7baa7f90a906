"""Work on an event loop of its own (loop_thread.py)."""

import asyncio
import contextvars
import gc
import threading
import time

import pytest

from imds_proxy.host import loop_thread
from imds_proxy.host.loop_thread import LoopThread

VARIABLE = contextvars.ContextVar("variable", default="default")


def threads(name):
    return [thread for thread in threading.enumerate() if thread.name == name]


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
def name(request):
    return request.node.name


@pytest.fixture
def beside(name):
    return LoopThread(name)


async def where(*given):
    await asyncio.sleep(0)
    return threading.current_thread().name, VARIABLE.get(), given


async def test_it_runs_in_one_thread_and_knows_its_callers_context(beside, name):
    """Who signs a call to AWS is a matter of the task that makes it."""
    VARIABLE.set("own")
    assert await asyncio.gather(beside.run(where, 1), beside.run(where)) == [(name, "own", (1,)), (name, "own", ())]
    assert len(threads(name)) == 1


async def test_an_error_comes_back(beside):
    async def fail():
        raise KeyError("k")

    with pytest.raises(KeyError, match="k"):
        await beside.run(fail)


async def test_work_is_cancelled_with_its_caller_who_waits_for_its_end(beside):
    """A rotation of the base key would go on beside the next one."""
    said = []

    async def work():
        said.append("begun")
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            said.append("ended")

    task = asyncio.create_task(beside.run(work))
    await until(lambda: said)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert said == ["begun", "ended"]


async def test_work_that_hangs_is_left_and_does_not_stop_its_caller(beside, name, monkeypatch):
    """A file that hangs would hold up the stop, and every answer."""
    monkeypatch.setattr(loop_thread, "_ENDED_WITHIN", 0.1)
    goes_on, began = threading.Event(), time.monotonic()

    async def work():
        goes_on.wait(10)
        return "late"

    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(beside.run(work), 0.1)
    assert time.monotonic() - began < 5
    assert len(threads(name)) == 1
    goes_on.set()
    assert await beside.run(where) == (name, "default", ())


async def test_its_thread_ends_with_it(name):
    """Each look at the base key would leave one behind."""
    own = LoopThread(name)
    await own.run(where)
    assert threads(name)
    del own
    gc.collect()
    await until(lambda: not threads(name))
