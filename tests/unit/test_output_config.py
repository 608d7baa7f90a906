"""`[[files]]` (config_files.py)."""

import pytest

from imds_proxy.config.reader import parse
from imds_proxy.errors import ConfigError
from support.plane import role_table

WHERE = "/run/app/credentials"


def config(*files, roles=None):
    return parse({"roles": roles or role_table(), "files": list(files)}, "test")


def file(**keys):
    return {"role": "deploy", "path": WHERE, **keys}


def mistakes(*files, roles=None):
    with pytest.raises(ConfigError) as refused:
        config(*files, roles=roles)
    return "\n".join(refused.value.mistakes)


def test_a_file_by_default_is_the_default_profile_for_its_owner_alone():
    (entry,) = config(file()).files
    assert (entry.format, entry.profile, entry.mode, entry.owner, entry.after) == ("ini", "default", "0600", None, None)


def test_owner_and_group_by_name_or_number_and_after_as_a_line():
    (entry,) = config(file(owner=1000, group="www-data", after="systemctl reload 'my app'", mode="640")).files
    assert (entry.owner, entry.group, entry.mode) == ("1000", "www-data", "640")
    assert entry.after == ("systemctl", "reload", "my app")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"mode": "0644"}, "files.0.mode: would let every user"),
        ({"mode": "0602"}, "files.0.mode: would let every user"),
        ({"mode": "0601"}, "files.0.mode: would let every user"),
        ({"mode": "4600"}, "files.0.mode: expected a mode"),
        ({"mode": "rw"}, "files.0.mode: expected a mode"),
        ({"mode": 600}, "files.0.mode: expected text in quotes"),
        ({"path": "credentials"}, "files.0.path: expected an absolute path"),
        ({"path": "/run/../etc/x"}, "files.0.path: expected the path of a file"),
        ({"path": "/run/app/"}, "files.0.path: expected the path of a file"),
        ({"path": "/"}, "files.0.path: expected the path of a file"),
        ({"path": "/run/" + "x" * 240}, "files.0.path: is too long"),
        ({"role": "other"}, "files.0.role: there is no role 'other'"),
        ({"format": "yaml"}, "files.0.format"),
        ({"format": "json", "profile": "x"}, 'profile is for format = "ini"'),
        ({"profile": "a]\n[b"}, "files.0.profile: expected letters"),
        ({"profile": "DEFAULT"}, "files.0.profile: is a section for all"),
        ({"profile": ""}, "files.0.profile"),
        ({"owner": -1}, "files.0.owner: expected a name or a number"),
        ({"owner": True}, "files.0.owner"),
        ({"after": []}, "files.0.after: expected a command"),
        ({"shell": "x"}, "files.0.shell: unknown key"),
    ],
)
def test_a_mistake_is_told_with_its_place(keys, said):
    assert said in mistakes(file(**keys))


@pytest.mark.parametrize("path", ["/root/.aws/credentials", "/home/me/.aws/credentials", "/etc/own"])
def test_the_shared_credentials_file_is_refused_with_the_reason(monkeypatch, path):
    """The agent would read it once and never again; the daemon would take what it wrote for its own key."""
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/etc/own")
    said = mistakes(file(path=path))
    assert "the CodeDeploy agent reads only once" in said
    assert "use a file of its own" in said


def test_several_profiles_in_one_file():
    roles = role_table() | role_table("other", default=True)
    entries = config(
        file(), file(role="other", profile="other", mode="600"), file(path="/run/other"), roles=roles
    ).files
    assert [entry.profile for entry in entries] == ["default", "other", "default"]


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({}, {}, 'files.1.profile: "default" of this file is taken already'),
        ({}, {"format": "json"}, "files.1.path: is that of files.0"),
        ({"format": "env"}, {"format": "env"}, "files.1.path: is that of files.0"),
        ({}, {"profile": "b", "mode": "0640"}, "files.1.mode: is another than that of files.0"),
        ({"owner": "root"}, {"profile": "b"}, "files.1.owner: is another than that of files.0"),
        ({}, {"profile": "b", "group": 0}, "files.1.group: is another than that of files.0"),
    ],
)
def test_entries_of_one_file_have_to_agree(first, second, said):
    """Two that write one file in turn would each take away what the other wrote."""
    assert said in mistakes(file(**first), file(**second))


def test_a_file_that_a_role_reads_is_not_overwritten():
    roles = role_table() | {"pushed": {"source": "file", "path": WHERE, "default": True}}
    assert "files.0.path: is what roles.pushed.path reads" in mistakes(file(), roles=roles)


ANYWHERE = {
    "source": "roles-anywhere",
    "role_arn": "arn:aws:iam::123456789012:role/Host",
    "trust_anchor_arn": "arn:aws:rolesanywhere:eu-west-1:123456789012:trust-anchor/" + "0" * 36,
    "profile_arn": "arn:aws:rolesanywhere:eu-west-1:123456789012:profile/" + "0" * 36,
    "certificate": "/etc/host.pem",
}
POD = {"source": "web-identity", "role_arn": "arn:aws:iam::123456789012:role/Pod", "token_file": "/run/token"}


@pytest.mark.parametrize("role", [role_table()["deploy"], ANYWHERE, POD], ids=["assume-role", "anywhere", "web"])
@pytest.mark.parametrize("duration", ["15m", "30m", "34m59s", 2099])
def test_a_role_whose_sessions_are_too_short_is_refused_with_the_reason(role, duration):
    """The agent believes what it has read for 30 minutes: it would sign with dead credentials."""
    said = mistakes(file(), roles={"deploy": role | {"duration": duration}})
    assert "files.0.role: roles.deploy has sessions of" in said
    assert 'set its duration to "35m" or more' in said


@pytest.mark.parametrize("duration", [None, "35m", "1h"])
def test_a_role_whose_sessions_are_long_enough_is_taken(duration):
    assert config(file(), roles=role_table(**{"duration": duration} if duration else {})).files


def test_a_wrong_duration_or_role_is_told_once():
    """A mistake that is told twice looks like two."""
    assert mistakes(file(), roles=role_table(duration="soon")).count("\n") == 0
    assert mistakes({"path": WHERE}) == "files.0.role: is required"
    assert "expected an array" in mistakes_of_files("x")
    assert "expected a table" in mistakes_of_files(["x"])


def mistakes_of_files(value):
    with pytest.raises(ConfigError) as refused:
        parse({"roles": role_table(), "files": value}, "test")
    return "\n".join(refused.value.mistakes)
