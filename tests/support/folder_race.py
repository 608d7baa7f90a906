"""A user who exchanges folders and files of theirs with links to others', as fast as the machine does."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.users import User

RENAMEAT2 = {"x86_64": 316, "aarch64": 276}
SECRETS = {"b": "SECRETOFUSERB", "base": "SECRETOFTHEBASEKEY", "root": "SECRETOFROOTINAFOLDEROFA"}

# Every secret that the user gets to read is printed. A round of each attack lasts a few hundred exchanges.
_ATTACK = """
home, others, names, seconds, number, *secrets = sys.argv[1:]
names = names.split(":")
call = ctypes.CDLL(None, use_errno=True).syscall

def exchange(one, other):
    call(int(number), -100, one.encode(), -100, other.encode(), 2)

def look():
    for name in names:
        for folder in (".aws", "link"):
            try:
                with open(f"{home}/{folder}/{name}") as file:
                    content = file.read()
            except OSError:
                continue
            for secret in secrets:
                if secret in content:
                    got.add(secret)

got, end, turns = set(), time.monotonic() + float(seconds), 0
print("begun", flush=True)
while time.monotonic() < end:
    turns += 1
    if turns % 4:
        os.symlink(others.split(":")[turns % 2], home + "/new")
        try:
            os.replace(home + "/new", home + "/link")  # refused in the moments when the folder is there
        except OSError:
            os.unlink(home + "/new")
        attack = home + "/.aws", home + "/link"
    else:
        attack = home + "/.aws/" + names[turns // 4 % len(names)], home + "/.aws/roots"
    for _ in range(400):
        exchange(*attack)
    look()
if os.path.islink(home + "/.aws"):
    exchange(home + "/.aws", home + "/link")
look()
print(json.dumps({"turns": turns, "got": sorted(got)}), flush=True)
"""


@dataclass(frozen=True)
class Stage:
    """The folders of the users a and b, of the daemon, and what may not be seen of them."""

    home: Path
    others: tuple[Path, Path]
    names: tuple[str, ...]

    def untouched(self) -> dict[Path, tuple[str, int, int]]:
        """Content, owner and mode of the files that are not a's, and of their folders."""
        found = {}
        for folder in self.others:
            for path in (folder, *sorted(folder.iterdir())):
                status = path.stat()
                found[path] = path.read_text() if path.is_file() else "", status.st_uid, status.st_mode
        return found

    def attack(self, user: User, seconds: float):
        """The running attacker, which has begun."""
        if (number := RENAMEAT2.get(platform.machine())) is None:
            pytest.fail(f"say the number of renameat2 on {platform.machine()} in RENAMEAT2")
        others = ":".join(map(str, self.others))
        process = user.start(_ATTACK, self.home, others, ":".join(self.names), seconds, number, *SECRETS.values())
        assert process.stdout.readline() == "begun\n"
        return process


def stage(folder: Path, a: User, b: User, *names: str) -> Stage:
    """Homes in a folder that every user may enter; each of the others' holds a secret under every name."""
    home, theirs, base = folder / "a", folder / "b", folder / "daemon"
    for path, owner, secret in ((home, a.uid, ""), (theirs, b.uid, SECRETS["b"]), (base, 0, SECRETS["base"])):
        path.mkdir(0o755)
        (path / ".aws").mkdir(0o700)
        for name in names:
            _put(path / ".aws" / name, secret, owner)
        os.chown(path, owner, owner)
        os.chown(path / ".aws", owner, owner)
    _put(home / ".aws/roots", SECRETS["root"], 0)
    (home / "link").symlink_to(theirs / ".aws")
    os.chown(home / "link", a.uid, a.gid, follow_symlinks=False)
    return Stage(home, (theirs / ".aws", base / ".aws"), names)


def _put(path: Path, secret: str, owner: int) -> None:
    path.write_text(f"[default]\naws_secret_access_key = {secret}\n")
    path.chmod(0o600)
    os.chown(path, owner, owner)
