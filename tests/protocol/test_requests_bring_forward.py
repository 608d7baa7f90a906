"""Which requests bring the next attempt of a role without credentials forward: those that may have the role, alone."""

import asyncio
import os
import time
from contextlib import asynccontextmanager

import pytest

from imds_proxy.backoff import REFUSED_AGAIN, SPREAD
from imds_proxy.errors import Denied
from imds_proxy.sources import Source
from support.plane import CONTAINER_TOKEN, plane, role_table
from support.wire import until

MINE, THEIRS = "mine", "theirs"
IAM = "/latest/meta-data/iam"
LIST = f"{IAM}/security-credentials/"
GRANTS = [{"role": MINE, "uid": os.getuid()}, {"role": THEIRS, "uid": os.getuid() + 12345}]


class Refusing(Source):
    """AWS says no."""

    async def fetch(self):
        raise Denied("no", "ask")


@asynccontextmanager
async def denied():
    """A plane of two roles that AWS denies, and that are tried again in five minutes."""
    async with plane(held=(), roles=role_table(MINE) | role_table(THEIRS), grants=GRANTS) as plane_:
        running = []
        for keeper in plane_.keepers.values():
            keeper._chance = lambda: 0.999
            running.append(asyncio.create_task(keeper.run(Refusing())))
            await until(lambda keeper=keeper: keeper.failure is not None)
            for _ in range(5):
                await keeper.renew()
            assert seconds_left(keeper) > 200
        yield plane_
        for task in running:
            task.cancel()


def seconds_left(keeper):
    return keeper.next_attempt - time.time()


@pytest.mark.parametrize("path", [LIST, f"{LIST}{MINE}", f"{IAM}/info", f"{IAM}/security-credentials-extended/{MINE}"])
async def test_who_may_have_a_role_has_it_tried_sooner(path):
    """It would be refused for five minutes after somebody mended the role."""
    async with denied() as plane_:
        assert (await plane_.get(path)).status in {404, None}
        assert seconds_left(plane_.keepers[MINE]) <= REFUSED_AGAIN * (1 + SPREAD)
        assert seconds_left(plane_.keepers[THEIRS]) > 200


async def test_a_container_with_the_roles_token_has_it_tried_sooner():
    async with denied() as plane_:
        assert (await plane_.get_container(MINE)).status == 503
        assert seconds_left(plane_.keepers[MINE]) <= REFUSED_AGAIN * (1 + SPREAD)


REFUSED = [
    (f"{LIST}{THEIRS}", {}),
    (f"{IAM}/security-credentials-extended/{THEIRS}", {}),
    (f"/roles/{THEIRS}", {}),
    (f"/roles/{THEIRS}", {"Authorization": CONTAINER_TOKEN + MINE}),
    ("/v1/credentials", {}),
    ("/v1/credentials", {"Authorization": "no.token.atall"}),
    ("/latest/meta-data/instance-id", {}),
]


@pytest.mark.parametrize(("path", "headers"), REFUSED)
async def test_who_may_not_have_a_role_brings_nothing_forward(path, headers):
    """Any user of the host could have AWS called for roles that are not theirs."""
    async with denied() as plane_:
        assert (await plane_.get(path, headers=headers)).status in {401, 404}
        assert all(seconds_left(keeper) > 200 for keeper in plane_.keepers.values())


async def test_without_a_session_token_nothing_is_brought_forward():
    """A page in a browser can send such a request."""
    async with denied() as plane_:
        for path in (LIST, f"{LIST}{MINE}"):
            answer = await plane_.raw(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            assert b" 401 " in answer
        assert all(seconds_left(keeper) > 200 for keeper in plane_.keepers.values())
