"""Panels about roles: what needs somebody, and how renewals go."""

from typing import Final

from grid import line
from panels import column, graph, heatmap, stat, table, text_for, text_from
from queries import (
    DUE,
    FAILED,
    FILES_FAILING,
    LATE,
    LIFE,
    LISTENER,
    OBTAINED,
    READY,
    RENEWALS,
    ROLE_INFO,
    SKEW,
    STATE,
    WANTING,
    WANTING_WITH_LIFE,
    of_hosts,
    or_zero,
    per_interval,
    quantile,
)

_HERE: Final = "/d/imds-proxy?${datasource:queryparam}&${__url_time_range}&var-instance="
THIS_HOST: Final = column("string", link=("This host alone", _HERE + "${__data.fields.Instance}"))
_THIS_ROLE: Final = column("string", link=("This role on all hosts", _HERE + "$__all&var-role=${__data.fields.Role}"))
_NONE: Final = text_for({0: ("none", "red")})
# Below five minutes no renewal is on time, not even of a session of 15 minutes; above, it is a matter of the schedule.
LIFE_COLUMN: Final = column(thresholds=(("red", None), ("transparent", 300)), mappings=[_NONE])
_TIME_LEFT: Final = column(thresholds=(("red", None), ("orange", 900), ("yellow", 3600)), mappings=[_NONE])

FIRST: Final = (
    line(
        7,
        stat(
            "Will anything expire before I am back?",
            "Counts what will end within the time chosen as “Back in” unless somebody does something: credentials "
            "whose renewal is overdue, certificates in the last quarter of their life, hosts that went dark, files "
            "that cannot be written. Credentials that are renewed on time do not count, however short they live. If "
            "it says yes, the list beside it says what.",
            or_zero(f"count({WANTING})"),
            mappings=[text_for({0: ("No", "green")}), text_from(1, "Yes", "red")],
        ),
        table(
            "What needs somebody",
            "Everything that the answer beside it counts, what ends first on top; “none” where nothing is left or it "
            "is not known. What to do: on the host, `imds-proxy status` says why in words and what helps; the runbook "
            "has a section for each.",
            {"Time left": WANTING_WITH_LIFE},
            labels=("instance", "role", "path", "why"),
            columns={"Time left": _TIME_LEFT, "Instance": THIS_HOST},
            sort=("Time left", False),
            nothing="Nothing. Everything is renewed in time.",
        ),
        widths=(6, 18),
    ),
    line(
        4,
        stat(
            "Roles without credentials",
            "Roles whose credentials have ended, or that never had any: programs get none. What to do: `imds-proxy "
            "status` on the host shows the last error and its advice.",
            or_zero(f"count({LIFE} <= 0)"),
            alert="ImdsProxyCredentialsExpired",
        ),
        stat(
            "Renewals overdue",
            "Roles whose renewal is late by more than a sixth of the time there is for it, and by a minute at least. "
            "The credentials in use may be good still. What to do: look at “Failed renewals” for the reason.",
            or_zero(f"count({LATE})"),
            alert="ImdsProxyRenewalOverdue",
        ),
        stat(
            "Hosts dark",
            "Hosts that do not answer Prometheus, or were scraped within the last day and are no target any more. "
            "What to do: `systemctl status imds-proxy` there; a host that was taken out of service is counted for a "
            "day.",
            or_zero(f"count({STATE} == 0)"),
            alert="ImdsProxyDaemonDown",
        ),
        stat(
            "Hosts not ready",
            "Hosts that serve a role without live credentials. What to do: `/readyz` on the control plane names it.",
            or_zero(f"count({READY} == 0)"),
            alert="ImdsProxyNotReady",
        ),
        stat(
            "Listeners closed",
            "Addresses of the config that are not open: programs that ask there get nothing. What to do: the log says "
            "why, mostly that another process has the port (`ss -ltnp`) or that the address is not on the host.",
            or_zero(f"count({LISTENER} == 0)"),
            alert="ImdsProxyListenerDown",
        ),
        stat(
            "Configs refused",
            "Hosts that refused their config file at the last reload and go on with the one before: a restart would "
            "fail. What to do: `imds-proxy check --offline` names the mistake.",
            or_zero(f"count({of_hosts('imds_proxy_config_last_reload_successful')} == 0)"),
            alert="ImdsProxyConfigNotReloaded",
        ),
        stat(
            "Files that cannot be written",
            "Credential files that could not be written within the last 15 minutes; what is in them is whole and "
            "ends. What to do: see “Files that could not be written” below for the path; `imds-proxy status` has the "
            "reason.",
            or_zero(f"count({FILES_FAILING})"),
            alert="ImdsProxyFileNotWritten",
        ),
        stat(
            "Clocks off by a minute",
            "Hosts whose clock differs from AWS's by more than a minute; from 5 on AWS refuses their signatures. What "
            "to do: start time synchronisation (`timedatectl`).",
            or_zero(f"count(abs({SKEW}) > 60)"),
            alert="ImdsProxyClockSkew",
        ),
    ),
)

