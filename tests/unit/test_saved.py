"""Which saved sessions are served again, and which go (renewal/disk_cache.py, session_shape.py; roles.py)."""

import asyncio
import socket
from dataclasses import replace

import pytest

from imds_proxy.config.reader import parse
from imds_proxy.host.clock import Clock
from imds_proxy.host.state_dir import StateError
from imds_proxy.renewal.roles import Roles
from imds_proxy.renewal.session_shape import session_shape
from imds_proxy.telemetry.stats import RenewalStats
from support.on_demand import Aws
from support.plane import credentials, role_table
from support.saved import HOUR, save_queue, saved_sessions, session_file, shape

HELD = credentials()
NOW = HELD.obtained + 1
WEEK = 7 * 86400


@pytest.fixture
def saved(tmp_path):
    return saved_sessions(tmp_path)


def reason(caplog):
    record = caplog.records[-1]
    return record.levelname, getattr(record, "error", None) or record.reason


def test_the_file_of_one_role_cannot_stand_for_another(saved, tmp_path, caplog):
    """A caller of one role would be given the session of another."""
    for role in ("deploy", "admin"):
        saved.save(role, shape(), credentials(role))
    deploy, admin = session_file(tmp_path), session_file(tmp_path, "admin")
    deploy.rename(tmp_path / "other")
    admin.rename(deploy)
    (tmp_path / "other").rename(admin)
    for role in ("deploy", "admin"):
        assert saved.load(role, shape(), NOW) is None
        assert reason(caplog) == ("WARNING", "the file is of another role")


@pytest.mark.parametrize(
    ("change", "longest", "word"),
    [
        ({"expiration": HELD.expiration + 30 * 86400}, WEEK, "lives longer"),
        ({"expiration": HELD.obtained + 2 * HOUR}, HOUR, "lives longer"),
        ({"expiration": HELD.obtained + WEEK + 2 * HOUR, "obtained": HELD.obtained + HOUR}, WEEK, "lives longer"),
        ({"obtained": HELD.obtained + 1800}, HOUR, "in the future"),
        ({"obtained": HELD.obtained + 800}, HOUR, None),
        ({"expiration": HELD.obtained + HOUR + 600}, HOUR, None),
        ({"expiration": HELD.obtained + WEEK}, WEEK, None),
    ],
)
def test_a_saved_session_lives_no_longer_than_its_source_gives(saved, caplog, change, longest, word):
    """A life made up for it would be served until then."""
    saved.save("deploy", shape(longest_life=longest), session := replace(HELD, **change))
    found = saved.load("deploy", shape(longest_life=longest), NOW)
    assert found == (None if word else session)
    if word:
        assert reason(caplog)[0] == "WARNING"
        assert word in reason(caplog)[1]


def test_dead_credentials_are_nothing(saved):
    saved.save("deploy", shape(), HELD)
    assert saved.load("deploy", shape(), HELD.expiration) is None


def test_a_session_that_another_name_was_sent_for_is_not_used(saved, caplog):
    """A host that was renamed would go on under its old name, in CloudTrail and for the CodeDeploy agent."""
    saved.save("deploy", shape(name="host"), HELD)
    assert saved.load("deploy", shape(name="host"), NOW) == HELD
    assert saved.load("deploy", shape(name="web2"), NOW) is None
    assert reason(caplog) == ("INFO", "the file is of other settings, or of another name of this host")


def test_a_file_of_before_is_not_used_and_says_so_once(saved, tmp_path, caplog):
    """An upgrade costs a call, and is no alarm."""
    saved._state.write("credentials/deploy.json", b'{"fingerprint": "shape", "credentials": {"expiration": 1}}')
    assert saved.load("deploy", shape(), NOW) is None
    assert reason(caplog) == ("INFO", "the file is of a version of imds-proxy that did not authenticate what it saved")


# What a session has to have been obtained with


def config(**roles):
    return parse({"region": "eu-west-1", "roles": roles}, "test")


def role(name="deploy", **settings):
    return role_table(name, default=False, **settings)


def shape_of(table):
    return session_shape(table, "deploy", "x", socket.gethostname())


@pytest.fixture
def host(monkeypatch):
    """`host(name)` renames it."""

    def rename(name):
        monkeypatch.setattr(socket, "gethostname", lambda: name)

    monkeypatch.setattr(socket, "getfqdn", lambda: pytest.fail("asked DNS"))
    rename("web1.example.org")
    return rename


@pytest.mark.parametrize(
    ("template", "differs", "exact"),
    [("{hostname}", True, "web1"), ("{fqdn}", True, None), ("fixed", False, "fixed"), ("a-{hostname}", True, "a-web1")],
)
def test_the_name_that_is_sent_counts_and_not_its_template(host, template, differs, exact):
    """A copied state directory would serve the session of one host on another."""
    table = config(**role(session_name=template))
    before = shape_of(table)
    host("web2.example.org")
    after = shape_of(table)
    assert before.session_name == exact
    assert (before.digest != after.digest) is differs


