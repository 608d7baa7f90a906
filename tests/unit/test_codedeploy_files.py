"""The files of an agent's host, as text and on disk."""

import os
import stat
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.codedeploy import agent_credentials, agent_yaml, config_entry
from imds_proxy.codedeploy.daemon_roles import roles, usable_session_arn
from imds_proxy.codedeploy.onpremises import OnPremises, credentials_file_mistake, load, session_arn_mistake
from imds_proxy.codedeploy.replace import replace
from imds_proxy.errors import ConfigError, FileError, ImdsProxyError

ARN = "arn:aws:sts::123456789012:assumed-role/Deploy/web-1"
CONFIG = '# by hand\n[roles.deploy]\nrole_arn = "arn:aws:iam::123456789012:role/Deploy"  # ours\n'
PATH = "/etc/codedeploy-agent/conf/credentials"

# The on-premises file


def test_the_file_has_exactly_the_agents_three_keys():
    assert OnPremises(ARN, PATH, "eu-west-1").text() == (
        f"iam_session_arn: {ARN}\naws_credentials_file: {PATH}\nregion: eu-west-1\n"
    )


@pytest.mark.parametrize(
    "path",
    [
        "/c",
        "C:\\ProgramData\\Amazon\\CodeDeploy\\credentials",
        "/with blank # and 'quotes'",
        "/ends:",
        "/é",
        "- x",
        "~",
    ],
)
def test_what_is_written_is_what_is_read(tmp_path, path):
    """A path that YAML takes for a comment, a mapping or null."""
    wanted = OnPremises(ARN, path, "eu-west-1")
    (tmp_path / "file").write_text(wanted.text())
    assert load(tmp_path / "file") == wanted


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])))
def test_any_line_of_text_survives_as_a_scalar(value):
    assert agent_yaml.read(f"key: {agent_yaml.scalar(value)}", strict=True) == {"key": value}


@pytest.mark.parametrize(
    "value", ["true", "yes", "null", "~", "012", "1e3", "", "2024-01-01", ".inf", "- a", "a: b", "&x"]
)
def test_what_yaml_would_read_as_something_else_is_quoted(value):
    """A region or a path that becomes a truth value or a number in the agent."""
    assert agent_yaml.scalar(value).startswith("'")


def test_the_agents_own_config_is_read_as_far_as_it_is_flat():
    """Ruby writes its keys as symbols, and people add comments and lists."""
    text = "---\n:log_dir: '/var/log/agent/'\n:proxy_uri: http://proxy:3128  # ours\nlist:\n  - x\n:verbose: false\n"
    assert agent_yaml.read(text, strict=False) == {
        "log_dir": "/var/log/agent/",
        "proxy_uri": "http://proxy:3128",
        "list": "",
        "verbose": "false",
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "iam_session_arn: is required"),
        (f"iam_session_arn: {ARN}\nregion: eu-west-1\n", "aws_credentials_file: is required"),
        (f"iam_session_arn: {ARN}\naws_credentials_file: /c\nregion: x\nprofile: x\n", "profile: is no key of it"),
        ("iam_user_arn: arn:aws:iam::123456789012:user/x\naws_secret_access_key: hush\nregion: x\n", "an IAM user"),
        ("iam_session_arn: arn:aws:iam::123456789012:role/x\naws_credentials_file: /c\nregion: x\n", "assumed-role"),
        (f"iam_session_arn: {ARN}\naws_credentials_file: /root/.aws/credentials\nregion: x\n", "reads that one once"),
        (f"iam_session_arn: {ARN}\naws_credentials_file: /c\nregion: Ireland\n", 'did you mean "eu-west-1"?'),
        ("iam_session_arn:\n  - hush\n", "line 2"),
        (f"region: hush\nregion: x\niam_session_arn: {ARN}\n", "line 2"),
        ('region: "hush\n', "line 1"),
    ],
)
def test_files_that_register_no_session_are_told_of_without_their_values(tmp_path, text, says):
    """The older kind of this file holds a secret key."""
    (tmp_path / "file").write_text(text)
    with pytest.raises(ConfigError) as error:
        load(tmp_path / "file")
    assert says in error.value.message
    assert "hush" not in error.value.message


