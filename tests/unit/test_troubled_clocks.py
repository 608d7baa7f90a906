"""Hosts whose clocks are set while AWS comes and goes, by the month: what clients get (support/troubled_clocks.py)."""

import statistics
from random import Random

import pytest

from imds_proxy.renewal.schedule import renewal_age
from support.troubled_clocks import DAY, LIVES, MINUTE, simulate

SEEDS = range(10)


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    seen = simulate(SEEDS, tmp_path_factory.mktemp("hosts"), days=1.0, every=1500.0)
    print(f"\nseeds {SEEDS}: {seen.days:.0f} days, {seen.attempts} attempts, faults {dict(seen.faults)}")
    return seen


def test_nothing_dead_is_served_by_a_host_that_can_know(seen):
    """Clients sign with dead keys, and some never ask again."""
    assert seen.dead_served == []


def test_nothing_live_is_dropped_by_a_host_whose_clock_is_right(seen):
    assert seen.live_dropped == []


def test_once_all_is_well_there_are_credentials_within_two_minutes(seen):
    assert seen.without == []


def test_after_a_clock_is_set_right_what_failed_is_tried_within_seconds(seen):
    """It was up to 293."""
    assert seen.late, "no fault of the kind"
    assert max(seen.late) < 20


def test_whatever_happens_aws_is_not_asked_all_the_time(seen):
    assert seen.errors == []
    assert seen.faults.total() > 300
    assert seen.busiest < 60


@pytest.mark.parametrize("life", [*LIVES[:-1], 93 * MINUTE, 97 * MINUTE])
def test_a_fleet_that_booted_together_calls_aws_at_all_times(life):
    """The busiest minute had 25 times the calls of the mean after a day, for sessions of 90 minutes."""
    # A session of 12 hours is renewed a few times in that day: it takes another until chance has spread them.
    chance, minutes = Random(4).random, [0] * 1440
    for _ in range(1000):
        at = 0.0
        while (at := at + renewal_age(life, chance())) < 2 * DAY:
            if at >= DAY:
                minutes[int(at // 60) - 1440] += 1
    assert max(minutes) < 4 * statistics.mean(minutes)
