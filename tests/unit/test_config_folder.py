"""`conf.d` beside the config file, and which config file it is (config_read.py, config_folder.py, cli/options.py)."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.cli import options
from imds_proxy.cli.main import main
from imds_proxy.cli.status_check import _control_plane
from imds_proxy.codedeploy.setup import config_file
from imds_proxy.config.document import read
from imds_proxy.config.folder import UnreadableError
from imds_proxy.config.reader import load
from imds_proxy.errors import ConfigError
from imds_proxy.host import trusted_owner
from imds_proxy.host.access_advice import Place
from support.fuzzing import examples

ARN = "arn:aws:iam::123456789012:role/Deploy"
MAIN = f'region = "eu-west-1"\n[roles.deploy]\nrole_arn = "{ARN}"\n[[grants]]\nrole = "deploy"\nuid = 1\n'
WEB = f'[roles.web]\nrole_arn = "{ARN}"\n[[grants]]\nrole = "web"\nuid = 2\n'
README = (Path(__file__).parents[2] / "README.md").read_text()
EXAMPLE = next(each for each in re.findall(r"```toml\n(.*?)```", README, re.DOTALL) if each.count("\n[[grants]]") > 3)
BLOCKS = re.split(r"^(?=\[)", EXAMPLE, flags=re.MULTILINE)
ANOTHER_USER = 4001

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")


@pytest.fixture
def host(monkeypatch):
    """This is no container."""
    monkeypatch.setattr(trusted_owner.access_advice, "place", lambda: Place.HOST)


@pytest.fixture
def config(tmp_path, host):
    """`config(main, name=text…)`: the path of the config file; `None` for no file."""

    def written(main, **further):
        if main is not None:
            (tmp_path / "config.toml").write_text(main)
        for name, text in further.items():
            (tmp_path / "conf.d").mkdir(exist_ok=True)
            (tmp_path / "conf.d" / f"{name}.toml").write_text(text)
        return tmp_path / "config.toml"

    return written


def refused(path):
    with pytest.raises(ConfigError) as caught:
        load(path)
    return caught.value.message.replace(str(path.parent), "")


def test_tables_are_merged_and_arrays_of_tables_appended_in_order_of_name(config):
    """A package or a configuration manager brings a role of its own without an edit of a file of others'."""
    read = load(
        config(
            MAIN,
            b_web=WEB,
            a_tags='[roles.deploy.tags]\nteam = "x"\n[metadata]\nhop_limit = 2\n',
            c=f'[[grants]]\nrole = "web"\nuser = ["a", "b"]\n[metadata]\nimds_v1 = true\n# {ARN}\n',
        )
    )
    assert list(read.roles) == ["deploy", "web"]
    assert read.roles["deploy"].tags == {"team": "x"}
    assert (read.metadata.hop_limit, read.metadata.imds_v1) == (2, True)
    assert [(grant.role, grant.uid, grant.user) for grant in read.grants] == [
        ("deploy", (1,), ()),
        ("web", (2,), ()),
        ("web", (), ("a", "b")),
    ]
    assert [Path(file).name for file in read.places.files] == ["config.toml", "a_tags.toml", "b_web.toml", "c.toml"]


