"""Panels about what a host depends on: its clock, certificate, key, files, listeners and config; and the process."""

from typing import Final

from grid import line
from panels import bars, graph, states, text_for
from queries import (
    BASE_KEY,
    CERTIFICATE,
    FILE_FAILURES,
    LISTENER,
    SKEW,
    WRITTEN,
    of_hosts,
    of_roles,
    per_interval,
)

_MEMORY: Final = of_hosts("process_resident_memory_bytes")
_CPU: Final = f"rate({of_hosts('process_cpu_seconds_total')}[$__rate_interval])"
_FILES_OPEN: Final = f"{of_hosts('process_open_fds')} / {of_hosts('process_max_fds')}"
_OPEN: Final = text_for({0: ("closed", "red"), 1: ("open", "green")})


def _middle_and_most(expr: str) -> dict[str, str]:
    return {"median host": f"quantile(0.5, {expr})", "highest host": f"max({expr})"}


HOSTS: Final = (
    line(
        8,
        graph(
            "Clock skew",
            "AWS's clock less the host's: of the host that is furthest behind (positive) and furthest ahead "
            "(negative). AWS refuses signatures from 5 minutes on. What to do: start time synchronisation there.",
            {"furthest behind": f"max({SKEW})", "furthest ahead": f"min({SKEW})"},
            unit="s",
        ),
        graph(
            "Life left of certificates",
            "Of each role that proves itself with a certificate, the host where that ends first. Without one AWS "
            "denies the next renewal. What to do when a line goes on falling: whatever renews certificates there has "
            "stopped.",
            {"{{role}}": f"min by (role) (({CERTIFICATE} > 0) - time())"},
            unit="s",
            nothing="No role has a certificate",
        ),
        graph(
            "Certificate files refused",
            "Certificate files that could not be used; the pair before goes on. One or two at a rotation are right: "
            "two files change one after the other. What to do about more: do certificate and key fit each other?",
            {"{{role}}": f"sum by (role) ({per_interval(of_roles('imds_proxy_certificate_refusals_total'))})"},
            unit="short",
            counts=True,
            nothing="No role has a certificate",
        ),
    ),
    line(
        8,
        graph(
            "Age of base keys",
            "How old the host's own IAM key is, the ten oldest. A line that does not fall at `rotate_every` is not "
            "rotated. What to do: `imds-proxy rotate-base-key` there says what is in the way.",
            {"{{instance}}": f"topk(10, max by (instance) (time() - ({BASE_KEY} > 0)))"},
            unit="s",
            nothing="No host rotates its own key",
        ),
        graph(
            "Base key rotations",
            "Rotations that ended, and runs that failed. `denied` and `invalid` need somebody: what the key's user "
            "may do, or a second key that is in the way; the line in the log says what.",
            {"{{outcome}}": f"sum by (outcome) ({per_interval(of_hosts('imds_proxy_base_key_rotations_total'))})"},
            unit="short",
            counts=True,
            nothing="No host rotates its own key",
        ),
    ),
    line(
        8,
        graph(
            "Age of files",
            "Of each path the host where the file was written longest ago. It is written at each renewal, so the age "
            "stays under the session's life. What to do about an older one: see whether its role is renewed.",
            {"{{path}}": f"max by (path) (time() - ({WRITTEN} > 0))"},
            unit="s",
            nothing="No file is configured",
        ),
        graph(
            "Files that could not be written",
            "Attempts that failed; what is in the file is whole, and it is tried again within seconds. What to do: "
            "disk full, folder gone, another owner, or the unit's `ReadWritePaths`; the log has the reason.",
            {"{{path}}": f"sum by (path) ({per_interval(FILE_FAILURES)})"},
            unit="short",
            counts=True,
            nothing="No file is configured",
        ),
        graph(
            "Audit lines that could not be written",
            "Times that the audit file could not be written. Lines are kept in memory as long as there is room. What "
            "to do: is its disk full, is its folder writable?",
            {"all hosts": f"sum({per_interval(of_hosts('imds_proxy_audit_write_failures_total'))})"},
            unit="short",
            counts=True,
        ),
    ),
    line(
        8,
        states(
            "Listeners",
            "Each address of the config: red while it is closed on at least one host. What to do: another process has "
            "the port, or the address is not on the host; the log says which.",
            {"{{address}}": f"min by (address) ({LISTENER})"},
            [_OPEN],
        ),
        graph(
            "Reloads of the config",
            "Reloads that were taken and refused. A refused one changes nothing, but a restart would fail. What to "
            "do: `imds-proxy check --offline` names the mistake.",
            {"{{outcome}}": f"sum by (outcome) ({per_interval(of_hosts('imds_proxy_config_reloads_total'))})"},
            unit="short",
            counts=True,
        ),
        bars(
            "Hosts by version",
            "How many hosts run which version of the daemon. What to do about a straggler: choose it in the table of "
            "hosts; the release notes say what it lacks.",
            {"{{version}}": f"count by (version) ({of_hosts('imds_proxy_build_info')})"},
        ),
    ),
)

PROCESS: Final = (
    line(
        7,
        graph(
            "Memory",
            "Resident memory of the daemon: some 70 MB and a little for each role. What to do about a line that goes "
            "on rising for days: restart it (sessions are kept), and report it.",
            _middle_and_most(_MEMORY),
            unit="bytes",
        ),
        graph(
            "CPU",
            "Share of one core. A program that asks in a loop shows here first; see the callers over the rate limit.",
            _middle_and_most(_CPU),
            unit="percentunit",
        ),
        graph(
            "Open files",
            "Share of the limit of open files; at 100 % new connections wait. What to do: `LimitNOFILE=` in the unit, "
            "and find out which program holds connections open.",
            _middle_and_most(_FILES_OPEN),
            unit="percentunit",
        ),
    ),
)
