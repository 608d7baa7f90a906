"""Names of roles as clients of kube2iam and kiam ask for them at `…/security-credentials/NAME`."""

import json
from urllib.parse import quote

import pytest

from support.plane import ACCOUNT, plane

LIST = "/latest/meta-data/iam/security-credentials/"
EXTENDED = "/latest/meta-data/iam/security-credentials-extended/"
ARN = f"arn:aws:iam::{ACCOUNT}:role/path/deploy"
GRANTED = [{"role": "web", "address": "127.0.0.1"}]


def roles(**arns):
    return {name: {"role_arn": f"arn:aws:iam::{arn}"} for name, arn in arns.items()}


@pytest.mark.parametrize("folder", [LIST, EXTENDED])
@pytest.mark.parametrize(
    "name", ["deploy", "deploy/", "/deploy", "path/deploy", "path/deploy/", "/path//deploy/", ARN, f"{ARN}/"]
)
@pytest.mark.parametrize("encoded", [False, True])
async def test_a_role_may_be_asked_for_with_its_path_or_arn(folder, name, encoded):
    """kube2iam lists what the annotation has; a client keeps that, or has it in its own settings."""
    async with plane() as plane_:
        sent = quote(name.strip("/").replace("//", "/"), safe="") if encoded else name
        answer = await plane_.get(folder + sent)
        assert (answer.status, json.loads(answer.body)["Code"]) == (200, "Success")
        assert plane_.audit.lines[-1][1]["role"] == "deploy"


async def test_a_role_that_the_config_calls_otherwise_is_known_by_what_iam_calls_it():
    """An annotation has IAM's name, and the host's config a name of its own."""
    async with plane(held=("web",), roles=roles(web=f"{ACCOUNT}:role/team/app"), grants=GRANTED) as plane_:
        assert (await plane_.get(LIST)).body == b"web"
        for name in ("app", "team/app", f"arn:aws:iam::{ACCOUNT}:role/team/app"):
            assert (await plane_.get(LIST + name)).status == 200


@pytest.mark.parametrize(
    "name",
    [
        "other/app",
        "am/app",
        "team/app/x",
        "team/app2",
        "team",
        f"arn:aws:iam::{ACCOUNT}:role/app",
        "arn:aws:iam::210987654321:role/team/app",
        f"arn:aws-cn:iam::{ACCOUNT}:role/team/app",
        f"arn:aws:sts::{ACCOUNT}:assumed-role/app/host",
        f"arn:aws:iam::{ACCOUNT}:role/base/step",
        "base/step",
        "step",
        "second",
        "team/../team/app",
        "team/app%0a",
        "team/app?",
    ],
)
async def test_another_role_is_not_found_whatever_it_is_called(name):
    """Grants decide, and a name chooses among what they give."""
    every = roles(web=f"{ACCOUNT}:role/team/app", second=f"{ACCOUNT}:role/other/app", step=f"{ACCOUNT}:role/base/step")
    async with plane(held=("web", "second", "step"), roles=every, grants=GRANTED) as plane_:
        answer = await plane_.get(LIST + name)
        assert answer.status == (200 if name.endswith("?") else 404)
        assert b"AccessKeyId" not in answer.body or name.endswith("?")


async def test_a_name_that_several_granted_roles_have_gives_none_of_them():
    """Roles of two accounts: the wrong one would work, on the wrong data."""
    both = roles(one=f"{ACCOUNT}:role/team/app", two="210987654321:role/team/app", three=f"{ACCOUNT}:role/app")
    grants = [{"role": name, "address": "127.0.0.1"} for name in both]
    async with plane(held=("one", "two", "three"), roles=both, grants=grants) as plane_:
        assert (await plane_.get(LIST + "team/app")).status == 404
        assert (await plane_.get(f"{LIST}arn:aws:iam::210987654321:role/team/app")).status == 200
        assert plane_.audit.lines[-1][1]["role"] == "two"
        assert (await plane_.get(LIST + "app")).status == 200  # the one that has no path
        assert plane_.audit.lines[-1][1]["role"] == "three"


async def test_without_credentials_the_connection_is_closed_by_any_name():
    """Any answer there aborts the C runtime (PROTOCOL.md 16)."""
    async with plane(held=()) as plane_:
        for name in ("deploy", "path/deploy", ARN):
            assert (await plane_.get(LIST + name)).status is None
