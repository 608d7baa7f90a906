"""The role tables: one for each source (config_roles.py)."""

import pytest

from imds_proxy.config.model import Config
from imds_proxy.config.reader import parse
from imds_proxy.config.roles import ROLE_TABLES, source_of
from imds_proxy.errors import ConfigError

ARN = "arn:aws:iam::123456789012:role/Deploy"
ID = "01234567-89ab-cdef-0123-456789abcdef"
ANYWHERE = {
    "role_arn": ARN,
    "trust_anchor_arn": f"arn:aws:rolesanywhere:eu-west-1:123456789012:trust-anchor/{ID}",
    "profile_arn": f"arn:aws:rolesanywhere:eu-west-1:123456789012:profile/{ID}",
    "certificate": "/etc/pki/host.crt",
    "private_key": "/etc/pki/host.key",
}
GOOD = {
    "assume-role": {"role_arn": ARN},
    "roles-anywhere": ANYWHERE,
    "web-identity": {"role_arn": ARN, "token_file": "/run/token"},
    "process": {"command": "/usr/bin/helper --now"},
    "file": {"path": "/run/credentials.json"},
    "http": {"url": "https://credentials.example/role"},
    "ambient": {},
}


def role(source, **settings):
    return parse({"roles": {"deploy": {"source": source, **settings}}}, "t").roles["deploy"]


def mistakes(source, **settings):
    with pytest.raises(ConfigError) as caught:
        role(source, **settings)
    return list(caught.value.mistakes)


@pytest.mark.parametrize("source", ROLE_TABLES)
def test_each_source_has_a_table_of_its_own(source):
    assert type(role(source, **GOOD[source])) is ROLE_TABLES[source]
    assert source_of(role(source, **GOOD[source])) == source


def test_without_a_source_it_is_assume_role():
    assert parse({"roles": {"deploy": {"role_arn": ARN}}}, "t").roles["deploy"].source == "assume-role"


@pytest.mark.parametrize("source", ["assume_role", "", "iam", 1, None, ["file"]])
def test_a_source_that_there_is_not_lists_those_there_are(source):
    wanted = (
        "roles.deploy.source: expected one of assume-role, roles-anywhere, web-identity, process, file, http, ambient"
    )
    assert mistakes(source, role_arn=ARN) == [wanted]


@pytest.mark.parametrize("source", ROLE_TABLES)
def test_an_unknown_key_is_named_with_the_keys_of_that_source(source):
    """A key of another source would be taken and do nothing."""
    found = mistakes(source, **GOOD[source], zzz=1)
    assert found[0].startswith("roles.deploy.zzz: unknown key; known here: source, role_arn, serve, default")
    assert ("external_id" in found[0]) == (source == "assume-role")


