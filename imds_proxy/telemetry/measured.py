"""What metrics and status are made of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from imds_proxy.host.clock import Clock
from imds_proxy.telemetry.stats import ReloadStats, RenewalStats, RequestStats, RoleFigures


@dataclass(frozen=True, slots=True)
class Measured:
    """One daemon, as it is when somebody asks.

    Args:
        clock: Wall time, and its skew.
        requests: Of the data plane.
        renewals: Of the roles, the base key and the files.
        reloads: Of the config file.
        roles: Those that somebody needs, by name.
        ready: Whether every served role has live credentials.
        listeners: Of the data plane, by their entry in the config: `ADDRESS:PORT` as bound, None where it is not open.
        not_open: Those of them that should be open and are not: one of IPv6 on a host without IPv6 is left out.
        control_plane: The same as `listeners`, of the control plane.
    """

    clock: Clock
    requests: RequestStats = field(default_factory=RequestStats)
    renewals: RenewalStats = field(default_factory=RenewalStats)
    reloads: ReloadStats = field(default_factory=ReloadStats)
    roles: Callable[[], Mapping[str, RoleFigures]] = dict
    ready: Callable[[], bool] = lambda: True
    listeners: Callable[[], Mapping[str, str | None]] = dict
    not_open: Callable[[], Sequence[str]] = list
    control_plane: Callable[[], Mapping[str, str | None]] = dict
