"""How often a caller may ask (metadata/rate_limit.py): plain numbers."""

from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.metadata import rate_limit
from imds_proxy.metadata.rate_limit import CallerLimits

NOW = 1_800_000_000.0


def allowed(limits_, count, now=NOW, who=b"uid 1"):
    return sum(limits_.allows(who, now) for _ in range(count))


def test_a_caller_has_a_burst_and_then_its_rate():
    """A script that asks twenty times at once is no loop; one that never stops is."""
    made = CallerLimits(10)
    assert allowed(made, 1000) == 40
    assert allowed(made, 1000, NOW + 1) == 10
    assert allowed(made, 1000, NOW + 1.5) == 5
    assert allowed(made, 1000, NOW + 3600) == 40


def test_one_callers_loop_takes_nothing_from_another():
    made = CallerLimits(10)
    allowed(made, 1000)
    assert allowed(made, 1, who=b"uid 2") == 1


def test_a_limit_of_zero_is_none():
    assert allowed(CallerLimits(0), 100_000) == 100_000


def test_a_clock_that_is_set_back_locks_nobody_out():
    """After a correction of the clock every SDK of the host would fail."""
    made = CallerLimits(10)
    allowed(made, 1000, NOW + 86400)
    assert allowed(made, 1000, NOW) == 0
    assert allowed(made, 1000, NOW + 1) == 10


def test_a_flood_of_callers_costs_no_memory():
    """Somebody with a whole IPv6 network could fill it; who is forgotten begins anew."""
    made = CallerLimits(10)
    for number in range(100_000):
        made.allows(f"fd00::{number:x} at [::]:80".encode(), NOW)
    assert len(made._buckets) <= rate_limit._CALLERS_KEPT


def test_the_one_that_asked_longest_ago_is_forgotten_first():
    """A loop would have a full measure again as soon as many others ask."""
    made = CallerLimits(10)
    allowed(made, 1000)
    for number in range(3 * rate_limit._CALLERS_KEPT):
        made.allows(b"%d" % number, NOW)
        assert not made.allows(b"uid 1", NOW)


@given(st.lists(st.floats(0, 3), max_size=300))
def test_never_more_than_burst_and_rate_give(steps):
    made, now, count = CallerLimits(5), NOW, 0
    for step in steps:
        now += step / 10
        count += made.allows(b"uid 1", now)
    assert count <= 5 * rate_limit._BURST + 5 * (now - NOW) + 1e-3
