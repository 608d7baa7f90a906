"""The table of metrics in grafana/README.md says what the daemon exposes."""

from prometheus_client.parser import text_string_to_metric_families

from imds_proxy.host.clock import Clock
from imds_proxy.telemetry.measured import Measured
from imds_proxy.telemetry.metrics import Metrics
from imds_proxy.telemetry.stats import (
    BaseKeyStats,
    CertificateStats,
    FileStats,
    RenewalStats,
    RequestStats,
    RoleFigures,
    SessionTimes,
)
from support.metrics_table import label_values, metrics

TIMESTAMP = "seconds since 1970"


def exposed():
    """The text of a daemon that has everything there can be."""
    requests, renewals = RequestStats(), RenewalStats()
    requests.record("imds_v2", "credentials", 200, 0.00002)
    renewals.files["/run/file"] = FileStats(1.0, 0)
    renewals.base_key = BaseKeyStats()
    roles = {"deploy": RoleFigures("roles-anywhere", "arn", [SessionTimes(1.0)], CertificateStats())}
    listeners = {"127.0.0.1:1338": None}
    measured = Measured(Clock(), requests, renewals, roles=lambda: roles, listeners=lambda: listeners)
    return Metrics(measured).exposition().decode()


def types(text):
    lines = [line.split() for line in text.splitlines() if line.startswith("# TYPE imds_proxy_")]
    return {name: kind for _, _, name, kind in lines}


def labels(text):
    """The labels of each metric's samples."""
    return {
        next(name for name in (sample.name, family.name) if name in types(text)): set(sample.labels) - {"le"}
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("imds_proxy_")
    }


def test_it_has_every_metric_and_no_other():
    """A dashboard would be made of a name that is not there."""
    assert [row.name for row in metrics()] == list(dict.fromkeys(row.name for row in metrics()))
    assert {row.name: row.kind for row in metrics()} == types(exposed())


def test_it_has_their_labels():
    """A query that matches on a label that is not there finds nothing, and says nothing."""
    assert {row.name: set(row.labels) for row in metrics()} == labels(exposed())


def test_it_says_the_unit():
    """A time would be taken for an age."""
    for row in metrics():
        if row.name.endswith("_timestamp_seconds"):
            assert row.unit == TIMESTAMP
        elif row.name.endswith("_seconds"):
            assert row.unit == "seconds"
        elif row.name.endswith("_info"):
            assert row.unit == "1"
        else:
            assert row.unit
            assert "second" not in row.unit


def test_each_is_explained_by_a_query_of_its_own():
    """An example of another metric helps nobody."""
    for row in metrics():
        assert row.meaning
        assert row.name in row.query
        assert "imds_proxy_" not in row.query.replace(row.name, "") or "group_left" in row.query


def test_the_labels_that_are_not_the_configs_have_their_values_told():
    """Nobody could write a matcher without a look at the code."""
    of_the_config = {"role", "role_arn", "source", "address", "path", "version", "python"}
    wanted = {(row.name, label) for row in metrics() for label in row.labels if label not in of_the_config}
    assert set(label_values()) == wanted
    families = text_string_to_metric_families(exposed())
    for sample in (sample for family in families for sample in family.samples):
        for label, value in sample.labels.items():
            assert value in label_values().get((sample.name, label), {value})
