"""The Prometheus metrics. Names and labels are a contract (ARCHITECTURE.md)."""

import platform
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from imds_proxy import __version__
from imds_proxy.clock import Clock
from imds_proxy.credentials import Credentials
from imds_proxy.telemetry.stats import CertificateStats, Distribution, RenewalStats, RequestStats

_OUTCOMES = ("success", "denied", "throttled", "unreachable", "invalid")
_PREFIX = "imds_proxy_"

_AT_ONCE = 20
"""Roles, or files, in one piece."""

Sessions = Mapping[str, Sequence[Credentials | None]]
Held = Callable[[], Sessions]
"""The roles that somebody may have, each with the last credentials of every session that is kept now."""
Certificates = Callable[[], Mapping[str, CertificateStats]]
"""Those of the roles that have one."""


class Metrics:
    """Every metric of one daemon, in a registry of its own."""

    def __init__(
        self, requests: RequestStats, renewals: RenewalStats, held: Held, certificates: Certificates, clock: Clock
    ) -> None:
        self._of_requests = _RequestCollector(requests)
        self._of_roles = _RoleCollector(renewals, held, clock)
        self._of_certificates = _CertificateCollector(certificates)
        self._of_base_key = _BaseKeyCollector(renewals)
        self._of_files = _FileCollector(renewals)
        self._of_process = ProcessCollector(registry=None)

    def pieces(self, roles: Collection[str] | None = None) -> Iterator[Metric]:
        """Every family, in pieces that take a millisecond or two: some with the name of the one before, to go on it.

        Args:
            roles: Those that are seen, and then nothing of the base key or of files; None: everything.
        """
        yield from self._of_requests.pieces()
        yield from self._of_roles.pieces(roles)
        yield from self._of_certificates.pieces(roles)
        if roles is None:
            yield from self._of_base_key.pieces()
            yield from self._of_files.pieces()
        yield from self._of_process.collect()

    def exposition(self) -> bytes:
        """The text format, version 0.0.4, at once."""
        return b"".join(rendered(self.pieces()))


def rendered(pieces: Iterable[Metric]) -> Iterator[bytes]:
    """The text of each piece; together they are what `generate_latest` makes of the whole families."""
    before = ""
    for piece in pieces:
        text = generate_latest(_Only(piece))
        if piece.name == before:  # HELP and TYPE stand there already
            text = text.split(b"\n", 2)[2]
        before = piece.name
        yield text


