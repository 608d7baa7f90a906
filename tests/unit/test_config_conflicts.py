"""Mistakes that are in the config alone: `check`, `serve` and a reload refuse them alike (config*.py)."""

import tomllib

import pytest

from imds_proxy.aws.session_name import FIELDS
from imds_proxy.cli.main import main
from imds_proxy.config.ages import MOST_RENEWALS
from imds_proxy.config.reader import parse
from imds_proxy.config.types import SESSION_NAME_FIELDS
from imds_proxy.errors import ConfigError
from imds_proxy.renewal.turns import PAUSE

ROLE = '[roles.deploy]\nrole_arn = "arn:aws:iam::123456789012:role/Deploy"\n'
GRANT = '[[grants]]\nrole = "deploy"\nuid = 0\n'
FILE = '[[files]]\nrole = "deploy"\npath = "/srv/out"\n'
ACCOUNTS = '[service_accounts]\nissuer = "https://issuer"\n'


def listeners(*metadata, admin="127.0.0.1:9338"):
    return f'[metadata]\nlisten = [{", ".join(f"{each!r}" for each in metadata)}]\n[admin]\nlisten = "{admin}"\n'


def session_name(value):
    return ROLE + f'session_name = "{value}"\n', "roles.deploy.session_name"


def hosts(value, table="metadata"):
    return f"[{table}]\nallowed_hosts = ['{value}']\n{ROLE}", f"{table}.allowed_hosts.0"


