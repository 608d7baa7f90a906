"""PROTOCOL.md 13 to 20: the role list, the credential document, and when there is one."""

import asyncio
import json
import re
import time
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from imds_proxy.credentials import Secret
from imds_proxy.errors import Unreachable
from imds_proxy.host.clock import Clock
from imds_proxy.renewal.keeper import Keeper
from imds_proxy.renewal.schedule import JITTER
from imds_proxy.sources import Source
from imds_proxy.telemetry.stats import RenewalStats
from support import virtual_time
from support.plane import ACCOUNT, CONTAINER_TOKEN, credentials, plane, role_table
from support.wire import request, until, wire

IAM = "/latest/meta-data/iam"
LIST = f"{IAM}/security-credentials/"
DOCUMENT = LIST + "deploy"
EXTENDED = f"{IAM}/security-credentials-extended"
DOCUMENTS = (DOCUMENT, f"{EXTENDED}/deploy", f"{IAM}/info", "/roles/deploy")
KEYS = {"Code", "LastUpdated", "Type", "AccessKeyId", "SecretAccessKey", "Token", "Expiration"}
DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
TWO_ROLES = role_table("deploy", default=True) | role_table("other", default=False)
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


def seconds(date: str) -> float:
    """A date of the wire, as seconds since the epoch."""
    assert DATE.fullmatch(date), date
    return datetime.strptime(date, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


async def every_answer(plane_, path: str):
    """The path, over whichever protocol it belongs to."""
    if path.startswith("/roles/"):
        return await plane_.get_container(path.rpartition("/")[2])
    return await plane_.get(path)


async def test_rule_13_the_list_is_one_name_without_a_newline():
    """A newline breaks 11 of 32 clients: they ask for `deploy%0A`."""
    async with plane(held=("deploy", "other"), roles=TWO_ROLES) as plane_:
        answer = await plane_.get(LIST)
        assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"deploy", "text/plain")


async def test_rule_13_the_list_stays_the_same_across_renewals():
    """GDAL and PHP keep it for the life of the process."""
    async with plane() as plane_:
        before = (await plane_.get(LIST)).body
        plane_.keepers["deploy"].adopt(credentials(key="BBBB"), due=False)
        assert (await plane_.get(LIST)).body == before


async def test_rule_14_the_document_has_exactly_these_keys():
    """s3fs counts them."""
    async with plane() as plane_:
        answer = await plane_.get(DOCUMENT)
        document = json.loads(answer.body)
        assert set(document) == KEYS
        assert (document["Code"], document["Type"]) == ("Success", "AWS-HMAC")
        assert answer.headers["content-type"] == "text/plain"
        held = credentials()
        assert document["AccessKeyId"] == held.access_key_id
        assert document["SecretAccessKey"] == held.secret_access_key.reveal()
        assert document["Token"] == held.session_token.reveal()


async def test_rule_14_last_updated_is_when_these_credentials_were_obtained(wall):
    async with plane(clock=Clock(wall)) as plane_:
        obtained = wall.now
        wall.now += 1234
        for path in (DOCUMENT, f"{EXTENDED}/deploy", f"{IAM}/info", "/roles/deploy"):
            document = json.loads((await every_answer(plane_, path)).body)
            assert seconds(document["LastUpdated"]) == obtained, path


@pytest.mark.parametrize("path", DOCUMENTS)
async def test_rule_14_last_updated_is_not_in_the_future_of_a_clock_set_back(path, wall):
    """A host that boots with its clock ahead, and is set right later, would serve a document from the future."""
    async with plane(clock=Clock(wall)) as plane_:
        wall.now -= HOUR
        document = json.loads((await every_answer(plane_, path)).body)
        assert seconds(document["LastUpdated"]) <= wall.now


@pytest.mark.parametrize("path", DOCUMENTS)
async def test_rule_14_last_updated_of_saved_credentials_is_not_in_the_future(path, wall):
    """Saved before the clock was set back, read after."""
    async with plane(held=(), clock=Clock(wall)) as plane_:
        plane_.keepers["deploy"].adopt(credentials(now=wall.now + HOUR), due=False)
        document = json.loads((await every_answer(plane_, path)).body)
        assert seconds(document["LastUpdated"]) <= wall.now


