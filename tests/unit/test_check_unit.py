"""Whom `imds-proxy check` judges as, by what systemd's unit files say (cli/check_unit.py, cli/check_user.py)."""

import os
import pwd
from dataclasses import replace
from pathlib import Path

import pytest

from imds_proxy.cli import check_listeners, check_paths, check_sandbox
from imds_proxy.cli.check_sandbox import Sandbox
from imds_proxy.cli.check_unit import Unit, passed_by_units, unit_of
from imds_proxy.cli.check_user import judge
from imds_proxy.config.reader import parse
from imds_proxy.errors import ConfigError
from support.plane import role_table

DEFAULT = Path("/etc/imds-proxy/config.toml")
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def units(tmp_path):
    """Folders of unit files, the first with precedence; `put` writes into one of them."""
    folders = [tmp_path / "etc", tmp_path / "lib"]

    def put(folder, name, text):
        path = tmp_path / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return folders, put


def test_the_units_of_this_repository(units):
    """Check as root would say nothing of what the daemon's user cannot read."""
    folders, put = units
    for name in ("imds-proxy.service", "imds-proxy.socket"):
        put("lib", name, (REPOSITORY / "deploy/systemd" / name).read_text())
    sandbox = Sandbox("strict", "yes", ("/var/lib/imds-proxy",), ("/var/lib/imds-proxy",))
    assert unit_of(DEFAULT, folders) == Unit(
        "imds-proxy", frozenset({"CAP_NET_BIND_SERVICE"}), Path("/var/lib/imds-proxy"), sandbox
    )
    (passed,) = passed_by_units(folders)
    assert (passed.name, passed.listen, passed.free_bind) == ("imds", ("127.0.0.1:1338", "127.0.0.1:9338"), True)


def test_another_config_is_not_the_units(units):
    """A config in a checkout would be judged as a user that has nothing to do with it."""
    folders, put = units
    put("lib", "imds-proxy.service", "[Service]\nExecStart=/bin/imds-proxy serve --config /etc/a.toml\nUser=a\n")
    assert unit_of(DEFAULT, folders) is None
    assert unit_of(Path("/etc/a.toml"), folders).user == "a"
    put("etc", "imds-proxy.service.d/x.conf", "[Service]\nExecStart=\nExecStart=/bin/imds-proxy serve --config=/b\n")
    assert unit_of(Path("/etc/a.toml"), folders) is None
    assert unit_of(Path("/b"), folders).user == "a"
    text = "[Service]\nExecStart=\nExecStart=/bin/imds-proxy serve\nEnvironment=A=b IMDS_PROXY_CONFIG=/c\n"
    put("etc", "imds-proxy.service.d/y.conf", text)
    assert unit_of(Path("/c"), folders).user == "a"


def test_what_is_changed_beside_a_unit_counts_in_its_order(units):
    """`systemctl edit` is how the README says to change it."""
    folders, put = units
    put(
        "lib",
        "imds-proxy.service",
        "[Service]\nExecStart=x serve\nUser=a\n# User=b\nAmbientCapabilities=CAP_A \\\nCAP_B\n",
    )
    put("lib", "imds-proxy.service.d/20.conf", "[Service]\nUser=low\n")
    put("etc", "imds-proxy.service.d/20.conf", "[Service]\nAmbientCapabilities=CAP_CHOWN\n")
    put("etc", "imds-proxy.service.d/note.txt", "[Service]\nUser=nobody\n")
    unit = unit_of(DEFAULT, folders)
    assert (unit.user, unit.capabilities) == ("a", {"CAP_A", "CAP_B", "CAP_CHOWN"})
    put("etc", "imds-proxy.service", "[Service]\nExecStart=x serve\n")
    assert unit_of(DEFAULT, folders).user is None


def test_without_units_there_is_none(tmp_path):
    assert unit_of(DEFAULT, [tmp_path / "missing"]) is None
    assert passed_by_units([tmp_path / "missing"]) == []


def test_a_socket_of_systemd_is_found_by_its_name_or_its_address(units):
    """What systemd holds, bound to an address that comes later, would be called missing."""
    folders, put = units
    put("etc", "a.socket", "[Socket]\nFileDescriptorName=imds\nListenStream=169.254.9.9:80\nFreeBind=yes\n")
    put("etc", "b.socket", "[Socket]\nListenStream=/run/b\n")
    listen = ["systemd:imds", "systemd:b.socket", "systemd:other", "169.254.9.9:80", "169.254.9.8:80"]
    config = parse({"roles": role_table(), "metadata": {"listen": listen}}, "t")
    found = check_listeners.findings(config, judge(None, None), {}, passed_by_units(folders), offline=True)
    assert [each.path for each in found] == ["metadata.listen.2", "metadata.listen.4"]


