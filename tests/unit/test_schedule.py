"""When to renew (renewal/schedule.py)."""

from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.backoff import DENIED_FIRST, DENIED_LONGEST, RETRY_FIRST, RETRY_LONGEST, wait_after_failure
from imds_proxy.renewal.schedule import (
    ENOUGH,
    LEFT_IN_A_FILE,
    LONG_LIFE,
    SHORTEST_WAIT,
    renewal_age,
    wait_after_success,
    wait_for_another,
)

MINUTE = 60.0
CLIENTS_EARLY_WINDOW = 60 * MINUTE  # PROTOCOL.md 18, lives of 90 minutes or more
CLIENTS_WINDOW = 25 * MINUTE  # PROTOCOL.md 18, all others: botocore rewrites the expiry below this

chance = st.floats(0, 1, exclude_max=True)
life = st.floats(0, 366 * 24 * 3600)
instant = st.floats(0, 4e9)


@given(st.floats(LONG_LIFE, 36 * 3600), chance)
def test_a_long_session_is_renewed_before_any_client_asks_for_more(life, chance):
    """A client that asks 60 minutes before the end would get the old session, and not ask again for minutes."""
    assert life - renewal_age(life, chance) >= CLIENTS_EARLY_WINDOW + 5 * MINUTE - 1e-6


@given(st.floats(50 * MINUTE, LONG_LIFE, exclude_max=True), chance)
def test_a_session_of_an_hour_never_gets_into_botocores_window(life, chance):
    """Below 25 minutes botocore signs with keys it believes alive by its own arithmetic."""
    assert life - renewal_age(life, chance) >= CLIENTS_WINDOW


@given(life, chance, st.none() | st.floats(1, 1e6))
def test_never_later_than_half_the_life_or_the_age_asked_for(life, chance, max_age):
    age = renewal_age(life, chance, max_age)
    assert 0 <= age <= life / 2
    assert max_age is None or age <= max_age


@given(st.floats(0, 35 * 86400), st.sampled_from([0.0, LEFT_IN_A_FILE]), st.none() | st.floats(1, 1e6))
def test_every_renewal_has_room_for_jitter(life, least, max_age):
    """Hosts that booted together would call AWS in the same minute for ever, and be throttled."""
    latest, earliest = renewal_age(life, 0.0, max_age, least), renewal_age(life, 1.0, max_age, least)
    assert latest - earliest >= latest / 10


@given(st.floats(90 * MINUTE, 36 * 3600), chance, st.none() | st.floats(60, 1e6))
def test_aws_is_not_asked_more_often_than_it_takes(life, chance, max_age):
    """AWS throttles a fleet that renews more than it needs to."""
    latest = min(life / 2, life - 65 * MINUTE, max_age or life)
    assert renewal_age(life, chance, max_age) >= latest * 5 / 6 - 1e-6


@given(st.floats(0, 290), st.floats(0, 10), chance)
def test_a_session_of_exactly_90_minutes_is_a_long_one(ahead, rounded, chance):
    """Reckoned from an answer by a clock that is a little ahead, its life is less: 45 minutes were left, not 65."""
    assert 90 * MINUTE - renewal_age(90 * MINUTE - ahead - rounded, chance) >= CLIENTS_EARLY_WINDOW + 5 * MINUTE


@given(life, chance, chance)
def test_jitter_only_makes_it_earlier(life, low, high):
    low, high = sorted((low, high))
    assert renewal_age(life, high) <= renewal_age(life, low)


def test_an_hour_has_thirty_minutes_left_and_two_hours_have_sixty_five():
    assert renewal_age(60 * MINUTE, 0) == 30 * MINUTE
    assert renewal_age(90 * MINUTE, 0) == 25 * MINUTE
    assert renewal_age(120 * MINUTE, 0) == 55 * MINUTE
    assert renewal_age(12 * 60 * MINUTE, 0) == 6 * 60 * MINUTE


@given(instant, st.floats(-1e6, 1e8), st.floats(-1e8, 1e8), chance, st.none() | st.floats(1, 1e6))
def test_after_success_it_never_spins_and_never_waits_past_the_renewal_age(obtained, life, drift, chance, max_age):
    """Whatever the clock did meanwhile, forward or back."""
    wait = wait_after_success(obtained, obtained + life, obtained + drift, chance, max_age)
    assert wait >= SHORTEST_WAIT
    assert wait <= max(renewal_age(max(life, 0), chance, max_age), SHORTEST_WAIT) + 1e-3


@given(st.integers(1, 10**9), chance, st.booleans())
def test_after_a_failure_it_never_spins_and_never_gives_up(failures, chance, denied):
    first, longest = (DENIED_FIRST, DENIED_LONGEST) if denied else (RETRY_FIRST, RETRY_LONGEST)
    assert first <= wait_after_failure(failures, chance, denied=denied) <= longest


@given(st.integers(1, 1000), st.booleans())
def test_backoff_spreads_over_its_width_and_grows(failures, denied):
    low, high = (wait_after_failure(failures, c, denied=denied) for c in (0.0, 0.999))
    assert high > low
    assert wait_after_failure(failures + 1, 0.999, denied=denied) >= high


@given(st.floats(1, 7 * 86400), chance, st.booleans())
def test_what_something_else_renews_is_asked_for_while_there_is_enough_life(left, chance, again):
    """Clients misbehave under 25 minutes, and the other end may have had a new session for long (PROTOCOL.md 18)."""
    wait = wait_for_another(left, chance, again=again)
    assert 1 <= wait <= max(left / 2, 1)
    if left > ENOUGH * 1.25:
        assert left - wait >= ENOUGH
    if again and left <= ENOUGH:
        assert wait <= max(left / 8, 1)


def test_another_imds_proxy_is_asked_a_few_times_an_hour_and_never_leaves_less_than_25_minutes():
    """The other one renews its hours when 30 minutes are left."""
    for start in range(0, 1800, 60):
        now, end, asked = 0.0, 3600.0 - start, 0
        again, lowest = False, end
        while now < 4 * 3600:
            wait = wait_for_another(end - now, 0.0, again=again)
            lowest = min(lowest, end - now - wait)
            now, asked = now + wait, asked + 1
            newest = 3600.0 - start + 1800 * max(0, (now + start) // 1800)
            again, end = newest == end, max(newest, end)
        assert lowest >= 25 * 60, start
        assert asked < 4 * 8