@pytest.mark.parametrize("fraction", [0.0, 0.000001, 0.5, 0.999999])
@pytest.mark.parametrize("path", DOCUMENTS)
async def test_rule_15_dates_are_exactly_in_utc_with_whole_seconds_and_z(path, fraction, wall):
    """`+00:00` breaks Rust and JS v3, and another form switches botocore's own safety logic off."""
    wall.now += fraction
    async with plane(clock=Clock(wall)) as plane_:
        document = json.loads((await every_answer(plane_, path)).body)
        assert DATE.fullmatch(document["LastUpdated"])
        if not path.endswith("info"):
            assert seconds(document["Expiration"]) - seconds(document["LastUpdated"]) == HOUR


@pytest.mark.parametrize("imds_v1", [False, True])
@pytest.mark.parametrize("path", [LIST, LIST.rstrip("/")])
async def test_rule_16_without_credentials_the_list_says_so(path, imds_v1):
    async with plane(held=(), metadata={"imds_v1": imds_v1}) as plane_:
        for answer in [await plane_.get(path)] + ([await plane_.ask(path)] if imds_v1 else []):
            assert (answer.status, answer.headers["content-type"]) == (404, "text/plain")
            assert 0 < len(answer.body) < 100
            assert b"deploy" not in answer.body


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", [DOCUMENT, DOCUMENT + "/", LIST + "%64eploy"])
async def test_rule_16_without_credentials_the_document_is_a_closed_connection(path, method):
    """Any body there aborts every process that uses the AWS C runtime."""
    async with plane(held=()) as plane_:
        head = request(path, method, x_aws_ec2_metadata_token=await plane_.token())
        assert await plane_.raw(head, eof=False) == b""


async def test_rule_16_and_over_v1():
    async with plane(held=(), metadata={"imds_v1": True}) as plane_:
        assert await plane_.raw(request(DOCUMENT), eof=False) == b""


async def test_rule_16_what_was_asked_before_on_that_connection_is_answered():
    async with plane(held=()) as plane_, wire(plane_) as connection:
        token = await plane_.token()
        both = request("/", x_aws_ec2_metadata_token=token) + request(DOCUMENT, x_aws_ec2_metadata_token=token)
        assert (await connection.ask(both)).status == 200
        assert await connection.rest() == b""


async def test_rule_16_after_expiry_as_without_any(wall):
    async with plane(clock=Clock(wall)) as plane_:
        wall.now += HOUR
        assert (await plane_.get(LIST)).status == 404
        assert await plane_.raw(request(DOCUMENT, x_aws_ec2_metadata_token=await plane_.token()), eof=False) == b""


@pytest.mark.parametrize("name", ["unknown", "other", "deploy2", "Deploy", "deploy%00", "deploy%2Fother", ".."])
async def test_rule_16_an_unknown_or_ungranted_role_is_404(name):
    async with plane(held=("deploy", "other"), roles=TWO_ROLES) as plane_:
        answer = await plane_.get(LIST + name)
        assert answer.status == 404
        assert b"secret" not in answer.body


async def test_rule_16_a_role_that_is_a_step_of_a_chain_is_404():
    roles = role_table("deploy") | role_table("base", serve=False)
    async with plane(held=("deploy", "base"), roles=roles) as plane_:
        assert (await plane_.get(LIST)).body == b"deploy"
        assert (await plane_.get(LIST + "base")).status == 404
        assert (await plane_.get_container("base")).status == 401


async def test_rule_16_without_a_default_role_the_list_says_so():
    roles = role_table("one", default=False) | role_table("two", default=False)
    async with plane(held=("one", "two"), roles=roles) as plane_:
        assert (await plane_.get(LIST)).status == 404
        assert (await plane_.get(LIST + "one")).status == 404


@pytest.mark.parametrize("path", DOCUMENTS)
@pytest.mark.parametrize("late", [0, 0.5, 1, DAY])
async def test_rule_17_nothing_is_served_of_expired_credentials(path, late, wall):
    """31 of 32 clients sign with them."""
    async with plane(clock=Clock(wall)) as plane_:
        wall.now += HOUR - 1
        assert (await every_answer(plane_, path)).status == 200
        wall.now += 1 + late
        assert (await every_answer(plane_, path)).status not in {200, 401}


