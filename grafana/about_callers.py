"""Panels about callers: what programs ask for and what they get."""

from typing import Final

from grid import line
from panels import graph, stat
from queries import IMDS_V1, of_hosts, or_zero, quantile

_REQUESTS: Final = "imds_proxy_requests_total"
_NO_ROLE: Final = of_hosts(_REQUESTS, 'status="404"', 'document=~"role_list|iam|info|credentials.*"')
_DENIED: Final = of_hosts(_REQUESTS, 'status=~"401|403"')
_LIMITED: Final = of_hosts("imds_proxy_requests_limited_total")


def _rate(by: str, counter: str) -> str:
    return f"sum by ({by}) (rate({counter}[$__rate_interval]))"


CALLERS: Final = (
    line(
        8,
        graph(
            "Requests by protocol and status",
            "What programs asked for and got. `closed` is a connection closed without an answer, since there were no "
            "credentials to give; 503 is the rate limit. SDKs ask for many documents that are not there, so some 404 "
            "are right.",
            {"{{protocol}} {{status}}": or_zero(_rate("protocol, status", of_hosts(_REQUESTS)))},
            unit="reqps",
        ),
        graph(
            "Callers denied",
            "401: no valid session token or container token; 403: a Host or a proxy that is not allowed, or no grant; "
            "404 of a role: no grant, or a role without credentials. What to do: the audit log says who; `imds-proxy "
            "check --as user=NAME` says which grant does not fit.",
            {
                "{{protocol}} {{document}} {{status}}": or_zero(
                    f"{_rate('protocol, document, status', _DENIED)} or {_rate('protocol, document, status', _NO_ROLE)}"
                )
            },
            unit="reqps",
        ),
    ),
    line(
        8,
        graph(
            "Callers over the rate limit",
            "Requests of callers that ask for too much; they are slowed down, others are not. What to do: a program "
            "there asks in a loop, mostly one that starts a process for each call. The audit log says which.",
            {"{{protocol}}": _rate("protocol", _LIMITED)},
            unit="reqps",
        ),
        stat(
            "Hosts with IMDSv1",
            "Hosts on which a program asked without a session token within the time range of the dashboard, granted "
            "or refused (401). While it is 0, `imds_v1 = false` costs nobody anything: look at a week. The very first "
            "such request after a daemon's start is not seen, the next one is.",
            or_zero(f"count(sum by (job, instance) (increase({IMDS_V1}[$__range])) > 0)"),
            thresholds=(("green", None), ("orange", 1)),
        ),
        graph(
            "IMDSv1 still used",
            "Requests without a session token, the ten busiest hosts. 200: granted, since `imds_v1 = true`; 401: "
            "refused. What to do: the audit log names the program; a newer SDK asks by IMDSv2.",
            {"{{instance}} {{status}}": or_zero(f"topk(10, {_rate('instance, status', IMDS_V1)})")},
            unit="reqps",
        ),
        widths=(8, 4, 12),
    ),
    line(
        8,
        graph(
            "How long answers take",
            "Quantiles of the last hour of the time to make an answer, without the socket. It comes from memory, so a "
            "millisecond is long. What to do if it rises: look at the CPU below and at callers in a loop.",
            {f"{share:.0%}": quantile(share, "imds_proxy_request_duration_seconds") for share in (0.5, 0.95, 0.99)},
            unit="s",
        ),
        graph(
            "Open connections",
            "Connections of programs to the data plane: all of them, and of the host with most. One host that stands "
            "out has a program that opens connections and does not close them; `ss -tnp` there shows it.",
            {
                "all": f"sum({of_hosts('imds_proxy_connections')})",
                "busiest host": f"max({of_hosts('imds_proxy_connections')})",
            },
            unit="short",
        ),
    ),
)