class _Only(Collector):
    """A registry of one family."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        """It."""
        return (self._family,)


def _chunks(names: Iterable[str]) -> Iterator[list[str]]:
    """The names, some at a time; where there are none, one chunk of none: the family is there all the same."""
    left = list(names)
    for first in range(0, max(len(left), 1), _AT_ONCE):
        yield left[first : first + _AT_ONCE]


class _RequestCollector:
    """The data plane, and the build."""

    def __init__(self, stats: RequestStats) -> None:
        self._stats = stats

    def pieces(self) -> Iterator[Metric]:
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


class _RoleCollector:
    """Credentials and their renewal.

    Every role that somebody may have shows every series from the start, at zero: a counter that appears with its first
    failure, or an expiration that is missing, cannot raise an alert. Only where nothing is kept because nobody asks for
    it, there is nothing that could expire. Of several sessions the one counts that ends first.
    """

    def __init__(self, stats: RenewalStats, held: Held, clock: Clock) -> None:
        self._stats = stats
        self._held = held
        self._clock = clock

    def pieces(self, roles: Collection[str] | None) -> Iterator[Metric]:
        held = {role: sessions for role, sessions in self._held().items() if roles is None or role in roles}
        yield from (self._expiration(chunk, held) for chunk in _chunks(held))
        yield from (self._renewed(chunk, held) for chunk in _chunks(held))
        yield from (self._renewals(chunk) for chunk in _chunks(held))
        yield from (self._durations(chunk) for chunk in _chunks(held))
        reloads = CounterMetricFamily(f"{_PREFIX}config_reloads", "Reloads of the config file", labels=("outcome",))
        for outcome in ("success", "failure"):
            reloads.add_metric((outcome,), self._stats.reloads[outcome])
        yield reloads
        skew = "AWS's clock less this host's; positive: this host is behind"
        yield GaugeMetricFamily(f"{_PREFIX}clock_skew_seconds", skew, self._clock.skew)

    @staticmethod
    def _expiration(names: list[str], held: Sessions) -> Metric:
        name = f"{_PREFIX}credential_expiration_timestamp_seconds"
        family = GaugeMetricFamily(name, "When the held credentials expire; 0: none were ever held", labels=("role",))
        for role in names:
            if held[role]:
                family.add_metric((role,), min(session.expiration if session else 0 for session in held[role]))
        return family

    @staticmethod
    def _renewed(names: list[str], held: Sessions) -> Metric:
        name = f"{_PREFIX}credential_renewed_timestamp_seconds"
        family = GaugeMetricFamily(name, "When credentials were last obtained; 0: never", labels=("role",))
        for role in names:
            if held[role]:
                family.add_metric((role,), min(session.obtained if session else 0 for session in held[role]))
        return family

    def _renewals(self, names: list[str]) -> Metric:
        labels = ("role", "outcome")
        family = CounterMetricFamily(f"{_PREFIX}renewals", "Attempts to obtain credentials", labels=labels)
        for role in names:
            for outcome in _OUTCOMES:
                family.add_metric((role, outcome), self._stats.outcomes[role, outcome])
        return family

    def _durations(self, names: list[str]) -> Metric:
        name, text = f"{_PREFIX}renewal_duration_seconds", "Time to obtain credentials or to fail"
        family = HistogramMetricFamily(name, text, labels=("role",))
        for role in names:
            _add(family, (role,), self._stats.durations[role])
        return family


class _CertificateCollector:
    """The certificates of the roles that have one."""

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates

    def pieces(self, roles: Collection[str] | None) -> Iterator[Metric]:
        found = {role: it for role, it in self._certificates().items() if roles is None or role in roles}
        name = f"{_PREFIX}certificate_expiration_timestamp_seconds"
        for chunk in _chunks(found):
            expiration = GaugeMetricFamily(name, "When the certificate in use expires; 0: none", labels=("role",))
            for role in chunk:
                expiration.add_metric((role,), found[role].expiration)
            yield expiration
        name = f"{_PREFIX}certificate_refusals"
        for chunk in _chunks(found):
            refusals = CounterMetricFamily(name, "Certificate files that could not be used", labels=("role",))
            for role in chunk:
                refusals.add_metric((role,), found[role].refused)
            yield refusals


class _BaseKeyCollector:
    """The host's own key, where it rotates itself."""

    def __init__(self, stats: RenewalStats) -> None:
        self._stats = stats

    def pieces(self) -> Iterator[Metric]:
        if (stats := self._stats.base_key) is None:
            return
        name = f"{_PREFIX}base_key_created_timestamp_seconds"
        yield GaugeMetricFamily(name, "When AWS made the base key in use; 0: not known yet", stats.created)
        name, text = f"{_PREFIX}base_key_rotations", "Rotations of the base key, and runs that failed"
        rotations = CounterMetricFamily(name, text, labels=("outcome",))
        for outcome in _OUTCOMES:
            rotations.add_metric((outcome,), stats.outcomes[outcome])
        yield rotations


class _FileCollector:
    """The files that are kept fresh; every one shows both series from the start."""

    def __init__(self, stats: RenewalStats) -> None:
        self._stats = stats

    def pieces(self) -> Iterator[Metric]:
        files = dict(self._stats.files)
        name, text = f"{_PREFIX}file_written_timestamp_seconds", "When the file was last written; 0: not yet"
        for chunk in _chunks(files):
            written = GaugeMetricFamily(name, text, labels=("path",))
            for path in chunk:
                written.add_metric((path,), files[path].written)
            yield written
        name, text = f"{_PREFIX}file_write_failures", "Times that the file could not be written; what is there is whole"
        for chunk in _chunks(files):
            failures = CounterMetricFamily(name, text, labels=("path",))
            for path in chunk:
                failures.add_metric((path,), files[path].failures)
            yield failures


def _add(family: HistogramMetricFamily, labels: tuple[str, ...], distribution: Distribution) -> None:
    buckets, seen = [], 0
    for bound, count in zip((*distribution.bounds, "+Inf"), distribution.counts, strict=True):
        seen += count
        buckets.append((str(bound), seen))
    family.add_metric(labels, buckets, distribution.sum)
