"""Alert and recording rules: the one description of them, which `render.py` writes as YAML.

In an expression a duration outside of brackets stands for its seconds, as newer versions of PromQL have it: `> 5m` is
rendered as `> 300`. All durations can be scaled, so that a test sees an outage of an hour in minutes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

JOB: Final = "imds-proxy"
"""The scrape job: `up` of a daemon that never answered has no other mark."""
RUNBOOK: Final = "https://runbooks.example.com/imds-proxy/RUNBOOK.md"
"""Where RUNBOOK.md is for whoever is paged: replace it, here or in the rendered files."""
DASHBOARD: Final = "https://grafana.example.com/d/imds-proxy"
"""The same for the dashboard."""

_HEAD: Final = "# Rendered from rules.py by `make dashboards`: change it there.\n"
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"(?P<range>\[|:|offset )?\b(?P<count>\d+)(?P<unit>[smhd])\b")

_END: Final = "imds_proxy_credential_expiration_timestamp_seconds"
_DUE: Final = "imds_proxy_credential_renewal_due_timestamp_seconds"
_CERT: Final = "imds_proxy_certificate_expiration_timestamp_seconds"
_BASE_KEY: Final = "imds_proxy_base_key_created_timestamp_seconds"
_HOST: Final = "on (job, instance)"

_VARIABLES: Final = {
    "role": "?var-job={{ $labels.job | urlquery }}&var-instance={{ $labels.instance | urlquery }}"
    "&var-role={{ $labels.role | urlquery }}",
    "host": "?var-job={{ $labels.job | urlquery }}&var-instance={{ $labels.instance | urlquery }}",
    "job": "?var-job={{ $labels.job | urlquery }}",
}

# A certificate's whole life is no metric, and hosts have some for an hour and some for a year. But one that was the
# same three times as long as it has left is in the last quarter of its life: whatever rotates it is late. The longest
# look back is two weeks, since Prometheus keeps 15 days unless it is told otherwise.
CERTIFICATE_LATE: Final = (("7d", "14d"), ("1d", "3d"), ("6h", "18h"), ("1h", "3h"), ("15m", "45m"))


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert.

    Args:
        name: Without its prefix; the runbook has a section of this name.
        severity: `critical`: credentials are, or will soon be, missing, so somebody is woken; else `warning`.
        wait: For how long the expression has to hold.
        expr: Where time matters, a difference in seconds comes first: that is the alert's value.
        summary: One line.
        description: What it means for whom; the runbook says what to do.
        about: What it is about: a `role` of a host, a `host`, or a `job`.
        keep: For how long it goes on after the expression holds no more.
    """

    name: str
    severity: str
    wait: str
    expr: str
    summary: str
    description: str
    about: str = "host"
    keep: str | None = None


# The life that is left when a renewal is due is what there is for it to succeed in: 7.5 minutes of a session of
# 15 minutes, 30 of one of an hour, six hours of one of twelve. All thresholds are parts of that.
CREDENTIALS: Final = (
    # Half of that is gone: there is the other half to act in. Nobody is woken while more than two hours are left, and
    # everybody while five minutes are (six, less the wait), which for 15 minutes is sooner than half. A renewal takes
    # seconds: one that is a minute late has failed several times.
    Alert(
        "CredentialsExpireSoon",
        "critical",
        "1m",
        f"{_END} - time() < clamp(({_END} - {_DUE}) / 2, 6m, 2h)\nand time() - {_DUE} > 1m\nand {_END} > time()",
        "Credentials of {{ $labels.role }} on {{ $labels.instance }} end in {{ $value | humanizeDuration }}",
        "Every attempt to renew them has failed since they were due. When they end, programs that use them fail.",
        "role",
    ),
    # A sixth of it is gone: the backoff after failures is at most a minute, five after denials, so this is no blip.
    Alert(
        "RenewalOverdue",
        "warning",
        "1m",
        f"time() - {_DUE} > clamp_min(({_END} - {_DUE}) / 6, 1m)\nand {_END} > time()",
        "Renewal of {{ $labels.role }} on {{ $labels.instance }} is {{ $value | humanizeDuration }} late",
        "The credentials in use are good; new ones could not be obtained so far. It is tried again and again.",
        "role",
    ),
    # A denial stays until somebody changes something, so it is told of before the renewal is late.
    Alert(
        "RenewalDenied",
        "warning",
        "2m",
        f"time() - {_DUE} > 30s\n"
        'and on (job, instance, role) increase(imds_proxy_renewals_total{outcome="denied"}[15m]) > 0',
        "AWS denies {{ $labels.role }} to {{ $labels.instance }}, for {{ $value | humanizeDuration }}",
        "A trust policy, a permission, or the host's own key or certificate has changed. No retry will help.",
        "role",
    ),
    # One scrape may be late; nothing is.
    Alert(
        "CredentialsExpired",
        "critical",
        "1m",
        f"time() - {_END} > 0\nand {_END} > 0",
        "Credentials of {{ $labels.role }} on {{ $labels.instance }} ended {{ $value | humanizeDuration }} ago",
        "Programs get no credentials for this role until a renewal succeeds.",
        "role",
    ),
    # A new host may come up a few minutes before its role, its network or its clock.
    Alert(
        "CredentialsNeverObtained",
        "critical",
        "3m",
        f"time() - {_DUE} > 2m\nand {_END} == 0",
        "{{ $labels.instance }} has tried to obtain {{ $labels.role }} for {{ $value | humanizeDuration }}",
        "The daemon has had no credentials for this role since it started, so programs get none.",
        "role",
    ),
    # Judged by the daemon's own clock: fires alone where that and Prometheus's differ.
    Alert(
        "NotReady",
        "critical",
        "5m",
        "imds_proxy_ready == 0",
        "{{ $labels.instance }} serves a role without live credentials",
        "At least one role that is handed out has none. /readyz on the control plane names it.",
    ),
)

