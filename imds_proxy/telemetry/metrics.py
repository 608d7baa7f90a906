"""The Prometheus metrics. Names and labels are a contract (ARCHITECTURE.md)."""

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from imds_proxy import __version__
from imds_proxy.clock import Clock
from imds_proxy.credentials import Credentials
from imds_proxy.telemetry.stats import CertificateStats, Distribution, RenewalStats, RequestStats

_OUTCOMES = ("success", "denied", "throttled", "unreachable", "invalid")
_PREFIX = "imds_proxy_"

Held = Callable[[], Mapping[str, Sequence[Credentials | None]]]
"""The roles that somebody may have, each with the last credentials of every session that is kept now."""
Certificates = Callable[[], Mapping[str, CertificateStats]]
"""Those of the roles that have one."""


class Metrics:
    """Every metric of one daemon, in a registry of its own."""

    def __init__(
        self, requests: RequestStats, renewals: RenewalStats, held: Held, certificates: Certificates, clock: Clock
    ) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_RequestCollector(requests))
        self._registry.register(_RoleCollector(renewals, held, clock))
        self._registry.register(_CertificateCollector(certificates))
        self._registry.register(_BaseKeyCollector(renewals))
        self._registry.register(_FileCollector(renewals))
        ProcessCollector(registry=self._registry)

    def exposition(self) -> bytes:
        """The text format, version 0.0.4."""
        return generate_latest(self._registry)


class _RequestCollector(Collector):
    """The data plane, and the build."""

    def __init__(self, stats: RequestStats) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            f"{_PREFIX}requests", "Requests answered", labels=("protocol", "document", "status")
        )
        for (protocol, document, status), count in sorted(self._stats.answers.items()):
            requests.add_metric((protocol, document, str(status) if status else "closed"), count)
        yield requests
        limited = CounterMetricFamily(
            f"{_PREFIX}requests_limited", "Requests of callers over the rate limit", labels=("protocol",)
        )
        for protocol in ("imds_v1", "imds_v2", "container"):
            limited.add_metric((protocol,), self._stats.limited[protocol])
        yield limited
        durations = HistogramMetricFamily(
            f"{_PREFIX}request_duration_seconds", "Time to make an answer, socket excluded"
        )
        _add(durations, (), self._stats.durations)
        yield durations
        yield GaugeMetricFamily(f"{_PREFIX}connections", "Open data-plane connections", self._stats.connections)
        name, text = f"{_PREFIX}audit_write_failures", "Times that the audit's file could not be written"
        yield CounterMetricFamily(name, text, self._stats.audit_write_failures)
        build = GaugeMetricFamily(f"{_PREFIX}build_info", "Version of this daemon", labels=("version", "python"))
        build.add_metric((__version__, platform.python_version()), 1)
        yield build


class _RoleCollector(Collector):
    """Credentials and their renewal.

    Every role that somebody may have shows every series from the start, at zero: a counter that appears with its first
    failure, or an expiration that is missing, cannot raise an alert. Only where nothing is kept because nobody asks for
    it, there is nothing that could expire. Of several sessions the one counts that ends first.
    """

    def __init__(self, stats: RenewalStats, held: Held, clock: Clock) -> None:
        self._stats = stats
        self._held = held
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        name = f"{_PREFIX}credential_expiration_timestamp_seconds"
        expiration = GaugeMetricFamily(
            name, "When the held credentials expire; 0: none were ever held", labels=("role",)
        )
        name = f"{_PREFIX}credential_renewed_timestamp_seconds"
        renewed = GaugeMetricFamily(name, "When credentials were last obtained; 0: never", labels=("role",))
        renewals = CounterMetricFamily(
            f"{_PREFIX}renewals", "Attempts to obtain credentials", labels=("role", "outcome")
        )
        durations = HistogramMetricFamily(
            f"{_PREFIX}renewal_duration_seconds", "Time to obtain credentials or to fail", labels=("role",)
        )
        for role, held in self._held().items():
            if held:
                expiration.add_metric((role,), min(session.expiration if session else 0 for session in held))
                renewed.add_metric((role,), min(session.obtained if session else 0 for session in held))
            for outcome in _OUTCOMES:
                renewals.add_metric((role, outcome), self._stats.outcomes[role, outcome])
            _add(durations, (role,), self._stats.durations[role])
        yield from (expiration, renewed, renewals, durations)
        reloads = CounterMetricFamily(f"{_PREFIX}config_reloads", "Reloads of the config file", labels=("outcome",))
        for outcome in ("success", "failure"):
            reloads.add_metric((outcome,), self._stats.reloads[outcome])
        yield reloads
        skew = "AWS's clock less this host's; positive: this host is behind"
        yield GaugeMetricFamily(f"{_PREFIX}clock_skew_seconds", skew, self._clock.skew)


class _CertificateCollector(Collector):
    """The certificates of the roles that have one."""

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates

    def collect(self) -> Iterator[Metric]:
        name = f"{_PREFIX}certificate_expiration_timestamp_seconds"
        expiration = GaugeMetricFamily(name, "When the certificate in use expires; 0: none", labels=("role",))
        name = f"{_PREFIX}certificate_refusals"
        refusals = CounterMetricFamily(name, "Certificate files that could not be used", labels=("role",))
        for role, certificate in self._certificates().items():
            expiration.add_metric((role,), certificate.expiration)
            refusals.add_metric((role,), certificate.refused)
        yield from (expiration, refusals)


class _BaseKeyCollector(Collector):
    """The host's own key, where it rotates itself."""

    def __init__(self, stats: RenewalStats) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        if (stats := self._stats.base_key) is None:
            return
        name = f"{_PREFIX}base_key_created_timestamp_seconds"
        yield GaugeMetricFamily(name, "When AWS made the base key in use; 0: not known yet", stats.created)
        name, text = f"{_PREFIX}base_key_rotations", "Rotations of the base key, and runs that failed"
        rotations = CounterMetricFamily(name, text, labels=("outcome",))
        for outcome in _OUTCOMES:
            rotations.add_metric((outcome,), stats.outcomes[outcome])
        yield rotations


class _FileCollector(Collector):
    """The files that are kept fresh; every one shows both series from the start."""

    def __init__(self, stats: RenewalStats) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        name, text = f"{_PREFIX}file_written_timestamp_seconds", "When the file was last written; 0: not yet"
        written = GaugeMetricFamily(name, text, labels=("path",))
        name, text = f"{_PREFIX}file_write_failures", "Times that the file could not be written; what is there is whole"
        failures = CounterMetricFamily(name, text, labels=("path",))
        for path, stats in self._stats.files.items():
            written.add_metric((path,), stats.written)
            failures.add_metric((path,), stats.failures)
        yield from (written, failures)


def _add(family: HistogramMetricFamily, labels: tuple[str, ...], distribution: Distribution) -> None:
    buckets, seen = [], 0
    for bound, count in zip((*distribution.bounds, "+Inf"), distribution.counts, strict=True):
        seen += count
        buckets.append((str(bound), seen))
    family.add_metric(labels, buckets, distribution.sum)
