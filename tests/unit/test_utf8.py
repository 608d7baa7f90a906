"""Text files that Windows wrote are read, or said to be what they are (host/utf8.py), wherever one is read."""

import json

import pytest

from imds_proxy.aws import files
from imds_proxy.aws.setting_error import SettingError
from imds_proxy.callers import grant_token_files
from imds_proxy.callers.kubernetes import jwks_refresh
from imds_proxy.cli.sdk_environment import shadowing_profile
from imds_proxy.cli.status_check import _control_plane
from imds_proxy.codedeploy import agent, agent_credentials, onpremises, setup
from imds_proxy.config import reader as config_file
from imds_proxy.config.http_role import HttpConfig
from imds_proxy.errors import ConfigError, ImdsProxyError
from imds_proxy.host import utf8
from imds_proxy.host.clock import Clock
from imds_proxy.host.read_private import read_file
from imds_proxy.sources.http.source import Http
from imds_proxy.sources.web_identity.oidc_token import read_token

TOKEN = "a-token-of-many-characters"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJpIn0.c2ln"
CONFIG = '[roles.deploy]\nrole_arn = "arn:aws:iam::123456789012:role/Déploy"\n[admin]\nlisten = "127.0.0.1:9339"\n'
CONFIG = CONFIG.replace("é", "e") + "# é\n"
SESSION = "arn:aws:sts::123456789012:assumed-role/Deploy/host"
AGENT = f"iam_session_arn: {SESSION}\naws_credentials_file: /etc/x/credentials\nregion: eu-west-1\n"
KEYS = json.dumps({"keys": [{"kty": "RSA", "kid": "a", "n": "x" * 342 + "w", "e": "AQAB", "use": "enc"}]})
INI = "[default]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = s\naws_session_token = t\n"


def http_token(path):
    settings = {"source": "http", "url": "http://127.0.0.1:1/", "shape": "container", "token_file": str(path)}
    return Http("deploy", HttpConfig.model_validate(settings), Clock())._token()["Authorization"]


def agents_settings(path):
    where = path.parent / agent._SETTINGS[0].lstrip("/")
    where.parent.mkdir(parents=True, exist_ok=True)
    where.write_bytes(path.read_bytes())
    return agent.settings(agent.Host(path.parent))


READERS = {
    "config": (CONFIG, lambda path: config_file.load(path).roles["deploy"].role_arn),
    "config of status --check": (CONFIG, lambda path: _control_plane(path)[1]),
    "config that an entry is added to": (CONFIG, lambda path: setup.config_file(path, "deploy", "/etc/x").content),
    "the agent's credentials": (
        INI,
        lambda path: shadowing_profile({"AWS_SHARED_CREDENTIALS_FILE": str(path)}) == path,
    ),
    "the agent's registration": (AGENT, lambda path: onpremises.load(path).session_arn),
    "the agent's settings": (":log_dir: '/var/log'\n", agents_settings),
    "whatever a source reads": (TOKEN, lambda path: read_file("deploy", str(path), "token", private=True)),
    "token of http": (TOKEN, http_token),
    "token of a role": (TOKEN, grant_token_files._read),
    "token for the key set": (TOKEN, lambda path: jwks_refresh._authorization(str(path))),
    "key set": (KEYS, lambda path: json.loads(jwks_refresh._read_keys(str(path)))),
    "web identity token": (JWT, lambda path: read_token("deploy", path.read_bytes(), "it").secret.reveal()),
    "web identity token of the AWS chain": (f"{JWT}\n", lambda path: files.token_of(str(path))()),
}


@pytest.fixture
def written(tmp_path):
    def write(content):
        path = tmp_path / "file"
        path.write_bytes(content)
        path.chmod(0o600)
        return path

    return write


@pytest.mark.parametrize("reader", READERS)
def test_a_byte_order_mark_is_no_part_of_a_file(written, reader):
    """An editor of Windows puts one there; the first key is unknown then, and a token is sent with it."""
    text, read = READERS[reader]
    plain = read(written(text.encode()))
    marked = read(written(b"\xef\xbb\xbf" + text.encode()))
    assert plain
    assert marked == plain


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("reader", sorted(READERS.keys() - {"the agent's credentials", "the agent's settings"}))
def test_utf_16_is_said_to_be_it(written, reader, encoding):
    """What `>` of Windows PowerShell writes looks the same in an editor: nobody would know what is wrong."""
    text, read = READERS[reader]
    with pytest.raises((ImdsProxyError, SettingError)) as refused:
        read(written(text.encode(encoding)))
    said = f"{refused.value} {getattr(refused.value, 'advice', '')}"
    assert "UTF-16" in said
    assert "a-token" not in said


def test_the_line_that_is_no_utf_8_is_named():
    with pytest.raises(utf8.NotUtf8Error, match=r"is not UTF-8 text, .* \(line 3\)"):
        utf8.decoded("a\nb\né".encode("latin-1"))


def test_a_config_in_another_encoding_says_what_to_do(written):
    with pytest.raises(ConfigError, match="is UTF-16 text, and UTF-8 is needed: write it as UTF-8"):
        config_file.load(written(CONFIG.encode("utf-16")))


def test_the_agent_does_not_read_past_a_mark(written):
    """The doctor would say that all is well, and the agent has no credentials."""
    assert agent_credentials.load(written(INI.encode())).key
    with pytest.raises(ConfigError, match="begins with a byte order mark, which the agent does not read past"):
        agent_credentials.load(written(b"\xef\xbb\xbf" + INI.encode()))


def test_files_of_bytes_are_left_as_they_are(written):
    """PKCS #12 is no text."""
    content = bytes(range(48, 256)) + bytes(48)
    assert read_file("deploy", str(written(content)), "certificate", private=True) == content


@pytest.mark.parametrize("content", [b"", b"x", b"\xef\xbb\xbf", b"\xef\xbb"])
def test_short_files(content):
    assert utf8.without_mark(content) == content.removeprefix(b"\xef\xbb\xbf")
