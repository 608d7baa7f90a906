"""PROTOCOL.md 21 to 24: other documents, and what every answer has."""

import json
import re
from email.utils import parsedate_to_datetime
from urllib.parse import quote

import pytest

from imds_proxy.host.clock import Clock
from support.plane import ACCOUNT, CONTAINER_TOKEN, credentials, plane
from support.wire import request, wire

DATA = "/latest/meta-data"
IDENTITY = "/latest/dynamic/instance-identity/document"
ROLE = f"{DATA}/iam/security-credentials/deploy"
INSTANCE = {
    "instance_id": "i-0123456789abcdef0",
    "hostname": "web-1.example",
    "local_ipv4": "192.0.2.10",
    "mac": "02:00:5e:00:53:01",
    "tags": {"Name": "web 1", "Cost Center": "42", "team": "ops/blue"},
}


async def text(plane_, path: str) -> str:
    answer = await plane_.get(path)
    assert answer.status == 200, path
    return answer.body.decode()


async def leaves(plane_, folder: str) -> dict[str, str]:
    """Every leaf under a folder, found as a client would: by its listings."""
    found = {}
    for item in (await text(plane_, folder)).split("\n"):
        path = folder + quote(item)
        if item.endswith("/"):
            found |= await leaves(plane_, path)
        else:
            found[path] = await text(plane_, path)
    return found


@pytest.mark.parametrize("region", ["eu-west-1", "us-gov-west-1", "cn-north-1", "ap-southeast-4"])
async def test_rule_21_region_and_zone(region):
    """C++, botocore and the CLI strip one letter from the zone; Rust and JS v3 ask for the region."""
    async with plane(region=region) as plane_:
        assert await text(plane_, f"{DATA}/placement/region") == region
        zone = await text(plane_, f"{DATA}/placement/availability-zone")
        assert re.fullmatch(re.escape(region) + "[a-z]", zone)


async def test_rule_21_the_identity_document_has_the_region():
    """Go, Java and .NET read it there."""
    async with plane(region="eu-central-1", instance=INSTANCE) as plane_:
        assert json.loads(await text(plane_, IDENTITY))["region"] == "eu-central-1"


async def test_rule_21_the_zone_that_the_operator_gives_decides_the_region_everywhere():
    async with plane(region="eu-west-1", instance={**INSTANCE, "availability_zone": "us-west-2c"}) as plane_:
        identity = json.loads(await text(plane_, IDENTITY))
        assert await text(plane_, f"{DATA}/placement/availability-zone") == "us-west-2c"
        assert await text(plane_, f"{DATA}/placement/region") == "us-west-2"
        assert (identity["region"], identity["availabilityZone"]) == ("us-west-2", "us-west-2c")


async def test_rule_21_no_region_is_made_up():
    async with plane(region=None) as plane_:
        for leaf in ("region", "availability-zone"):
            assert (await plane_.get(f"{DATA}/placement/{leaf}")).status == 404


@pytest.mark.parametrize(
    "path", [DATA, DATA + "/", IDENTITY, IDENTITY + "/", "/2021-03-23/meta-data/", "//latest/meta-data"]
)
async def test_rule_22_by_default_this_is_not_ec2(path):
    """The CodeDeploy agent takes a 200 there as "this is EC2", and crash-loops or polls the wrong region."""
    async with plane() as plane_:
        assert (await plane_.get(path)).status == 404


@pytest.mark.parametrize("leaf", ["instance-id", "services/domain", "hostname", "local-ipv4", "mac", "tags/instance/"])
async def test_rule_22_by_default_nothing_of_an_instance_is_served(leaf):
    async with plane() as plane_:
        assert (await plane_.get(f"{DATA}/{leaf}")).status == 404


async def test_rule_22_an_instance_table_serves_the_whole_set():
    async with plane(instance=INSTANCE) as plane_:
        found = await leaves(plane_, f"{DATA}/")
        assert {path.removeprefix(f"{DATA}/"): value for path, value in found.items()}.items() >= {
            "instance-id": "i-0123456789abcdef0",
            "services/domain": "amazonaws.com",
            "services/partition": "aws",
            "placement/region": "eu-west-1",
            "placement/availability-zone": "eu-west-1a",
            "tags/instance/Name": "web 1",
            "tags/instance/Cost%20Center": "42",
            "tags/instance/team": "ops/blue",
            "hostname": "web-1.example",
            "local-ipv4": "192.0.2.10",
            "mac": "02:00:5e:00:53:01",
            "iam/security-credentials/deploy": found[ROLE],
        }.items()


