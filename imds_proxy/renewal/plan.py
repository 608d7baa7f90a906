"""When what is held now is renewed: pure, in seconds."""

from imds_proxy.credentials import Credentials
from imds_proxy.renewal.schedule import renewal_age, wait_after_success, wait_for_another


def plan_renewal(
    credentials: Credentials, now: float, chance: float, max_age: float | None, least: float
) -> tuple[float, float]:
    """In how many seconds a session is renewed, and when that was or is due; that is earlier where it is overdue.

    Args:
        credentials: Obtained now, or before a restart.
        now: Seconds since the epoch.
        chance: Uniform in [0, 1).
        max_age: Renew at least this often.
        least: What has to be left then.
    """
    obtained, end = credentials.obtained, credentials.expiration
    wait = wait_after_success(obtained, end, now, chance, max_age, least)
    latest = obtained + renewal_age(end - obtained, 0.0, max_age, least)
    return wait, min(now + wait, latest)


def plan_another(
    credentials: Credentials, now: float, chance: float, max_age: float | None, least: float, *, again: bool
) -> tuple[float, float]:
    """The same for a source that passes on what something else renews; `again`: it was the same session as before."""
    wait = wait_for_another(credentials.expiration - now, chance, max_age, least, again=again)
    return wait, now + wait