_OF_ROLE: Final = "on (job, instance, role)"

ROLES: Final = (
    line(
        9,
        table(
            "Life left of each role",
            "Each role on each host, the shortest life first; “none” where there never were credentials. A negative "
            "life is how long ago they ended, a negative next renewal how long it is overdue. Roles that are fetched "
            "on demand are here while somebody asks for them. What to do about a red one: `imds-proxy status` on the "
            "host.",
            {
                "Life left": f"{LIFE} * {_OF_ROLE} group_left (source, role_arn) {ROLE_INFO}",
                "Next renewal in": f"min by (job, instance, role) ({DUE} - time())",
                "Obtained ago": f"max by (job, instance, role) (time() - ({OBTAINED} > 0))",
                "Failures, last hour": f"sum by (job, instance, role) (increase({FAILED}[1h]))",
            },
            labels=("instance", "role", "source", "role_arn"),
            columns={
                "Life left": LIFE_COLUMN,
                "Next renewal in": column(thresholds=(("red", None), ("transparent", -60))),
                "Failures, last hour": column("short", decimals=0),
                "Instance": THIS_HOST,
                "Role": _THIS_ROLE,
            },
            sort=("Life left", False),
        ),
    ),
    line(
        8,
        graph(
            "Shortest life of each role",
            "Of each role the host where its credentials end first. Saw teeth are right: each renewal lifts the line. "
            "A line that goes on falling is not renewed; the table above says where.",
            {"{{role}}": f"min by (role) ({LIFE})"},
            unit="s",
            threshold=300,
        ),
        graph(
            "Renewals past due",
            "How long the latest renewal of each role is past due: zero but for seconds. Retries do not reset it. "
            "What to do: the reason is in “Failed renewals”; the line falls to zero by itself once AWS grants again.",
            {"{{role}}": f"max by (role) (clamp_min(time() - {DUE}, 0))"},
            unit="s",
            threshold=60,
        ),
    ),
    line(
        8,
        graph(
            "Renewals by outcome",
            "Attempts to obtain credentials in each step of the graph. `denied` needs somebody (a policy, a key, a "
            "certificate); `throttled` and `unreachable` pass by themselves; `invalid` is an answer that makes no "
            "sense.",
            {"{{outcome}}": f"sum by (outcome) ({per_interval(RENEWALS)})"},
            unit="short",
            counts=True,
        ),
        graph(
            "Failed renewals",
            "The attempts that failed, by role and reason. Many of one role on all hosts: look at AWS, at the role's "
            "trust policy first. All roles of one host: look at its network, clock and own key.",
            {"{{role}} {{outcome}}": f"sum by (role, outcome) ({per_interval(FAILED)})"},
            unit="short",
            counts=True,
        ),
        graph(
            "How long renewals take",
            "Quantiles of the last hour, or since the start where there was none in it; all roles, failures included. "
            "No program waits for it. Half a minute means a proxy or a network that drops packets.",
            {f"{share:.0%}": quantile(share, "imds_proxy_renewal_duration_seconds") for share in (0.5, 0.95, 0.99)},
            unit="s",
        ),
    ),
    line(
        7,
        heatmap(
            "Renewals by the time they took",
            "Attempts in each step of the graph, by how long they took. A second band far above the first is a "
            "region, proxy or credential process that answers slowly now and then.",
            f"sum by (le) ({per_interval(of_hosts('imds_proxy_renewal_duration_seconds_bucket'))})",
            unit="s",
        ),
    ),
)