@examples(30)
@given(cuts=st.lists(st.integers(0, 4), min_size=40, max_size=40).map(sorted))
def test_a_config_cut_into_files_is_the_same_config(cuts):
    """Wherever it is cut, as long as the files keep the order."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.toml")
        path.with_name("conf.d").mkdir(mode=0o755)
        for number, block in zip(cuts, BLOCKS, strict=False):
            with (path.with_name("conf.d") / f"{number}.toml" if number else path).open("a") as file:
                file.write(block)
        assert read(path).data == tomllib.loads("".join(BLOCKS))


def test_without_the_file_itself_the_folder_is_the_config(config):
    assert list(load(config(None, web=WEB)).roles) == ["web"]
    assert options.require_config(config(None, web=WEB)).region is None


def test_a_folder_that_is_empty_or_not_there_changes_nothing(config, tmp_path):
    path = config(MAIN)
    assert list(load(path).roles) == ["deploy"]
    (tmp_path / "conf.d").mkdir()
    assert list(load(path).roles) == ["deploy"]
    path.unlink()
    assert refused(path) == "/config.toml: cannot be read: No such file or directory"


@pytest.mark.parametrize(
    ("main", "further", "mistake"),
    [
        ('region = "a"', '\nregion = "b"', "2: region: {}:1 sets it too: keep it in one of the two"),
        ('region = "a"', 'region = "a"', "1: region: {}:1 sets it too"),
        ("[metadata]\nhop_limit = 1", "metadata.hop_limit = 1", "1: metadata.hop_limit: {}:2 sets it too"),
        ("metadata = {hop_limit = 1}", "metadata.hop_limit = 1", "1: metadata.hop_limit: {}:1 sets it too"),
        ("[metadata]\nlisten = []", "[metadata]\nlisten = []", "2: metadata.listen: {}:2 sets it too"),
        ("grants = []", "[[grants]]\nuid = 1", "1: grants: {}:1 sets it too"),
        ("[roles.a]\ntags = 'x'", "[roles.a.tags]\nx = 'y'", "1: roles.a.tags: {}:2 sets it too"),
        ("[roles.a]\nx = 1", "[[roles.a]]\nx = 1", "1: roles.a: {}:1 sets it too"),
    ],
)
def test_what_two_files_set_is_a_mistake_that_names_both(config, main, further, mistake):
    """Which of them counts would be an accident of their names."""
    found = refused(config(f"{main}\n", other=f"{further}\n"))
    assert f"  /conf.d/other.toml:{mistake.format('/config.toml')}" in found


def test_mistakes_are_told_where_they_are(config):
    """Of thirty files with grants nobody counts to the eighth."""
    path = config(
        MAIN,
        a=WEB.replace('"web"', '"wbe"'),
        b='# b\n\n[metadata]\n[[grants]]\nrole = "deploy"\nuid = 2\n[[grants]]\nuid = 3\n',
    )
    assert refused(path).splitlines() == [
        "/config.toml and /conf.d: 2 mistakes",
        "  /conf.d/b.toml:7: grants.3.role: is required",
        "  /conf.d/a.toml:4: grants.1.role: there is no role 'wbe'",
    ]


def test_what_is_wrong_in_each_file_shows_at_once(config):
    path = config('region = "x"\n', a="a =", b="[x", c='region = "y"\n')
    lines = refused(path).splitlines()
    assert lines[0] == "/config.toml and /conf.d: 3 mistakes"
    assert lines[1].startswith("  /conf.d/a.toml:1: is not valid TOML")
    assert lines[2].startswith("  /conf.d/b.toml:1: is not valid TOML")
    assert lines[3].startswith("  /conf.d/c.toml:1: region: /config.toml:1 sets it too")


def test_hidden_files_and_backups_are_not_read(config, tmp_path):
    """Editors and package managers put them there."""
    path = config(MAIN, web=WEB)
    for name in (".web.toml", ".#web.toml", "web.toml~", "web.toml.dpkg-old", "#web.toml#", "README", "web.conf"):
        (tmp_path / "conf.d" / name).write_text("no TOML")
    (tmp_path / "conf.d" / "folder").mkdir()
    assert list(load(path).roles) == ["deploy", "web"]


def test_a_name_that_is_no_text_is_told_so_that_it_can_be_printed(config, tmp_path):
    """The mistake would end in an error of Python's own."""
    path = config(MAIN, web=WEB)
    (tmp_path / "conf.d" / "web.toml").rename(os.fsdecode(os.fsencode(tmp_path / "conf.d") + b"/\xff.toml"))
    assert load(path).places.of("roles.web").encode().endswith(b"/conf.d/\\udcff.toml:1")


def test_what_is_named_as_a_file_and_is_none_is_a_mistake(config, tmp_path):
    """It would be missed, or a pipe be waited for."""
    path = config(MAIN, web=WEB)
    (tmp_path / "conf.d" / "a.toml").mkdir()
    os.mkfifo(tmp_path / "conf.d" / "b.toml")
    (tmp_path / "conf.d" / "c.toml").symlink_to("nowhere")
    lines = refused(path).splitlines()[1:]
    assert lines[0].startswith("  /conf.d/a.toml is no file: every *.toml in conf.d is read")
    assert lines[1].startswith("  /conf.d/b.toml is no file")
    assert lines[2] == "  /conf.d/c.toml: cannot be read: No such file or directory"
    shutil.rmtree(tmp_path / "conf.d")
    (tmp_path / "conf.d").write_text("")
    assert refused(path) == "/conf.d: cannot be read: Not a directory"


