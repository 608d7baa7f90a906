"""PROTOCOL.md 25 to 27 and 29: the container credentials protocol, and proxies."""

import asyncio
import hmac
import json
import os
import subprocess
import sys
import urllib.request
from urllib.parse import quote

import pytest

from imds_proxy.aws.session import AwsChain
from imds_proxy.aws.sts_caller import FromChain
from imds_proxy.callers.caller import ServiceAccount
from imds_proxy.callers.kubernetes.verifier import ServiceAccounts
from imds_proxy.cli import daemon_client, sdk_environment
from imds_proxy.cli.main import main
from imds_proxy.config.roles import AssumeRoleConfig
from imds_proxy.errors import SourceError
from imds_proxy.host.clock import Clock
from imds_proxy.host.state_dir import open_state_dir
from imds_proxy.metadata import role_tokens
from imds_proxy.metadata.role_tokens import load_or_make_tokens
from imds_proxy.sources.assume_role import AssumeRole
from support.kubernetes import Cluster
from support.plane import ACCOUNT, CONTAINER_TOKEN, credentials, plane, role_table

TWO_ROLES = role_table("deploy", default=True) | role_table("other", default=False)
BOTH_SPELLINGS = {"code", "message", "Code", "Message"}
NO_PROXY = ("169.254.169.254", "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]", "127.0.0.1", "localhost")


def authorization(role: str = "deploy") -> dict[str, str]:
    return {"Authorization": CONTAINER_TOKEN + role}