@pytest.mark.parametrize("path", DOCUMENTS[:2] + DOCUMENTS[3:])
async def test_rule_17_what_is_served_expires_later_than_now_as_written(path, wall):
    """Dates are written in whole seconds, and a client compares with what is written."""
    wall.now += 0.75
    async with plane(clock=Clock(wall)) as plane_:
        wall.now += HOUR - 0.5
        answer = await every_answer(plane_, path)
        assert answer.status != 200 or seconds(json.loads(answer.body)["Expiration"]) > wall.now


@pytest.mark.parametrize("path", DOCUMENTS)
async def test_rule_17_expired_by_awss_clock_is_expired(path, wall):
    """On a host whose clock is behind, AWS has refused those keys for minutes."""
    clock = Clock(wall)
    async with plane(clock=clock) as plane_:
        wall.now += 50 * MINUTE
        clock.observe(wall.now + 15 * MINUTE)
        assert (await every_answer(plane_, path)).status not in {200, 401}


class Handing(Source):
    """A source that hands out what it was given."""

    def __init__(self, make):
        self.make = make

    async def fetch(self):
        return self.make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: credentials(life=0.0),
        lambda: credentials(life=-DAY),
        lambda: replace(credentials(), expiration=-62135596800.0),
        lambda: replace(credentials(), access_key_id=""),
        lambda: replace(credentials(), secret_access_key=Secret("")),
        lambda: replace(credentials(), session_token=Secret("")),
    ],
    ids=["expired now", "expired yesterday", "year 1", "no key", "no secret", "no token"],
)
async def test_rule_17_a_source_that_hands_out_rubbish_takes_nothing_from_clients(make):
    """JS v2 hangs on blank credentials, and botocore crashes on a year-1 date."""
    async with plane(roles=TWO_ROLES) as plane_:
        for name, keeper in plane_.keepers.items():
            keeper.next_attempt = 0.0
            renewing = asyncio.create_task(keeper.run(Handing(make)), name=name)
            await until(lambda keeper=keeper: keeper.failure is not None)
            renewing.cancel()
        assert json.loads((await plane_.get(DOCUMENT)).body)["AccessKeyId"] == credentials().access_key_id
        assert (await plane_.get_container("other")).status == 503


class HandingOut(Source):
    """Sessions of a given life, each a while on its way."""

    def __init__(self, clock: Clock, life: float, takes: float):
        self.clock, self.life, self.takes = clock, life, takes
        self.calls = 0

    async def fetch(self):
        await asyncio.sleep(self.takes)
        self.calls += 1
        return credentials(life=self.life, now=self.clock.wall())


def a_day_of(life: float, takes: float, chance: float) -> tuple[list[float], int]:
    """The life left on what is served, once a minute for a day; and how often AWS was asked."""

    async def day() -> tuple[list[float], int]:
        clock = asyncio.get_running_loop().clock()
        source = HandingOut(clock, life, takes)
        keeper = Keeper("deploy", clock=clock, stats=RenewalStats(), chance=lambda: chance)
        renewing = asyncio.create_task(keeper.run(source))
        await keeper.holding.wait()
        left = []
        for _ in range(24 * 60):
            await asyncio.sleep(MINUTE)
            live = keeper.live()
            served = json.loads(live.documents.imds)["Expiration"] if live else "1970-01-01T00:00:00Z"
            left.append(seconds(served) - clock.wall())
        renewing.cancel()
        return left, source.calls

    return virtual_time.run(day())


@pytest.mark.parametrize(
    ("life", "takes", "chance"),
    [(HOUR, 0.0, 0.0), (HOUR, 20.0, 0.0), (HOUR, 20.0, 0.999), (90 * MINUTE, 20.0, 0.5), (12 * HOUR, 20.0, 0.0)],
)
def test_rule_18_at_least_25_minutes_of_life_at_every_minute_of_a_day(life, takes, chance):
    """Below that botocore signs with keys that are dead."""
    left, calls = a_day_of(life, takes, chance)
    assert len(left) == 24 * 60
    assert min(left) >= 25 * MINUTE
    assert calls <= DAY / (life / 3.6 * (1 - JITTER * chance)) + 1


@pytest.mark.parametrize("chance", [0.0, 0.999])
def test_rule_18_long_sessions_never_have_less_than_the_hour_clients_ask_early_by(chance):
    """A client that gets the old session when it asks does not ask again for 5 to 10 minutes."""
    left, _ = a_day_of(2 * HOUR, 1.0, chance)
    assert min(left) > HOUR
    assert any(later > earlier for earlier, later in pairwise(left))


