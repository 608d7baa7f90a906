"""The base key's parts without AWS: notes, times, endpoints, the daemon's loop."""

import asyncio
import logging
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from imds_proxy.base_key.access_keys import AccessKey, KeyPair, User
from imds_proxy.base_key.iam import Iam
from imds_proxy.base_key.journal import Attempt, Change, Record, Retired, load, save
from imds_proxy.base_key.rotation import Look
from imds_proxy.base_key.schedule import Rotator, retry_wait
from imds_proxy.config.model import BaseKeyConfig
from imds_proxy.credentials import Secret
from imds_proxy.errors import Denied, Unreachable
from imds_proxy.host.clock import Clock
from imds_proxy.host.state_dir import StateDir, StateError
from imds_proxy.telemetry.stats import BaseKeyStats
from support import virtual_time
from support.virtual_time import EPOCH

DAY, HOUR, MINUTE = 86400, 3600, 60


# The config


def test_it_is_off_unless_asked_for():
    """A host's key would change without anybody having asked."""
    assert BaseKeyConfig().rotate_every is None


def test_an_old_key_that_stays_longer_than_a_rotation_takes_to_come_is_refused():
    """Every rotation would find two keys there."""
    with pytest.raises(ValidationError, match="delete_after is longer than rotate_every"):
        BaseKeyConfig(rotate_every="2d", delete_after="3d")
    BaseKeyConfig(rotate_every="2d", delete_after="2d")


# The notes


@pytest.mark.parametrize(
    ("key_id", "created", "ours"),
    [
        ("AKIANEW", 1000.0, True),
        ("AKIANEW", 1030.0, True),
        ("AKIANEW", 996.0, True),
        ("AKIANEW", 1031.0, False),
        ("AKIANEW", 990.0, False),
        ("AKIAOLD", 1000.0, False),
    ],
)
def test_an_attempt_owns_only_what_was_made_within_seconds_of_it(key_id, created, ours):
    """Somebody else's key would be deleted."""
    attempt = Attempt(at=1000.0, known=("AKIAOLD",))
    assert attempt.may_have_made(AccessKey(key_id, active=True, created=created)) is ours


def test_what_is_noted_is_read_again(tmp_path):
    """A crash would leave keys behind."""
    change = Change(old="AKIAOLD").with_attempt(Attempt(at=1.0, known=("AKIAOLD",)))
    for record in (
        Record(),
        Record(change=change),
        Record(change=change.with_made("AKIANEW")),
        Record(retired=Retired(id="AKIAOLD", at=2.0, done=True)),
    ):
        save(StateDir(tmp_path), record)
        assert load(StateDir(tmp_path)) == record


def test_a_key_whose_id_is_known_ends_its_attempt():
    """A key that somebody makes in the same seconds would be taken for ours."""
    change = Change(old="AKIAOLD").with_attempt(Attempt(at=1.0, known=())).with_made("AKIANEW")
    assert (change.attempts, change.made) == ((), ("AKIANEW",))


@settings(deadline=None)  # it writes to disk
@given(st.binary(max_size=200))
def test_rubbish_is_no_note(tmp_path_factory, content):
    """One bad byte on disk would stop every rotation, or end a key."""
    state = StateDir(tmp_path_factory.getbasetemp())
    state.write("base-key.json", content)
    assert load(state) == Record()


# AWS's addresses

ENDPOINTS = {
    "eu-west-1": "https://iam.amazonaws.com",
    "cn-north-1": "https://iam.cn-north-1.amazonaws.com.cn",
    "us-gov-west-1": "https://iam.us-gov.amazonaws.com",
}


@pytest.mark.parametrize("region", ENDPOINTS)
async def test_iam_is_where_the_partition_has_it(region, monkeypatch):
    """IAM is no service of a region: its calls would go to a name that nobody answers at."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_IAM"):
        monkeypatch.delenv(name, raising=False)
    seen = []

    def stop(request, **_):
        seen.append(request.url)
        raise ConnectionError

    async with Iam(region, Clock()).caller(KeyPair("AKIAEXAMPLE", Secret("x"))) as caller:
        caller._iam.meta.events.register("before-send.iam", stop)
        with pytest.raises(Unreachable):
            await caller.keys(User("arn:aws:iam::123456789012:user/team/host"))
    assert seen == [f"{ENDPOINTS[region]}/"]


def test_a_users_name_is_without_its_path():
    """CreateAccessKey would name a user that is not there."""
    assert User("arn:aws:iam::123456789012:user/team/hosts/web1").name == "web1"


# The daemon's loop


class Script:
    """A rotation whose looks are written down beforehand."""

    def __init__(self, clock, *looks):
        self._clock, self._looks = clock, list(looks)
        self.at = []

    async def run(self):
        self.at.append(self._clock.now() - EPOCH)
        look = self._looks.pop(0) if self._looks else OSError("s3cr3t")
        if isinstance(look, Exception):
            raise look
        return look


def looked(*looks, seconds):
    """When a rotator looked, in virtual seconds, and its figures."""
    stats = BaseKeyStats()

    async def main():
        clock = asyncio.get_running_loop().clock()
        script = Script(clock, *looks)
        task = asyncio.create_task(Rotator(script, clock, stats).run())
        await asyncio.sleep(seconds)
        task.cancel()
        return script.at

    return virtual_time.run(main()), stats


def look(due, *, rotated=False):
    return Look("ABCD", EPOCH - DAY, None if due is None else EPOCH + due, rotated)


def test_it_looks_when_something_is_due_and_once_a_day():
    """A key made by hand, or a policy mended, would be noticed weeks later."""
    at, stats = looked(look(HOUR, rotated=True), look(30 * DAY), look(None), look(0), look(9 * DAY), seconds=3 * DAY)
    assert at == pytest.approx([0, HOUR, HOUR + DAY, HOUR + 2 * DAY, HOUR + 2 * DAY + MINUTE], abs=10)
    assert (stats.created, stats.outcomes) == (EPOCH - DAY, {"success": 1})


def test_a_denial_is_tried_again_after_an_hour_and_an_absence_after_a_minute():
    """AWS would be asked in a loop, or a rotation be late by a day for a lost packet."""
    fine = [look(9 * DAY)] * 9
    at, stats = looked(Denied("no"), Unreachable("gone"), StateError("full"), *fine, seconds=5 * DAY)
    waits = [later - earlier for earlier, later in pairwise(at)]
    assert HOUR <= waits[0] <= 2 * HOUR + 10
    assert MINUTE <= waits[1] <= 4 * MINUTE + 10
    assert HOUR <= waits[2] <= 8 * HOUR + 10
    assert stats.outcomes == {"denied": 1, "unreachable": 1, "invalid": 1}


def test_an_unexpected_error_is_told_without_its_text_and_does_not_end_it(caplog):
    """One surprise, and the key would never rotate again; and its text may hold a secret."""
    with caplog.at_level(logging.ERROR):
        at, _ = looked(seconds=3 * HOUR)
    assert len(at) >= 2
    assert "unexpected OSError at " in caplog.records[0].error
    assert "s3cr3t" not in f"{caplog.records[0].error}{caplog.text}"


@given(st.integers(1, 100), st.floats(0, 1, exclude_max=True))
def test_waits_after_failures_grow_and_stay_within_their_bounds(failures, chance):
    """Between a hot loop and giving up."""
    assert MINUTE <= retry_wait(failures, chance, passing=True) <= HOUR
    assert HOUR <= retry_wait(failures, chance, passing=False) <= DAY
