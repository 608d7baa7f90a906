"""Who sees what of the control plane: the decision."""

import pytest

from imds_proxy.admin.viewer import EVERYTHING, HEALTH, View, Viewers
from imds_proxy.callers.caller import Caller
from imds_proxy.config.reader import parse

ADMIN = "127.0.0.1:9338"
LISTEN = ["127.0.0.1:1338", "169.254.170.2:80", "systemd:there"]
DAEMON = 990


def arn(name):
    return {"role_arn": f"arn:aws:iam::123456789012:role/{name}"}


def viewers(grants=(), **admin):
    roles = {name: arn(name) for name in ("deploy", "logs", "host")}
    if not grants:
        roles["deploy"]["default"] = True
    data = {"roles": roles, "metadata": {"listen": LISTEN}, "admin": admin, "grants": list(grants)}
    config = parse(data, "test")
    return Viewers(lambda: config, DAEMON)


def local(uid, user=None, groups=()):
    return Caller("127.0.0.1", ADMIN, f"uid {uid}".encode(), uid, user, groups=frozenset(groups))


def at(address):
    return Caller(address, ADMIN, address.encode())


def only(*roles):
    return View(documents=True, roles=frozenset(roles))


@pytest.mark.parametrize("grants", [[], [{"role": "logs", "user": "build"}]])
@pytest.mark.parametrize("caller", [local(0, "root"), local(DAEMON, "imds-proxy"), local(DAEMON), local(0)])
def test_root_and_the_daemons_user_see_everything(caller, grants):
    """An operator could not see why a renewal fails."""
    assert viewers(grants).view(caller) == EVERYTHING


def test_users_and_addresses_that_the_config_names_see_everything():
    """Prometheus runs as a user of its own, or on another host, and would raise no alert."""
    made = viewers(
        [{"role": "logs", "user": "build"}],
        allowed_users=["prometheus"],
        allowed_addresses=["192.0.2.0/24", "2001:db8::/32"],
    )
    assert made.view(local(1001, "prometheus")) == EVERYTHING
    assert made.view(at("192.0.2.9")) == made.view(at("2001:db8::1")) == EVERYTHING
    assert made.view(at("192.0.3.9")) == made.view(at("2001:db9::1")) == HEALTH
    assert made.view(local(1002, "build")) == only("logs")
    assert made.view(local(1003)) == only()


def test_another_user_sees_the_roles_of_its_grants():
    """Names, ARNs and ends of sessions would tell any user what else this host may do."""
    grants = [
        {"role": "logs", "user": "build"},
        {"role": "deploy", "group": "deployers", "listener": LISTEN[0]},
        {"role": "host", "address": "172.17.0.0/16"},
    ]
    made = viewers(grants)
    assert made.view(local(1001, "build")) == only("logs")
    assert made.view(local(1002, "agent", ["deployers"])) == only("deploy")
    assert made.view(local(1003, "stranger")) == only()


def test_what_a_listener_in_another_namespace_gives_is_not_seen_from_here():
    """Whoever reaches that listener has the role, and no user of this host does."""
    assert viewers([{"role": "logs", "listener": LISTEN[2]}]).view(local(1001, "build")) == only()


def test_without_grants_every_user_sees_the_default_role():
    """It is the one that everybody may have; the others open with a token alone."""
    assert viewers().view(local(1001, "build")) == only("deploy")


def test_who_is_not_known_on_loopback_is_a_user_without_grants():
    """A socket that is bound to a device has no owner, and would pass for root."""
    assert viewers([{"role": "logs", "user": "build"}]).view(at("127.0.0.1")) == only()
    assert viewers().view(at("::1")) == only("deploy")


@pytest.mark.parametrize("address", ["192.0.2.1", "172.17.0.2", "fe80::1", "2001:db8::1"])
def test_another_host_sees_whether_it_is_healthy(address):
    """A container could read role names and error texts; even one that is granted a role of its own."""
    assert viewers([{"role": "logs", "address": "172.17.0.0/16"}]).view(at(address)) == HEALTH
    assert viewers().view(at(address)) == HEALTH


def test_a_reload_holds_for_the_next_request():
    """Whoever was taken out of the config would see everything until the daemon is restarted."""
    configs = [
        parse({"roles": {"deploy": arn("d")}, "admin": {"allowed_users": users}}, "test") for users in ([], ["build"])
    ]
    made = Viewers(configs.pop, DAEMON)
    assert made.view(local(1001, "build")) == EVERYTHING
    assert made.view(local(1001, "build")) == only("deploy")
