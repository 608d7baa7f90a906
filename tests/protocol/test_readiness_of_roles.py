"""`/readyz/ROLE`, `/readyz` and `/livez`: what a probe, or a program that waits for one role, is told."""

import json

import pytest

from imds_proxy.renewal.attempt import Failure
from support.control_plane import REMOTE, control_plane
from support.plane import credentials

ROLES = ("deploy", "logs", "batch", "app", "step", "nobodys")
TABLES = {
    "batch": {"serve": "on-demand"},
    "app": {"tags": "service-account"},
    "step": {"serve": False},
    "logs": {"from": "step"},
}
GRANTS = [
    {"role": "deploy", "uid": 10},
    {"role": "logs", "uid": 11},
    {"role": "batch", "uid": 10},
    {"role": "app", "service_account": "shop/*"},
]
ISSUER = {"service_accounts": {"issuer": "https://issuer.example", "jwks_file": "/nowhere/keys.json"}}
BUILD = "127.0.0.11"


@pytest.fixture
async def plane():
    """`deploy` has credentials, `logs` failed to get some, `batch` is asked for by nobody."""
    async with control_plane(ROLES, GRANTS, TABLES, ISSUER) as made:
        made.roles["deploy"].keeper.adopt(credentials("deploy"), due=False)
        made.roles["logs"].keeper.failure = Failure("denied", "AccessDenied by its trust", "let it", 1_800_000_000.0)
        yield made


async def asked(plane, path, caller="127.0.0.1"):
    status, headers, body = await plane.get(path, caller)
    if status in {200, 503}:
        assert headers["content-type"].startswith("application/json")
        return status, json.loads(body)
    return status, None


async def test_a_role_with_live_credentials_is_ready(plane):
    """A unit that waits for its role would start too early, or never."""
    assert await asked(plane, "/readyz/deploy") == (200, {"role": "deploy", "ready": True})


async def test_one_without_is_not_and_says_why_while_others_are(plane):
    """One role that is denied would keep programs with another one waiting."""
    assert await asked(plane, "/readyz/logs") == (
        503,
        {"role": "logs", "ready": False, "why": "AccessDenied by its trust"},
    )
    assert (await asked(plane, "/readyz"))[0] == 503
    assert (await asked(plane, "/readyz/deploy"))[0] == 200


async def test_a_role_whose_credentials_have_died_is_not_ready(plane):
    plane.roles["deploy"].keeper.adopt(credentials("deploy", life=-1), due=False)
    status, body = await asked(plane, "/readyz/deploy")
    assert (status, body["ready"]) == (503, False)


@pytest.mark.parametrize("role", ["batch", "app"])
async def test_a_role_that_is_obtained_when_somebody_asks_is_ready_for_that(plane, role):
    """A probe would never succeed, or ask for the role itself and have it kept for nobody."""
    assert await asked(plane, f"/readyz/{role}") == (200, {"role": role, "ready": True})
    assert plane.roles["batch"].keeper.idle


@pytest.mark.parametrize("role", ["step", "nobodys", "no-such", "Deploy", "deploy%20", "%2e%2e", "deploy/x", ""])
async def test_what_is_no_role_that_somebody_may_have_is_not_found(plane, role):
    """A name that is misspelt would look like a role that is ready, or that AWS does not give."""
    assert (await asked(plane, f"/readyz/{role}"))[0] == 404


async def test_a_name_may_be_percent_encoded():
    """Clients encode what AWS allows in a role's name."""
    async with control_plane(["a+b@c"]) as plane:
        plane.roles["a+b@c"].keeper.adopt(credentials(), due=False)
        for name in ("a+b@c", "a%2Bb%40c"):
            assert await asked(plane, f"/readyz/{name}") == (200, {"role": "a+b@c", "ready": True})


async def test_another_user_learns_of_its_own_roles_alone(plane):
    """Names would be found by trying, and error texts read by everybody."""
    assert await asked(plane, "/readyz/deploy", BUILD) == (200, {"role": "deploy", "ready": True})
    for role in ("logs", "app", "step", "no-such"):
        assert (await plane.get(f"/readyz/{role}", BUILD))[::2] == (404, "404 Not Found\n")
    assert await asked(plane, "/readyz/logs", "127.0.0.12") == (503, {"role": "logs", "ready": False, "why": "denied"})
    assert (await asked(plane, "/readyz/deploy", REMOTE))[0] == 403


@pytest.mark.parametrize("path", ["/readyz", "/readyz/deploy", "/readyz/logs", "/readyz/no-such", "/livez", "/healthz"])
async def test_head_says_the_same_without_a_body(plane, path):
    """Some probes ask by HEAD."""
    status, headers, body = await plane.get(path)
    said = await plane.get(path, method="HEAD")
    assert (said[0], said[2]) == (status, "")
    assert body
    assert said[1]["content-length"] == headers["content-length"] == str(len(body.encode()))


async def test_livez_is_healthz(plane):
    """What asks by the name that Kubernetes uses would take the daemon for dead, and restart it in an outage."""
    assert (await plane.get("/livez"))[::2] == (await plane.get("/healthz"))[::2] == (200, "the loop turns\n")
    assert (await plane.get("/livez", REMOTE))[0] == 200
    assert (await plane.get("/livez/x"))[0] == 404
