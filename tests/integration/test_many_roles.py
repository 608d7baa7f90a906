"""A thousand roles in one daemon: the default role is early, a changed file is seen, and nothing costs much."""

import json
import os
import time
from pathlib import Path

import pytest

from support.certificates import put
from support.credential_service import Session
from support.daemon import HOST, DaemonProcess, wait

MANY = 1000
DEFAULT = f"r{MANY - 1}"
TICK = os.sysconf("SC_CLK_TCK")


def sessions(folder):
    folder.mkdir()
    for number in range(MANY):
        put(folder / f"{number}.json", json.dumps(Session(life=7200).document("process")).encode())
    return folder


def tables(folder, table):
    """The default role is the last one."""
    head = HOST.replace('"STATE"', '""') + "[renewal]\nstart_grace = 0\n"
    default = [number == MANY - 1 for number in range(MANY)]
    texts = [table.format(folder=folder, number=number) for number in range(MANY)]
    return head + "".join(
        f"[roles.r{number}]\ndefault = {str(default[number]).lower()}\n{text}\n" for number, text in enumerate(texts)
    )


def cpu(pid):
    """Seconds on a core, of all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def key_of(daemon):
    try:
        return daemon.credentials(DEFAULT)["AccessKeyId"]
    except (OSError, ValueError):  # it does not listen yet, or has none
        return None


def renewals(daemon):
    lines = [line for line in daemon.metrics().splitlines() if line.startswith("imds_proxy_renewals_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines if 'outcome="success"' in line)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return sessions(tmp_path_factory.mktemp("many") / "sessions")


def test_a_thousand_files_cost_no_thread_and_next_to_no_time(folder, tmp_path):
    """A thread for each took a tenth of a core for nothing, and answers took seconds while they all looked."""
    config = tables(folder, 'source = "file"\nformat = "json"\npath = "{folder}/{number}.json"')
    with DaemonProcess(tmp_path, config, {}, arguments=("--log-level", "ERROR")) as daemon:
        wait(lambda: key_of(daemon), 30, "the default role")
        wait(lambda: renewals(daemon) >= MANY, 60, "all of them")
        changed = Session(life=7200)
        new = put(tmp_path / "new", json.dumps(changed.document("process")).encode())
        Path(new).replace(folder / f"{MANY - 1}.json")
        wait(lambda: key_of(daemon) == changed.key_id, 5, "the new session")
        time.sleep(6)  # what reads files and looks at them ends
        used, began = cpu(daemon.process.pid), time.monotonic()
        time.sleep(4)
        idle = (cpu(daemon.process.pid) - used) / (time.monotonic() - began)
        assert len(list(Path(f"/proc/{daemon.process.pid}/task").iterdir())) < 12
        assert idle < 0.05


def test_the_default_role_is_not_the_last_of_a_thousand(folder, tmp_path):
    """Its clients waited for a minute, until every role before it had been obtained."""
    config = tables(folder, 'source = "process"\ncommand = ["/bin/cat", "{folder}/{number}.json"]')
    with DaemonProcess(tmp_path, config, {}, arguments=("--log-level", "ERROR")) as daemon:
        wait(lambda: key_of(daemon), 30, "the default role")
        assert renewals(daemon) < MANY / 2
