"""The Prometheus metrics. Names and labels are a contract (ARCHITECTURE.md)."""

import platform
from collections.abc import Collection, Iterable, Iterator, Mapping

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from imds_proxy import __version__
from imds_proxy.telemetry.measured import Measured
from imds_proxy.telemetry.stats import Distribution, RenewalStats, RequestStats, RoleFigures

_OUTCOMES = ("success", "denied", "throttled", "unreachable", "invalid")
_PREFIX = "imds_proxy_"

_AT_ONCE = 20
"""Roles, or files, in one piece."""
_DECIMALS = 3
"""Of a time: what a clock says beyond milliseconds would only make the text longer."""

Figures = Mapping[str, RoleFigures]
"""By role."""


class Metrics:
    """Every metric of one daemon."""

    def __init__(self, measured: Measured) -> None:
        self._measured = measured
        self._of_requests = _RequestCollector(measured.requests)
        self._of_daemon = _DaemonCollector(measured)
        self._of_renewals = _RenewalCollector(measured.renewals)
        self._of_base_key = _BaseKeyCollector(measured.renewals)
        self._of_files = _FileCollector(measured.renewals)
        self._of_process = ProcessCollector(registry=None)

    def pieces(self, roles: Collection[str] | None = None) -> Iterator[Metric]:
        """Every family, in pieces that take a millisecond or two: some with the name of the one before, to go on it.

        Args:
            roles: Those that are seen, and then nothing of the base key or of files; None: everything.
        """
        figures = {name: role for name, role in self._measured.roles().items() if roles is None or name in roles}
        yield from self._of_requests.pieces()
        yield from self._of_daemon.pieces()
        yield from _of_roles(figures)
        yield from self._of_renewals.pieces(figures)
        yield from _of_certificates(figures)
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
    """The data plane."""

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


class _DaemonCollector:
    """The process as a whole."""

    def __init__(self, measured: Measured) -> None:
        self._measured = measured

    def pieces(self) -> Iterator[Metric]:
        build = GaugeMetricFamily(f"{_PREFIX}build_info", "Version of this daemon", labels=("version", "python"))
        build.add_metric((__version__, platform.python_version()), 1)
        yield build
        text = "Whether every served role has live credentials"
        yield GaugeMetricFamily(f"{_PREFIX}ready", text, self._measured.ready())
        name, text = f"{_PREFIX}listener_up", "Whether a listener of the data plane or the control plane is open"
        listeners = GaugeMetricFamily(name, text, labels=("address",))
        for entry, bound in {**self._measured.listeners(), **self._measured.control_plane()}.items():
            listeners.add_metric((entry,), bound is not None)
        yield listeners
        skew = "AWS's clock less this host's; positive: this host is behind"
        yield GaugeMetricFamily(f"{_PREFIX}clock_skew_seconds", skew, self._measured.clock.skew)
        stats = self._measured.reloads
        reloads = CounterMetricFamily(f"{_PREFIX}config_reloads", "Reloads of the config file", labels=("outcome",))
        for outcome in ("success", "failure"):
            reloads.add_metric((outcome,), stats.outcomes[outcome])
        yield reloads
        name, text = f"{_PREFIX}config_last_reload_successful", "Whether the config file was taken when last read"
        yield GaugeMetricFamily(name, text, stats.error is None)


def _of_roles(roles: Figures) -> Iterator[Metric]:
    """Credentials. Of several sessions of a role the one counts that ends, or is due, first.

    Every role that somebody may have shows every series from the start, at zero: an expiration that is missing cannot
    raise an alert. Only where nothing is kept because nobody asks for it, there is nothing that could expire.
    """
    kept = [name for name, role in roles.items() if role.sessions]
    name, text = "credential_expiration_timestamp_seconds", "When the held credentials expire; 0: none were ever held"
    yield from _by_role(name, text, {role: min(each.expiration for each in roles[role].sessions) for role in kept})
    name, text = "credential_renewed_timestamp_seconds", "When credentials were last obtained; 0: never"
    yield from _by_role(name, text, {role: min(each.obtained for each in roles[role].sessions) for role in kept})
    name, text = "credential_renewal_due_timestamp_seconds", "When the next credentials are, or were, to be obtained"
    yield from _by_role(name, text, {role: min(each.due for each in roles[role].sessions) for role in kept})
    name, labels = f"{_PREFIX}role_info", ("role", "source", "role_arn")
    for chunk in _chunks(roles):
        family = GaugeMetricFamily(name, "Where the credentials of a role come from", labels=labels)
        for role in chunk:
            family.add_metric((role, roles[role].source, roles[role].role_arn), 1)
        yield family


def _by_role(name: str, text: str, values: Mapping[str, float]) -> Iterator[Metric]:
    for chunk in _chunks(values):
        family = GaugeMetricFamily(f"{_PREFIX}{name}", text, labels=("role",))
        for role in chunk:
            family.add_metric((role,), round(values[role], _DECIMALS))
        yield family


class _RenewalCollector:
    """Attempts to renew. A counter that appears with its first failure cannot raise an alert: each is there at zero."""

    def __init__(self, stats: RenewalStats) -> None:
        self._stats = stats

    def pieces(self, roles: Collection[str]) -> Iterator[Metric]:
        labels = ("role", "outcome")
        for chunk in _chunks(roles):
            family = CounterMetricFamily(f"{_PREFIX}renewals", "Attempts to obtain credentials", labels=labels)
            for role in chunk:
                for outcome in _OUTCOMES:
                    family.add_metric((role, outcome), self._stats.outcomes[role, outcome])
            yield family
        name, text = f"{_PREFIX}renewal_duration_seconds", "Time to obtain credentials or to fail, of all roles"
        durations = HistogramMetricFamily(name, text)
        _add(durations, (), self._stats.durations)
        yield durations


def _of_certificates(roles: Figures) -> Iterator[Metric]:
    """The certificates of the roles that have one."""
    found = {name: role.certificate for name, role in roles.items() if role.certificate is not None}
    name, text = "certificate_expiration_timestamp_seconds", "When the certificate in use expires; 0: none"
    yield from _by_role(name, text, {role: certificate.expiration for role, certificate in found.items()})
    for chunk in _chunks(found):
        name, text = f"{_PREFIX}certificate_refusals", "Certificate files that could not be used"
        refusals = CounterMetricFamily(name, text, labels=("role",))
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