@pytest.fixture
def no_aws(monkeypatch, tmp_path):
    """Nothing of AWS, nor a proxy, in this process's environment."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def config_file(no_aws):
    """`config_file(listen)`: the path of a config with a container token for the role `other`."""
    tokens = no_aws / "state/tokens"
    tokens.mkdir(parents=True)
    (tokens / "other").write_text("a-token-of-the-role-other")

    def write(*listen: str) -> str:
        roles = "".join(
            f'[roles.{name}]\nrole_arn = "{role["role_arn"]}"\ndefault = {str(role["default"]).lower()}\n'
            for name, role in TWO_ROLES.items()
        )
        path = no_aws / "config.toml"
        grants = '[[grants]]\nrole = "other"\naddress = "0.0.0.0/0"\n'
        path.write_text(f'state_dir = "{no_aws}/state"\n[metadata]\nlisten = {json.dumps(listen)}\n{roles}{grants}')
        return str(path)

    return write


@pytest.mark.parametrize(
    "listen",
    [
        ["127.0.0.1:1338"],
        ["169.254.169.254:80", "127.0.0.1:1338"],
        ["[::1]:1338", "127.0.0.1:1338"],
        ["0.0.0.0:1338"],
    ],
)
def test_rule_25_the_full_uri_is_on_127_0_0_1_with_a_path(config_file, capsys, listen):
    """Each other host form is refused by some client before it sends anything."""
    assert main(["env", "--config", config_file(*listen), "--role", "other"]) == 0
    assert "export AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:1338/roles/other\n" in capsys.readouterr().out


async def test_rule_25_what_is_published_is_served(tmp_path):
    async with plane() as plane_:
        published = sdk_environment.container(f"http://{plane_.address}/", "deploy", tmp_path / "token")
        path = published["AWS_CONTAINER_CREDENTIALS_FULL_URI"].removeprefix(f"http://{plane_.address}")
        assert (await plane_.ask(path, headers=authorization())).status == 200


@pytest.mark.parametrize("address", ["169.254.170.2:80", "169.254.170.23:80", "[fd00:ec2::23]:80"])
async def test_rule_25_reached_at_the_link_local_addresses(namespace, address):
    """AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is looked up at 169.254.170.2."""
    async with plane(metadata={"listen": [address]}) as plane_:
        answer = await plane_.ask("/roles/deploy", headers=authorization())
        assert json.loads(answer.body)["AccessKeyId"] == credentials().access_key_id


@pytest.mark.parametrize("address", ["169.254.170.23:80", "[fd00:ec2::23]:80"])
async def test_rule_25_a_service_account_has_its_role_at_the_address_of_eks(namespace, address, monkeypatch):
    """What EKS sets in a pod would lead nowhere on a cluster outside AWS."""
    account = ServiceAccount("shop", "frontend", "frontend-1")

    async def follow(*_):
        pass

    monkeypatch.setattr(ServiceAccounts, "follow", follow)
    monkeypatch.setattr(ServiceAccounts, "verify", lambda _self, token, _now: {"its-token": account}[token])
    tables = {
        "grants": [{"role": "deploy", "service_account": "shop/*"}],
        "service_accounts": {"issuer": "https://cluster", "jwks_file": "/etc/jwks.json"},
    }
    async with plane(metadata={"listen": [address]}, **tables) as plane_:
        answer = await plane_.ask("/v1/credentials", headers={"Authorization": "its-token"})
        assert answer.status == 200
        assert json.loads(answer.body)["RoleArn"].endswith("/deploy")


ARN = "arn:aws:iam::123456789012:role/path/{}"
ASKED_TABLES = {
    "roles": TWO_ROLES,
    "held": ("deploy", "other"),
    "grants": [{"role": "deploy", "service_account": "shop/*"}, {"role": "other", "service_account": "shop/*"}],
    "service_accounts": {"issuer": "https://cluster", "jwks_file": "/etc/jwks.json"},
}
ITS_TOKEN = {"Authorization": "its-token"}


@pytest.fixture
def believed(monkeypatch):
    """One token, of an account of the namespace shop."""

    async def follow(*_):
        pass

    account = ServiceAccount("shop", "frontend", "frontend-1")
    monkeypatch.setattr(ServiceAccounts, "follow", follow)
    monkeypatch.setattr(ServiceAccounts, "verify", lambda _self, token, _now: {"its-token": account}[token])


@pytest.mark.parametrize(
    "form",
    [
        "/v1/credentials/{}",
        "/v1/credentials/{}/",
        "//v1//credentials//{}",
        "/v1/credentials/{}?a=b",
        "http://169.254.170.23/v1/credentials/{}",
    ],
)
async def test_rule_25_a_role_is_asked_for_in_the_path(believed, form):
    """Injection puts the annotation there as it is; an SDK may encode it, or have one slash too many."""
    async with plane(**ASKED_TABLES) as plane_:
        for role in ("deploy", "other"):
            arn = ARN.format(role)
            for asked in (role, arn, quote(arn, safe=""), quote(arn, safe="/"), arn.replace("/", "//")):
                answer = await plane_.ask(form.format(asked), headers=ITS_TOKEN)
                assert answer.status == 200, asked
                assert json.loads(answer.body)["RoleArn"] == arn
                head = await plane_.ask(form.format(asked), "HEAD", ITS_TOKEN)
                assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(answer.body)))
        assert json.loads((await plane_.ask("/v1/credentials", headers=ITS_TOKEN)).body)["RoleArn"] == ARN.format(
            "deploy"
        )


@pytest.mark.parametrize(
    "asked",
    [
        ARN.format("nobodys"),
        "nobodys",
        "..",
        "%2e%2e/%2e%2e/roles/deploy",
        "deplo%79",
        "%64eploy",
        "deploy%00",
        "deploy%0d%0aX:%20y",
        "deploy%2F",
        "roles/deploy",
        ARN.format("deploy").upper(),
        quote(quote(ARN.format("deploy"), safe=""), safe=""),
        "x" * 1500,
        "%c3%a9",
    ],
)
async def test_rule_26_a_role_that_is_not_granted_is_403_in_both_spellings(believed, asked):
    """Some SDKs go on to the host's role after a 401; and what a client says goes nowhere unhidden."""
    async with plane(**ASKED_TABLES) as plane_:
        head = f"GET /v1/credentials/{asked} HTTP/1.1\r\nHost: localhost\r\nAuthorization: its-token\r\n"
        received = await plane_.raw((head + "Connection: close\r\n\r\n").encode("latin-1"))
        first, body = received.partition(b"\r\n")[0], json.loads(received.partition(b"\r\n\r\n")[2])
        assert first == b"HTTP/1.1 403 Forbidden"
        assert set(body) == BOTH_SPELLINGS
        assert (body["code"], body["message"]) == (body["Code"], body["Message"])
        assert "annotation asks for another role than is granted" in body["message"]
        [(who, line)] = plane_.audit.lines
        assert str(who.service_account) == "shop/frontend"
        has_form = asked in {"nobodys", ARN.format("nobodys")}
        told = asked if has_form else "something that is no role"
        assert (line["status"], line["reason"]) == (403, f"asks for {told}; granted: deploy, other")