DAEMON: Final = (
    # A reboot takes less. It goes on for a while, so that a daemon that comes and goes is one page.
    Alert(
        "DaemonDown",
        "critical",
        "5m",
        f'up{{job="{JOB}"}} == 0',
        "{{ $labels.instance }} does not answer Prometheus",
        "The daemon, its host or the network is down, or it refuses Prometheus. Programs may have no credentials.",
        keep="2m",
    ),
    # A host that was taken out of service is told of for six hours at most.
    Alert(
        "DaemonVanished",
        "warning",
        "15m",
        f"time() - max by (job, instance) (max_over_time(timestamp(imds_proxy_build_info)[6h:5m]))\nunless {_HOST} up",
        "{{ $labels.instance }} has been no target for {{ $value | humanizeDuration }}",
        "It was scraped, and service discovery has dropped it since: nothing watches its credentials.",
    ),
    Alert(
        "NoTargets",
        "critical",
        "15m",
        f'absent(up{{job="{JOB}"}})',
        "Prometheus has no target of job {{ $labels.job }}",
        "No daemon is watched: the scrape config, or its service discovery, has lost all of them.",
        "job",
    ),
    # A daemon shows a user of its host its own roles only. A Prometheus that sees none can raise no other alert.
    Alert(
        "NoRolesVisible",
        "warning",
        "10m",
        f'up{{job="{JOB}"}} == 1\nunless {_HOST} imds_proxy_role_info',
        "Prometheus sees no role of {{ $labels.instance }}",
        "It is scraped, but may see no role, so nothing about credentials can be told.",
    ),
    # systemd starts it again after two seconds: none of these is long enough for DaemonDown.
    Alert(
        "RestartLoop",
        "warning",
        "1m",
        f'changes(process_start_time_seconds{{job="{JOB}"}}[30m]) > 2',
        "{{ $labels.instance }} has started {{ $value }} times within half an hour",
        "It ends again and again, and is started again. Programs find it away for seconds each time.",
    ),
    Alert(
        "ListenerDown",
        "critical",
        "5m",
        "imds_proxy_listener_up == 0",
        "{{ $labels.instance }} does not listen on {{ $labels.address }}",
        "Programs that ask at this address get nothing; other listeners of the daemon are not concerned.",
    ),
    # AWS refuses signatures from 5 minutes on (Roles Anywhere; STS: 15).
    Alert(
        "ClockSkew",
        "warning",
        "5m",
        "abs(imds_proxy_clock_skew_seconds) > 1m",
        "The clock of {{ $labels.instance }} is off by {{ $value | humanizeDuration }}",
        "AWS refuses requests of a host whose clock is off by minutes, and credentials seem to live longer or shorter.",
    ),
    Alert(
        "ConfigNotReloaded",
        "warning",
        "5m",
        "imds_proxy_config_last_reload_successful == 0",
        "{{ $labels.instance }} has refused its config file",
        "It goes on with the config before. A restart would fail.",
    ),
    # The daemon lets 500 requests a second through for each caller: no program needs that.
    Alert(
        "RequestsLimited",
        "warning",
        "10m",
        "sum by (job, instance, protocol) (rate(imds_proxy_requests_limited_total[5m])) > 1",
        "{{ $value | humanize }} requests a second are over the limit on {{ $labels.instance }}",
        "A program there asks for credentials in a loop. It is slowed down; others are served.",
        keep="10m",
    ),
)

