"""What is counted, as plain numbers.

They are touched on the way of a request, so nothing here waits for a lock and nothing needs an import:
`metrics.py` makes Prometheus families of them when somebody asks.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from imds_proxy.telemetry.history import History

REQUEST_BUCKETS = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.025)
RENEWAL_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


_LAST_PART = 4
_LAST_DAYS = 7 * 24 * 3600.0


class Distribution:
    """Counts of observations by upper bound, in seconds."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds


class RequestStats:
    """What the data plane answered."""

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, str, int]] = Counter()
        self.limited: Counter[str] = Counter()
        """Answers to callers over the rate limit, by protocol."""
        self.durations = Distribution(REQUEST_BUCKETS)
        self.connections = 0
        self.audit_write_failures = 0
        """Times that the audit's file could not be written."""

    def record(self, protocol: str, document: str, status: int, seconds: float) -> None:
        """Count one answer. Status 0 is a connection closed without one (PROTOCOL.md 16)."""
        self.answers[protocol, document, status] += 1
        self.durations.observe(seconds)


@dataclass(slots=True)
class CertificateStats:
    """The certificate that a source proves itself with.

    Args:
        expiration: Of the one in use, seconds since the epoch; 0: there never was one.
        refused: How often its files held what cannot be used.
        issued: From when on it is valid, seconds since the epoch.
    """

    expiration: float = 0.0
    refused: int = 0
    issued: float = 0.0

    def is_late(self, now: float) -> bool:
        """Whether a new one should be in use by now, as the alert ImdsProxyCertificateNotRotated judges it.

        Some live for an hour and some for a year: the last quarter of its life is late, and at most the last week.
        """
        return 0 < self.expiration < now + min((self.expiration - self.issued) / _LAST_PART, _LAST_DAYS)


@dataclass(frozen=True, slots=True)
class SessionTimes:
    """One session of a role, in seconds since the epoch.

    Args:
        due: When its successor is, or was, to be obtained. Retries after failures do not move it.
        obtained: When it was; 0: there never was one.
        expiration: When it ends; 0: there never was one.
    """

    due: float
    obtained: float = 0.0
    expiration: float = 0.0


@dataclass(frozen=True, slots=True)
class RoleFigures:
    """One role that somebody may have, as it is now.

    Args:
        source: Where its credentials come from, as in the config.
        role_arn: Of the config; empty where the source alone knows it.
        sessions: Those that are kept now; none where nobody asks for it.
        certificate: Of a role that proves itself with one.
    """

    source: str
    role_arn: str
    sessions: Sequence[SessionTimes]
    certificate: CertificateStats | None = None


@dataclass(slots=True)
class BaseKeyStats:
    """The host's own key, where it rotates itself.

    Args:
        created: When AWS made the one in use, seconds since the epoch; 0: not known yet.
        outcomes: Rotations that ended, and runs that failed.
    """

    created: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class FileStats:
    """A file that is kept fresh.

    Args:
        written: When it was last written, seconds since the epoch; 0: not yet.
        failures: How often it could not be.
    """

    written: float = 0.0
    failures: int = 0


class RenewalStats:
    """How renewals went; outlives the keepers that a reload replaces."""

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.durations = Distribution(RENEWAL_BUCKETS)
        self.history: defaultdict[str, History] = defaultdict(History)
        """By role."""
        self.base_key: BaseKeyStats | None = None
        """None where it does not rotate."""
        self.files: dict[str, FileStats] = {}
        """By path."""

    def record(self, role: str, outcome: str, seconds: float, at: float) -> None:
        """Count one attempt.

        Args:
            role: Whose.
            outcome: One of the metrics'.
            seconds: How long it took.
            at: When it ended, in seconds since the epoch.
        """
        self.outcomes[role, outcome] += 1
        self.durations.observe(seconds)
        self.history[role].add(at, outcome)


class ReloadStats:
    """The config file, as it was read at the start and at each reload.

    Args:
        loaded: When the config in use was read, in seconds since the epoch.
    """

    def __init__(self, loaded: float = 0.0) -> None:
        self.loaded = loaded
        self.outcomes: Counter[str] = Counter()
        self.error: str | None = None
        """Why the last reload changed nothing."""

    def succeeded(self, at: float) -> None:
        """The file was taken."""
        self.outcomes["success"] += 1
        self.loaded, self.error = at, None

    def failed(self, error: str) -> None:
        """The file was refused, and the config before it stays."""
        self.outcomes["failure"] += 1
        self.error = error
