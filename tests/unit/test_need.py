"""Which roles are kept at all (config/keep_mode.py, roles.py), and what is said of those that are not."""

import asyncio

import pytest

from imds_proxy.admin.status import Status
from imds_proxy.callers.caller import ServiceAccount
from imds_proxy.cli.status import render
from imds_proxy.config.keep_mode import Need, needed
from imds_proxy.config.reader import parse
from imds_proxy.errors import ConfigError
from imds_proxy.host.clock import Clock
from imds_proxy.output_files.all_output_files import Outputs
from imds_proxy.renewal.roles import Roles
from imds_proxy.telemetry.measured import Measured
from imds_proxy.telemetry.metrics import Metrics
from imds_proxy.telemetry.stats import RenewalStats
from support.on_demand import HOUR, Aws, in_virtual_time
from support.plane import role_table
from support.saved import save_queue, saved_sessions


def config(*roles, given=(), files=(), **tables):
    """A config of roles, each `NAME`, `NAME<PARENT` or with `!` for serve = false and `?` for on demand at its end."""
    tables = {"roles": {}, "metadata": {}} | tables
    for role in roles:
        name, _, parent = role.rstrip("!?").partition("<")
        serve = {"!": False, "?": "on-demand"}.get(role[-1], True)
        more = {"from": parent} if parent else {}
        tables["roles"] |= role_table(name, serve=serve, default=False, session_name="host", **more)
    tables["grants"] = [{"role": role, "user": "build"} for role in given]
    tables["files"] = [{"role": role, "path": f"/run/{role}"} for role in files]
    return parse({"region": "eu-west-1", **tables}, "test")


ALWAYS, ON_DEMAND, NONE = Need.ALWAYS, Need.ON_DEMAND, Need.NONE


@pytest.mark.parametrize(
    ("config", "given", "needs"),
    [
        (config("a", "b"), {"a", "b"}, {"a": ALWAYS, "b": ALWAYS}),
        (config("a", "b!"), {"a"}, {"a": ALWAYS, "b": NONE}),
        (config("a<b", "b<c!", "c!"), {"a"}, {"a": ALWAYS, "b": ALWAYS, "c": ALWAYS}),
        (config("a", "b!", files=["b"]), {"a"}, {"a": ALWAYS, "b": ALWAYS}),
        (config("a", "b", given=["a"]), {"a"}, {"a": ALWAYS, "b": NONE}),
        (config("a", "b", given=["a"], files=["b"]), {"a"}, {"a": ALWAYS, "b": ALWAYS}),
        (config("a<b", "b", given=["a"]), {"a"}, {"a": ALWAYS, "b": ALWAYS}),
        (config("a<b", "b", "c", given=["c"]), {"c"}, {"a": NONE, "b": NONE, "c": ALWAYS}),
        (config("a<b", "b<c", "c", given=["b"], files=["c"]), {"b"}, {"a": NONE, "b": ALWAYS, "c": ALWAYS}),
        (config("a", "b<c!", "c!", given=["a"], files=["b"]), {"a"}, {"a": ALWAYS, "b": ALWAYS, "c": ALWAYS}),
        (config("a?"), {"a"}, {"a": ON_DEMAND}),
        (config("a?", "b", given=["b"]), {"b"}, {"a": NONE, "b": ALWAYS}),
        (config("a?", files=["a"]), {"a"}, {"a": ALWAYS}),
        (config("a<b", "b?"), {"a", "b"}, {"a": ALWAYS, "b": ALWAYS}),
        # Else the first try would have to wait for two calls, one after the other.
        (config("a<b?", "b?"), {"a", "b"}, {"a": ON_DEMAND, "b": ALWAYS}),
    ],
)
def test_a_role_is_kept_when_somebody_may_have_it_or_a_file_or_such_a_role_needs_it(config, given, needs):
    """A role that is needed would be missing, or one that is not would cost calls and raise alerts."""
    assert (needed(config).given, needed(config).needs) == (given, needs)


@pytest.mark.parametrize("serve", ["ondemand", "true", 1, 0, None, []])
def test_what_serve_may_be_is_said(serve):
    with pytest.raises(ConfigError) as caught:
        parse({"roles": role_table(serve=serve)}, "test")
    without = ", without quotes" if serve == "true" else ""
    assert f'roles.deploy.serve: expected true, false or "on-demand"{without}' in caught.value.mistakes


# What is said of them


class Watched:
    """Roles on a config, and what the control plane says of them."""

    def __init__(self, saved=None, clock=None):
        self.clock = clock or asyncio.get_running_loop().clock()
        self.stats = RenewalStats()
        self.roles = Roles(self.clock, self.stats, lambda: None)
        outputs = Outputs(self.roles.live, self.roles.is_pending, self.stats, self.clock)
        self.measured = Measured(self.clock, renewals=self.stats, roles=self.roles.figures)
        self.status = Status(self.measured, self.roles, outputs, lambda: self.config)
        self.sources = {}
        self.saved = saved

    async def follow(self, config):
        self.config = config
        await self.roles.stop(self.roles.update(config, self.saved))
        self.roles.start(self._make)
        await asyncio.sleep(2)

    def _make(self, name, *_):
        self.sources[name] = Aws(self.clock)
        return self.sources[name]

    def states(self):
        return {role["role"]: role["state"] for role in self.status.document()["roles"]}

    def series(self, name):
        text = Metrics(self.measured).exposition().decode()
        return {line.partition('role="')[2].partition('"')[0] for line in text.splitlines() if line.startswith(name)}