WRONG = [
    # One port twice
    (listeners("127.0.0.1:80", admin="127.0.0.1:80") + ROLE, "admin.listen", "127.0.0.1:80 (metadata.listen.0)"),
    (listeners("0.0.0.0:80", admin="127.0.0.1:80") + ROLE + GRANT, "admin.listen", "cannot both be opened"),
    (listeners("127.0.0.1:80", admin="0.0.0.0:80") + ROLE, "admin.listen", "cannot both be opened"),
    (listeners("[::]:80", admin="[::1]:80") + ROLE + GRANT, "admin.listen", "cannot both be opened"),
    (listeners("127.0.0.1:80", "127.0.0.1:80") + ROLE, "metadata.listen.1", "(metadata.listen.0) cannot both"),
    (listeners("[::1]:80", "[0:0:0:0:0:0:0:1]:80") + ROLE, "metadata.listen.1", "cannot both be opened"),
    (listeners("127.0.0.1:080", "127.0.0.1:80") + ROLE, "metadata.listen.1", "cannot both be opened"),
    (listeners("systemd:imds", admin="systemd:imds") + ROLE, "admin.listen", "systemd:imds (metadata.listen.0)"),
    ('[metadata]\nlisten = ["127.0.0.1:9338"]\n' + ROLE, "metadata.listen.0", "127.0.0.1:9338 (admin.listen)"),
    ('[admin]\nlisten = "127.0.0.1:1338"\n' + ROLE, "admin.listen", "127.0.0.1:1338 (metadata.listen.0)"),
    # What nothing can be bound to
    (listeners("[::ffff:127.0.0.1]:80") + ROLE + GRANT, "metadata.listen.0", "write 127.0.0.1 in place of ::ffff:"),
    (listeners("[fe80::1]:80") + ROLE, "metadata.listen.0", "as in [fe80::1%eth0]:PORT"),
    (listeners("224.0.0.1:80") + ROLE + GRANT, "metadata.listen.0", "the address of a group of hosts"),
    # Paths
    ('state_dir = "state"\n' + ROLE, "state_dir", "expected an absolute path"),
    ('state_dir = "~/state"\n' + ROLE, "state_dir", "~ is no home"),
    ('[audit]\nfile = "audit.log"\n' + ROLE, "audit.file", "expected an absolute path"),
    ('[audit]\nfile = "~/audit.log"\n' + ROLE, "audit.file", "~ is no home"),
    (ROLE + FILE.replace("/srv/out", "~/out"), "files.0.path", "~ is no home"),
    (ROLE + FILE + 'after = "./reload"\n', "files.0.after", "expected the program's absolute path, or a name"),
    (ROLE + FILE + 'after = "~/reload now"\n', "files.0.after", "no shell runs it"),
    ('[roles.p]\nsource = "process"\ncommand = ["bin/x"]\n', "roles.p.command", "expected the program's absolute path"),
    ('[audit]\nfile = "/srv/out"\n' + ROLE + FILE, "files.0.path", "is the path of audit.file too"),
    ('state_dir = "/srv/out"\n' + ROLE + FILE, "files.0.path", "is the path of state_dir too"),
    ('state_dir = "/srv/s/"\n[audit]\nfile = "/srv/s"\n' + ROLE, "audit.file", "is the path of state_dir too"),
    (ROLE + FILE + GRANT + 'token_file = "/srv/out"\n', "grants.0.token_file", "is the path of files.0.path too"),
    (
        '[admin]\ncertificate = "/srv/out"\nprivate_key = "/srv/key"\n' + ROLE + FILE,
        "files.0.path",
        "is the path of admin.certificate too",
    ),
    (ACCOUNTS + 'jwks_file = "/srv/out"\n' + ROLE + FILE, "files.0.path", "of service_accounts.jwks_file too"),
    # A key that is replaced without a place that says so
    ('state_dir = ""\n[base_key]\nrotate_every = "30d"\n' + ROLE, "base_key.rotate_every", "needs a state directory"),
    # Ages
    ('[renewal]\nmax_age = "1h"\n' + ROLE, "renewal.max_age", "1h is no shorter than the longest session (1h)"),
    ('[renewal]\nmax_age = "48h"\n' + ROLE + 'duration = "12h"\n', "renewal.max_age", "2d is no shorter than"),
    ("[renewal]\nmax_age = 0\n" + ROLE, "renewal.max_age", "greater than or equal to 1"),
    ("[renewal]\nmax_age = -5\n" + ROLE, "renewal.max_age", "greater than or equal to 1"),
    ('[renewal]\nmax_age = "-5m"\n' + ROLE, "renewal.max_age", 'expected a duration such as "1h"'),
    # Placeholders
    (*session_name("{host}"), "there is no {host}: expected {hostname}, {fqdn}, {machine_id}"),
    (*session_name("{Hostname}"), "there is no {Hostname}"),
    (*session_name("{host name}"), "there is no {host name}"),
    (*session_name("web-{}"), "there is no {}"),
    (*session_name("{hostname"), "a brace that is not one of a pair"),
    (*session_name("{{hostname}}"), "a brace that is not one of a pair"),
    (ROLE + 'tags = { host = "{hostname}" }\n', "roles.deploy.tags", "'host': tags hold no placeholders"),
    (ROLE + 'tags = { "a;b" = "c" }\n', "roles.deploy.tags", "and no ';'"),
    (ROLE + 'tags = { "aws:x" = "c" }\n', "roles.deploy.tags", "AWS's own"),
    # Names of hosts
    (*hosts("metadata.internal:80"), 'write "metadata.internal"'),
    (*hosts("http://metadata.internal"), 'write "metadata.internal"'),
    (*hosts("https://Metadata.internal:443/latest?x"), 'write "Metadata.internal"'),
    (*hosts("metadata.internal/"), 'write "metadata.internal"'),
    (*hosts("[fd00::1]:80"), 'write "fd00::1"'),
    (*hosts("*.internal"), "there are no wildcards"),
    (*hosts("metadaten.münchen"), "in ASCII"),
    (*hosts(""), "expected a host name"),
    (*hosts("a b"), "expected a host name"),
    (*hosts("metadata.internal:80", "admin"), 'write "metadata.internal"'),
]
RIGHT = [
    listeners("[::]:80", "0.0.0.0:80", admin="127.0.0.1:81") + ROLE + GRANT,
    listeners("127.0.0.1:80", "127.0.0.2:80", "[::1]:80", "systemd:imds", admin="systemd:admin") + ROLE,
    listeners("127.0.0.1:0", admin="127.0.0.1:0") + ROLE,
    listeners("[fe80::1%eth0]:80") + ROLE,
    'state_dir = ""\n[base_key]\n' + ROLE,
    '[base_key]\nrotate_every = "30d"\n' + ROLE,
    '[renewal]\nmax_age = "59m"\n' + ROLE,
    '[renewal]\nmax_age = "2d"\n[roles.p]\nsource = "ambient"\n',
    '[renewal]\nmax_age = "1s"\n' + ROLE,
    session_name("{hostname}-{fqdn}.{machine_id}")[0],
    ROLE + 'tags = { team = "a b_.:/=+-@é" }\n',
    hosts("Metadata.Internal")[0],
    hosts("metadata_1.internal.")[0],
    hosts("fd00::1")[0],
    hosts("10.0.0.1", "admin")[0],
    ROLE + GRANT + 'token_file = "/srv/t"\n' + GRANT.replace("uid", "gid") + 'token_file = "/srv/t"\n',
    '[admin]\ncertificate = "/srv/pem"\nprivate_key = "/srv/pem"\n' + ROLE,
    ROLE + FILE + 'after = "systemctl reload app"\n',
]


