"""What the dashboard says of a fleet, from synthetic series, by `promtool test rules`."""

import json
import subprocess

import pytest

from support import dashboard

MINUTES = 2 * 1440
NOW = MINUTES * 60
AN_HOUR_AGO = MINUTES - 60
ROLE = {"role": "deploy"}
END = "imds_proxy_credential_expiration_timestamp_seconds"
DUE = "imds_proxy_credential_renewal_due_timestamp_seconds"


def series(metric: str, host: str, value: float, *, grows: float = 0, until: int = MINUTES, job="imds-proxy", **labels):
    """Scraped once a minute from the time 0 on; stale after `until` minutes."""
    text = ", ".join(f'{name}="{each}"' for name, each in {"job": job, "instance": host, **labels}.items())
    gone = " stale" if until < MINUTES else ""
    return {"series": f"{metric}{{{text}}}", "values": f"{value:.0f}+{grows}x{until}{gone}"}


def host(name: str, *, left: float | None, due: float = 0, ready: int = 1, up: int | None = 1, until: int = MINUTES):
    """A host with one role; `left` and `due` in seconds from now, `left` None: it never had credentials."""
    found = [
        series("imds_proxy_ready", name, ready, until=until),
        series(END, name, 0 if left is None else NOW + left, until=until, **ROLE),
        series(DUE, name, NOW + due, until=until, **ROLE),
        series("imds_proxy_role_info", name, 1, until=until, source="process", role_arn="", **ROLE),
    ]
    return found + ([] if up is None else [series("up", name, up)])


FAILURES = "imds_proxy_file_write_failures_total"
CERTIFICATE = "imds_proxy_certificate_expiration_timestamp_seconds"

HEALTHY = [
    *host("fresh", left=3000, due=1200),
    *host("soon", left=1500, due=-100),  # it is being tried again: a sixth of the 1600 s that there were is 267 s
    *host("starting", left=3500, due=1700),
    series("up", "idle", 1),
    series("imds_proxy_ready", "idle", 1),
    series(FAILURES, "fresh", 3, path="/written-again"),
    series(CERTIFICATE, "soon", NOW + 90 * 86400, **ROLE),
    series(CERTIFICATE, "starting", 2400, grows=60, **ROLE),  # one for an hour, replaced all the time
    series("up", "elsewhere", 0, job="node"),  # none of this dashboard's business
]
SICK = [
    *HEALTHY,
    *host("late", left=600, due=-1200),
    *host("ended", left=-120, due=-2000, ready=0),
    *host("never", left=None, due=-300, ready=0),
    *host("new", left=None, due=-10, ready=0),
    *host("gone", left=700, due=100, until=AN_HOUR_AGO, up=None),
    *host("down", left=-700, due=-1900, until=AN_HOUR_AGO, up=0),
    series("up", "unheard-of", 0),
    series(FAILURES, "fresh", 0, grows=1, path="/full"),
    series(CERTIFICATE, "fresh", NOW + 7200, **ROLE),
    series(CERTIFICATE, "never", 0, **ROLE),
]


@pytest.fixture
def assert_shown(tmp_path):
    """`assert_shown(series, {title: values})`: of each panel's first query; a number, {instance and reason: number}."""
    queries = {title: expr for title, ref, expr in dashboard.expressions("4m") if ref == "A"}

    def check(found, wanted):
        tests = [_expectation(queries[title], values) for title, values in wanted.items()]
        path = tmp_path / "test.yaml"
        path.write_text(json.dumps({"tests": [{"interval": "1m", "input_series": found, "promql_expr_test": tests}]}))
        done = subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    return check


def _expectation(expr: str, values: float | dict[str, float]) -> dict:
    if not isinstance(values, dict):
        return {"expr": f"max({expr})", "eval_time": f"{NOW}s", "exp_samples": [{"labels": "{}", "value": values}]}
    samples = []
    for name, value in values.items():
        instance, _, why = name.partition(": ")
        labels = f'{{instance="{instance}"' + (f', why="{why}"' if why else "") + "}"
        samples.append({"labels": labels, "value": value})
    return {"expr": f"sum by (instance, why) ({expr})", "eval_time": f"{NOW}s", "exp_samples": samples}


def test_a_bad_day_is_told_as_it_is(assert_shown):
    """Somebody would look at the wrong host, or be told that all is well."""
    assert_shown(
        SICK,
        {
            "Will anything expire before I am back?": 8,
            "What needs somebody": {
                "late: the renewal is overdue": 600,
                "ended: the renewal is overdue": -120,
                "never: the renewal is overdue": 0,
                "fresh: the certificate ends": 7200,
                "gone: the daemon is dark": 700,
                "down: the daemon is dark": 0,
                "unheard-of: the daemon is dark": 0,
                "fresh: the file cannot be written": 0,
            },
            "Roles without credentials": 3,
            "Renewals overdue": 3,
            "Hosts dark": 3,
            "Hosts not ready": 3,
            "Files that cannot be written": 1,
            "Life left of each role": {
                "fresh": 3000, "soon": 1500, "starting": 3500, "late": 600, "ended": -120, "never": 0, "new": 0,
            },
            "Shortest life of each role": -120,
            "Renewals past due": 2000,
            "First host dead in": 600,
            "Half of the hosts dead in": 2250,
            "Last host dead in": 3500,
            "Hosts dead within 15 minutes": 4,
            "Hosts dead within 30 minutes": 5,
            "Hosts dead, if AWS went away now": 3,
            "Hosts": {
                "fresh": 2, "soon": 2, "starting": 2, "late": 2, "idle": 2, "ended": 1, "never": 1, "new": 1,
                "gone": 0, "down": 0, "unheard-of": 0,
            },
            "Life left of certificates": 2400,
        },
    )  # fmt: skip


def test_a_good_day_is_told_as_one(assert_shown):
    """Whoever is told of something every day does not look on the day that it matters."""
    zeros = (
        "Will anything expire before I am back?",
        "Roles without credentials",
        "Renewals overdue",
        "Hosts dark",
        "Hosts not ready",
        "Files that cannot be written",
        "Hosts dead within 15 minutes",
        "Hosts dead, if AWS went away now",
        "Hosts with IMDSv1",
        "Requests by protocol and status",
    )
    assert_shown(HEALTHY, {"What needs somebody": {}} | dict.fromkeys(zeros, 0))


def test_a_fleet_that_is_dead_lives_for_no_time(assert_shown):
    """At the worst moment of an outage there would be no answer at all."""
    dead = host("one", left=-5, due=-1800, ready=0) + host("two", left=None, due=-1800, ready=0)
    moments = ("First host dead in", "Half of the hosts dead in", "Last host dead in")
    assert_shown(dead, {"Hosts dead within 15 minutes": 2} | dict.fromkeys(moments, 0))


def test_without_any_daemon_nothing_is_well(assert_shown):
    """With a wrong data source, or no target left, the dashboard would say No in green."""
    counts = ("Will anything expire before I am back?", "Hosts dark", "Renewals overdue", "First host dead in")
    assert_shown([series("up", "elsewhere", 1, job="node")], {count: {} for count in counts})


def test_a_restarted_daemon_counts_on(assert_shown):
    """A counter that begins again at 0 would take away what was counted before, or count it twice."""
    before = " ".join(["1"] * (MINUTES - 2))
    found = series("imds_proxy_renewals_total", "fresh", 0, outcome="denied", **ROLE) | {"values": f"{before} 0 1 2"}
    assert_shown([*HEALTHY, found], {"Failed renewals": 2})
