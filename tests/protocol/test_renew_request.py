"""`POST /renew` of the control plane: who may have roles renewed, and what no request of a browser can do."""

import asyncio
import contextlib
import json
import logging

import pytest

from imds_proxy.admin.connection import ANSWER_TIME
from imds_proxy.admin.request_check import RENEW_HEADER
from imds_proxy.cli import renew as verb
from imds_proxy.errors import Denied
from imds_proxy.renewal.renew_now import LONGEST
from imds_proxy.sources import Source
from support.control_plane import REMOTE, ROOT, control_plane
from support.plane import credentials

USER, PROMETHEUS, ANOTHER_HOST = "127.0.0.2", "127.0.0.3", REMOTE
SENT = {RENEW_HEADER.replace("-", "_"): "1"}


class Aws(Source):
    """Gives a session at each call, or says no."""

    def __init__(self):
        self.calls, self.denies, self.go_on = 0, False, asyncio.Event()
        self.go_on.set()

    async def fetch(self):
        self.calls += 1
        number = self.calls
        await self.go_on.wait()
        if self.denies:
            raise Denied("no", "ask")
        return credentials(key=f"{number:04}")


@contextlib.asynccontextmanager
async def plane(**options):
    """A control plane whose roles have their first session."""
    async with control_plane(**options) as made:
        made.sources = {}
        made.roles.start(lambda name, *_: made.sources.setdefault(name, Aws()))
        async with asyncio.timeout(10):
            while not all(made.roles.live(name) for name in made.sources):
                await asyncio.sleep(0.01)
        try:
            yield made
        finally:
            await made.roles.close()


async def post(plane_, names=(), caller=ROOT, body=None, **headers):
    """Status and body of a request as the verb sends it."""
    body = json.dumps({"roles": list(names)}) if body is None else body
    lines = ["POST /renew HTTP/1.1", "Host: 127.0.0.1:9338", "Connection: close", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in (SENT | headers).items() if value is not None]
    answer = await plane_.wire("\r\n".join([*lines, "", body]), caller)
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]), body


def calls(plane_):
    return {name: source.calls for name, source in plane_.sources.items()}


async def test_root_has_roles_renewed(caplog):
    async with plane() as made:
        status, body = await post(made, ["logs"])
        assert status == 200
        [role] = json.loads(body)["roles"]
        assert (role["role"], role["outcome"], role["key"], role["same"]) == ("logs", "success", "…0002", False)
        assert calls(made) == {"deploy": 1, "logs": 2}
        assert [each["role"] for each in json.loads((await post(made))[1])["roles"]] == ["deploy", "logs"]
        assert calls(made) == {"deploy": 2, "logs": 3}
        [line, _] = [record for record in caplog.records if record.message == "a renewal is asked for"]
        assert (line.levelno, line.by, line.roles) == (logging.INFO, "uid 0", "logs")


@pytest.mark.parametrize("caller", [USER, PROMETHEUS, ANOTHER_HOST])
async def test_nobody_else_has(caller):
    """Whoever may look at everything, as Prometheus may, could have AWS called, and saved sessions dropped."""
    admin = {"allowed_users": ["user2"], "allowed_addresses": ["192.0.2.0/24"]}
    async with plane(**admin) as made:
        status, body = await post(made, ["deploy"], caller)
        assert status == 403
        assert "root" in body
        status, body = await post(made, ["no-such-role"], caller)
        assert (status, "deploy" in body) == (403, False)
        assert calls(made) == {"deploy": 1, "logs": 1}


OF_A_BROWSER = [
    {RENEW_HEADER.replace("-", "_"): None},
    {"Origin": "http://127.0.0.1:9338"},
    {"Origin": "null"},
    {"Origin": "https://evil.example"},
    {"Sec_Fetch_Site": "same-origin"},
    {"Sec_Fetch_Site": "none"},
    {"Sec_Fetch_Mode": "no-cors"},
    {"Referer": "http://127.0.0.1:9338/"},
    {"Cookie": "a=b"},
]


@pytest.mark.parametrize("headers", OF_A_BROWSER)
async def test_no_browser_has_even_roots(headers):
    """A page that an operator opens could have every role renewed, again and again."""
    async with plane() as made:
        assert (await post(made, ["deploy"], **headers))[0] == 403
        assert calls(made)["deploy"] == 1