async def test_rule_22_the_identity_document_agrees_with_the_leaves():
    async with plane(instance=INSTANCE) as plane_:
        answer = await plane_.get(IDENTITY)
        identity = json.loads(answer.body)
        assert identity["instanceId"] == await text(plane_, f"{DATA}/instance-id")
        assert identity["region"] == await text(plane_, f"{DATA}/placement/region")
        assert identity["availabilityZone"] == await text(plane_, f"{DATA}/placement/availability-zone")
        assert identity["privateIp"] == await text(plane_, f"{DATA}/local-ipv4")
        assert identity["instanceType"] == await text(plane_, f"{DATA}/instance-type")
        assert identity["imageId"] == await text(plane_, f"{DATA}/ami-id")
        assert identity["accountId"] == ACCOUNT


@pytest.mark.parametrize(
    ("region", "partition", "domain"),
    [
        ("eu-west-1", "aws", "amazonaws.com"),
        ("cn-north-1", "aws-cn", "amazonaws.com.cn"),
        ("us-gov-east-1", "aws-us-gov", "amazonaws.com"),
    ],
)
async def test_rule_22_partition_and_domain_are_the_regions(region, partition, domain):
    async with plane(region=region, instance=INSTANCE) as plane_:
        assert await text(plane_, f"{DATA}/services/partition") == partition
        assert await text(plane_, f"{DATA}/services/domain") == domain


async def test_rule_22_what_the_table_leaves_out_is_made_from_the_host():
    async with plane(instance={"instance_id": INSTANCE["instance_id"]}) as plane_:
        assert await text(plane_, f"{DATA}/hostname")
        assert re.fullmatch(r"\d+\.\d+\.\d+\.\d+", await text(plane_, f"{DATA}/local-ipv4"))
        assert re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", await text(plane_, f"{DATA}/mac"))


@pytest.mark.parametrize("instance", [None, INSTANCE])
@pytest.mark.parametrize(
    "path",
    ["identity-credentials", "identity-credentials/", "identity-credentials/ec2/security-credentials/ec2-instance"],
)
async def test_rule_22_identity_credentials_stay_404(path, instance):
    async with plane(instance=instance) as plane_:
        assert (await plane_.get(f"{DATA}/identity-credentials{path}")).status == 404
        if instance:
            assert "identity-credentials" not in await text(plane_, f"{DATA}/")


async def test_rule_22_user_data_only_where_it_is_set():
    """cloud-init runs what it finds there."""
    for tables in ({}, {"instance": INSTANCE}):
        async with plane(**tables) as plane_:
            assert (await plane_.get("/latest/user-data")).status == 404
    async with plane(instance={**INSTANCE, "user_data": "#cloud-config\n"}) as plane_:
        assert await text(plane_, "/latest/user-data") == "#cloud-config\n"


@pytest.mark.parametrize(
    ("folder", "items"),
    [
        ("/", None),
        ("/latest/", ["dynamic/", "meta-data/"]),
        (f"{DATA}/", ["iam/", "instance-id", "mac", "placement/", "services/", "tags/"]),
        (f"{DATA}", ["iam/", "instance-id"]),
        (f"{DATA}/iam/", ["info", "security-credentials/"]),
        (f"{DATA}/placement/", ["availability-zone", "region"]),
        (f"{DATA}/services/", ["domain", "partition"]),
        (f"{DATA}/tags/", ["instance/"]),
        (f"{DATA}/tags/instance/", ["Cost Center", "Name", "team"]),
        ("/latest/dynamic/", ["instance-identity/"]),
        ("/latest/dynamic/instance-identity/", ["document"]),
    ],
)
async def test_rule_23_a_listing_is_one_item_a_line_and_folders_have_a_slash(folder, items):
    """Clients that walk the tree split at LF and go into what ends with a slash."""
    async with plane(instance=INSTANCE) as plane_:
        body = await text(plane_, folder)
        assert not set("\r\t") & set(body)
        assert not body.endswith("\n")
        lines = body.split("\n")
        assert len(set(lines)) == len(lines)
        assert "" not in lines
        assert set(items or ["latest"]) <= set(lines)