async def test_rule_25_asking_makes_no_new_label_and_is_limited_like_the_rest(believed):
    """A pod in a loop would slow the node down, or fill Prometheus."""
    async with plane(**ASKED_TABLES, metadata={"rate_limit": 5}) as plane_:
        statuses = [(await plane_.ask(f"/v1/credentials/role-{n}", headers=ITS_TOKEN)).status for n in range(24)]
        assert statuses[:20] == [403] * 20
        assert 503 in statuses[20:]
        assert {labels[:2] for labels in plane_.stats.answers} == {("container", "credentials")}


async def test_rule_26_a_roles_own_token_is_beside_the_grants_and_no_connection_is():
    """An operator who hands that file out has to know that no address and no user is looked at."""
    async with plane(grants=[{"role": "deploy", "uid": os.geteuid() + 1}]) as plane_:
        assert (await plane_.get_container("deploy")).status == 200
        assert (await plane_.ask("/roles/deploy")).status == 401
        headers = {"X-aws-ec2-metadata-token": await plane_.token()}
        assert (await plane_.ask("/latest/meta-data/iam/security-credentials/", headers=headers)).status == 404


async def test_rule_25_a_cluster_may_have_two_issuers_and_two_audiences_for_a_while(tmp_path):
    """Of pods that were started before and after the change, some would have no role."""
    cluster, issuers, audiences = Cluster(), ["https://old.example", "https://new.example"], ["eks", "sts"]
    keys = tmp_path / "jwks.json"
    keys.write_bytes(cluster.key_set())
    tables = {
        "grants": [{"role": "deploy", "service_account": "shop/api"}],
        "service_accounts": {"issuer": issuers, "audience": audiences, "jwks_file": str(keys)},
    }

    async def status(plane_, **claims):
        headers = {"Authorization": cluster.token(**claims)}
        async with asyncio.timeout(10):
            while (answer := await plane_.ask("/v1/credentials", headers=headers)).status == 503:
                await asyncio.sleep(0.02)
        return answer.status

    async with plane(**tables) as plane_:
        for issuer in (*issuers, "https://another.example"):
            for audience in (*audiences, "another"):
                is_both = issuer in issuers and audience in audiences
                assert await status(plane_, iss=issuer, aud=[audience]) == (200 if is_both else 401)
        assert await status(plane_, iss=issuers[0], aud=audiences) == 200


async def test_rule_25_v1_credentials_without_a_right_token_is_401():
    async with plane() as plane_:
        for headers in ({}, {"Authorization": "wrong"}):
            assert (await plane_.ask("/v1/credentials", headers=headers)).status == 401


async def test_rule_26_the_roles_own_token_opens_it():
    async with plane(held=("deploy", "other"), roles=TWO_ROLES) as plane_:
        for role in ("deploy", "other"):
            assert (await plane_.get_container(role)).status == 200


