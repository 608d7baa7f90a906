"""A daemon's exposition with everything in it that one can have."""

from collections.abc import Iterable

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from imds_proxy.host.clock import Clock
from imds_proxy.metadata import routes
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

ROLE = "arn:aws:iam::123456789012:role/Deploy"
_DOCUMENTS = [value for name, value in vars(routes).items() if name.isupper() and isinstance(value, str)]
_STATUSES = (200, 400, 401, 403, 404, 405, 503, 0)


def samples() -> Iterable[Sample]:
    """Each series once, as Prometheus would see it."""
    requests, renewals = RequestStats(), RenewalStats()
    for protocol in ("imds_v1", "imds_v2", "container"):
        for document in _DOCUMENTS:
            for status in _STATUSES:
                requests.record(protocol, document, status, 0.00002)
    renewals.base_key = BaseKeyStats()
    renewals.files["/etc/credentials"] = FileStats()
    role = RoleFigures(
        "roles-anywhere", "arn:aws:iam::123456789012:role/Deploy", [SessionTimes(1.0)], CertificateStats()
    )
    listeners = {"127.0.0.1:1338": "127.0.0.1:1338"}
    measured = Measured(Clock(), requests, renewals, roles=lambda: {"deploy": role}, listeners=lambda: listeners)
    families = text_string_to_metric_families(Metrics(measured).exposition().decode())
    return [sample for family in families for sample in family.samples]
