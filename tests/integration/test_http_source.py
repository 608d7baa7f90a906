"""`source = "http"`: a credential service, AWS IoT, Vault, another imds-proxy, on good days."""

import asyncio
import json
import time

import pytest

from imds_proxy.errors import Denied
from imds_proxy.host.clock import Clock
from imds_proxy.sources import obtain
from support.credential_service import IMDS_ROLES, ROLE_ARN, SESSION_ARN, Session, response
from support.daemon import HOST, request, wait
from support.http_source import SHAPES, always, fetch, no_secret_of, serving, source

UPSTREAM_ROLE = """
[roles.broker]
source = "http"
url = "{url}"
shape = "{shape}"
"""


@pytest.fixture
def serve():
    with serving() as start:
        yield start


@pytest.mark.parametrize("shape", SHAPES)
async def test_each_shape_is_asked_for_as_its_service_wants_it(serve, tmp_path, shape):
    token = tmp_path / "token"
    token.write_text("s.ecret-token\n")
    token.chmod(0o644)  # as Kubernetes mounts them
    header = {
        "container": ("authorization", "s.ecret-token"),
        "process": ("authorization", "Bearer s.ecret-token"),
        "iot": ("authorization", "Bearer s.ecret-token"),
        "vault": ("x-vault-token", "s.ecret-token"),
    }.get(shape)
    service = serve(shape, expect=header)
    extra = {} if shape == "imds" else {"token_file": str(token)}
    found = await fetch(url=service.url, shape=shape, headers={"x-amzn-iot-thingname": "press-7"}, **extra)
    (session,) = service.sessions
    assert (found.access_key_id, found.secret_access_key.reveal(), found.session_token.reveal()) == session.secrets
    assert abs(found.expiration - session.began - session.life) <= 1
    assert {each.headers["x-amzn-iot-thingname"] for each in service.requests} == {"press-7"}
    assert ("x-vault-request" in service.requests[-1].headers) == (shape == "vault")
    assert {each.method for each in service.requests} == ({"PUT", "GET"} if shape == "imds" else {"GET"})


async def test_the_role_is_the_configs_or_else_the_services(serve):
    """`iam/info` and the container protocol tell clients whose credentials they have."""
    container, vault = serve("container"), serve("vault")
    assert (await fetch(url=container.url)).role_arn == ROLE_ARN
    other = "arn:aws:iam::210987654321:role/Other"
    assert (await fetch(url=container.url, role_arn=other)).role_arn == other
    assert (await fetch(url=vault.url, shape="vault")).session_arn == SESSION_ARN


@pytest.mark.parametrize("imds_v2", [True, False], ids=["v2", "v1"])
@pytest.mark.parametrize("path", ["", "/", f"{IMDS_ROLES}", f"{IMDS_ROLES}/", f"{IMDS_ROLES}/Deploy"])
async def test_instance_metadata_is_asked_for_its_role_or_for_the_one_named(serve, imds_v2, path):
    service = serve("imds", imds_v2=imds_v2)
    await fetch(url=service.url.rstrip("/") + path, shape="imds")
    targets = [each.target for each in service.requests]
    asked_list = [f"{IMDS_ROLES}/"] * (not path.endswith("Deploy"))
    assert targets == ["/latest/api/token", *asked_list, f"{IMDS_ROLES}/Deploy"]


async def test_the_token_is_read_again_every_time(serve, tmp_path):
    """Kubernetes writes another one every hour."""
    token, service = tmp_path / "token", serve("container")
    one = source(url=service.url, token_file=str(token))
    for content in ("first", "second"):
        token.write_text(content)
        await one.fetch()
    assert [each.headers["authorization"] for each in service.requests] == ["first", "second"]


async def test_a_new_token_is_tried_at_once_where_the_old_one_was_refused(serve, tmp_path):
    """Otherwise it takes up to five minutes after somebody has mended it."""
    token, service = tmp_path / "token", serve("container", expect=("authorization", "right"))
    token.write_text("wrong")
    one = source(url=service.url, token_file=str(token))
    with pytest.raises(Denied):
        await one.fetch()
    waiting = asyncio.create_task(one.changed())
    await asyncio.sleep(0.6)
    assert not waiting.done()
    token.write_text("right")
    await asyncio.wait_for(waiting, 5)
    await one.fetch()
    token.write_text("another")  # what works is left alone
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(one.changed(), 1)


