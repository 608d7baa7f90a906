"""This host's time and AWS's (clock.py, aws_time.py, clock_watch.py)."""

import asyncio
from email.utils import formatdate

import pytest

from imds_proxy.host.clock import Clock
from support.on_demand import HOUR, in_virtual_time

NOW = 1_800_000_000.0
ONE, OTHER = "https://sts.eu-west-1.amazonaws.com", "https://sts.eu-central-1.amazonaws.com"


class Machine:
    """Its clocks, by hand."""

    def __init__(self):
        self.wall, self.boot = NOW, 1000.0
        self.clock = Clock(lambda: self.wall, lambda: self.boot)

    @property
    def now(self):
        """After the start."""
        return round(self.clock.now() - NOW)

    def passes(self, seconds):
        self.wall += seconds
        self.boot += seconds

    def says(self, endpoint, at, *, refused=False):
        """An endpoint says that it is so many seconds after the start of the test."""
        self.clock.observe_date(formatdate(NOW + at, usegmt=True), endpoint, refused=refused)


@pytest.fixture
def machine():
    return Machine()


# One anchor


def test_a_wall_clock_that_is_set_back_changes_nothing(machine):
    """Credentials that are dead at AWS would be served for two more hours."""
    machine.says(ONE, 0)
    machine.passes(600)
    machine.wall -= 2 * HOUR
    assert machine.now == 600
    assert machine.clock.skew == 2 * HOUR


def test_a_clock_that_was_behind_and_is_set_right_has_awss_time(machine):
    """The skew of before on top of the right time would make live credentials look dead."""
    machine.says(ONE, 240)
    machine.passes(60)
    assert (machine.now, machine.clock.skew) == (300, 240)
    machine.wall += 240
    assert (machine.now, machine.clock.skew) == (300, 0)


def test_the_later_of_both_counts(machine):
    machine.says(ONE, 0)
    machine.wall += HOUR
    assert machine.now == HOUR
    assert machine.clock.skew == -HOUR


def test_awss_time_goes_on_while_the_machine_is_suspended(machine):
    machine.says(ONE, 240)
    machine.passes(8 * HOUR)
    assert machine.now == 8 * HOUR + 240


def test_skew_under_the_headers_resolution_is_none(machine):
    machine.clock.observe(NOW + 1)
    assert machine.clock.skew == 0
    machine.clock.observe(NOW + 600)
    assert machine.clock.skew == 600


def test_a_time_before_is_reckoned_by_what_is_known_now(machine):
    """When a request was sent, that an answer has shown the time of."""
    sent = machine.clock.boot()
    machine.passes(3)
    machine.says(ONE, HOUR, refused=True)
    assert machine.clock.then(sent) == NOW + HOUR - 3


# A time far from what was expected


def test_one_answer_with_a_date_ten_hours_ahead_is_not_believed(machine):
    """Every role would be without credentials at once, for as long as AWS is away."""
    machine.says(ONE, 0)
    machine.passes(60)
    machine.says(ONE, 10 * HOUR)
    assert (machine.now, machine.clock.skew) == (60, 0)


def test_nor_is_it_if_it_is_the_first(machine):
    machine.says(ONE, -10 * HOUR)
    machine.says(ONE, 10 * HOUR)
    assert (machine.now, machine.clock.skew) == (0, 0)


def test_what_an_accepted_signature_allows_is_no_jump(machine):
    machine.says(ONE, 890)
    assert machine.now == 890


def test_a_signature_that_was_refused_for_its_time_is_believed(machine):
    machine.says(ONE, 10 * HOUR, refused=True)
    assert machine.now == 10 * HOUR


def test_two_endpoints_that_agree_are_believed(machine):
    machine.says(ONE, 10 * HOUR)
    machine.passes(5)
    machine.says(OTHER, 10 * HOUR + 7)
    assert machine.now == 10 * HOUR + 7


def test_two_that_do_not_agree_are_not(machine):
    machine.says(ONE, 10 * HOUR)
    machine.says(OTHER, -10 * HOUR)
    assert machine.now == 0


@pytest.mark.parametrize(("gap", "is_believed"), [(29, False), (30, True), (6 * HOUR, True)])
def test_one_endpoint_is_believed_the_second_time_if_it_is_half_a_minute_later(machine, gap, is_believed):
    machine.says(ONE, 10 * HOUR)
    machine.passes(gap)
    machine.says(ONE, 10 * HOUR + gap)
    assert machine.now == gap + 10 * HOUR * is_believed


def test_half_a_minute_counts_from_the_first_time_and_not_from_the_last(machine):
    """A role that is asked for every few seconds would never learn the time."""
    for step in range(7):
        machine.says(ONE, 10 * HOUR + step * 5)
        machine.passes(5)
    assert machine.now == 10 * HOUR + 35


def test_twice_another_time_is_not_twice_the_same(machine):
    machine.says(ONE, 10 * HOUR)
    machine.passes(40)
    machine.says(ONE, 20 * HOUR)
    assert machine.now == 40