def test_what_systemd_makes_at_the_start_is_not_missing_before_it(tmp_path):
    """The first check of a new host would find what its first start makes."""
    text = {"state_dir": f"{tmp_path}/state", "audit": {"file": f"{tmp_path}/logs/audit.log"}}
    text |= {"files": [{"role": "deploy", "path": f"{tmp_path}/state/out"}]}
    config = parse({"roles": role_table(), **text}, "t")
    own = judge(None, None)
    made = replace(own, made_by_systemd=(f"{tmp_path}/state", f"{tmp_path}/logs"))
    found = {each.path for each in check_paths.findings(config, own, tmp_path)}
    assert found == {"audit.file", "files.0.path"}
    assert list(check_paths.findings(config, made, tmp_path)) == []


def test_who_asks_is_judged_where_nobody_else_is_named():
    own = judge(None, None)
    assert (own.uid, own.account) == (os.geteuid(), None)
    assert own.why.endswith("who runs this")


def test_root_becomes_the_user_of_the_unit_and_has_its_rights():
    """Root reads every file, and so finds nothing."""
    unit = Unit("daemon", frozenset({"CAP_CHOWN"}), Path("/var/lib/imds-proxy"))
    found = judge(None, unit)
    account = pwd.getpwnam("daemon")
    assert (found.uid, found.account) == (account.pw_uid, account)
    assert (found.capabilities, found.state_directory) == ({"CAP_CHOWN"}, Path("/var/lib/imds-proxy"))
    assert "judged as daemon (uid " in found.why
    assert found.why.endswith("as imds-proxy.service runs, with the environment of who runs this")
    assert judge("nobody", unit).capabilities == frozenset()


def test_a_user_that_is_not_there():
    """One of systemd's own making is there while the service runs."""
    found = judge(None, Unit("no-such-user", frozenset(), None))
    assert found.uid == os.geteuid()
    assert "imds-proxy.service runs as no-such-user, a user that is not there" in found.why
    with pytest.raises(ConfigError, match="there is no such user on this host"):
        judge("no-such-user", None)


def test_nobody_but_root_judges_for_another(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: pwd.getpwnam("nobody").pw_uid)
    found = judge(None, Unit("daemon", frozenset(), None))
    assert found.account is None
    assert found.daemons == {pwd.getpwnam("nobody").pw_uid, pwd.getpwnam("daemon").pw_uid}
    assert "imds-proxy.service runs as daemon" in found.why
    with pytest.raises(ConfigError, match="only root can judge for another user"):
        judge("daemon", None)


@pytest.mark.parametrize(
    ("words", "path", "setting"),
    [
        ({"ProtectSystem": ["strict"]}, "/etc/agent/credentials", "ProtectSystem=strict"),
        ({"ProtectSystem": ["full"]}, "/etc/agent/credentials", "ProtectSystem=full"),
        ({"ProtectSystem": ["yes"]}, "/etc/agent/credentials", None),
        ({"ProtectSystem": ["true"]}, "/usr/x", "ProtectSystem=yes"),
        ({"ProtectSystem": ["strict"], "ReadWritePaths": ["-/etc/agent", "/srv"]}, "/etc/agent/credentials", None),
        (
            {"ProtectSystem": ["strict"], "ReadWritePaths": ["/etc/age"]},
            "/etc/agent/credentials",
            "ProtectSystem=strict",
        ),
        ({"ProtectSystem": ["strict"], "ReadWritePaths": ["%h/x"]}, "/etc/agent/credentials", None),
        ({"ProtectSystem": ["strict"], "StateDirectory": ["imds-proxy"]}, "/var/lib/imds-proxy/out", None),
        ({"ProtectSystem": ["strict"], "LogsDirectory": ["imds-proxy"]}, "/var/log/imds-proxy/a.log", None),
        ({"ProtectHome": ["yes"]}, "/home/a/.aws/out", "ProtectHome=yes"),
        ({"ProtectHome": ["read-only"]}, "/home/a/.aws/out", "ProtectHome=read-only"),
        ({"ProtectHome": ["no"]}, "/home/a/.aws/out", None),
        ({}, "/etc/agent/credentials", None),
    ],
)
def test_what_the_unit_keeps_the_daemon_from_writing(words, path, setting):
    """From outside of the unit the folder is writable; the daemon says "Read-only file system" at each renewal."""
    files = [{"role": "deploy", "path": path}]
    config = parse({"roles": role_table(), "files": files, "state_dir": "/var/lib/imds-proxy"}, "t")
    found = [each for each in check_sandbox.findings(config, Sandbox.of(words), "x.service") if each.key[0] == "files"]
    assert [each.what for each in found] == (
        [f"{path} cannot be written by x.service, which has {setting}"] if setting else []
    )
    assert all(f"ReadWritePaths={os.path.dirname(path)} under" in each.advice for each in found)  # noqa: PTH120
