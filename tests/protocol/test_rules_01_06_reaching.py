"""PROTOCOL.md 1 to 6: reaching the endpoint."""

import json
import os

import pytest

from imds_proxy.cli.main import main
from support.plane import ANY_ADDRESS, plane, role_table

IAM = "meta-data/iam/security-credentials"
ADDRESSES = ("127.0.0.1:1338", "[::1]:1338", "169.254.169.254:80", "[fd00:ec2::254]:80")
STANDARD_HOSTS = (
    "localhost",
    "LOCALHOST",
    "127.0.0.1",
    "[::1]",
    "169.254.169.254",
    "[fd00:ec2::254]",
    "[FD00:EC2::254]",
    "169.254.170.2",
    "169.254.170.23",
    "[fd00:ec2::23]",
)
OTHER_NAMES = (
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "169.254.169.254.nip.io",
    "instance-data",
    "evil.example:80",
    "127.0.0.1@evil.example",
    "[::1].evil.example",
    "",
    "8.8.8.8",
    "[2001:db8::1]",
)


@pytest.mark.parametrize("address", ADDRESSES)
async def test_rule_01_every_address_serves_the_whole_exchange(namespace, address):
    """s3cmd, s3fs, restic, minio-go, older PHP and Ruby look at 169.254.169.254:80 and nowhere else."""
    async with plane(metadata={"listen": list(ADDRESSES)}) as everywhere:
        assert sorted(everywhere.server.listeners.values()) == sorted(ADDRESSES)
        there = everywhere.through(address)
        assert (await there.get(f"/latest/{IAM}/")).body == b"deploy"
        assert (await there.get(f"/latest/{IAM}/deploy")).status == 200


async def test_rule_01_a_token_had_at_one_address_holds_at_every_other(namespace):
    """A host whose SDKs differ in where they look would see 401 for a token that is good."""
    async with plane(metadata={"listen": list(ADDRESSES)}) as everywhere:
        token = await everywhere.through(ADDRESSES[0]).token()
        for address in ADDRESSES:
            headers = {"X-aws-ec2-metadata-token": token}
            assert (await everywhere.through(address).ask(f"/latest/{IAM}/", headers=headers)).status == 200, address


async def test_rule_01_an_address_this_host_does_not_have_costs_only_itself():
    async with plane(metadata={"listen": ["192.0.2.1:80", "127.0.0.1:0"]}, grants=ANY_ADDRESS) as plane_:
        assert (await plane_.get(f"/latest/{IAM}/")).status == 200


