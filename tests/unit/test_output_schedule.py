"""The 30 minutes that a file holds at any time (renewal/schedule.py, renewal/keeper.py, roles.py)."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.config.output_files import SHORTEST_DURATION
from imds_proxy.config.reader import parse
from imds_proxy.host.clock import Clock
from imds_proxy.renewal.keeper import Keeper
from imds_proxy.renewal.roles import Roles
from imds_proxy.renewal.schedule import LEFT_IN_A_FILE, SHORTEST_AGE, long_enough, renewal_age, wait_for_another
from imds_proxy.sources import Source
from imds_proxy.telemetry.stats import RenewalStats
from support.plane import credentials, role_table

MINUTE = 60.0
NOW = 1_800_000_000.0
chance = st.floats(0, 1, exclude_max=True)


@given(st.floats(SHORTEST_DURATION - 120, 36 * 3600), chance, st.none() | st.floats(1, 1e6))
def test_at_every_renewal_more_than_30_minutes_are_left(life, chance, max_age):
    """The agent keeps what it has read for 30 minutes; at half the life of an hour it would be a moment too late."""
    left = life - renewal_age(life, chance, max_age, LEFT_IN_A_FILE)
    assert left >= 30 * MINUTE + 59
    assert long_enough(life, LEFT_IN_A_FILE)


@given(st.floats(SHORTEST_DURATION, 36 * 3600), chance)
def test_the_shortest_sessions_are_not_renewed_all_the_time(life, chance):
    """AWS throttles whoever asks each second."""
    assert renewal_age(life, chance, None, LEFT_IN_A_FILE) >= 3 * MINUTE


@given(st.floats(0, LEFT_IN_A_FILE + SHORTEST_AGE, exclude_max=True), chance)
def test_sessions_that_cannot_do_it_are_renewed_as_ever(life, chance):
    """They would be asked for without end, for a file that is no better for it."""
    assert renewal_age(life, chance, None, LEFT_IN_A_FILE) == renewal_age(life, chance)


@given(st.floats(LEFT_IN_A_FILE + SHORTEST_AGE, 7 * 86400), chance)
def test_what_something_else_renews_is_asked_for_while_enough_is_left(left, chance):
    wait = wait_for_another(left, chance, least=LEFT_IN_A_FILE, again=False)
    assert left - wait >= 30 * MINUTE
    assert wait >= SHORTEST_AGE * 5 / 6


@pytest.mark.parametrize("minutes", [31, 29, 20])
def test_what_something_else_should_have_renewed_is_asked_for_each_minute(minutes):
    assert wait_for_another(minutes * MINUTE, 0.0, least=LEFT_IN_A_FILE, again=True) == SHORTEST_AGE


class Endless(Source):
    """Each session is a new one, of a life; AWS's clock and the time an answer takes are the wall's."""

    def __init__(self, wall, life):
        self.wall, self.life, self.calls = wall, life, 0

    async def fetch(self):
        self.calls += 1
        return credentials(now=self.wall(), life=self.life, key=f"{self.calls:04}")


@pytest.mark.parametrize("life", [35 * MINUTE, 50 * MINUTE, 60 * MINUTE, 90 * MINUTE, 12 * 3600])
async def test_a_day_of_a_keeper_never_leaves_less_than_30_minutes(life):
    """Minute by minute, whoever reads gets half an hour at least."""
    now = [NOW]
    source = Endless(lambda: now[0], life)
    keeper = Keeper("deploy", clock=Clock(lambda: now[0]), stats=RenewalStats(), least=LEFT_IN_A_FILE)
    keeper._source = source
    lowest = life
    while now[0] < NOW + 86400:
        await keeper.renew()
        assert keeper.next_attempt > now[0]
        lowest = min(lowest, keeper.last.expiration - keeper.next_attempt)
        now[0] = keeper.next_attempt + 5.0  # the nap that may be overslept, and AWS's time to answer
    assert lowest - 5.0 >= 30 * MINUTE
    assert source.calls <= 86400 / (3 * MINUTE)


async def test_a_service_that_hands_out_one_session_for_a_while_is_asked_in_time():
    """Another imds-proxy, say: at half the life of what it gave, a file would hold too little."""
    source = Endless(lambda: NOW, 60 * MINUTE)
    source.passes_on = True
    keeper = Keeper("x", clock=Clock(lambda: NOW), stats=RenewalStats(), least=LEFT_IN_A_FILE, chance=lambda: 0.0)
    keeper._source = source
    await keeper.renew()
    assert keeper.next_attempt == NOW + 29 * MINUTE


def config(*, files=True, **role):
    files = [{"role": "deploy", "path": "/run/app/credentials"}] if files else []
    return parse({"roles": role_table(**role), "files": files}, "test")


async def test_a_file_that_a_reload_brings_renews_its_role_in_time_and_needs_no_new_session():
    """Until its next renewal, half an hour later, it would hold too little; and no call to AWS is needed for it."""
    calls = []

    def make(*_):
        source = Endless(lambda: NOW, 3600)
        calls.append(source)
        return source

    roles = Roles(Clock(lambda: NOW), RenewalStats(), lambda: None)
    await roles.stop(roles.update(config(files=False), None))
    roles["deploy"].keeper.adopt(credentials(now=NOW), due=False)
    roles.start(make)
    await asyncio.sleep(0)
    held = roles.live("deploy")
    await roles.stop(roles.update(config(), None))
    roles.start(make)
    await asyncio.sleep(0)
    assert roles.live("deploy") == held
    assert NOW + 20 * MINUTE < roles["deploy"].keeper.next_attempt <= NOW + 29 * MINUTE
    assert [source.calls for source in calls] == [0, 0]
    keeper = roles["deploy"].keeper
    await roles.stop(roles.update(config(), None))
    assert roles["deploy"].keeper is keeper
    await roles.close()