def test_a_file_that_is_not_there_or_no_text(tmp_path):
    with pytest.raises(ConfigError, match="is not there"):
        load(tmp_path / "none")
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load(tmp_path / "bytes")


@pytest.mark.parametrize(
    "path", ["/root/.aws/credentials", "/home/x/.aws/credentials", "C:\\Users\\x\\.aws\\credentials"]
)
def test_the_shared_credentials_file_is_refused(path):
    assert "reads that one once" in credentials_file_mistake(path)
    assert credentials_file_mistake(path.replace(".aws", "aws")) is None


@pytest.mark.parametrize(
    ("arn", "good"),
    [
        (ARN, True),
        ("arn:aws-cn:sts::123456789012:assumed-role/Deploy/a@b=c,d+e.f_g-h", True),
        ("arn:aws:sts::123456789012:assumed-role/path/Deploy/web-1", False),
        ("arn:aws:sts::123456789012:federated-user/x", False),
        (ARN + "\n", False),
    ],
)
def test_session_arns(arn, good):
    assert (session_arn_mistake(arn) is None) == good


# The [[files]] entry


def test_the_entry_is_added_and_every_other_byte_stays():
    text = config_entry.added(CONFIG, "deploy", PATH, Path("config.toml"))
    assert text == f'{CONFIG}\n[[files]]\nrole = "deploy"\npath = "{PATH}"\nformat = "ini"\nprofile = "default"\n'
    assert config_entry.added(text, "deploy", PATH, Path("config.toml")) is None


@pytest.mark.parametrize("config", [CONFIG.replace("\n", "\r\n"), CONFIG.rstrip("\n"), CONFIG + "\n\n"])
def test_the_entry_fits_any_end_of_file(config):
    """Editors differ in how they end lines, and the last one."""
    text = config_entry.added(config, "deploy", PATH, Path("config.toml"))
    assert text.startswith(config)
    assert tomllib.loads(text)["files"][0]["path"] == PATH
    if "\r" in config:
        assert "\n" not in text.replace("\r\n", "")


def test_an_entry_that_says_the_same_in_fewer_words_will_do():
    assert (
        config_entry.added(f'{CONFIG}[[files]]\nrole = "deploy"\npath = "{PATH}"\n', "deploy", PATH, Path("x")) is None
    )


def test_another_profile_of_the_same_file_stays():
    text = config_entry.added(
        f'{CONFIG}[[files]]\nrole = "deploy"\npath = "{PATH}"\nprofile = "other"\n', "deploy", PATH, Path("x")
    )
    assert [entry["profile"] for entry in tomllib.loads(text)["files"]] == ["other", "default"]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (f'{CONFIG}[[files]]\nrole = "deploy"\npath = "{PATH}"\nformat = "json"\n', "'ini' is needed"),
        (f'{CONFIG}[[files]]\nrole = "other"\npath = "{PATH}"\n', "'deploy' was asked for"),
        (f"files = []\n{CONFIG}", "is not valid TOML"),
        ("[roles\n", "is not valid TOML"),
        (CONFIG.replace("deploy]", "other]"), "no role 'deploy'"),
        (CONFIG + 'duration = "20m"\n', "with the entry added"),
    ],
)
def test_a_config_that_would_be_wrong_with_it_is_left_alone(config, says):
    """A daemon that does not start again, or a file that two roles write."""
    with pytest.raises(ConfigError) as error:
        config_entry.added(config, "deploy", PATH, Path("config.toml"))
    assert says in error.value.message


# On disk


