"""Log lines and metrics (telemetry/)."""

import io
import json
import logging

import pytest
from prometheus_client.parser import text_string_to_metric_families

from imds_proxy.host.clock import Clock
from imds_proxy.telemetry import log
from imds_proxy.telemetry.measured import Measured
from imds_proxy.telemetry.metrics import Metrics
from imds_proxy.telemetry.stats import (
    CertificateStats,
    ReloadStats,
    RenewalStats,
    RequestStats,
    RoleFigures,
    SessionTimes,
)

DAY = 86400
ARN = "arn:aws:iam::123456789012:role/Deploy"


@pytest.fixture
def logged():
    """Configure logging into a string; what was there before comes back."""
    root, ours = logging.getLogger(), logging.getLogger("imds_proxy")
    handlers, level, our_level = root.handlers[:], root.level, ours.level
    stream = io.StringIO()

    def start(style):
        root.handlers = []
        log.configure("DEBUG", style, stream)
        return stream

    yield start
    root.handlers, root.level = handlers, level
    ours.setLevel(our_level)


def test_an_event_is_one_json_object_on_one_line(logged):
    stream = logged("json")
    logging.getLogger("imds_proxy.x").info("credentials renewed", extra={"role": "deploy", "error": "a\nb"})
    event = json.loads(stream.getvalue())
    assert event["event"] == "credentials renewed"
    assert (event["level"], event["role"], event["error"]) == ("info", "deploy", "a\nb")
    assert stream.getvalue().count("\n") == 1


def test_an_event_is_one_line_of_text(logged):
    """A message that AWS or a client chose must not look like a second event."""
    stream = logged("text")
    logging.getLogger("imds_proxy.x").info("renewal failed", extra={"error": 'x"\n12:00:00 INFO forged'})
    assert stream.getvalue().count("\n") == 1
    assert 'error="x\\"\\n12:00:00 INFO forged"' in stream.getvalue()


def test_what_is_no_terminal_gets_json(logged):
    stream = logged("auto")
    logging.getLogger("imds_proxy").info("x")
    assert json.loads(stream.getvalue())["event"] == "x"


@pytest.mark.parametrize("library", ["botocore.parsers", "aiobotocore", "urllib3", "aiohttp.access"])
def test_libraries_do_not_log_below_warning_even_at_debug(logged, library):
    """At DEBUG botocore logs STS answers with the secrets in them."""
    stream = logged("json")
    logging.getLogger(library).debug("Response body: SecretAccessKey")
    logging.getLogger(library).warning("careful")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["careful"]


@pytest.fixture
def exposed():
    """Metrics with something in them, as samples by name and labels."""
    requests, renewals, reloads, clock = RequestStats(), RenewalStats(), ReloadStats(), Clock()
    roles = {
        "deploy": RoleFigures("assume-role", ARN, [SessionTimes(1_800_001_800, 1_800_000_000, 1_800_003_600)]),
        "other": RoleFigures("process", "", [SessionTimes(1_800_000_000)]),
    }
    listeners = {"127.0.0.1:1338": "127.0.0.1:1338", "systemd:imds": None}
    measured = Measured(clock, requests, renewals, reloads, lambda: roles, lambda: False, lambda: listeners)
    metrics = Metrics(measured)
    requests.record("imds_v2", "credentials", 200, 0.00002)
    requests.record("imds_v2", "credentials", 0, 0.3)
    renewals.record("deploy", "success", 0.2, at=1_800_000_000)
    reloads.failed("no such key")
    clock.observe(clock.wall() + 7)
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {(s.name, *sorted(s.labels.values())): s.value for family in families for s in family.samples}


def test_the_metrics_of_the_contract(exposed):
    """A dashboard is built on these names."""
    prefix = "imds_proxy_"
    assert exposed[prefix + "credential_expiration_timestamp_seconds", "deploy"] == 1_800_003_600
    assert exposed[prefix + "credential_renewed_timestamp_seconds", "deploy"] == 1_800_000_000
    assert exposed[prefix + "renewals_total", "deploy", "success"] == 1
    assert exposed[prefix + "credential_renewal_due_timestamp_seconds", "deploy"] == 1_800_001_800
    assert exposed[prefix + "role_info", ARN, "assume-role", "deploy"] == 1
    assert exposed[prefix + "ready",] == 0
    assert exposed[prefix + "listener_up", "127.0.0.1:1338"] == 1
    assert exposed[prefix + "listener_up", "systemd:imds"] == 0
    assert exposed[prefix + "renewal_duration_seconds_count",] == 1
    assert exposed[prefix + "requests_total", "200", "credentials", "imds_v2"] == 1
    assert exposed[prefix + "requests_total", "closed", "credentials", "imds_v2"] == 1
    assert exposed[prefix + "request_duration_seconds_count",] == 2
    assert exposed[prefix + "request_duration_seconds_bucket", "2.5e-05"] == 1
    assert exposed[prefix + "clock_skew_seconds",] == pytest.approx(7, abs=1)
    assert exposed[prefix + "config_reloads_total", "failure"] == 1
    assert exposed[prefix + "config_reloads_total", "success"] == 0
    assert exposed[prefix + "config_last_reload_successful",] == 0
    assert any(key[0] == prefix + "build_info" for key in exposed)
    assert any(key[0] == "process_resident_memory_bytes" for key in exposed)


def test_a_role_shows_every_series_from_the_start(exposed):
    """A series that appears with the first failure cannot raise an alert on it."""
    assert exposed["imds_proxy_credential_expiration_timestamp_seconds", "other"] == 0
    assert exposed["imds_proxy_credential_renewal_due_timestamp_seconds", "other"] == 1_800_000_000
    for outcome in ("success", "denied", "throttled", "unreachable", "invalid"):
        assert exposed["imds_proxy_renewals_total", *sorted((outcome, "other"))] == 0


@pytest.mark.parametrize(
    ("life", "left", "late"),
    [
        (3600, 901, False),  # an hour: the last quarter
        (3600, 899, True),
        (365 * DAY, 7 * DAY + 1, False),  # a year: the last week
        (365 * DAY, 7 * DAY - 1, True),
        (3600, -1, True),
    ],
)
def test_a_certificate_is_late_by_its_own_life(life, left, late):
    """One of an hour would always be in its last week, and somebody would look at it every day."""
    now = 1_800_000_000
    assert CertificateStats(now + left, issued=now + left - life).is_late(now) is late
    assert not CertificateStats().is_late(now)
