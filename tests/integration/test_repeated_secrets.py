"""A service that repeats what it was sent, and key pairs that are swapped: nothing of either is shown to anybody."""

import json
import secrets
import string
import sys
from itertools import cycle

import pytest

from support.certificates import Authority, put
from support.daemon import HOST, ISSUED, wait
from support.echo import WRITINGS, Echo
from support.oidc import Issuer
from support.roles_anywhere import PROFILE, TRUST_ANCHOR
from support.roles_anywhere import ROLE as CERTIFIED
from support.sso import START_URL, cached_token

ARN = "arn:aws:iam::123456789012:role/Deploy"
BASE64 = string.ascii_letters + string.digits + "+/"
SWAPPED = "are the two swapped?"

SAYS_ALL = """
import os, sys
print(sys.argv, dict(os.environ), file=sys.stderr)
sys.exit(3)
"""


def random_text(length, alphabet=BASE64):
    return "".join(secrets.choice(alphabet) for _ in range(length))


def key_id(prefix="AKIA"):
    return prefix + random_text(16, string.ascii_uppercase + "234567")


class Host:
    """A host with a secret of every kind in its files; every service that it knows is the echo."""

    def __init__(self, folder, echo):
        self.folder, self.echo = folder, echo
        self.ids = [key_id(), key_id("ASIA")]
        self.keys = [random_text(40), random_text(40)]
        self.session_token = "IQoJb3JpZ2lu" + random_text(600) + "=="
        self.sso_token = "aoaAAAAAG" + random_text(300, string.ascii_letters + string.digits + "-_")
        self.broker_token = "hvs." + random_text(90, string.ascii_letters + string.digits + "_-")
        self.letters = random_text(30, string.ascii_letters)  # such a token looks like an error's code
        self.argument = random_text(24)
        self.jwt = Issuer().token()
        self.known = [*self.ids, *self.keys, self.session_token, self.sso_token, self.broker_token, self.letters]
        self.known += [self.argument, *self.jwt.split(".")]
        self.environment = {
            "HOME": str(folder),
            "AWS_ENDPOINT_URL": echo.url,
            "AWS_ENDPOINT_URL_SSO": echo.url,
            "AWS_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": self.ids[0],
            "AWS_SECRET_ACCESS_KEY": self.keys[0],
            "OF_THE_OPERATOR": self.argument,
        }
        (folder / ".aws/sso/cache").mkdir(parents=True)
        (folder / ISSUED).write_text("\n".join(self.known))  # the whole run's secret scan reads it

    def file(self, name, content, mode=0o600):
        path = self.folder / name
        path.write_text(content)
        path.chmod(mode)
        return path

    def aws_files(self):
        pair = f"aws_access_key_id = {self.ids[1]}\naws_secret_access_key = {self.keys[1]}\n"
        self.file(".aws/credentials", f"[default]\n{pair}[session]\n{pair}aws_session_token = {self.session_token}\n")
        role = f"role_arn = {ARN}\nregion = eu-west-1\n"
        sso = f"sso_start_url = {START_URL}\nsso_region = eu-west-1\n"
        sso += "sso_account_id = 123456789012\nsso_role_name = Deploy\n"
        identity = f"{role}web_identity_token_file = {self.file('aws-token', self.jwt)}\n"
        self.file(
            ".aws/config",
            f"[profile chained]\n{role}source_profile = session\n[profile login]\n{sso}[profile identity]\n{identity}",
        )
        name, document = cached_token(self.sso_token)
        self.file(f".aws/sso/cache/{name}", document)

    def config(self):
        self.aws_files()
        issued = Authority().issue()
        certificate = put(self.folder / "host.crt", issued.certificate_pem(chain=True), 0o644)
        key = put(self.folder / "host.key", issued.key_pem())
        broker, letters = self.file("broker", self.broker_token), self.file("letters", self.letters)
        command = [sys.executable, "-c", SAYS_ALL, self.argument, f"--password={self.argument}", self.broker_token]
        url = self.echo.url
        sts = f'role_arn = "{ARN}"\nsts_endpoint = "{url}"\n'
        anywhere = f'trust_anchor_arn = "{TRUST_ANCHOR}"\nprofile_arn = "{PROFILE}"\nendpoint = "{url}"\n'
        roles = {
            "environment": f"{sts}default = true\n",
            "session": f'{sts}profile = "session"\n',
            "chained": f'{sts}profile = "chained"\n',
            "identity": f'{sts}profile = "identity"\n',
            "login": 'source = "ambient"\nprofile = "login"\n',
            "pod": f'source = "web-identity"\n{sts}token_file = "{self.folder}/aws-token"\n',
            "host": f'source = "roles-anywhere"\nrole_arn = "{CERTIFIED}"\n{anywhere}certificate = "{certificate}"\n'
            f'private_key = "{key}"\n',
            "helper": f'source = "process"\ncommand = {json.dumps(command)}\n',
            "moved": f'source = "http"\nurl = "{url}/elsewhere"\ntoken_file = "{broker}"\n',
            "imds": f'source = "http"\nshape = "imds"\nurl = "{url}/"\nheaders = {{ x-site = "{self.argument}" }}\n',
        }
        for shape in ("container", "process", "iot", "vault"):
            for name, file in (("token", broker), ("letters", letters)):
                table = (
                    f'source = "http"\nshape = "{shape}"\nurl = "{url}/{shape}/v1/aws/creds/x"\ntoken_file = "{file}"\n'
                )
                roles[f"{shape}-{name}"] = table
        self.roles = list(roles)
        tables = "".join(f"[roles.{name}]\n{table}" for name, table in roles.items())
        return f'{HOST}[renewal]\nstart_grace = 0\n[base_key]\nrotate_every = "30d"\n{tables}'