HOST: Final = (
    # No page: if it comes to that, renewals are denied, and CredentialsExpireSoon is judged by the session's life.
    Alert(
        "CertificateNotRotated",
        "warning",
        "5m",
        "\nor ".join(
            f"({_CERT} - time() < {left} and {_CERT} > 0 and {_CERT} == {_CERT} offset {ago})"
            for left, ago in CERTIFICATE_LATE
        ),
        "The certificate of {{ $labels.role }} on {{ $labels.instance }} ends in {{ $value | humanizeDuration }}",
        "Most of its life is over and no new one is in use. Without one AWS denies the next renewal.",
        "role",
    ),
    # A pair in two files is refused while one of them is new: once another certificate is in use, that was it.
    Alert(
        "CertificateRefused",
        "warning",
        "5m",
        f"increase(imds_proxy_certificate_refusals_total[1d]) > 0\nunless changes({_CERT}[1d]) > 0",
        "New certificate files of {{ $labels.role }} on {{ $labels.instance }} cannot be used",
        "The pair before is in use until it expires.",
        "role",
    ),
    # `rotate_every` is no metric; 90 days is what the CIS benchmark for AWS allows.
    Alert(
        "BaseKeyOld",
        "warning",
        "15m",
        f"time() - {_BASE_KEY} > 90d\nand {_BASE_KEY} > 0",
        "The IAM key of {{ $labels.instance }} is {{ $value | humanizeDuration }} old",
        "It should have been rotated: a key that leaked long ago would still work.",
    ),
    # What passes by itself is tried again within the hour, and counts for nothing here.
    Alert(
        "BaseKeyRotationFails",
        "warning",
        "5m",
        'sum by (job, instance) (increase(imds_proxy_base_key_rotations_total{outcome=~"denied|invalid"}[2d])) > 0\n'
        f"unless {_HOST} changes({_BASE_KEY}[2d]) > 0",
        "The IAM key of {{ $labels.instance }} cannot be rotated",
        "Something has to be changed at AWS or on the host first. The key in use works on.",
    ),
    # A file holds half an hour of life at any time, and is tried again every few seconds: there are 15 minutes to act.
    Alert(
        "FileNotWritten",
        "critical",
        "10m",
        "increase(imds_proxy_file_write_failures_total[5m]) > 0",
        "{{ $labels.instance }} cannot write {{ $labels.path }}",
        "The program that reads this file goes on with what is in it, which ends half an hour after a renewal was due.",
    ),
    Alert(
        "AuditNotWritten",
        "warning",
        "5m",
        "increase(imds_proxy_audit_write_failures_total[10m]) > 0",
        "{{ $labels.instance }} cannot write its audit file",
        "Lines are kept in memory, as many as there is room for; further ones are lost.",
    ),
)

GROUPS: Final = {"credentials": CREDENTIALS, "daemon": DAEMON, "host": HOST}
ALERTS: Final = tuple(alert for group in GROUPS.values() for alert in group)

# What a fleet is asked for again and again: of each host one series, however many roles it has.
RECORDS: Final = {
    # 0: a role is dark. A host that is down has no series, which is as dark.
    "instance:imds_proxy_credential_life_left_seconds:min": (f"min by (job, instance) (clamp_min({_END} - time(), 0))"),
    "instance:imds_proxy_credential_renewal_overdue_seconds:max": (
        f"max by (job, instance) (clamp_min(time() - {_DUE}, 0))"
    ),
    "instance_outcome:imds_proxy_renewals:increase1h": (
        "sum by (job, instance, outcome) (increase(imds_proxy_renewals_total[1h]))"
    ),
    "instance_protocol_status:imds_proxy_requests:rate5m": (
        "sum by (job, instance, protocol, status) (rate(imds_proxy_requests_total[5m]))"
    ),
}


def files(scale: float = 1.0) -> dict[str, str]:
    """The text of each file of rules, by its name.

    Args:
        scale: What every duration is multiplied by; 1 but in tests.
    """
    records = [{"record": name, "expr": render(expr, scale)} for name, expr in RECORDS.items()]
    return {
        "alerts.yaml": _text(_group(name, list(_alerts(alerts, scale)), scale) for name, alerts in GROUPS.items()),
        "rules.yaml": _text([_group("recording", records, scale)]),
    }


def render(expr: str, scale: float = 1.0) -> str:
    """An expression as Prometheus 2.42 reads it."""

    def number(found: re.Match[str]) -> str:
        seconds = int(found["count"]) * _UNITS[found["unit"]] * scale
        if found["range"] is None:
            return f"{seconds:.10g}"
        return found["range"] + (f"{found['count']}{found['unit']}" if scale == 1 else f"{round(seconds * 1000)}ms")

    return _DURATION.sub(number, expr)


def _duration(text: str, scale: float) -> str:
    """One that is not part of an expression."""
    return render(f"[{text}", scale)[1:]


def _group(name: str, rules: list[dict[str, Any]], scale: float) -> dict[str, Any]:
    return {"name": f"imds-proxy-{name}", "interval": _duration("30s", scale), "rules": rules}


def _alerts(alerts: tuple[Alert, ...], scale: float) -> Iterator[dict[str, Any]]:
    for alert in alerts:
        name = f"ImdsProxy{alert.name}"
        yield {
            "alert": name,
            "expr": render(alert.expr, scale),
            "for": _duration(alert.wait, scale),
            **({"keep_firing_for": _duration(alert.keep, scale)} if alert.keep else {}),
            "labels": {"severity": alert.severity},
            "annotations": {
                "summary": alert.summary,
                "description": alert.description,
                "runbook_url": f"{RUNBOOK}#{name.lower()}",
                "dashboard_url": DASHBOARD + _VARIABLES[alert.about],
            },
        }


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # it publishes no types
    """Writes text of several lines as such."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _Dumper.represent_text)


def _text(groups: Any) -> str:
    text: str = yaml.dump({"groups": list(groups)}, Dumper=_Dumper, sort_keys=False, width=1000)
    return _HEAD + text
