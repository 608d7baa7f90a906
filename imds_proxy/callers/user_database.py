"""Which user a uid is, and that user's groups, from the system's user database (NSS)."""

import asyncio
import contextlib
import grp
import logging
import os
import pwd
from collections.abc import Iterator
from dataclasses import dataclass

from imds_proxy.host.threads import in_thread
from imds_proxy.telemetry.log import told

log = logging.getLogger(__name__)

_FRESH = 60.0
"""Seconds that an answer holds: who leaves a group loses what it gave within this."""
_PATIENCE = 0.4
"""Seconds that a connection waits for it. Go v2 gives up after 0.5."""
_AT_ONCE = 8
_MOST_UIDS = 1024
_ROOM_FOR_GROUPS = 64


@dataclass(frozen=True, slots=True)
class Account:
    """A user; one that the database does not have is a uid with nothing else."""

    uid: int
    user: str | None = None
    gids: frozenset[int] = frozenset()
    groups: frozenset[str] = frozenset()


def look_up(uid: int) -> Account:
    """Ask the user database; blocks for as long as that takes (LDAP, sssd)."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Account(uid)
    gids = _group_list(entry.pw_name, entry.pw_gid)
    return Account(uid, entry.pw_name, gids, frozenset(_group_names(gids)))


def look_up_name(user: str) -> Account | None:
    """The account that connections of a user are taken for; None where there is no such user. Blocks likewise.

    Where several names share a uid, it has the name that the database gives for the uid.
    """
    try:
        return look_up(pwd.getpwnam(user).pw_uid)
    except (KeyError, ValueError):
        return None


class Accounts:
    """Who uids are, looked up off the event loop that calls all of this, and remembered for a minute."""

    def __init__(self) -> None:
        self._answers: dict[int, tuple[float, Account]] = {}
        self._lookups: dict[int, tuple[float, asyncio.Task[None]]] = {}
        # Whoever may take on many uids (a container's, without privilege) must not push out or hold up who has a name.
        self._nameless: dict[int, tuple[float, Account]] = {}
        self._turns, self._turns_again = asyncio.Semaphore(_AT_ONCE), asyncio.Semaphore(_AT_ONCE)
        self._complained = False

    def known(self, uid: int) -> Account | None:
        """Who a uid is, if that was asked less than a minute ago."""
        if (answer := self._answers.get(uid) or self._nameless.get(uid)) is None:
            return None
        asked, account = answer
        return account if asyncio.get_running_loop().time() - asked < _FRESH else None

    async def of(self, uid: int) -> Account:
        """Who a uid is; after 0.4 s without an answer, what the last one was, or the uid alone. Never raises."""
        if (account := self.known(uid)) is not None:
            return account
        if uid in self._lookups or len(self._lookups) < _MOST_UIDS:
            begun, lookup = self._lookups.get(uid) or self._begin(uid)
            left = begun + _PATIENCE - asyncio.get_running_loop().time()
            await asyncio.wait({lookup}, timeout=max(left, 0))
            if not lookup.done():
                self._complain("the user database does not answer", uid)
        return self._answers.get(uid, (0.0, Account(uid)))[1]

    def close(self) -> None:
        """Wait for no answer; the threads that do end by themselves, and do not keep the process from ending."""
        for _, lookup in self._lookups.values():
            lookup.cancel()

    def _begin(self, uid: int) -> tuple[float, asyncio.Task[None]]:
        loop = asyncio.get_running_loop()
        lookup = loop.create_task(self._look_up(uid), name=f"look up uid {uid}")
        lookup.add_done_callback(lambda _: self._lookups.pop(uid))
        self._lookups[uid] = loop.time(), lookup
        return self._lookups[uid]

    async def _look_up(self, uid: int) -> None:
        async with self._turns_again if uid in self._answers else self._turns:
            asked = asyncio.get_running_loop().time()
            try:
                account = await in_thread(look_up, uid)
            except Exception as error:  # noqa: BLE001 - whatever a plug-in of the user database does
                self._complain("the user database cannot be asked", uid, error=told(error))
                return
        self._complained = False
        self._answers.pop(uid, None)
        self._nameless.pop(uid, None)
        answers = self._answers if account.user is not None else self._nameless
        answers[uid] = asked, account
        if len(answers) > _MOST_UIDS:
            del answers[next(iter(answers))]

    def _complain(self, event: str, uid: int, **details: str) -> None:
        """Once until it answers again: what users lose meanwhile are the roles of user and group grants."""
        if not self._complained:
            log.warning(event, extra={"uid": uid, "advice": f"see how long this takes: getent passwd {uid}", **details})
        self._complained = True


def _group_list(user: str, gid: int) -> frozenset[int]:
    """Primary and supplementary groups.

    By ctypes, because os.getgrouplist lets no other thread run until the user database answers.
    """
    import ctypes  # noqa: PLC0415 - not in the way of the start

    libc = ctypes.CDLL(None)
    size = ctypes.c_int(_ROOM_FOR_GROUPS)
    while True:
        room = size.value
        gids = (ctypes.c_uint32 * room)()
        if libc.getgrouplist(os.fsencode(user), ctypes.c_uint32(gid), gids, ctypes.byref(size)) >= 0:
            return frozenset(gids[: size.value])
        size.value = max(size.value, 2 * room)


def _group_names(gids: frozenset[int]) -> Iterator[str]:
    for gid in gids:
        with contextlib.suppress(KeyError):
            yield grp.getgrgid(gid).gr_name
