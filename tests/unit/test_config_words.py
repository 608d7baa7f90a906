"""What a mistake in the config says to whoever wrote it (config_words.py, config_toml.py)."""

import pytest

from imds_proxy.cli.main import main
from imds_proxy.config.reader import load, parse
from imds_proxy.errors import ConfigError

ARN = "arn:aws:iam::123456789012:role/Deploy"
ROLE = f'[roles.deploy]\nrole_arn = "{ARN}"\n'
PROCESS = '[roles.p]\nsource = "process"\ncommand = "x"\ndefault = true\n'


@pytest.fixture
def mistakes(tmp_path):
    """`mistakes(text)`: those of a file with that text, without its path."""

    def of(text):
        path = tmp_path / "config.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ConfigError) as caught:
            load(path)
        told = caught.value.mistakes or (caught.value.message,)
        return [each.removeprefix(str(path)).removeprefix(":") for each in told]

    return of


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (
            f'{ROLE}region = "eu-west-1"\n',
            "3: roles.deploy.region: unknown key; it belongs at the top of the file, before the first [table]",
        ),
        (f"{ROLE}listen = []\n", "3: roles.deploy.listen: unknown key; it belongs in [metadata] or in [admin]"),
        (f'{ROLE}url = ""\n', '3: roles.deploy.url: unknown key; it belongs in [roles.NAME] with source = "http"'),
        (f'{ROLE}user = ""\n', "3: roles.deploy.user: unknown key; it belongs in [[grants]]"),
        (f"{ROLE}[metadata.admin]\n", "3: metadata.admin: unknown key; it belongs in a table of its own, [admin]"),
        (f"{ROLE}[[metadata.files]]\n", "3: metadata.files: unknown key; it belongs in a table of its own, [[files]]"),
        (f'role_arn = ""\n{ROLE}', "1: role_arn: unknown key; it belongs in [roles.NAME]"),
        (f'serve = ""\n{ROLE}', "1: serve: unknown key; it belongs in [roles.NAME]"),
        (f'Max-Age = ""\n{ROLE}', "1: Max-Age: unknown key; it belongs in [renewal]"),
        (f"{PROCESS}external_id = 1\n", "5: roles.p.external_id: unknown key; it belongs in [roles.NAME] with source"),
        (
            f'{ROLE}[roles.web.app]\nrole_arn = ""\n',
            "3: roles.web.app: unknown key; it is in [roles.web]: a role's name with a dot goes into quotes, as in",
        ),
        (f"{ROLE}[role.x]\ny = 1\n", '3: role: unknown key; did you mean "roles"?'),
        (f"{ROLE}[service_account]\ny = 1\n", '3: service_account: unknown key; did you mean "service_accounts"?'),
    ],
)
def test_a_key_of_another_table_is_said_to_belong_there(mistakes, text, mistake):
    """TOML has no end of a table: a key below it is in it, and no key of its own is meant."""
    found = mistakes(text)
    assert any(each.startswith(mistake) for each in found), found


@pytest.mark.parametrize("key", ["role-arn", "roleArn", "ROLE_ARN", "RoleARN", "rolearn"])
def test_a_key_that_differs_by_hyphens_and_capitals_is_recognized(mistakes, key):
    assert f'4: roles.p.{key}: unknown key; did you mean "role_arn"?' in mistakes(
        PROCESS.replace("default", f'{key} = ""\ndefault')
    )


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            f'{ROLE}[grants]\nrole = "deploy"\n',
            "3: grants: is an array of tables: write [[grants]], with two brackets, for each entry",
        ),
        (
            f'{ROLE}[files]\nrole = "deploy"\n',
            "3: files: is an array of tables: write [[files]], with two brackets, for each entry",
        ),
        (
            f"{ROLE}[grants]\n[grants]\n",
            "4: is not valid TOML: [grants] is there twice: write [[grants]], with two brackets, for each entry",
        ),
        (f"[{ROLE[:14]}]{ROLE[14:]}", "1: roles.deploy: is one table: write [roles.deploy], with one bracket"),
        (f"{ROLE}[[metadata]]\n", "3: metadata: is one table: write [metadata], with one bracket"),
        (f"{ROLE}[[instance]]\n", "3: instance: is one table: write [instance], with one bracket"),
        (
            f'[roles]\nname = "deploy"\nrole_arn = "{ARN}"\n',
            "1: roles: has a table for each role: write [roles.NAME], with the role's name in the brackets",
        ),
        (
            f'[[roles]]\nname = "deploy"\nrole_arn = "{ARN}"\n',
            "1: roles: has a table for each role: write [roles.NAME], with the role's name in the brackets",
        ),
        (f'roles.deploy = "{ARN}"\n', "1: roles: has a table for each role: write [roles.NAME]"),
    ],
)
def test_brackets_of_another_kind_are_the_one_mistake_there_is(mistakes, text, wanted):
    """Whoever is told that a table is expected has written one."""
    [found] = mistakes(text)
    assert found.startswith(wanted)


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        ('metadata.imds_v1 = "true"', "1: metadata.imds_v1: expected true or false, without quotes"),
        ('metadata.imds_v1 = "yes"', "1: metadata.imds_v1: expected true or false"),
        ('metadata.hop_limit = "2"', "1: metadata.hop_limit: expected a whole number, without quotes"),
        ('metadata.hop_limit = "two"', "1: metadata.hop_limit: expected a whole number"),
        ('roles.p.serve = "false"', '1: roles.p.serve: expected true, false or "on-demand", without quotes'),
        ('grants = [{role = "deploy", uid = [0, "7"]}]', "1: grants.0.uid.1: expected a whole number, without quotes"),
    ],
)
def test_quotes_are_said_where_they_are_the_mistake(mistakes, line, mistake):
    found = mistakes(f'{line}\n{ROLE}default = true\n[roles.q]\nsource = "process"\ncommand = "x"\n')
    assert any(each.startswith(mistake) for each in found), found
    said = [each for each in found if each.startswith(mistake)]
    assert said[0].endswith("quotes") == mistake.endswith("quotes")


