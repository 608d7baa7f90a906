"""Users and groups of a test run's own, and Python programs that run as them."""

import contextlib
import grp
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import count

import pytest

from support.processes import alive

_PREFIX = "imdst"
_NAME = re.compile(rf"{_PREFIX}(\d+)[a-z]\d+")
_LOCKED = {1, 10}  # useradd(8), groupadd(8): another program is changing the files

# What a program needs is imported before it is another user's, who may not read this interpreter's files.
_BECOME = """
import ctypes, json, os, signal, socket, struct, sys, time
_user = json.loads(sys.argv.pop(1))
os.setgroups(_user["gids"])
os.setresgid(_user["gid"], _user["gid"], _user["gid"])
os.setresuid(_user["uid"], _user["uid"], _user["uid"])
"""

_COMMANDS = ("useradd", "groupadd", "gpasswd", "userdel", "groupdel")


@dataclass(frozen=True)
class User:
    """A user that exists; `uid` and `gid` may be such as no database has."""

    name: str | None
    uid: int
    gid: int

    def start(self, program: str, *arguments, gids=None) -> subprocess.Popen:
        """Run Python code as this user, with pipes; ctypes, json, os, signal, socket, struct, sys and time are there.

        Its process has the groups that the user database says, unless `gids` says others.
        """
        gids = (os.getgrouplist(self.name, self.gid) if self.name else [self.gid]) if gids is None else gids
        become = json.dumps({"uid": self.uid, "gid": self.gid, "gids": list(gids)})
        return subprocess.Popen(
            [sys.executable, "-I", "-c", _BECOME + program, become, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
        )

    @contextlib.contextmanager
    def running(self, program: str, *arguments, gids=None):
        """The same, killed at the end."""
        with self.start(program, *arguments, gids=gids) as process:
            try:
                yield process
            finally:
                process.kill()


class Users:
    """Makes users and groups, and removes them again."""

    def __init__(self):
        self._users, self._groups = [], []
        self._number = count()

    def add(self) -> User:
        """A new user, with a group of its own name."""
        name = self._new_name("u")
        _run("useradd", "--no-create-home", "--user-group", "--home-dir", "/", "--shell", "/usr/sbin/nologin", name)
        self._users.append(name)
        entry = pwd.getpwnam(name)
        return User(name, entry.pw_uid, entry.pw_gid)

    def add_group(self, *members: User) -> grp.struct_group:
        """A new group."""
        name = self._new_name("g")
        _run("groupadd", name)
        self._groups.append(name)
        for member in members:
            self.join(member, name)
        return grp.getgrnam(name)

    def join(self, user: User, group: str) -> None:
        _run("gpasswd", "--add", user.name, group)

    def leave(self, user: User, group: str) -> None:
        _run("gpasswd", "--delete", user.name, group)

    def remove(self) -> None:
        """Everything that was made here."""
        for name in self._users:
            _run("userdel", name)
        for name in self._groups:
            _run("groupdel", name)
        self._users, self._groups = [], []

    def _new_name(self, kind: str) -> str:
        return f"{_PREFIX}{os.getpid()}{kind}{next(self._number)}"


@contextlib.contextmanager
def temporary_users():
    """Users for as long as this is entered; those that a killed run left are removed first."""
    if os.geteuid() != 0:
        pytest.skip("making users takes root")
    if not all(map(shutil.which, _COMMANDS)):
        pytest.skip(f"making users takes {', '.join(_COMMANDS)}")
    _sweep()
    made = Users()
    try:
        yield made
    finally:
        made.remove()


def _sweep() -> None:
    for command, entries in (("userdel", pwd.getpwall()), ("groupdel", grp.getgrall())):
        for name in (entry[0] for entry in entries):
            if (of_a_run := _NAME.fullmatch(name)) and not alive(of_a_run[1]):
                _run(command, name, check=False)


def _run(*command, check=True) -> None:
    for _ in range(100):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode not in _LOCKED or "lock" not in done.stderr:
            break
        time.sleep(0.05)
    assert not check or done.returncode == 0, f"{command}: {done.stderr}"