@pytest.mark.parametrize(
    "sent",
    [
        None,
        "",
        "wrong",
        CONTAINER_TOKEN,
        CONTAINER_TOKEN + "deplo",
        CONTAINER_TOKEN + "deploys",
        CONTAINER_TOKEN + "other",
        (CONTAINER_TOKEN + "deploy").upper(),
        "Bearer",
        "Bearer wrong",
        "Bearer" + CONTAINER_TOKEN + "deploy",
        "Bearer\t" + CONTAINER_TOKEN + "deploy",
        "Bearer Bearer " + CONTAINER_TOKEN + "deploy",
        "Bearer " + CONTAINER_TOKEN + "deploy, " + CONTAINER_TOKEN + "deploy",
        "Bearer " + CONTAINER_TOKEN + "other",
        "Basic " + CONTAINER_TOKEN + "deploy",
        "Token " + CONTAINER_TOKEN + "deploy",
        "\xff" * 30,
        "x" * 8000,
    ],
)
@pytest.mark.parametrize("path", ["/roles/deploy", "/roles/unknown", "/roles/", "/roles/deploy/more", "/roles"])
async def test_rule_26_wrong_or_none_is_401_in_both_spellings(sent, path):
    """Go reads one spelling, JavaScript the other; and nobody learns which roles there are."""
    async with plane(held=("deploy", "other"), roles=TWO_ROLES) as plane_:
        lines = f"Authorization: {sent}\r\n" if sent is not None else ""
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}\r\n"
        received = await plane_.raw(head.encode("latin-1"))
        assert received.startswith(b"HTTP/1.1 401 ")
        assert b"\r\nContent-Type: application/json\r\n" in received
        body = json.loads(received.partition(b"\r\n\r\n")[2])
        assert set(body) == BOTH_SPELLINGS
        assert (body["code"], body["message"]) == (body["Code"], body["Message"])
        assert all(body.values())


SCHEMES = ("Bearer ", "bearer ", "BEARER ", "bEaReR ", "Bearer   ")
"""RFC 9110: a scheme is in any case, and spaces follow it."""


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_rule_26_a_token_may_follow_the_word_bearer(scheme):
    """A few clients send it so (Dragonfly until 1.40, n8n's ECS credentials): they would have no credentials here."""
    async with plane() as plane_:
        answer = await plane_.ask("/roles/deploy", headers={"Authorization": f"{scheme}{CONTAINER_TOKEN}deploy"})
        assert (answer.status, json.loads(answer.body)["AccessKeyId"]) == (200, credentials().access_key_id)


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_rule_26_a_service_accounts_token_may_follow_the_word_bearer(believed, scheme):
    async with plane(**ASKED_TABLES) as plane_:
        for path in ("/v1/credentials", "/v1/credentials/deploy"):
            answer = await plane_.ask(path, headers={"Authorization": f"{scheme}its-token"})
            assert (answer.status, json.loads(answer.body)["RoleArn"]) == (200, ARN.format("deploy"))


async def test_rule_26_the_answer_tells_nothing_of_the_role():
    async with plane(held=("deploy", "other"), roles=TWO_ROLES) as plane_:
        paths = ("/roles/deploy", "/roles/unknown", "/roles/other")
        assert len({(await plane_.ask(path, headers={"Authorization": "wrong"})).body for path in paths}) == 1


@pytest.mark.parametrize("sent", ["wrong", "Bearer wrong"])
@pytest.mark.parametrize("path", ["/roles/deploy", "/roles/unknown"])
async def test_rule_26_tokens_are_compared_in_constant_time(path, sent, monkeypatch):
    """Time would tell a local process how much of a guess is right."""
    compared = []

    def compare(one, other):
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(role_tokens, "hmac", type("hmac", (), {"compare_digest": staticmethod(compare)}))
    async with plane() as plane_:
        assert (await plane_.ask(path, headers={"Authorization": sent})).status == 401
    assert len(compared) >= 1


