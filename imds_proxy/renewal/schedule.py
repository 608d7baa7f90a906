"""When to renew next: pure functions of times, lives and chance. All in seconds.

Half the life, and before any client asks for more than is held: the SDKs' common rule starts asking 60 minutes
before the end where the life is 90 minutes or more (PROTOCOL.md 18), so there 65 are left when we renew.
"""

# Lives from 90 minutes on fall under the clients' early window, and must have this much left when they are renewed.
# What is reckoned here of a life of 90 minutes may be less: the answer rounds its end, and AWS takes the signatures of
# a host whose clock is five minutes ahead.
LONG_LIFE = 85 * 60.0
LONG_LIFE_LEFT = 65 * 60.0

# Jitter only makes a renewal earlier, by up to this part of its age, whatever the life is: without it, hosts that
# booted together would call AWS together for ever.
JITTER = 1 / 6

# A source that hands out nearly dead credentials is asked no more often than this.
SHORTEST_WAIT = 1.0

# Clients misbehave with less life than this (PROTOCOL.md 18). What something else renews is asked for again from here
# on, each time after this part of what is left.
ENOUGH = 30 * 60.0
OFTEN = 1 / 8

# A file has to hold 30 minutes of life at any time (CODEDEPLOY.md). Of a role in one this much is left when it is
# renewed: a minute is for AWS to answer and the disk to write. Nothing is renewed more often than once a minute for it,
# but for the jitter.
LEFT_IN_A_FILE = 31 * 60.0
SHORTEST_AGE = 60.0


def renewal_age(life: float, chance: float, max_age: float | None = None, least: float = 0.0) -> float:
    """How old credentials of a given life become before they are renewed.

    Args:
        life: From being obtained to expiration.
        chance: Uniform in [0, 1); spreads a fleet that booted together.
        max_age: Renew at least this often.
        least: What has to be left then, if the life is long enough for it (`long_enough`).
    """
    latest = life / 2
    if life >= LONG_LIFE:
        latest = min(latest, life - LONG_LIFE_LEFT)
    if long_enough(life, least):
        latest = min(latest, life - least)
    if max_age is not None:
        latest = min(latest, max_age)
    return latest * (1 - JITTER * chance)


def long_enough(life: float, least: float) -> bool:
    """Whether sessions of a life can be renewed with `least` left, without asking for one all the time."""
    return life - least >= SHORTEST_AGE


def wait_after_success(
    obtained: float,
    expiration: float,
    now: float,
    chance: float,
    max_age: float | None = None,
    least: float = 0.0,
) -> float:
    """How long from `now` until credentials that are held should be renewed.

    A clock that was set back never makes the wait longer than the age at which they are due.
    """
    age = renewal_age(max(expiration - obtained, 0.0), chance, max_age, least)
    return min(max(obtained + age - now, SHORTEST_WAIT), max(age, SHORTEST_WAIT))


def wait_for_another(
    left: float, chance: float, max_age: float | None = None, least: float = 0.0, *, again: bool
) -> float:
    """How long until a source that passes on what something else renews is asked whether there is a newer session.

    Args:
        left: Until the end of the one it has handed out.
        chance: Uniform in [0, 1).
        max_age: Ask at least this often.
        least: What has to be left of a session; with less, or nearly less, it is asked each minute.
        again: Whether it was the same one as before, so that the next is on its way.
    """
    wait = renewal_age(left, 0.0, max_age, least)
    enough, step = max(ENOUGH, least), min(left * OFTEN, SHORTEST_AGE) if least else left * OFTEN
    if left > enough:
        wait = min(wait, max(left - enough, step))
    elif again:
        wait = min(wait, step)
    return max(wait * (1 - JITTER * chance), SHORTEST_WAIT)
