"""PromQL that more than one panel asks for.

Every selector has the dashboard's variables, every difference comes before its comparison, and a timestamp of 0 ("never
had any") is never taken for a time.
"""

from collections.abc import Mapping
from typing import Final

import rules

_CHOSEN: Final = ('job=~"$job"', 'instance=~"$instance"')


def of_hosts(metric: str, *matchers: str) -> str:
    """A metric of the chosen hosts."""
    return f"{metric}{{{', '.join((*_CHOSEN, *matchers))}}}"


def of_roles(metric: str, *matchers: str) -> str:
    """A metric of the chosen roles on the chosen hosts."""
    return of_hosts(metric, 'role=~"$role"', *matchers)


def or_zero(expr: str) -> str:
    """A count that is 0 where there is nothing to count, and missing where there is no daemon to count on.

    With `vector(0)` a dashboard that sees no host at all would say that all is well.
    """
    return f"{expr} or on () 0 * count({of_hosts('up')})"


def per_interval(counter: str) -> str:
    """How much a counter grew in each step of a graph; restarts of the daemon are seen."""
    return f"increase({counter}[$__rate_interval])"


def quantile(share: float, histogram: str) -> str:
    """A quantile over all chosen hosts, of the last hour; since the start where nothing was in that hour."""
    buckets = of_hosts(f"{histogram}_bucket")
    of_hour = f"histogram_quantile({share}, sum by (le) (increase({buckets}[1h])))"
    return f"{of_hour} >= 0 or histogram_quantile({share}, sum by (le) ({buckets}))"


END: Final = of_roles("imds_proxy_credential_expiration_timestamp_seconds")
DUE: Final = of_roles("imds_proxy_credential_renewal_due_timestamp_seconds")
OBTAINED: Final = of_roles("imds_proxy_credential_renewed_timestamp_seconds")
ROLE_INFO: Final = of_roles("imds_proxy_role_info")
RENEWALS: Final = of_roles("imds_proxy_renewals_total")
FAILED: Final = of_roles("imds_proxy_renewals_total", 'outcome!="success"')
READY: Final = of_hosts("imds_proxy_ready")
CERTIFICATE: Final = of_roles("imds_proxy_certificate_expiration_timestamp_seconds")
BASE_KEY: Final = of_hosts("imds_proxy_base_key_created_timestamp_seconds")
WRITTEN: Final = of_hosts("imds_proxy_file_written_timestamp_seconds")
FILE_FAILURES: Final = of_hosts("imds_proxy_file_write_failures_total")
SKEW: Final = of_hosts("imds_proxy_clock_skew_seconds")
LISTENER: Final = of_hosts("imds_proxy_listener_up")
IMDS_V1: Final = of_hosts("imds_proxy_requests_total", 'protocol="imds_v1"')

LIFE: Final = f"min by (job, instance, role) (({END} > 0) - time() or {END} == 0)"
"""Seconds that the credentials of each role have left: negative once they have ended, 0 where there never were any."""

LATE: Final = f"time() - {DUE} > clamp_min(({END} - {DUE}) / 6, 60)"
"""Seconds that a renewal is past due, once that is a sixth of the time there is for it: no blip, by the role's own
schedule. The alert ImdsProxyRenewalOverdue is of the same measure."""

HOST_LIFE: Final = f"min by (job, instance) (clamp_min({END} - time(), 0))"
"""Seconds until the first role of each host has ended; 0: one has already."""
LIVING: Final = f"({HOST_LIFE} > 0)"

STATE: Final = (
    "max by (job, instance) "
    f"({READY} + 1 or {of_hosts('up')} == 0 or 0 * last_over_time({of_hosts('imds_proxy_ready')}[1d]))"
)
"""2: ready; 1: a served role has no live credentials; 0: dark, that is, it does not answer Prometheus, or was scraped
within the last day and is no target any more."""

FILES_FAILING: Final = f"max by (job, instance, path) (increase({FILE_FAILURES}[15m])) > 0"


_CERTIFICATE_LATE: Final = rules.render(
    " or ".join(
        f"{CERTIFICATE} - time() < {left} and {CERTIFICATE} > 0 and {CERTIFICATE} == {CERTIFICATE} offset {ago}"
        for left, ago in rules.CERTIFICATE_LATE
    )
)
"""The alert ImdsProxyCertificateNotRotated is of the same measure."""
# Twelve hours is the longest life that AWS gives, so what was seen before that has ended.
_LAST_KNOWN_LIFE: Final = f"min by (job, instance) (last_over_time({END}[12h]) - time() > 0)"
_DARK: Final = f"{STATE} == 0"
_REASONS: Final = {
    "the renewal is overdue": f"{LIFE} < $away and on (job, instance, role) {LATE}",
    "the certificate ends": f"max by (job, instance, role) ({_CERTIFICATE_LATE}) < $away",
    "the daemon is dark": _DARK,
    "the file cannot be written": f"0 * ({FILES_FAILING})",
}


def _list(reasons: Mapping[str, str]) -> str:
    return " or ".join(f'label_replace({expr}, "why", "{why}", "", "")' for why, expr in reasons.items())


WANTING: Final = _list(_REASONS)
"""Everything that will end within `$away` seconds unless somebody does something, and why."""
WANTING_WITH_LIFE: Final = _list(_REASONS | {"the daemon is dark": f"{_LAST_KNOWN_LIFE} and {_DARK} or {_DARK}"})
"""The same with the seconds that it has left, 0 where that is not known: dearer for a large fleet."""