async def test_another_host_name_and_other_methods_are_refused():
    """A name in DNS that points here makes a page of another site one of this host's."""
    async with plane() as made:
        assert (await made.get("/renew", method="POST", host="evil.example", **SENT))[0] == 403
        for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
            status, headers, _ = await made.get("/renew", method=method, **SENT)
            assert (status, headers["allow"]) == (405, "POST")
            assert not [name for name in headers if name.startswith("access-control")]
        assert calls(made)["deploy"] == 1


@pytest.mark.parametrize(
    "body", ["", "{}", "[]", "null", '{"roles": "deploy"}', '{"roles": [1]}', '{"roles"', "[" * 5000, '{"roles": {}}']
)
async def test_a_body_that_is_none_changes_nothing(body):
    """An empty one could be taken for all roles."""
    async with plane() as made:
        assert (await post(made, body=body))[0] == 400
        assert calls(made)["deploy"] == 1


async def test_an_unknown_role_is_told_with_those_that_there_are():
    async with plane() as made:
        status, body = await post(made, ["deploy", "typo"])
        assert status == 404
        assert json.loads(body) == {"unknown": ["typo"], "roles": ["deploy", "logs"]}
        assert calls(made)["deploy"] == 1


async def test_many_at_once_are_one_attempt_of_each_role():
    """An operator's loop, or ten of them, would be as many calls to STS."""
    async with plane() as made:
        for source in made.sources.values():
            source.go_on.clear()
        asking = [asyncio.create_task(post(made)) for _ in range(20)]
        while calls(made) != {"deploy": 2, "logs": 2}:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        for source in made.sources.values():
            source.go_on.set()
        assert {status for status, _ in await asyncio.gather(*asking)} == {200}
        assert max(calls(made).values()) <= 3, "of those that came after it had begun there is one more"


async def test_an_attempt_that_began_before_is_not_taken_for_one_that_was_asked_for():
    """Its session may be from before the moment up to which AWS revokes them."""
    async with plane() as made:
        source = made.sources["deploy"]
        source.go_on.clear()
        before = asyncio.create_task(made.roles["deploy"].keeper.renew())
        while source.calls < 2:
            await asyncio.sleep(0.01)
        asking = asyncio.create_task(post(made, ["deploy"]))
        await asyncio.sleep(0.1)
        source.go_on.set()
        status, body = await asking
        assert (status, json.loads(body)["roles"][0]["key"]) == (200, "…0003")
        assert before.done()


async def test_a_failure_is_told_and_what_lives_is_served_on():
    """An operator would take the old session for a new one; and to drop it would be an outage."""
    async with plane() as made:
        made.sources["deploy"].denies = True
        roles = json.loads((await post(made))[1])["roles"]
        assert [role["outcome"] for role in roles] == ["denied", "success"]
        assert (roles[0]["message"], roles[0]["advice"], roles[0]["key"]) == ("no", "ask", "…0001")
        assert made.roles.live("deploy").key_hint == "0001"


async def test_before_the_roles_are_started_nothing_is_claimed():
    """Right after a start a saved session would be told of as a new one."""
    async with control_plane() as made:
        made.roles["deploy"].keeper.adopt(credentials(), due=False)
        roles = json.loads((await post(made))[1])["roles"]
        assert {role["outcome"] for role in roles} == {"pending"}


async def test_a_role_that_a_reload_takes_away_meanwhile_is_none_that_was_renewed():
    """Its request would end with an error of the daemon's, and that of all the others with it."""
    async with plane() as made:
        made.sources["deploy"].go_on.clear()
        asking = asyncio.create_task(post(made))
        while made.sources["deploy"].calls < 2 or made.sources["logs"].calls < 2:
            await asyncio.sleep(0.01)
        await made.roles.stop([made.roles["deploy"]])
        status, body = await asking
        assert status == 200
        assert [role["outcome"] for role in json.loads(body)["roles"]] == ["pending", "success"]


async def test_an_answer_may_take_as_long_as_aws_does():
    """The connection would be cut off in the middle, and the verb could not say how it went."""
    async with plane() as made:
        made.sources["deploy"].go_on.clear()
        asking = asyncio.create_task(post(made, ["deploy"]))
        while made.sources["deploy"].calls < 2:
            await asyncio.sleep(0.01)
        [connection] = [each for each in made.connections._all if each.busy]
        now = asyncio.get_running_loop().time()
        assert connection.deadline - now > LONGEST > 2 * ANSWER_TIME
        assert connection.deadline - now < verb._ANSWERED_WITHIN
        made.sources["deploy"].go_on.set()
        assert (await asking)[0] == 200
