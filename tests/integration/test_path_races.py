"""A user exchanges the folder of a file for a link to another's, as fast as can be, while root keeps the file."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from support.daemon import wait
from support.folder_race import SECRETS, stage
from support.users import temporary_users

SECONDS = 60.0  # of the race

# What the daemon does for a file, without its waits: as often as the machine can.
KEEP = """
import asyncio, collections, json, sys, time
from pathlib import Path
from imds_proxy.host.clock import Clock
from imds_proxy.config.output_files import OutputFileConfig
from imds_proxy.credentials import Credentials, Secret
from imds_proxy.errors import FileError
from imds_proxy.output_files.output_file import Output
from imds_proxy.telemetry.stats import FileStats

folder, owner, seconds = sys.argv[1:]
now, ends, number = time.time(), collections.Counter(), 0

def output(**keys):
    entry = OutputFileConfig(role="deploy", owner=owner, **keys)
    return Output((entry,), lambda role: None, lambda role: False, FileStats(), Clock())

outputs = output(path=folder + "/ini", profile="mine"), output(path=folder + "/env", format="env")
end = time.monotonic() + float(seconds)
while time.monotonic() < end:
    number += 1
    credentials = Credentials(f"ASIA{number:016}", Secret("k" * 40), Secret("t" * 40), now + 3600, now)
    for output in outputs:
        try:
            output._write(((output.entries[0], credentials),), bool(number % 3))
            ends["written"] += 1
        except (FileError, OSError) as error:
            ends["refused"] += 1
print(json.dumps(ends))
"""


@pytest.fixture(scope="module")
def users():
    with temporary_users() as made:
        yield made.add(), made.add()


@pytest.fixture
def open_folder():
    """A folder that every user may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_no_race_of_a_user_gets_another_users_or_the_daemons_secrets(aws, start_daemon, users, open_folder):
    """One minute of a loop in any user's program would be worth every key on the host."""
    a, b = users
    place = stage(open_folder, a, b, "ini", "env", "daemon")
    before = place.untouched()
    entry = {"role": "deploy", "path": f"{place.home}/.aws/daemon", "profile": "mine", "owner": a.name}
    table = "".join(f"{key} = {json.dumps(value)}\n" for key, value in entry.items())
    daemon = start_daemon(f'[renewal]\nmax_age = "1s"\n[[files]]\n{table}')
    wait((place.home / ".aws/daemon").exists, 15, "the daemon's file")
    with place.attack(a, SECONDS) as attack:
        keep = subprocess.run(
            [sys.executable, "-c", KEEP, place.home / ".aws", a.name, str(SECONDS)],
            capture_output=True,
            text=True,
            timeout=SECONDS * 2,
            check=True,
        )
        found = json.loads(attack.stdout.read())
    ends = json.loads(keep.stdout)
    assert place.untouched() == before, found
    assert found["got"] == []
    assert found["turns"] > 100
    assert ends["written"] > 100
    assert ends["refused"] > 100
    assert daemon.status()["files"][0]["written"] is not None
    for path in (place.home / ".aws").iterdir():
        assert not [secret for secret in SECRETS.values() if path.name != "roots" and secret in path.read_text()], path