def test_one_that_another_contradicts_meanwhile_is_not_believed(machine):
    """One endpoint with a wrong clock, beside one that is right."""
    for minutes in range(0, 600, 30):
        machine.says(ONE, 10 * HOUR + minutes * 60)
        machine.passes(900)
        machine.says(OTHER, minutes * 60 + 900)
        machine.passes(900)
        assert machine.now == minutes * 60 + 1800


def test_what_was_said_long_ago_is_forgotten(machine):
    machine.says(ONE, 10 * HOUR)
    machine.passes(25 * HOUR)
    machine.says(OTHER, 35 * HOUR)
    assert machine.now == 25 * HOUR


def test_what_is_kept_of_endpoints_is_bounded(machine):
    for number in range(1000):
        machine.says(f"https://{number}", -1000 * number)
    assert len(machine.clock._aws._said) <= 32


def test_after_a_wrong_time_was_believed_the_wall_clock_and_one_endpoint_are_enough(machine):
    """A role would be without credentials until two more answers, for a clock that has been right all the time."""
    machine.says(ONE, 10 * HOUR, refused=True)
    machine.passes(60)
    machine.says(ONE, 60)
    assert machine.now == 60


@pytest.mark.parametrize("header", [None, "", "yesterday", 5, "Sat, 99 Foo 2026 00:00:00 GMT", "1 Jan 99999 00:00 GMT"])
def test_what_is_no_date_changes_nothing(machine, header):
    machine.clock.observe_date(header, ONE)
    assert (machine.now, machine.clock.skew, machine.clock.skew_by(header)) == (0, 0, 0)


# Waiting


class Virtual(Machine):
    """On a loop of virtual time, which stands still while the machine is suspended."""

    def __init__(self):
        super().__init__()
        self._loop, self._suspended, self.off = asyncio.get_running_loop(), 0.0, 0.0
        self._began = self._loop.time()
        self.clock = Clock(lambda: NOW + self.elapsed + self.off, lambda: self.elapsed)

    @property
    def elapsed(self):
        return self._loop.time() - self._began + self._suspended

    def suspend(self, seconds):
        self._suspended += seconds

    def sleep(self, seconds):
        return asyncio.create_task(self.clock.sleep_until(self.clock.now() + seconds))


@in_virtual_time
async def test_who_slept_through_a_suspend_wakes_within_seconds():
    machine = Virtual()
    sleeping = [machine.sleep(1800) for _ in range(100)]
    await asyncio.sleep(60)
    assert not any(task.done() for task in sleeping)
    machine.suspend(HOUR)
    await asyncio.wait_for(asyncio.gather(*sleeping), 6)


@pytest.mark.parametrize("off", [-3 * 86400.0, -60.0, 60.0, 3 * 86400.0])
@in_virtual_time
async def test_whatever_waits_looks_again_when_the_clock_is_set(off):
    """What failed because of it would wait for its backoff: up to five minutes after an operator has set it right."""
    machine = Virtual()
    sleeping = machine.sleep(1800)
    await asyncio.sleep(60)
    machine.off += off
    await asyncio.wait_for(sleeping, 6)
    assert machine.clock.jumps() == 1


@in_virtual_time
async def test_a_clock_that_is_slewed_is_not_one_that_is_set():
    """chrony moves a clock by eight percent at most, for hours."""
    machine = Virtual()
    sleeping = machine.sleep(3000)
    while machine.elapsed < 2000:
        await asyncio.sleep(1)
        machine.off += 0.08
    assert not sleeping.done()
    await asyncio.sleep(3000 - machine.elapsed - 160 + 2)
    assert sleeping.done()


@in_virtual_time
async def test_a_clock_that_is_set_all_the_time_wakes_nobody_all_the_time():
    """Two programs that both set it: each role would call AWS every five seconds, for ever."""
    machine = Virtual()
    woken = 0
    while machine.elapsed < 6 * HOUR:
        sleeping = machine.sleep(86400)
        while not sleeping.done() and machine.elapsed < 6 * HOUR:
            await asyncio.sleep(7)
            machine.off = 100.0 - machine.off
        woken += sleeping.done()
        sleeping.cancel()
    assert 20 <= woken <= 60


@in_virtual_time
async def test_a_wall_clock_set_back_does_not_make_a_wait_longer():
    machine = Virtual()
    alarm = machine.clock.alarm(machine.clock.now() + 100)
    machine.off -= 86400
    assert machine.clock.left(alarm) == 100
    await machine.clock.sleep(alarm, machine.clock.jumps() + 1)  # whatever was counted before
    assert machine.elapsed <= 101


@in_virtual_time
async def test_a_thousand_who_sleep_share_one_timer():
    """A thousand roles would wake two hundred times a second."""
    machine, looked = Virtual(), []
    wall = machine.clock._watch._wall
    machine.clock._watch._wall = lambda: looked.append(machine.elapsed) or wall()
    sleeping = [machine.sleep(HOUR) for _ in range(1000)]
    await asyncio.gather(*sleeping)
    assert len(looked) < 4 * HOUR / 5
