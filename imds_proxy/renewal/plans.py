"""How every role of a config is kept: pure, and for a thousand roles worth a thread of its own."""

from dataclasses import dataclass

from imds_proxy.config.keep_mode import Need, needed
from imds_proxy.config.model import Config
from imds_proxy.renewal.ranks import ranks
from imds_proxy.renewal.schedule import LEFT_IN_A_FILE


@dataclass(frozen=True, slots=True)
class Plan:
    """How a role is kept; while two are equal, a reload changes nothing.

    Args:
        need: Whether it is, and for how long.
        fingerprint: Of everything that shapes its sessions and their renewal.
        least: Seconds of life that have to be left when it is renewed.
        max_age: Renew at least this often, in seconds.
        idle_after: Seconds without a request after which what is kept on demand is let go; else None.
    """

    need: Need
    fingerprint: str
    least: float
    max_age: float | None
    idle_after: float | None


@dataclass(frozen=True, slots=True)
class Plans:
    """Of one config.

    Args:
        of: The plan of each role, in the order of the config.
        ranks: The rank of each, first those that are obtained first.
        given: The roles that somebody may be handed.
        default: The role that the list shows.
    """

    of: dict[str, Plan]
    ranks: dict[str, int]
    given: frozenset[str]
    default: str | None


def plans(config: Config) -> Plans:
    """The plans of a config."""
    roles, in_files, max_age = needed(config), {file.role for file in config.files}, config.renewal.max_age

    def plan(name: str) -> Plan:
        need = roles.needs[name]
        idle_after = config.renewal.idle_after if need in {Need.ON_DEMAND, Need.PER_SERVICE_ACCOUNT} else None
        fingerprint = f"{config.fingerprint(name)}/{max_age}"
        return Plan(need, fingerprint, LEFT_IN_A_FILE if name in in_files else 0.0, max_age, idle_after)

    return Plans({name: plan(name) for name in config.roles}, ranks(config), roles.given, config.default_role)
