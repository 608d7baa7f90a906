"""Panels about the fleet: how long it would live without AWS, and which hosts are dark."""

from typing import Final

from about_roles import LIFE_COLUMN, THIS_HOST
from grid import line
from panels import bars, column, graph, stat, table, text_for
from queries import HOST_LIFE, LIVING, SKEW, STATE, of_hosts, or_zero

_RUNS_OUT: Final = (("red", None), ("orange", 300), ("yellow", 900), ("green", 1800))
_DEAD: Final = (
    "A host is dead when the first of its roles has ended. Hosts that are dead already, or dark, are left out; 0 s: "
    "there are no others. Healthy hosts renew at half of a session's life, an hour before its end at the latest, so "
    "the figure never falls under that half. If it does, AWS cannot be reached or denies: look at “Failed renewals”."
)

_STATES: Final = text_for({0: ("dark", "red"), 1: ("not ready", "orange"), 2: ("ready", "green")})
_UNTIL: Final = {"now": 1, "5 minutes": 300, "15 minutes": 900, "30 minutes": 1800, "1 hour": 3600, "6 hours": 21600}
_MOMENTS: Final = {"first": f"min({LIVING})", "half": f"quantile(0.5, {LIVING})", "last": f"max({LIVING})"}


def _dead_within(seconds: int) -> str:
    return or_zero(f"count({HOST_LIFE} < {seconds})")


FLEET: Final = (
    line(
        4,
        stat("First host dead in", _DEAD, or_zero(_MOMENTS["first"]), unit="s", thresholds=_RUNS_OUT),
        stat("Half of the hosts dead in", _DEAD, or_zero(_MOMENTS["half"]), unit="s", thresholds=_RUNS_OUT),
        stat("Last host dead in", _DEAD, or_zero(_MOMENTS["last"]), unit="s", thresholds=_RUNS_OUT),
        stat(
            "Hosts dead within 15 minutes",
            "Hosts of which a role ends within 15 minutes, those included of which one has. In health it counts only "
            "hosts with sessions of half an hour or less. What to do: the table of hosts has them on top.",
            _dead_within(900),
        ),
        stat(
            "Hosts dead within 30 minutes",
            "Hosts of which a role ends within 30 minutes, those included of which one has. Sessions of an hour touch "
            "it for a moment before each renewal. What to do: the table of hosts has them on top.",
            _dead_within(1800),
        ),
        widths=(4, 4, 4, 6, 6),
    ),
    line(
        8,
        bars(
            "Hosts dead, if AWS went away now",
            "How many hosts would have a role without credentials after a while without AWS; “now” are those that "
            "have one already. It says how long an outage may last, and whom to help first.",
            {text: _dead_within(seconds) for text, seconds in _UNTIL.items()},
        ),
        graph(
            "How long the fleet would live without AWS",
            "When the first, half and the last of the living hosts would be dead. In health all three go up and down "
            "evenly. All three falling together: AWS cannot be reached. The first alone: one host is stuck.",
            {f"{name} host dead": expr for name, expr in _MOMENTS.items()},
            unit="s",
        ),
        widths=(8, 16),
    ),
    line(
        9,
        table(
            "Hosts",
            "Every host that was scraped within the last day, dark ones on top. What to do about a dark one: is the "
            "host on, is the daemon (`systemctl status imds-proxy`), does `[admin]` let Prometheus in? About one that "
            "is not ready: `imds-proxy status` there.",
            {
                "State": STATE,
                "First role ends in": HOST_LIFE,
                "Clock off by": f"max by (job, instance) ({SKEW})",
                "Running for": f"time() - max by (job, instance) ({of_hosts('process_start_time_seconds')})",
            },
            labels=("job", "instance"),
            columns={
                "State": column("none", thresholds=(("red", None),), mappings=[_STATES]),
                "First role ends in": LIFE_COLUMN,
                "Instance": THIS_HOST,
            },
            sort=("State", False),
        ),
        graph(
            "Hosts by state",
            "How many hosts are ready, not ready and dark. What to do: the table beside it names them.",
            {
                "ready": or_zero(f"count({STATE} == 2)"),
                "not ready": or_zero(f"count({STATE} == 1)"),
                "dark": or_zero(f"count({STATE} == 0)"),
            },
            unit="short",
        ),
        widths=(16, 8),
    ),
)