@pytest.fixture
def host(tmp_path):
    with Echo() as echo:
        yield Host(tmp_path, echo)


def pieces(text, known):
    """Which twelve characters of something known are in a text, or sixteen of its letters and digits."""
    found = [secret[at : at + 12] for secret in known for at in range(len(secret) - 11) if secret[at : at + 12] in text]
    letters, folded = "".join(filter(str.isalnum, text)), ["".join(filter(str.isalnum, secret)) for secret in known]
    return found + [
        each[at : at + 16] for each in folded for at in range(len(each) - 15) if each[at : at + 16] in letters
    ]


def all_have_failed(daemon, roles):
    """Every role's failure by its name, once each has one; the base key's too."""

    def failures():
        found = {role["role"]: role["failure"] for role in daemon.status()["roles"]}
        told = any(event["event"] == "base key rotation failed" for event in daemon.events())
        return found if told and found.keys() == set(roles) and all(found.values()) else None

    return wait(failures, 40, lambda: f"all failures; log:\n{daemon.log.read_text()}")


def shown(daemon):
    """All that this daemon and its command line show, by where."""
    verbs = (["check"], ["status"], ["rotate-base-key"])
    texts = {verb[0]: daemon.cli(*verb) for verb in verbs}
    texts = {name: done.stdout + done.stderr for name, done in texts.items()}
    paths = ("/status.json", "/metrics", "/readyz", "/")
    return texts | {path: daemon._asked(path)[2].decode() for path in paths} | {"log": daemon.log.read_text()}


def test_what_a_refusal_repeats_is_shown_nowhere(start_daemon, host):
    """`/status.json` is for every user of the host, and logs are shipped to where nobody guards them."""
    daemon = start_daemon(config=host.config(), environment=host.environment, ready=False)
    wait(lambda: alive(daemon), 20, "the control plane")
    failures = all_have_failed(daemon, host.roles)
    host.echo.writings = cycle(WRITINGS)  # for `check` and the base key
    for where, text in shown(daemon).items():
        assert not pieces(text, host.known), where
    for secret in (host.session_token, host.sso_token, host.broker_token, host.letters, host.jwt, *host.ids):
        assert any(heard.holds(secret) for heard in host.echo.heard), "it was sent, and so could be repeated"
    for role in ("environment", "session", "chained", "pod", "host", "identity"):
        assert "The request is refused; what came was:" in failures[role]["message"]
    assert f"…{host.ids[0][-4:]}" in failures["environment"]["message"]


def alive(daemon):
    try:
        return daemon.status()
    except OSError:
        return None


def test_a_swapped_pair_is_sent_nowhere(start_daemon, host):
    """Of all mistakes the commonest: the secret would go over the wire as the id, and into every log on its way."""
    host.ids, host.keys = host.keys, host.ids
    environment = host.environment | {"AWS_ACCESS_KEY_ID": host.ids[0], "AWS_SECRET_ACCESS_KEY": host.keys[0]}
    host.aws_files()
    session = {"SessionToken": host.session_token, "Expiration": "2099-01-01T00:00:00Z"}
    document = json.dumps({"Version": 1, "AccessKeyId": host.ids[0], "SecretAccessKey": host.keys[0], **session})
    printed = host.file("printed.json", document)
    cat = json.dumps(["/bin/cat", str(printed)])
    ini = host.folder / ".aws/credentials"
    sts = f'role_arn = "{ARN}"\nsts_endpoint = "{host.echo.url}"\n'
    roles = {
        "environment": f"{sts}default = true\n",
        "profile": f'{sts}profile = "session"\n',
        "chained": f'{sts}profile = "chained"\n',
        "ambient": 'source = "ambient"\n',
        "ambient-session": 'source = "ambient"\nprofile = "session"\n',
        "ambient-chained": 'source = "ambient"\nprofile = "chained"\n',
        "process": f'source = "process"\ncommand = {cat}\n',
        "file": f'source = "file"\npath = "{printed}"\n',
        "ini": f'source = "file"\nformat = "ini"\nprofile = "session"\nlifetime = "1h"\npath = "{ini}"\n',
    }
    tables = "".join(f"[roles.{name}]\n{table}" for name, table in roles.items())
    config = f'{HOST}[renewal]\nstart_grace = 0\n[base_key]\nrotate_every = "30d"\n{tables}'
    daemon = start_daemon(config=config, environment=environment, ready=False)
    wait(lambda: alive(daemon), 20, "the control plane")
    for role, failure in all_have_failed(daemon, roles).items():
        assert SWAPPED in failure["message"], role
        assert failure["outcome"] == "denied"
    said = shown(daemon)
    assert said["check"].count(SWAPPED) == len(roles)
    assert SWAPPED in said["rotate-base-key"]
    for where, text in said.items():
        assert not pieces(text, host.known), where
        assert not [secret for secret in host.ids if secret[-4:] in text], f"the end of a secret, in {where}"
    assert not host.echo.heard
    assert daemon.get("latest/meta-data/iam/security-credentials/file")[0] != 200