class Silent(Source):
    """An AWS that never answers."""

    def __init__(self):
        self.asked = 0

    async def fetch(self):
        self.asked += 1
        await asyncio.Event().wait()


@pytest.fixture
async def hanging():
    """A plane of two roles whose source hangs for ever; `deploy` still has credentials, `other` never had any."""
    source = Silent()
    async with plane(roles=TWO_ROLES) as plane_:
        for keeper in plane_.keepers.values():
            keeper.next_attempt = 0.0
        renewing = [asyncio.create_task(keeper.run(source)) for keeper in plane_.keepers.values()]
        await until(lambda: source.asked == 2)
        yield plane_
        for task in renewing:
            task.cancel()
        for keeper in plane_.keepers.values():
            await keeper.close()


@pytest.mark.parametrize("path", ["/", LIST, *DOCUMENTS, "/latest/meta-data/placement/region", "/roles/other"])
async def test_rule_19_answers_while_the_source_hangs(hanging, path):
    """Go v2 gives up after 500 ms, most others after one second."""
    began = time.perf_counter()
    answer = await every_answer(hanging, path)
    assert time.perf_counter() - began < 0.25
    assert answer.status == (503 if path == "/roles/other" else 200)


async def test_rule_19_a_first_fetch_that_hangs_delays_no_answer():
    source = Silent()
    async with plane(held=()) as plane_:
        renewing = asyncio.create_task(plane_.keepers["deploy"].run(source))
        await until(lambda: source.asked == 1)
        began = time.perf_counter()
        assert (await plane_.get(LIST)).status == 404
        assert (await plane_.get(DOCUMENT)).status is None
        assert time.perf_counter() - began < 0.25
        renewing.cancel()
        await plane_.keepers["deploy"].close()


async def test_rule_19_the_last_good_credentials_are_served_while_aws_fails():
    class Down(Source):
        async def fetch(self):
            raise Unreachable("AWS does not answer", "wait")

    async with plane() as plane_:
        keeper = plane_.keepers["deploy"]
        keeper.next_attempt = 0.0
        renewing = asyncio.create_task(keeper.run(Down()))
        await until(lambda: keeper.failure is not None)
        assert (await plane_.get(DOCUMENT)).status == 200
        renewing.cancel()


async def test_rule_20_info_is_json_with_exactly_these_keys(wall):
    """.NET reads it before every document."""
    async with plane(clock=Clock(wall)) as plane_:
        answer = await plane_.get(f"{IAM}/info")
        info = json.loads(answer.body)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert set(info) == {"Code", "LastUpdated", "InstanceProfileArn", "InstanceProfileId"}
        assert info["Code"] == "Success"
        assert seconds(info["LastUpdated"]) == wall.now
        assert info["InstanceProfileArn"] == f"arn:aws:iam::{ACCOUNT}:instance-profile/deploy"
        assert re.fullmatch(r"AIPA[A-Z0-9]{17}", info["InstanceProfileId"])


async def test_rule_20_the_extended_document_is_the_same_with_the_account():
    async with plane() as plane_:
        plain = json.loads((await plane_.get(DOCUMENT)).body)
        answer = await plane_.get(f"{EXTENDED}/deploy")
        assert answer.headers["content-type"] == "text/plain"
        assert json.loads(answer.body) == {**plain, "AccountId": ACCOUNT}
        assert (await plane_.get(f"{EXTENDED}/")).body == b"deploy"
        assert (await plane_.get(EXTENDED)).body == b"deploy"


@pytest.mark.parametrize("path", [f"{EXTENDED}/unknown", f"{EXTENDED}/other", f"{EXTENDED}/deploy/more"])
async def test_rule_20_an_extended_document_that_is_not_there_is_exactly_404(path):
    """A client then takes the plain document; any other status ends its search."""
    async with plane(held=("deploy", "other"), roles=TWO_ROLES) as plane_:
        assert (await plane_.get(path)).status == 404


async def test_rule_20_info_is_not_there_without_credentials():
    async with plane(held=()) as plane_:
        assert (await plane_.get(f"{IAM}/info")).status == 404


async def test_rule_20_no_document_of_a_role_is_had_with_another_roles_container_token():
    async with plane(held=("deploy", "other"), roles=TWO_ROLES) as plane_:
        answer = await plane_.ask("/roles/deploy", headers={"Authorization": CONTAINER_TOKEN + "other"})
        assert answer.status == 401