async def test_a_lease_counts_from_when_vault_gave_it(serve):
    """Vault Agent hands out a lease of its cache as it was, and says in a header how old it is."""
    service = serve("vault")
    body = json.dumps(Session(3600).document("vault")).encode()
    service.interfere = always(response(body, age=3000))
    found = await fetch(url=service.url, shape="vault")
    assert abs(found.expiration - time.time() - 600) < 5
    assert abs(found.obtained - time.time() + 3000) < 5
    service.interfere = always(response(body, age="yesterday"))
    assert abs((await fetch(url=service.url, shape="vault")).expiration - time.time() - 3600) < 5


async def test_a_lease_out_of_a_cache_is_the_same_session_every_time(serve):
    """One that seems to be another each second is logged as a renewal, and never as one that nobody renews."""
    service, session = serve("vault"), Session(3600)
    one, found = source(url=service.url, shape="vault"), []
    for age in (0, 1, 3):
        service.interfere = always(response(json.dumps(session.document("vault")).encode(), age=age))
        found.append((await one.fetch()).expiration)
    assert len(set(found)) == 1
    service.interfere = lambda _: None
    assert (await one.fetch()).expiration != found[0]


async def test_a_header_of_the_config_replaces_the_usual_one(serve):
    service = serve("container")
    await fetch(url=service.url, headers={"user-agent": "press-7", "ACCEPT": "text/plain"})
    assert service.requests[0].headers["user-agent"] == "press-7"
    assert service.requests[0].headers["accept"] == "text/plain"


async def test_the_services_clock_is_not_awss(serve):
    """A broker whose clock is off would make good credentials look dead."""
    service, clock = serve("container"), Clock()
    body = json.dumps(Session().document("container")).encode()
    service.interfere = always(response(body, date="Wed, 21 Oct 2099 07:28:00 GMT"))
    await source(clock, url=service.url).fetch()
    assert clock.skew == 0.0


async def test_a_host_behind_aws_has_a_lease_that_is_alive_and_a_session_of_its_past(serve):
    """With a clock two hours slow, a lease of an hour from that clock would be dead on arrival."""
    service, clock = serve("vault"), Clock(lambda: time.time() - 7200)
    clock.observe(time.time())
    found = await obtain("deploy", source(clock, url=service.url, shape="vault"), clock)
    assert abs(found.expiration - time.time() - 3600) < 5
    assert found.obtained <= clock.wall()


@pytest.mark.parametrize("shape", ["container", "imds"])
def test_one_imds_proxy_hands_on_what_another_has(start_daemon, aws, shape):
    """A host without a way to AWS's STS behind one that has it."""
    upstream = start_daemon()
    config = HOST + UPSTREAM_ROLE.format(url=upstream.endpoint, shape=shape)
    if shape == "container":
        token = upstream.state / "tokens" / "deploy"
        config = config.replace(upstream.endpoint, f"{upstream.endpoint}roles/deploy") + f'token_file = "{token}"\n'
    daemon = start_daemon(config=config, environment={})
    theirs, ours = upstream.credentials("deploy"), daemon.credentials("broker")
    assert ours["AccessKeyId"] == theirs["AccessKeyId"] in aws.double.issued()
    assert (ours["Token"], ours["Expiration"]) == (theirs["Token"], theirs["Expiration"])
    assert ours["LastUpdated"] == theirs["LastUpdated"]
    if shape == "container":
        token = (daemon.state / "tokens" / "broker").read_text()
        served = json.loads(request(daemon.endpoint + "roles/broker", headers={"Authorization": token})[2])
        assert served["RoleArn"] == aws.role_arn


def test_an_upstream_that_has_nothing_yet_is_waited_for(start_daemon, aws):
    """Both boot at once."""
    aws.double.interfere = lambda _: time.sleep(1)
    upstream = start_daemon(ready=False)
    config = HOST + UPSTREAM_ROLE.format(url=upstream.endpoint, shape="imds")
    daemon = start_daemon(config=config, environment={})
    assert daemon.credentials("broker")["AccessKeyId"] in aws.double.issued()


def test_the_daemon_goes_on_while_the_service_is_bad_and_says_why(start_daemon, serve):
    service = serve("container", life=4)
    daemon = start_daemon(config=HOST + UPSTREAM_ROLE.format(url=service.url, shape="container"), environment={})
    service.interfere = always(response(b"<html>", 200, "text/html"))
    assert daemon.failure("broker")["outcome"] == "invalid"
    assert daemon.metric("imds_proxy_clock_skew_seconds") == 0
    service.interfere, service.life = lambda _: None, 3600
    wait(lambda: daemon.role("broker")["failure"] is None, 20, "a renewal")
    held = service.sessions[-1]
    assert daemon.credentials("broker")["AccessKeyId"] == held.key_id
    assert no_secret_of(service, daemon.log.read_text())