@pytest.mark.parametrize(
    ("line", "what", "hint"),
    [
        (
            "region = eu-west-1",
            "1: is not valid TOML: Invalid value in column 10",
            'text goes into quotes, as in "text"',
        ),
        ("a = \u201cx\u201d", "1: is not valid TOML: Invalid value in column 5", 'text goes into quotes, as in "text"'),
        ("\nimds_v1 = True", "2: is not valid TOML: Invalid value in column 11", "true and false are in lower case"),
        ("listen = [127.0.0.1:80]", "1: is not valid TOML: Unclosed array in column 16", "text into quotes"),
        ("listen = [\n'a'\n'b']", "3: is not valid TOML: Unclosed array in column 1", "a comma goes between two items"),
        ("a = [\n'a'\n\n", "2: is not valid TOML: Unclosed array at the end of the file", "a comma goes between"),
        ("[roles.a@b]", "1: is not valid TOML: Expected ']' at the end of a table declaration", 'as in [roles."a@b"]'),
        ('a = "C:\\x"', "1: is not valid TOML: Unescaped", "text with backslashes goes into single quotes"),
    ],
)
def test_what_is_no_toml_is_told_with_what_people_meant(mistakes, line, what, hint):
    """Text without quotes is what every other format of a config takes."""
    [found] = mistakes(line)
    assert found.startswith(what)
    assert hint in found


def test_a_byte_order_mark_is_no_part_of_the_config(tmp_path):
    """Editors of Windows put it there, and nothing shows it."""
    (tmp_path / "config.toml").write_bytes(b"\xef\xbb\xbf" + ROLE.encode())
    config = load(tmp_path / "config.toml")
    assert config.places.of("roles.deploy.role_arn").endswith("config.toml:2")


@pytest.mark.parametrize(
    ("raw", "mistake"),
    [
        (ROLE.encode("utf-16"), " is UTF-16 text, and UTF-8 is needed: write it as UTF-8"),
        (ROLE.encode("utf-16-be"), " is UTF-16 text, and UTF-8 is needed: write it as UTF-8"),
        (f"{ROLE}# M\xfcller\n".encode("latin-1"), "3: is not UTF-8 text, perhaps Latin-1 (ISO 8859-1, Windows-1252)"),
    ],
    ids=["UTF-16 with its mark", "UTF-16", "Latin-1"],
)
def test_another_encoding_is_named(mistakes, raw, mistake):
    assert mistakes(raw)[0].startswith(mistake)


def test_an_option_is_told_by_its_name(capsys, monkeypatch):
    """It said `roles.Deploy.role_arn`, which is in no file and on no command line."""
    monkeypatch.setattr("imds_proxy.host.process_hardening.harden", lambda: None)  # of this process, for good
    wrong = ["--role-arn", "arn:aws:iam::1:role/Deploy", "--region", "x", "--profile", "", "--listen", "here:80"]
    assert main(["serve", *wrong]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "imds-proxy: command line: 4 mistakes"
    assert sorted(line.split(":")[0].strip() for line in lines[1:]) == [
        "--listen",
        "--profile",
        "--region",
        "--role-arn",
    ]


def test_data_from_no_file_is_told_by_key_paths_alone():
    with pytest.raises(ConfigError) as caught:
        parse({"roles": {}}, "t")
    assert caught.value.mistakes[0].startswith("roles: ")