@pytest.mark.parametrize("who", ["the file", "the folder"])
@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_what_others_may_write_is_refused_with_what_to_do(config, tmp_path, who, mode):
    """Whoever writes there gives himself a role, or has a command run by the daemon."""
    path = config(MAIN, web=WEB)
    folder = tmp_path / "conf.d"
    target, mode = (folder / "web.toml", mode) if who == "the file" else (folder, mode | 0o111)
    target.chmod(mode)
    name = str(target).replace(str(tmp_path), "")
    lines = refused(path).splitlines()
    assert lines[0] == f"{name} can be written by others than its owner"
    assert "chown it to root or to the user the daemon runs as" in lines[1]
    assert lines[1].endswith(f"and chmod {644 if who == 'the file' else 755} {name}")


@as_root
@pytest.mark.parametrize("who", ["web.toml", "."])
def test_what_belongs_to_another_user_is_refused(config, tmp_path, who, monkeypatch):
    path = config(MAIN, web=WEB)
    os.chown(tmp_path / "conf.d" / who, ANOTHER_USER, 0)
    assert "belongs to uid 4001, who is neither root nor the daemon's user" in refused(path)
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, ANOTHER_USER, 0)  # the daemon's user; root checks
    monkeypatch.setattr(trusted_owner, "SYSTEM_STATE_DIR", state)
    os.chown(tmp_path / "conf.d" / "web.toml", ANOTHER_USER, 0)
    assert list(load(path).roles) == ["deploy", "web"]


@as_root
def test_links_lead_where_no_other_user_can_change_it(config, tmp_path):
    """A link of root's into the folder of a user is the user's."""
    path = config(MAIN, web=WEB)
    users, roots = tmp_path / "home", tmp_path / "root"
    for folder in (users, roots):
        folder.mkdir()
        (folder / "x.toml").write_text('[roles.x]\nsource = "process"\ncommand = "x"\n[[grants]]\nrole="x"\nuid = 3\n')
    os.chown(users, ANOTHER_USER, 0)
    link = tmp_path / "conf.d" / "x.toml"
    link.symlink_to(roots / "x.toml")
    assert list(load(path).roles) == ["deploy", "web", "x"]
    link.unlink()
    link.symlink_to(users / "x.toml")
    assert "x.toml is in a folder, or below one, that others than its owner can change" in refused(path)
    link.unlink()
    link.symlink_to(roots / "x.toml")
    os.chown(link, ANOTHER_USER, 0, follow_symlinks=False)
    assert "x.toml: is not safe: " in refused(path)
    link.unlink()
    roots.chmod(0o777)
    link.symlink_to(roots / "x.toml")
    assert "x.toml is in a folder, or below one, that others than its owner can change" in refused(path)


READ_ONLY = """
mount --make-rprivate / && mount --bind $1 $1 && mount -o remount,bind,ro $1
exec "$2" -c "
import sys
from pathlib import Path
from imds_proxy.config.reader import load
from imds_proxy.config.document import read
from imds_proxy.errors import ConfigError
from imds_proxy.host import access_advice
access_advice.place = lambda: access_advice.Place[sys.argv[1]]
try:
    print(list(load(Path(sys.argv[2], 'config.toml')).roles))
except ConfigError as error:
    print(error)
" $3 $1
"""


@as_root
@pytest.mark.parametrize(
    ("place", "said"), [("POD", "['deploy', 'web']"), ("CONTAINER", "['deploy', 'web']"), ("HOST", "can be written by")]
)
def test_in_a_container_what_is_mounted_read_only_is_nobodys_to_change(config, tmp_path, place, said):
    """A ConfigMap's folder has mode 0777. On a host only this process may see it so, by ProtectSystem=."""
    config(MAIN, web=WEB)
    (tmp_path / "conf.d").chmod(0o777)
    command = ["unshare", "-m", "sh", "-c", READ_ONLY, "sh", str(tmp_path), sys.executable, place]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert said in done.stdout


# Which config