def mistakes(text):
    with pytest.raises(ConfigError) as caught:
        parse(tomllib.loads(text), "t")
    return caught.value.mistakes


@pytest.mark.parametrize(("text", "key", "what"), WRONG, ids=lambda value: value if len(value) < 40 else "")
def test_what_the_daemon_could_not_do_is_a_mistake_of_the_config(text, key, what):
    """It was called valid, and known from the log of a daemon that served less than it was asked for."""
    (found,) = mistakes(text)
    assert found.startswith(f"{key}: ")
    assert what in found


@pytest.mark.parametrize("text", RIGHT)
def test_what_only_looks_like_it_is_none(text):
    """A daemon that has served for a year would not start again."""
    assert parse(tomllib.loads(text), "t")


def test_more_roles_than_can_be_renewed_in_time():
    """Each would be renewed later than it was asked for, and STS be asked all the time."""
    roles = "".join(ROLE.replace("deploy", f"r{number}") + "default = false\n" for number in range(41))
    assert parse(tomllib.loads('[renewal]\nmax_age = "3s"\n' + roles), "t")
    (found,) = mistakes('[renewal]\nmax_age = "2s"\n' + roles)
    assert found.startswith("renewal.max_age: 41 roles cannot all be renewed every 2s: at most 20")


def test_the_config_and_what_does_it_agree():
    """A number, or a name, that is written in two places."""
    assert pytest.approx(1 / PAUSE) == MOST_RENEWALS
    assert tuple(FIELDS) == SESSION_NAME_FIELDS


def test_check_and_serve_refuse_the_same_in_the_same_words(monkeypatch, capsys, tmp_path):
    """What check calls valid would end the daemon at its next start, with the exit code of a mistake."""
    monkeypatch.setattr("imds_proxy.host.process_hardening.harden", lambda: None)  # of this process, for good
    monkeypatch.setattr("imds_proxy.telemetry.log.configure", lambda *_: None)
    path = tmp_path / "config.toml"
    for text, key, what in WRONG:
        path.write_text(text)
        said = {}
        for verb in (["check", "--form"], ["check", "--offline"], ["serve"]):
            assert main([*verb, "--config", str(path)]) == 2, (verb, text)
            said[verb[-1]] = capsys.readouterr().err
        assert f" {key}: " in said["serve"], text
        assert what in said["serve"]
        assert said["--form"] == said["serve"]
        assert set(said["serve"].splitlines()[1:]) <= set(said["--offline"].splitlines())