def test_a_replaced_file_keeps_its_mode_and_a_new_one_has_the_mode_asked_for(tmp_path):
    path = tmp_path / "folder" / "file"
    replace(path, "one", 0o644)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    path.chmod(0o640)
    replace(path, "two", 0o644)
    assert (stat.S_IMODE(path.stat().st_mode), path.read_text()) == (0o640, "two")
    assert [each.name for each in path.parent.iterdir()] == ["file"]


def test_a_link_to_a_file_stays_a_link(tmp_path):
    """A config that is kept in a repository, and linked to."""
    (tmp_path / "real").write_text("one")
    (tmp_path / "link").symlink_to("real")
    replace(tmp_path / "link", "two", 0o644)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "two"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
@pytest.mark.parametrize("link", ["file", "folder"])
def test_a_link_of_another_users_is_not_followed(tmp_path, link):
    """An operator who is root would write to any file of the user's choice."""
    (tmp_path / "real").write_text("one")
    (tmp_path / link).symlink_to("real" if link == "file" else ".")
    os.chown(tmp_path / link, 4001, 4001, follow_symlinks=False)
    with pytest.raises(FileError, match="is a symbolic link of uid 4001"):
        replace(tmp_path / ("file" if link == "file" else "folder/real"), "two", 0o644)
    assert (tmp_path / "real").read_text() == "one"


def test_a_file_that_cannot_be_written_is_whole(tmp_path):
    (tmp_path / "file").write_text("one")
    with pytest.raises(FileError, match="cannot be written") as error:
        replace(tmp_path / "file" / "below", "two", 0o644)
    assert error.value.advice
    assert (tmp_path / "file").read_text() == "one"


# What the agent finds in its credentials file


def test_the_credentials_file_says_whose_key_and_until_when(tmp_path):
    path = tmp_path / "credentials"
    path.write_text(
        "[other]\nx = y\n[default]\naws_access_key_id = ASIAEXAMPLEWXYZ\naws_secret_access_key = s\n"
        "aws_session_token = t\naws_expiration = 2030-01-01T00:00:00Z\n"
    )
    assert agent_credentials.load(path) == agent_credentials.Held("…WXYZ", 1893456000.0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "is not there"),
        ("", "no aws_access_key_id"),
        ("[deploy]\naws_access_key_id = x\n", "no aws_access_key_id"),
        ("[default]\naws_access_key_id = AKIAHUSH\naws_secret_access_key = hush\n", "no aws_session_token"),
        ("hush\n", "is no INI file"),
        ("[default\nhush = hush", "is no INI file"),
    ],
)
def test_a_credentials_file_without_a_session_is_told_of_without_its_lines(tmp_path, text, says):
    path = tmp_path / "credentials"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError) as error:
        agent_credentials.load(path)
    assert says in error.value.message
    assert "hush" not in error.value.message.lower()


# The role as the daemon has it

HELD = {
    "role": "deploy",
    "session_arn": ARN,
    "key": "…WXYZ",
    "obtained": "2030-01-01T00:00:00Z",
    "expires": "2030-01-01T01:00:00Z",
    "default": True,
}


def test_a_session_of_an_hour_is_usable():
    assert usable_session_arn("deploy", roles({"roles": [HELD]})) == ARN


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"role": "other"}, 'no role "deploy"'),
        ({"obtained": None, "expires": None}, "no session yet"),
        ({"session_arn": None}, "does not say which session"),
        ({"session_arn": "arn:aws:iam::123456789012:user/x"}, "does not say which session"),
        ({"expires": "2030-01-01T00:30:00Z"}, "live for 30 minutes"),
        ({"expires": "2030-01-01T00:15:00Z"}, "live for 15 minutes"),
    ],
)
def test_a_role_that_the_agent_could_not_live_from(change, says):
    with pytest.raises(ImdsProxyError) as error:
        usable_session_arn("deploy", roles({"roles": [HELD | change]}))
    assert says in error.value.message
    assert error.value.advice