def test_the_domain_counts_where_the_name_has_it(host):
    table = config(**role(session_name="{fqdn}"))
    before = shape_of(table)
    host("web1.example.net")
    assert shape_of(table) != before


def test_the_names_up_the_chain_count(host):
    """The role at its end would be had by a host that its trust policy does not name."""
    chain = config(**role("host", session_name="{hostname}"), **role(session_name="x", **{"from": "host"}))
    before = shape_of(chain)
    host("web2")
    assert shape_of(chain).digest != before.digest


def test_a_name_that_cannot_be_made_is_no_error(host, monkeypatch):
    """The source says what is wrong with it, at each attempt."""
    monkeypatch.setattr("imds_proxy.aws.session_name._MACHINE_ID_FILES", ())
    assert shape_of(config(**role(session_name="{machine_id}"))).session_name == "{machine_id}"


@pytest.mark.parametrize("variable", ["AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_STS"])
def test_which_aws_is_asked_counts_where_the_environment_says_it(host, monkeypatch, variable):
    """A service that was led to another account would serve the session of the old one."""
    table = config(**role())
    before = shape_of(table)
    monkeypatch.setenv(variable, "other")
    assert shape_of(table) != before


def test_a_rotated_base_key_costs_no_session(host, monkeypatch):
    """AWS lets the session live, and a host whose key rotates would need AWS at every restart."""
    table = config(**role())
    before = shape_of(table)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOTHER")
    assert shape_of(table) == before


@pytest.mark.parametrize(
    ("settings", "life"),
    [
        ({"duration": "2h"}, 2 * HOUR),
        ({"duration": "2h", "from": "host"}, HOUR),
        ({"duration": "15m", "from": "host"}, 900),
        ({"source": "process", "command": "x"}, WEEK),
        ({"source": "web-identity", "token_file": "/x", "duration": "3h"}, 3 * HOUR),
    ],
)
def test_how_long_a_source_lets_a_session_live(host, settings, life):
    assert shape_of(config(**role("host"), **role(**settings))).longest_life == life


# Files of roles that are gone


def test_the_files_of_dropped_roles_go_and_nothing_else_does(saved, tmp_path):
    """The keys of a role that the host has no more would stay on its disk."""
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_text("x")
    for name in ("deploy", "gone", "a@b.c+d"):
        saved.save(name, shape(), HELD)
    folder = tmp_path / "credentials"
    (folder / "link.json").symlink_to(elsewhere)
    (folder / "folder.json").mkdir()
    leftovers = [folder / f".{name}.json.imds-proxy.0123abcd" for name in ("gone", "deploy")]
    others = [folder / name for name in ("notes.txt", ".hidden.json", "gone.json.bak", "-x.json", ".gone.json.swp")]
    (folder / "own.json").write_text('{"Version": 1}')
    (folder / "before.json").write_text('{"fingerprint": "x", "credentials": {}}')
    for path in (*leftovers, *others):
        path.write_text("x")
    saved.keep_only({"deploy"})
    kept = {"deploy.json", "link.json", "folder.json", "own.json", leftovers[1].name, *(path.name for path in others)}
    assert {path.name for path in folder.iterdir()} == kept
    assert elsewhere.exists()


def test_a_folder_that_is_a_link_is_left_alone(saved, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/gone.json").write_text("x")
    (tmp_path / "credentials").symlink_to("other")
    with pytest.raises(StateError) as caught:
        saved.keep_only(())
    assert caught.value.advice
    assert (tmp_path / "other/gone.json").exists()


def test_where_nothing_was_saved_nothing_is_removed(saved):
    saved.keep_only(())


async def test_roles_that_are_dropped_or_kept_for_nobody_leave_no_file(tmp_path):
    """As above, by a reload; and an attempt that ends after it brings no file back."""
    clock, saved = Clock(), save_queue(saved_sessions(tmp_path))
    roles = Roles(clock, RenewalStats(), lambda: None)
    names = ("kept", "dropped", "unused", "asked")
    tables = [role(name, session_name="host") for name in names]
    roles.update(config(**{name: table[name] for name, table in zip(names, tables, strict=True)}), saved)
    roles.start(lambda *_: Aws(clock))
    await until(lambda: files(tmp_path) == set(names))
    late = roles["dropped"].keeper
    tables[2] = role("unused", session_name="host", serve=False)
    tables[3] = role("asked", session_name="host", serve="on-demand")
    kept = {"kept": tables[0]["kept"], "unused": tables[2]["unused"], "asked": tables[3]["asked"]}
    dropped = roles.update(config(**kept), saved)
    late.on_attempt(HELD)
    await roles.stop(dropped)
    await roles.close()
    await saved.close()
    assert files(tmp_path) == {"kept", "asked"}


def files(state):
    folder = state / "credentials"
    return {path.stem for path in folder.iterdir()} if folder.exists() else set()


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)