def test_the_variable_names_the_config_where_no_option_does(config, tmp_path, monkeypatch, capsys):
    path = config(MAIN, web=WEB)
    other = tmp_path / "other.toml"
    other.write_text(WEB)
    monkeypatch.setattr("imds_proxy.host.process_hardening.harden", lambda: None)  # of this process, for good
    monkeypatch.setattr(options, "DEFAULT_PATH", tmp_path / "default.toml")
    monkeypatch.setenv("IMDS_PROXY_CONFIG", str(path))
    assert main(["check", "--as", "uid=2"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{path}, {tmp_path}/conf.d/web.toml: valid\n")
    assert f"  grants.1  gives web: uid = 2 ({tmp_path}/conf.d/web.toml:3)\n" in printed
    assert options.config_path(other) == other
    monkeypatch.setenv("IMDS_PROXY_CONFIG", "")
    assert options.config_path(None) == tmp_path / "default.toml"


@pytest.mark.parametrize("verb", [["check"], ["serve"], ["env"], ["status"], ["status", "--check"], ["exec", "true"]])
def test_a_variable_that_names_no_file_is_the_mistake(verb, monkeypatch, capsys):
    """It said what is wrong with a path that nobody gave."""
    monkeypatch.setattr("imds_proxy.host.process_hardening.harden", lambda: None)
    monkeypatch.setenv("IMDS_PROXY_CONFIG", "/no/config.toml")
    assert main(verb) == 2
    said = capsys.readouterr().err
    assert said == (
        "imds-proxy: IMDS_PROXY_CONFIG names /no/config.toml, and there is no such file:"
        " set it to another, or unset it\n"
    )


@as_root
def test_a_user_who_may_not_read_all_of_the_default_config_goes_by_the_defaults(monkeypatch, host):
    """As without conf.d; a config that was named is another matter."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.toml")
        path.write_text(MAIN)
        path.with_name("conf.d").mkdir()
        further = path.with_name("conf.d") / "web.toml"
        further.write_text(WEB)
        Path(folder).chmod(0o755)
        further.chmod(0o600)
        monkeypatch.setattr(options, "DEFAULT_PATH", path)
        monkeypatch.delenv("IMDS_PROXY_CONFIG", raising=False)
        assert options.read_config_if_any(None) is not None
        os.seteuid(ANOTHER_USER)
        try:
            assert options.read_config_if_any(None) is None
            with pytest.raises(UnreadableError, match=r"conf\.d/web\.toml: cannot be read: Permission denied"):
                options.read_config_if_any(path)
            monkeypatch.setenv("IMDS_PROXY_CONFIG", str(path))
            with pytest.raises(UnreadableError):
                options.read_config_if_any(None)
            monkeypatch.setenv("IMDS_PROXY_CONFIG", "")
            os.seteuid(0)
            Path(folder).chmod(0o700)
            os.seteuid(ANOTHER_USER)
            assert options.read_config_if_any(None) is None
            with pytest.raises(UnreadableError, match=r"config\.toml: cannot be read: Permission denied"):
                options.require_config(None)
        finally:
            os.seteuid(0)


def test_the_health_check_reads_the_same_files(config):
    """It would ask the default address while the daemon is at another."""
    path = config(MAIN, admin='[admin]\nlisten = "127.0.0.1:7"\n')
    assert _control_plane(path) == ("127.0.0.1", 7, None)
    with pytest.raises(ConfigError, match=r"conf\.d/admin\.toml:2: admin\.listen: expected"):
        _control_plane(config(MAIN, admin='[admin]\nlisten = "x"\n'))


def test_codedeploy_setup_finds_its_entry_in_any_file_and_adds_it_to_the_config_file(config):
    """Added twice, the config would be wrong; and a role of conf.d would not be known."""
    agents = "/etc/codedeploy-agent/conf/credentials"
    path = config(MAIN, web=WEB)
    change = config_file(path, "web", agents)
    assert change.path == path
    assert change.content.startswith(MAIN)
    path = config(MAIN, files=f'[[files]]\nrole = "web"\npath = "{agents}"\n')
    assert config_file(path, "web", agents) is None
    with pytest.raises(ConfigError, match="'deploy' was asked for"):
        config_file(path, "deploy", agents)
    path.unlink()
    (path.with_name("conf.d") / "files.toml").unlink()
    config_file(path, "web", agents).apply()
    assert [file.path for file in load(path).files] == [agents]