@pytest.fixture
def environment_of(tmp_path, monkeypatch, capsys):
    """`environment_of(toml, *arguments)`: what `imds-proxy env` says with that config, as a dict."""
    for name in [name for name in os.environ if name.startswith("AWS_") or name.upper() == "NO_PROXY"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    config = tmp_path / "config.toml"
    tokens = tmp_path / "state/tokens"
    tokens.mkdir(parents=True)
    (tokens / "other").write_text("a-token-of-the-role-other")

    def environment(listen: list[str], *arguments: str) -> dict[str, str]:
        roles = "".join(
            f'[roles.{name}]\nrole_arn = "arn:aws:iam::123456789012:role/{name}"\ndefault = {default}\n'
            for name, default in (("deploy", "true"), ("other", "false"))
        )
        config.write_text(f'state_dir = "{tmp_path}/state"\n[metadata]\nlisten = {json.dumps(listen)}\n{roles}')
        assert main(["env", "--config", str(config), *arguments]) == 0
        lines = [line.removeprefix("export ") for line in capsys.readouterr().out.splitlines()]
        return {name: value.strip("'") for name, _, value in (line.partition("=") for line in lines)}

    return environment


@pytest.mark.parametrize(
    ("listen", "arguments", "published"),
    [
        (["127.0.0.1:1338"], [], "http://127.0.0.1:1338/"),
        (["[::1]:1338"], [], "http://[::1]:1338/"),
        (["127.0.0.1:80"], [], "http://127.0.0.1:80/"),
        (["127.0.0.1:1338"], ["--endpoint", "http://127.0.0.1:9"], "http://127.0.0.1:9/"),
        (["127.0.0.1:1338"], ["--endpoint", "http://127.0.0.1:9/"], "http://127.0.0.1:9/"),
    ],
)
def test_rule_02_the_endpoint_is_published_with_one_final_slash(environment_of, listen, arguments, published):
    """AWS CLI v2 before 2.28.3 would ask `http://127.0.0.1:1338latest/api/token`."""
    assert environment_of(listen, *arguments)["AWS_EC2_METADATA_SERVICE_ENDPOINT"] == published


@pytest.mark.parametrize(
    "target",
    [
        f"//latest/{IAM}/deploy",
        f"///latest/{IAM}/deploy",
        f"/latest//{IAM}/deploy",
        f"/latest/{IAM}//deploy",
        f"//latest//{IAM.replace('/', '//')}//deploy//",
    ],
)
async def test_rule_02_repeated_slashes_are_collapsed_and_never_redirected(target):
    """Java, JS v2, Rust object_store, minio-go and GDAL send //latest/..., and several follow no redirect."""
    async with plane() as plane_:
        answer = await plane_.get(target)
        assert (answer.status, "location" in answer.headers) == (200, False)
        assert json.loads(answer.body)["Code"] == "Success"


@pytest.mark.parametrize("target", ["//latest/api/token", "/latest//api///token"])
async def test_rule_02_repeated_slashes_are_collapsed_for_tokens(target):
    async with plane() as plane_:
        answer = await plane_.ask(target, "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
        assert answer.status == 200


@pytest.mark.parametrize(
    "target", ["/tenant", f"/latest/{IAM}", f"/deploy/latest/{IAM}/deploy", "/latest/nothing", "/latest"]
)
async def test_rule_02_no_answer_is_ever_a_redirect(target):
    async with plane() as plane_:
        answer = await plane_.get(target)
        assert not 300 <= answer.status < 400
        assert "location" not in answer.headers


def test_rule_03_the_published_metadata_endpoint_has_no_path(environment_of):
    """Eight clients drop a path of the endpoint, and would get another tenant's role."""
    published = environment_of(["127.0.0.1:1338"])["AWS_EC2_METADATA_SERVICE_ENDPOINT"]
    assert published.count("/") == 3


def test_rule_03_another_role_is_published_as_a_container_uri(environment_of):
    environment = environment_of(["127.0.0.1:1338"], "--role", "other")
    assert "AWS_EC2_METADATA_SERVICE_ENDPOINT" not in environment
    assert environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"] == "http://127.0.0.1:1338/roles/other"


@pytest.mark.parametrize("prefix", ["/deploy", "/tenant/deploy", "/roles/deploy"])
async def test_rule_03_a_prefix_selects_nothing(prefix):
    async with plane(metadata={"imds_v1": True}) as plane_:
        assert (await plane_.ask(f"{prefix}/latest/{IAM}/deploy")).status in {401, 404}
        answer = await plane_.ask(f"{prefix}/latest/api/token", "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
        assert answer.status != 200


async def test_rule_04_the_role_list_is_the_same_with_and_without_its_slash():
    """The C++ SDK omits it."""
    async with plane() as plane_:
        without, with_slash = await plane_.get(f"/latest/{IAM}"), await plane_.get(f"/latest/{IAM}/")
        assert (without.status, without.body) == (with_slash.status, with_slash.body) == (200, b"deploy")


@pytest.mark.parametrize(
    "leaf", ["placement/availability-zone", "placement/region", "iam/info", "iam/security-credentials/deploy"]
)
async def test_rule_04_a_leaf_with_a_final_slash_is_the_leaf(leaf):
    """botocore asks placement/availability-zone/."""
    async with plane() as plane_:
        bare, slashed = await plane_.get(f"/latest/meta-data/{leaf}"), await plane_.get(f"/latest/meta-data/{leaf}/")
        assert bare.status == 200
        assert slashed[::2] == bare[::2]


@pytest.mark.parametrize(
    ("role", "sent"),
    [
        ("deploy", "%64eploy"),
        ("deploy", "%64%65%70%6C%6f%79"),
        ("a+b=c,d.e@f-g", "a%2Bb%3Dc%2Cd.e%40f-g"),
        ("a+b=c,d.e@f-g", "a+b=c,d.e@f-g"),
    ],
)
async def test_rule_05_the_role_segment_is_percent_decoded(role, sent):
    """C++ and minio-js encode it; and a plus sign is a plus sign."""
    async with plane(held=[role], roles=role_table(role)) as plane_:
        assert (await plane_.get(f"/latest/{IAM}/{sent}")).status == 200


@pytest.mark.parametrize("version", ["latest", "1.0", "2009-04-04", "2016-09-02", "2018-09-24", "2021-03-23"])
async def test_rule_05_any_version_serves_metadata(version):
    async with plane() as plane_:
        assert (await plane_.get(f"/{version}/{IAM}/")).body == b"deploy"
        assert (await plane_.get(f"/{version}/{IAM}/deploy")).status == 200
        assert (await plane_.get(f"/{version}/meta-data/placement/region")).body == b"eu-west-1"


async def test_rule_05_the_root_lists_the_versions_and_each_serves():
    async with plane() as plane_:
        listed = (await plane_.get("/")).body.decode().split("\n")
        assert "latest" in listed
        for version in listed:
            assert (await plane_.get(f"/{version}/{IAM}/")).body == b"deploy", version


@pytest.mark.parametrize("version", ["1.0", "2021-03-23", "2024-04-11"])
async def test_rule_05_tokens_only_under_latest(version):
    async with plane() as plane_:
        answer = await plane_.ask(f"/{version}/api/token", "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
        assert answer.status in {404, 405}


@pytest.mark.parametrize("port", ["", ":80", ":1338", ":65535"])
@pytest.mark.parametrize("host", STANDARD_HOSTS)
async def test_rule_06_literals_and_localhost_with_any_port_or_none(host, port):
    """The C runtime omits the port, and packets may come through another port by address translation."""
    async with plane() as plane_:
        assert (await plane_.get(f"/latest/{IAM}/", headers={"Host": host + port})).status == 200


@pytest.mark.parametrize("host", ["[0:0:0:0:0:0:0:1]", "[0000:0000:0000:0000:0000:0000:0000:0001]:80"])
async def test_rule_06_a_literal_written_out_is_the_same_literal(host):
    """Java writes ::1 as 0:0:0:0:0:0:0:1."""
    async with plane() as plane_:
        assert (await plane_.get(f"/latest/{IAM}/", headers={"Host": host})).status == 200


@pytest.mark.parametrize("host", OTHER_NAMES)
async def test_rule_06_no_other_name_gets_a_token_or_a_document(host):
    """A page on evil.example that re-binds its name to 127.0.0.1 would read the credentials."""
    async with plane(metadata={"imds_v1": True}) as plane_:
        headers = {"Host": host}
        document = await plane_.ask(f"/latest/{IAM}/deploy", headers=headers)
        token = await plane_.ask("/latest/api/token", "PUT", {**headers, "X-aws-ec2-metadata-token-ttl-seconds": "60"})
        assert {document.status, token.status} <= {400, 403}
        assert b"secret" not in document.body


async def test_rule_06_the_operator_can_add_names():
    async with plane(metadata={"allowed_hosts": ["Metadata.Internal"]}) as plane_:
        assert (await plane_.get(f"/latest/{IAM}/", headers={"Host": "metadata.internal:1338"})).status == 200
        assert (await plane_.get(f"/latest/{IAM}/", headers={"Host": "METADATA.internal"})).status == 200


async def test_rule_06_a_wildcard_listener_takes_every_literal_and_no_name():
    async with plane(listen="0.0.0.0:0", grants=ANY_ADDRESS) as everywhere:
        there = everywhere.through(f"127.0.0.1:{everywhere.port}")
        assert (await there.get(f"/latest/{IAM}/", headers={"Host": "10.1.2.3:1338"})).status == 200
        assert (await there.ask(f"/latest/{IAM}/", headers={"Host": "evil.example"})).status == 403
