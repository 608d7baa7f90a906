"""Which user a uid is, and that user's groups (callers/user_database.py)."""

import asyncio
import os
import pwd
import shutil
import subprocess
import sys
import threading
import time

import pytest

from imds_proxy.callers import user_database as room
from imds_proxy.callers.user_database import Account, Accounts, look_up, look_up_name
from support.users import temporary_users

UNKNOWN = 3_999_999_999
"""A uid that no database has."""


@pytest.fixture(scope="module")
def users():
    with temporary_users() as made:
        yield made


@pytest.fixture
async def accounts():
    accounts = Accounts()
    yield accounts
    accounts.close()


class SlowDatabase:
    """Answers a uid when `answer` is set, and counts what it is asked."""

    def __init__(self, monkeypatch):
        self.answer = threading.Event()
        self.asked = []
        monkeypatch.setattr(room, "look_up", self)

    def __call__(self, uid):
        self.asked.append(uid)
        assert self.answer.wait(20)
        return Account(uid, f"user{uid}")


@pytest.fixture
def database(monkeypatch):
    database = SlowDatabase(monkeypatch)
    yield database
    database.answer.set()


def test_an_account_has_primary_and_supplementary_groups(users):
    """A grant to a group is for all its members, whichever way they belong to it."""
    user = users.add()
    groups = [users.add_group(user) for _ in range(2)]
    account = look_up(user.uid)
    assert account.user == user.name
    assert account.gids == {user.gid, *(group.gr_gid for group in groups)}
    assert account.groups == {user.name, *(group.gr_name for group in groups)}
    assert look_up_name(user.name) == account


def test_a_user_of_many_groups_has_all_of_them(users, monkeypatch):
    monkeypatch.setattr(room, "_ROOM_FOR_GROUPS", 1)
    user = users.add()
    groups = [users.add_group(user) for _ in range(4)]
    assert {group.gr_gid for group in groups} < look_up(user.uid).gids


@pytest.mark.parametrize("uid", [0, os.getuid()])
def test_the_groups_are_those_that_python_finds(uid):
    entry = pwd.getpwuid(uid)
    assert look_up(uid).gids == set(os.getgrouplist(entry.pw_name, entry.pw_gid))


def test_a_uid_that_no_database_has_is_only_that():
    assert look_up(UNKNOWN) == Account(UNKNOWN, None, frozenset(), frozenset())


@pytest.mark.parametrize("name", ["no-such-user", "", "with\0zero", "x" * 5000])
def test_a_name_that_no_database_has_is_nobody(name):
    assert look_up_name(name) is None


async def test_an_answer_is_known_at_once_the_next_time(accounts):
    """A connection is not to wait for LDAP each time."""
    assert accounts.known(0) is None
    assert await accounts.of(0) == look_up(0)
    assert accounts.known(0) == look_up(0)
    assert accounts.known(UNKNOWN) is None
    assert await accounts.of(UNKNOWN) == Account(UNKNOWN)
    assert accounts.known(UNKNOWN) == Account(UNKNOWN)


async def test_who_leaves_a_group_loses_it_when_the_answer_is_no_longer_fresh(accounts, users, monkeypatch):
    """What a group may have is not for those who have left it."""
    monkeypatch.setattr(room, "_FRESH", 1.0)
    user = users.add()
    group = users.add_group(user)
    assert group.gr_name in (await accounts.of(user.uid)).groups
    users.leave(user, group.gr_name)
    deadline = time.monotonic() + 1.2
    while group.gr_name in (await accounts.of(user.uid)).groups:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    assert group.gr_gid not in accounts.known(user.uid).gids


async def test_a_user_whom_nobody_has_asked_for_is_a_uid_while_the_database_hangs(accounts, database, caplog):
    """Go v2 gives up after half a second: it is answered before, with what a uid alone may have."""
    before = time.monotonic()
    assert await accounts.of(7) == Account(7)
    assert 0.3 < time.monotonic() - before < 0.5
    assert accounts.known(7) is None
    before = time.monotonic()
    assert await accounts.of(7) == Account(7)
    assert time.monotonic() - before < 0.1, "that it hangs was known"
    assert [record.message for record in caplog.records] == ["the user database does not answer"]
    assert database.asked == [7]


async def test_a_user_of_before_stays_the_same_while_the_database_hangs(accounts, database, monkeypatch):
    """An outage of the directory is none of the hosts' own."""
    monkeypatch.setattr(room, "_FRESH", 0.0)
    database.answer.set()
    assert (await accounts.of(7)).user == "user7"
    database.answer.clear()
    assert accounts.known(7) is None
    assert (await accounts.of(7)).user == "user7"