async def test_rule_23_every_item_of_a_listing_is_there():
    async with plane(instance={**INSTANCE, "user_data": "x"}) as plane_:
        assert {"/latest/user-data", IDENTITY, ROLE} <= set(await leaves(plane_, "/latest/"))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
@pytest.mark.parametrize("path", ["/", ROLE, f"{DATA}/placement/region", "/latest/nothing", "/roles/deploy"])
async def test_rule_24_any_other_method_is_405(method, path):
    async with plane() as plane_:
        headers = {"Authorization": CONTAINER_TOKEN + "deploy"}
        answer = await plane_.get(path, method, headers)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
        assert b"secret" not in answer.body


@pytest.mark.parametrize("method", ["POST", "DELETE", "PATCH", "OPTIONS"])
async def test_rule_24_a_token_is_had_by_put_alone(method):
    async with plane() as plane_:
        answer = await plane_.ask("/latest/api/token", method, {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
        assert answer.status == 405


@pytest.mark.parametrize("path", ["/", ROLE, f"{DATA}/placement/region", f"{DATA}/iam/info", "/latest/nothing"])
async def test_rule_24_head_is_get_without_the_body(path):
    async with plane() as plane_:
        get, head = await plane_.get(path), await plane_.get(path, "HEAD")
        assert (head.status, head.body) == (get.status, b"")
        assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.body))


async def test_rule_24_every_answer_has_server_date_and_length(wall):
    """async-aws corrects the expiry by the Date."""
    wall.now += 0.9
    async with plane(clock=Clock(wall)) as plane_:
        answers = [
            await plane_.get(ROLE),
            await plane_.get("/latest/nothing"),
            await plane_.ask(ROLE),
            await plane_.ask("/", "DELETE"),
            await plane_.ask("/", headers={"Host": "evil.example"}),
            await plane_.ask("/latest/api/token", "PUT"),
            await plane_.ask("/roles/deploy"),
            await plane_.get_container(),
            await plane_.ask("/", headers={"Host": None}),
            await plane_.ask("/" + "x" * 5000),
        ]
        assert {answer.status for answer in answers} == {200, 400, 401, 403, 404, 405, 414}
        for answer in answers:
            assert answer.headers["server"] == "EC2ws"
            assert parsedate_to_datetime(answer.headers["date"]).timestamp() == int(wall.now)
            assert re.fullmatch(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} [\d:]{8} GMT", answer.headers["date"])
            assert int(answer.headers["content-length"]) == len(answer.body)
        wall.now += 100
        assert parsedate_to_datetime((await plane_.ask("/")).headers["date"]).timestamp() == int(wall.now)


async def test_rule_24_connections_are_kept():
    async with plane() as plane_, wire(plane_) as connection:
        token = await plane_.token()
        for _ in range(20):
            assert (await connection.ask(request(ROLE, x_aws_ec2_metadata_token=token))).status == 200


async def test_rule_24_http_1_0_works():
    async with plane() as plane_:
        head = request(ROLE, version="1.0", host=None, x_aws_ec2_metadata_token=await plane_.token())
        answer = await plane_.raw(head, eof=False)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_rule_24_errors_are_short_and_hold_no_secret():
    """Clients log the body of an error."""
    token = "AQBrAP98gVrTUVmkx8IUB4sPbsx503D5"
    held = credentials()
    secrets = [
        held.secret_access_key.reveal(),
        held.session_token.reveal(),
        held.access_key_id,
        token,
        CONTAINER_TOKEN,
        "no-such-role",
    ]
    carried = {"X-aws-ec2-metadata-token": token, "Authorization": CONTAINER_TOKEN + "nobody"}
    async with plane() as plane_:
        errors = [
            await plane_.ask(path, method, {**carried, **more})
            for path in ("/", ROLE, "/latest/no-such-role", "/roles/no-such-role", "/roles/deploy", "/latest/api/token")
            for method in ("GET", "POST", "PUT")
            for more in ({}, {"Host": "evil.example"}, {"Origin": "https://evil.example"})
        ]
        for error in errors:
            assert error.status >= 400
            assert len(error.body) < 400
            assert not [secret for secret in secrets if secret.encode() in error.body]