@pytest.mark.parametrize(
    ("source", "change", "says"),
    [
        (
            "roles-anywhere",
            {"trust_anchor_arn": "arn:aws:iam::1:x"},
            "trust_anchor_arn: expected arn:aws:rolesanywhere",
        ),
        ("roles-anywhere", {"profile_arn": ARN}, "profile_arn: expected arn:aws:rolesanywhere:REGION:ACCOUNT:profile"),
        ("roles-anywhere", {"certificate": "host.crt"}, "certificate: expected an absolute path"),
        ("roles-anywhere", {"private_key": "host.key"}, "private_key is an absolute path or a pkcs11: URI"),
        ("roles-anywhere", {"private_key": "pkcs11:token=t"}, "pkcs11_module and a pkcs11: private_key go together"),
        ("roles-anywhere", {"pkcs11_module": "/m.so"}, "pkcs11_module and a pkcs11: private_key go together"),
        ("roles-anywhere", {"role_arn": None}, "role_arn: expected text in quotes"),
        ("roles-anywhere", {"duration": "13h"}, "duration: expected from 15m to 12h"),
        ("web-identity", {"token_command": "/bin/token"}, "takes one of token_file and token_command"),
        ("web-identity", {"token_file": "token"}, "token_file: expected an absolute path"),
        ("process", {"command": ""}, "command: expected a command"),
        ("process", {"command": []}, "command: expected a command"),
        ("process", {"command": [""]}, "command: expected a command"),
        ("process", {"command": ["a", 1]}, "command: expected a command"),
        ("process", {"command": "helper 'open"}, "command: cannot be split into arguments"),
        ("process", {"command": ["a", "b\0"]}, "command: an argument holds a null character"),
        ("file", {"path": "/run/a\0b"}, "path: holds a null character"),
        ("process", {"timeout": "0s"}, "timeout: "),
        ("file", {"path": "~/credentials"}, "path: expected an absolute path"),
        ("file", {"format": "yaml"}, "format: "),
        ("file", {"lifetime": "1h"}, 'lifetime is for format = "ini"'),
        ("file", {"profile": "x"}, 'profile is for format = "ini"'),
        ("http", {"url": "credentials.example"}, "url: expected an http:// or https:// URL"),
        ("http", {"url": "http://credentials.example/"}, "use https, or set allow_http = true"),
        ("http", {"shape": "other"}, "shape: "),
        ("http", {"client_key": "/k"}, "client_key goes with client_certificate"),
        ("ambient", {"profile": ""}, "profile: "),
    ],
    ids=str,
)
def test_a_mistake_is_named_by_its_key_and_not_by_its_source(source, change, says):
    """pydantic puts the source into the key path, where no operator has it."""
    [found] = mistakes(source, **(GOOD[source] | change))
    assert found.startswith("roles.deploy")
    assert says in found
    assert f"deploy.{source}" not in found


@pytest.mark.parametrize("source", ROLE_TABLES)
def test_what_is_required_is_said(source):
    required = [name for name, field in ROLE_TABLES[source].model_fields.items() if field.is_required()]
    for name in set(required) - {"source"}:
        settings = {key: value for key, value in GOOD[source].items() if key != name}
        assert mistakes(source, **settings) == [f"roles.deploy.{name}: is required"]


def test_a_command_is_split_as_a_shell_would_and_keeps_what_is_quoted():
    wanted = ("/usr/bin/helper", "--name", "a b", "a $(id)", "a ~", "*")
    assert role("process", command="/usr/bin/helper --name 'a b' 'a $(id)' 'a ~' '*'").command == wanted
    assert role("process", command=list(wanted)).command == wanted


@pytest.mark.parametrize(
    "url",
    ["https://x.example/", "http://127.0.0.1:1338/", "http://[::1]/", "http://localhost/", "http://169.254.170.2/r"],
)
def test_plain_http_is_for_this_host(url):
    assert role("http", url=url).url == url


def test_plain_http_elsewhere_is_the_operators_word():
    assert role("http", url="http://10.0.0.1/", allow_http=True).allow_http


def test_an_account_is_known_where_an_arn_is():
    assert role("process", command="x", role_arn=ARN).account_id == "123456789012"
    assert role("process", command="x").account_id is None


@pytest.mark.parametrize("source", ROLE_TABLES)
def test_a_changed_setting_is_another_session(source):
    """A reload would go on with a session that the old settings shaped."""

    def fingerprint(**settings):
        return Config.model_validate({"roles": {"deploy": {"source": source, **settings}}}).fingerprint("deploy")

    changed = GOOD[source] | {"role_arn": ARN + "2"}
    assert (
        fingerprint(**GOOD[source]) == fingerprint(**GOOD[source], serve=True, default=True) != fingerprint(**changed)
    )


@pytest.mark.parametrize("source", ROLE_TABLES)
def test_every_key_has_a_word_or_an_obvious_name(source):
    """`imds-proxy config schema` is what an editor shows."""
    schema = Config.model_json_schema()
    name = ROLE_TABLES[source].__name__
    assert schema["$defs"][name]["properties"]["source"].get("const") == source
    assert schema["$defs"][name]["description"]
