"""The attempts of the last day (telemetry/history.py)."""

from imds_proxy.telemetry.history import DAY, MOST_SPANS, History, Span

START = 1_800_000_000.0


def history(*attempts):
    made = History()
    for at, outcome in attempts:
        made.add(START + at, outcome)
    return made


def spans(made, since=0.0):
    return [(span.first - START, span.last - START, span.outcome, span.count) for span in made.since(since)]


def test_a_night_of_denials_is_one_entry():
    """A thousand lines would hide when it began."""
    denied = [(60.0 * number, "denied") for number in range(600)]
    assert spans(history((-1800, "success"), *denied, (36000, "success"))) == [
        (-1800, -1800, "success", 1),
        (0, 35940, "denied", 600),
        (36000, 36000, "success", 1),
    ]


def test_renewals_that_are_far_apart_stay_apart():
    assert len(spans(history((0, "success"), (1800, "success"), (3600, "success")))) == 3


def test_what_is_older_than_a_day_is_not_kept_nor_shown():
    made = history((0, "success"), (DAY + 1, "success"))
    assert spans(made) == [(DAY + 1, DAY + 1, "success", 1)]
    assert list(made.since(START + DAY + 2)) == []


def test_its_size_is_fixed_whatever_happens():
    """A thousand roles that flap must not fill the memory."""
    made = history(*((60.0 * number, ("success", "unreachable")[number % 2]) for number in range(5000)))
    assert len(spans(made)) == MOST_SPANS


def test_a_clock_that_is_set_back_joins_nothing():
    made = history((100, "success"), (0, "success"))
    assert list(made.since(0)) == [Span(START + 100, START + 100, "success"), Span(START, START, "success")]
