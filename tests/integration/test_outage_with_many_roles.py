"""AWS STS out of reach for a hundred roles: the daemon serves everybody else as if nothing were the matter."""

import pytest

from support import outage
from support.daemon import DaemonProcess, wait

MANY = 100
MOST_CPU = 30.0
"""Milliseconds of a core for an attempt, everything else that the daemon does meanwhile included. It is 10 to 15; with
a session, a client and a TLS context for each it was 70."""
LONGEST = 1000.0
"""Milliseconds of one new connection in a hundred. It is 5 to 15 on a quiet host; this is what no host is too busy for,
and less than the loop was held up for."""
NAMES = [f"away{number}" for number in range(MANY)]


@pytest.fixture
def start(tmp_path):
    """`start(names, url)`: a daemon whose live role is there."""
    running = []

    def start(names, url, environment=outage.ENVIRONMENT, extra=""):
        daemon = DaemonProcess(tmp_path, outage.config(tmp_path, names, url, extra), environment)
        running.append(daemon.start())
        wait(lambda: listening(daemon) and daemon.role("live")["state"] == "ok", 20, "the live role")
        return daemon

    yield start
    for daemon in running:
        assert daemon.stop() == 0


def listening(daemon):
    try:
        return daemon.status()
    except OSError:
        return None


def all_tried(daemon):
    return all(role["failure"] for role in daemon.status()["roles"] if role["role"] != "live")


def test_roles_that_are_refused_cost_little_and_hold_up_nobody(start, record_property):
    """An outage of one service would be one of this host: clients time out, and a core is busy."""
    daemon = start(NAMES, outage.refusing())
    cost = outage.cost(daemon, 15)
    record_property("cost", str(cost))
    assert cost.attempts > MANY
    assert cost.per_attempt < MOST_CPU, cost
    assert cost.wait(0.99) < LONGEST, cost
    wait(lambda: all_tried(daemon), 20, "an attempt of each")
    assert "connect" in daemon.role("away0")["failure"]["message"]


def test_roles_that_hang_do_not_keep_others_waiting(start, aws, record_property):
    """With a bound on those under way, a hundred that hang would leave five good ones without credentials."""
    good = "".join(
        f'[roles.good{number}]\ndefault = false\nrole_arn = "{aws.role_arn}"\nsession_name = "good{number}"\n'
        f'sts_endpoint = "{aws.double.url}"\n'
        for number in range(5)
    )
    with outage.Silence() as silence:
        daemon = start(NAMES, silence.url, aws.environment, good)
        wait(lambda: len(silence.taken) >= MANY, 20, "all of them to hang")
        states = {role["role"]: role["state"] for role in daemon.status()["roles"]}
        assert {states[f"good{number}"] for number in range(5)} == {"ok"}
        cost = outage.cost(daemon, 15)
        record_property("cost", str(cost))
        assert cost.attempts > MANY / 2
        assert cost.per_attempt < MOST_CPU * 1.5, cost  # fewer attempts, so what is served weighs more
        assert cost.wait(0.99) < LONGEST, cost
        failure = daemon.role("away0")["failure"]
        assert failure["outcome"] == "unreachable"
        assert "time" in failure["message"].lower()
