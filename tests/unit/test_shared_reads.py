"""Many ask for one service account at a time: one read, and never one from before they asked."""

import asyncio

import pytest

from imds_proxy.webhook.shared_reads import SharedReads


class Reads:
    """Counts; each read ends when it is let go, with its number."""

    def __init__(self):
        self.begun, self.now, self.most = 0, 0, 0
        self.go = asyncio.Semaphore(0)
        self.error = None

    async def __call__(self, _):
        self.begun += 1
        number, self.now = self.begun, self.now + 1
        self.most = max(self.most, self.now)
        try:
            await self.go.acquire()
        finally:
            self.now -= 1
        if self.error is not None:
            raise self.error
        return number


@pytest.fixture
async def reads():
    return Reads()


async def asked(subject, count, key="a"):
    tasks = [asyncio.create_task(subject.get(key)) for _ in range(count)]
    await settled()
    return tasks


async def settled():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_asks_during_a_read_shares_the_next(reads):
    """Its account may have changed since the read began: it would be injected with what was."""
    subject = SharedReads(reads)
    first = await asked(subject, 1)
    later = await asked(subject, 50)
    assert reads.begun == 1
    reads.go.release()
    await settled()
    assert reads.begun == 2
    last = await asked(subject, 1)
    reads.go.release()
    reads.go.release()
    assert await asyncio.gather(*first, *later, *last) == [1, *[2] * 50, 3]
    assert reads.most == 1


async def test_other_accounts_do_not_wait(reads):
    subject = SharedReads(reads)
    tasks = await asked(subject, 1, "a") + await asked(subject, 1, "b")
    assert reads.now == 2
    reads.go.release()
    reads.go.release()
    assert sorted(await asyncio.gather(*tasks)) == [1, 2]


async def test_a_failure_is_everyones_who_shares_it_and_nobody_elses(reads):
    subject = SharedReads(reads)
    failed = await asked(subject, 2)
    reads.error = ValueError("once")
    reads.go.release()
    ended = await asyncio.gather(*failed, return_exceptions=True)
    assert [type(each) for each in ended] == [ValueError] * 2
    reads.error = None
    reads.go.release()
    assert await subject.get("a") == 2


async def test_who_goes_away_takes_the_answer_from_nobody(reads):
    subject = SharedReads(reads)
    gone, stays = await asked(subject, 2)
    gone.cancel()
    reads.go.release()
    assert await stays == 1


async def test_nothing_is_left_of_what_was_read(reads):
    """Each account of the cluster that a pod was ever made of would stay in memory."""
    subject = SharedReads(reads)
    for key in "abc":
        reads.go.release()
        await subject.get(key)
    await settled()
    assert (subject._running, subject._next) == ({}, {})


async def test_close_ends_what_is_on_its_way(reads):
    subject = SharedReads(reads)
    tasks = await asked(subject, 1)
    tasks += await asked(subject, 1)
    await subject.close()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in ended] == [asyncio.CancelledError] * 2
    assert reads.now == 0