@in_virtual_time
async def test_a_role_that_nobody_may_have_is_not_there_and_alerts_of_nothing():
    """Somebody would be woken up for a role that is only configured."""
    watched = Watched()
    await watched.follow(config("a", "b", "c?", given=["a"]))
    await asyncio.sleep(5 * HOUR)
    assert list(watched.sources) == list(watched.roles.served()) == ["a"]
    assert watched.states() == {"a": "ok", "b": "unused", "c": "unused"}
    assert watched.status.not_ready() == {}
    for name in ("credential_expiration_timestamp", "credential_renewed_timestamp", "renewals_total"):
        assert watched.series(f"imds_proxy_{name}") == {"a"}
    await watched.roles.close()


@in_virtual_time
async def test_a_role_that_nobody_asks_for_is_ready_and_has_nothing_that_expires():
    """A probe would take the host out of service, or an alert would fire, each time that a role is let go."""
    watched = Watched()
    await watched.follow(config("a", "b?"))
    assert watched.states() == {"a": "ok", "b": "idle"}
    assert watched.status.not_ready() == {}
    assert not watched.roles.is_pending("b")
    assert watched.series("imds_proxy_credential_expiration_timestamp") == {"a"}
    assert watched.series("imds_proxy_renewals_total") == {"a", "b"}
    watched.roles.served()["b"].serve()
    assert watched.status.not_ready() == {}
    await asyncio.sleep(2)
    assert watched.states() == {"a": "ok", "b": "ok"}
    assert watched.series("imds_proxy_credential_expiration_timestamp") == {"a", "b"}
    await asyncio.sleep(5 * HOUR)
    assert watched.states() == {"a": "ok", "b": "idle"}
    assert watched.series("imds_proxy_credential_expiration_timestamp") == {"a"}
    await watched.roles.close()


@in_virtual_time
async def test_a_role_that_was_asked_for_and_fails_is_as_any_that_fails():
    watched = Watched()
    await watched.follow(config("a", "b?"))
    watched.sources["b"].is_away = True
    watched.roles.served()["b"].serve()
    await asyncio.sleep(2)
    assert watched.states()["b"] == "pending"
    assert watched.status.not_ready() == {"b": "no route"}
    assert "b: unreachable at" in render(watched.status.document(), as_json=False)
    await watched.roles.close()


@in_virtual_time
async def test_with_nothing_but_roles_on_demand_the_summary_names_no_time():
    watched = Watched()
    await watched.follow(config("a?"))
    assert watched.status.summary() == "serving on demand; nobody asks at this time"
    text = render(watched.status.document(), as_json=False)
    assert "idle" in text
    await watched.roles.close()


@in_virtual_time
async def test_the_summary_counts_the_sessions_of_pods():
    """systemctl status would say that nobody is served, of a host that serves a cluster."""
    watched = Watched()
    accounts = {"issuer": "https://cluster.example", "jwks_file": "/etc/keys.json"}
    grant = {"role": "pods", "service_account": "team/*"}
    roles = role_table("pods", tags="service-account")
    tables = {"region": "eu-west-1", "roles": roles, "service_accounts": accounts, "grants": [grant]}
    await watched.follow(parse(tables, "test"))
    for number in range(2):
        watched.roles.tagged()["pods"].serve(ServiceAccount("team", "app", f"app-{number}", f"uid-{number}"))
    await asyncio.sleep(2)
    assert watched.status.summary().startswith("serving 2 session(s), the first expires at ")
    await watched.roles.close()


@in_virtual_time
async def test_a_reload_that_takes_the_last_grant_ends_the_renewal_and_one_that_gives_it_begins_it():
    watched = Watched()
    await watched.follow(config("a", "b", given=["a", "b"]))
    await watched.follow(config("a", "b", given=["a"]))
    calls = len(watched.sources["b"].calls)
    await asyncio.sleep(5 * HOUR)
    assert len(watched.sources["b"].calls) == calls == 1
    assert watched.roles["b"].keeper.last is None
    await watched.follow(config("a", "b", given=["b"]))
    assert watched.states() == {"a": "unused", "b": "ok"}
    await watched.roles.close()


@in_virtual_time
async def test_a_reload_to_on_demand_and_back_needs_no_new_session():
    """Credentials that live would be thrown away, and AWS asked for others."""
    watched = Watched()
    await watched.follow(config("a"))
    await watched.follow(config("a?"))
    await watched.follow(config("a"))
    assert len(watched.sources["a"].calls) == 0
    assert watched.roles.served()["a"].serve()
    await watched.roles.close()


@in_virtual_time
async def test_a_reload_with_other_settings_does_not_let_go_what_is_asked_for():
    """A client that is served would find nothing at its next try."""
    watched = Watched()
    await watched.follow(config("a", "b?"))
    watched.roles.served()["b"].serve()
    await asyncio.sleep(2)
    changed = role_table("a", default=True) | role_table("b", serve="on-demand", external_id="xy", default=False)
    await watched.follow(parse({"region": "eu-west-1", "roles": changed}, "test"))
    assert watched.states()["b"] == "ok"
    assert len(watched.sources["b"].calls) == 1
    assert watched.roles.served()["b"].serve()
    await watched.roles.close()


async def test_after_a_restart_saved_credentials_of_a_role_on_demand_are_served(tmp_path):
    """Each restart would cost every client a failed try."""
    for restarted in (False, True):
        watched = Watched(save_queue(saved_sessions(tmp_path)), Clock())
        watched.roles.update(config("a?"), watched.saved)
        assert await watched.roles.restore(10)
        watched.roles.start(watched._make)
        held = watched.roles.served()["a"].serve()
        async with asyncio.timeout(10):
            while watched.roles.live("a") is None:
                await asyncio.sleep(0.01)
        assert (held is not None) is restarted
        assert len(watched.sources["a"].calls) == (0 if restarted else 1)
        await watched.roles.close()
        await watched.saved.close()