def test_rule_26_a_token_file_is_private_and_has_no_newline(tmp_path):
    """Clients send the file as it is, and refuse one with a newline."""
    state = open_state_dir(tmp_path / "state")
    tokens = load_or_make_tokens(state, ["deploy", "other"])
    for role, token in tokens.items():
        path = state.path / "tokens" / role
        assert path.read_bytes() == token
        assert not set(token) & set(b"\r\n \t")
        assert path.stat().st_mode & 0o777 == 0o600
    assert len(set(tokens.values())) == 2
    assert load_or_make_tokens(state, ["deploy", "other"]) == tokens


def test_rule_26_what_is_published_is_the_file_and_not_the_token(config_file, capsys, no_aws):
    """The environment of a process is seen by more than a file of mode 0600 is."""
    assert main(["env", "--config", config_file("127.0.0.1:1338"), "--role", "other"]) == 0
    out = capsys.readouterr().out
    assert f"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE={no_aws}/state/tokens/other\n" in out
    assert "a-token-of-the-role-other" not in out


async def test_rule_27_the_document_is_exactly_json_with_these_keys():
    async with plane() as plane_:
        answer = await plane_.get_container()
        document = json.loads(answer.body)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        wanted = {"RoleArn", "AccessKeyId", "SecretAccessKey", "Token", "Expiration", "AccountId"}
        assert wanted <= set(document) <= wanted | {"Code", "LastUpdated", "Type"}
        held = credentials()
        assert document["RoleArn"] == held.role_arn
        assert document["AccessKeyId"] == held.access_key_id
        assert document["SecretAccessKey"] == held.secret_access_key.reveal()
        assert document["Token"] == held.session_token.reveal()
        assert document["AccountId"] == ACCOUNT


async def test_rule_27_the_uri_has_a_path(tmp_path):
    """Ruby needs one."""
    published = sdk_environment.container("http://127.0.0.1:1338/", "deploy", tmp_path / "token")
    assert published["AWS_CONTAINER_CREDENTIALS_FULL_URI"] == "http://127.0.0.1:1338/roles/deploy"


@pytest.mark.parametrize("path", ["/roles/deploy", "/roles/deploy/", "//roles//deploy", "/roles/%64eploy"])
async def test_rule_27_credentials_that_are_missing_are_a_5xx_with_the_error_body(path):
    async with plane(held=()) as plane_:
        answer = await plane_.ask(path, headers=authorization())
        assert 500 <= answer.status < 600
        assert answer.headers["content-type"] == "application/json"
        assert set(json.loads(answer.body)) == BOTH_SPELLINGS


async def test_rule_27_head_has_the_headers_of_get():
    async with plane() as plane_:
        get = await plane_.get_container()
        head = await plane_.ask("/roles/deploy", "HEAD", authorization())
        assert (head.status, head.body, head.headers["content-length"]) == (200, b"", get.headers["content-length"])


@pytest.mark.parametrize("settings", [sdk_environment.instance_metadata("http://127.0.0.1:1338/"), {}])
@pytest.mark.parametrize(
    "there", ["", "corp.example", "corp.example,10.0.0.0/8", ".corp.example,localhost", ",".join(NO_PROXY)]
)
@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_rule_29_no_proxy_is_added_to_what_is_there(name, there, settings):
    """botocore, object_store, Rust, GDAL and Ruby would send the session token to the company's proxy."""
    changed = sdk_environment.changes({name: there, "HTTP_PROXY": "http://proxy.corp.example:3128"}, settings, None)
    for spelling in ("NO_PROXY", "no_proxy"):
        hosts = changed[spelling].split(",")
        assert set(hosts) == {host for host in there.split(",") if host} | set(NO_PROXY)
        assert len(hosts) == len(set(hosts))
        assert "" not in hosts