async def test_an_answer_that_comes_late_is_for_the_next_connection(accounts, database):
    assert await accounts.of(7) == Account(7)
    database.answer.set()
    async with asyncio.timeout(5):
        while accounts.known(7) is None:
            await asyncio.sleep(0.01)
    assert accounts.known(7).user == "user7"


async def test_connections_of_one_user_ask_once(accounts, database, monkeypatch):
    """A burst of a thousand must not become a thousand questions to LDAP."""
    monkeypatch.setattr(room, "_PATIENCE", 10.0)
    waiting = asyncio.gather(*(accounts.of(7) for _ in range(1000)))
    await asyncio.sleep(0.05)
    database.answer.set()
    assert set(await waiting) == {Account(7, "user7")}
    assert database.asked == [7]


async def test_many_users_have_few_threads_and_little_memory(accounts, database):
    """Who may make processes of many uids (user namespaces) must not exhaust the daemon."""
    before = set(threading.enumerate())
    waiting = asyncio.gather(*(accounts.of(uid) for uid in range(3000)))
    await asyncio.sleep(0.05)
    assert len(set(threading.enumerate()) - before) == 8
    assert len(accounts._lookups) == 1024
    database.answer.set()
    assert [account.uid for account in await waiting] == list(range(3000))
    async with asyncio.timeout(10):
        while accounts._lookups:
            await asyncio.sleep(0.01)
    for uid in range(3000, 3100):
        await accounts.of(uid)
    assert len(accounts._answers) == 1024
    assert accounts.known(3099).user == "user3099"


async def test_a_database_that_fails_costs_the_names_and_one_line(accounts, monkeypatch, caplog):
    def fail(_):
        raise OSError("of a plug-in, with something that is not for a log")

    monkeypatch.setattr(room, "look_up", fail)
    assert [await accounts.of(7) for _ in range(3)] == [Account(7)] * 3
    assert [record.message for record in caplog.records] == ["the user database cannot be asked"]
    assert "not for a log" not in str([vars(record) for record in caplog.records])


# As an LDAP server that answers after two seconds, where sssd asks it for the groups.
SLOW_GROUPS = """
#include <unistd.h>
#include <sys/types.h>
int getgrouplist(const char *user, gid_t group, gid_t *groups, int *number)
{
    sleep(10);
    groups[0] = group;
    *number = 1;
    return 1;
}
"""

TICKING = """
import asyncio, time
from imds_proxy.callers.user_database import Accounts

async def main():
    accounts, worst = Accounts(), 0.0
    asking = asyncio.create_task(accounts.of(0))
    until = time.monotonic() + 1
    while (before := time.monotonic()) < until:
        await asyncio.sleep(0.001)
        worst = max(worst, time.monotonic() - before)
    print(worst, (await asking).user)
    accounts.close()

asyncio.run(main())
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="a slow C library takes a C compiler")
def test_a_user_database_that_hangs_stops_nobody_else(tmp_path):
    """Neither the requests of other users, nor the end of the process."""
    source, library = tmp_path / "slow.c", tmp_path / "slow.so"
    source.write_text(SLOW_GROUPS)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    before = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", TICKING],
        env=os.environ | {"LD_PRELOAD": str(library)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=20,
    )
    worst, user = done.stdout.split()
    assert user == "None"
    assert float(worst) < 3
    assert time.monotonic() - before < 9


async def test_who_takes_on_many_uids_pushes_out_nobody_who_has_a_name(monkeypatch, accounts):
    """Rootless containers have tens of thousands: one user could take the roles of groups from all others."""
    monkeypatch.setattr(room, "_MOST_UIDS", 5)
    monkeypatch.setattr(room, "look_up", lambda uid: Account(uid, "root" if uid == 0 else None))
    await accounts.of(0)
    for uid in range(100_000, 100_020):
        await accounts.of(uid)
    assert accounts.known(0) == Account(0, "root")
    assert len(accounts._nameless) == 5


async def test_who_is_known_waits_for_none_of_many_new_uids(monkeypatch, accounts, database):
    """While they are looked up slowly, the others' answers would end one after the other."""
    database.answer.set()
    await accounts.of(0)
    database.answer.clear()
    many = [asyncio.create_task(accounts.of(uid)) for uid in range(100_000, 100_100)]
    await asyncio.sleep(0.05)
    monkeypatch.setattr(room, "_FRESH", 0.0)
    again = asyncio.create_task(accounts.of(0))
    await asyncio.sleep(0.05)
    assert database.asked.count(0) == 2
    database.answer.set()
    assert await again == Account(0, "user0")
    await asyncio.gather(*many)