@pytest.mark.parametrize("arguments", [[], ["--role", "other"]])
def test_rule_29_env_prints_no_proxy(config_file, capsys, monkeypatch, arguments):
    monkeypatch.setenv("no_proxy", "corp.example")
    assert main(["env", "--config", config_file("127.0.0.1:1338"), *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in ("NO_PROXY", "no_proxy"):
        assert f"export {name}='corp.example,{','.join(NO_PROXY)}'" in lines


def test_rule_29_exec_sets_no_proxy(config_file):
    path = config_file("127.0.0.1:1338")
    show = [sys.executable, "-c", "import os; print(os.environ['NO_PROXY'], os.environ['no_proxy'])"]
    command = [sys.executable, "-m", "imds_proxy", "exec", "--config", path, "--", *show]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [",".join(NO_PROXY)] * 2


class Listening:
    """A server that notes the first line of every connection and hangs up."""

    def __init__(self):
        self.lines = []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _connected(self, reader, writer):
        self.lines.append(await reader.readline())
        writer.close()


async def test_rule_29_a_client_with_the_published_environment_goes_past_the_proxy(no_aws, monkeypatch):
    async with plane() as plane_, Listening() as proxy:
        base = {"HTTP_PROXY": proxy.url, "http_proxy": proxy.url}
        changed = sdk_environment.changes(base, sdk_environment.instance_metadata(f"http://{plane_.address}/"), None)
        for name, value in (base | changed).items():
            monkeypatch.setenv(name, value)
        url = f"{changed['AWS_EC2_METADATA_SERVICE_ENDPOINT']}latest/api/token"
        put = urllib.request.Request(url, method="PUT", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"})

        def ask() -> int:
            with urllib.request.build_opener(urllib.request.ProxyHandler()).open(put, timeout=5) as response:
                return response.status

        assert await asyncio.to_thread(ask) == 200
        assert proxy.lines == []


async def test_rule_29_our_own_questions_never_go_to_the_proxy(no_aws, monkeypatch):
    """`status`, `check` and `credential-process` ask the daemon, with its tokens."""
    async with plane() as plane_, Listening() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        status, _ = await asyncio.to_thread(daemon_client.ask, f"http://{plane_.address}/")
        assert (status, proxy.lines) == (401, [])


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
async def test_rule_29_aws_is_reached_through_https_proxy(no_aws, monkeypatch, name):
    """On many company hosts there is no other way out."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    settings = AssumeRoleConfig(role_arn=f"arn:aws:iam::{ACCOUNT}:role/deploy", session_name="host")
    async with Listening() as proxy:
        monkeypatch.setenv(name, proxy.url)
        with pytest.raises(SourceError):
            await AssumeRole("deploy", settings, FromChain(None), AwsChain(), "eu-west-1", Clock()).fetch()
        assert proxy.lines[0] == b"CONNECT sts.eu-west-1.amazonaws.com:443 HTTP/1.1\r\n"


@pytest.mark.parametrize("credential_source", [None, "Ec2InstanceMetadata", "EcsContainer"])
async def test_rule_29_the_daemon_never_takes_its_own_endpoint_as_a_source(no_aws, monkeypatch, credential_source):
    """It would assume the role with the role's own session: a chain that breaks, or that renews itself from itself."""
    async with plane(metadata={"imds_v1": True}) as plane_:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{plane_.address}/")
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://{plane_.address}/roles/deploy")
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", CONTAINER_TOKEN + "deploy")
        if credential_source:
            config = no_aws / "aws-config"
            arn = f"role_arn = arn:aws:iam::{ACCOUNT}:role/base"
            config.write_text(f"[default]\n{arn}\ncredential_source = {credential_source}\n")
            monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
        settings = AssumeRoleConfig(role_arn=f"arn:aws:iam::{ACCOUNT}:role/deploy", session_name="host")
        with pytest.raises(SourceError):
            await AssumeRole("deploy", settings, FromChain(None), AwsChain(), "eu-west-1", Clock()).fetch()
        assert plane_.stats.answers.total() == 0
