"""One file that is kept fresh, and all of them (output_files/output_file.py, all_output_files.py, after_hook.py)."""

import asyncio
import json
import os
import shutil
import stat
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from imds_proxy.cli.status import render
from imds_proxy.config.reader import parse
from imds_proxy.host.clock import Clock
from imds_proxy.output_files import after_hook, target_path
from imds_proxy.output_files import output_file as output
from imds_proxy.output_files.all_output_files import Outputs
from imds_proxy.telemetry.measured import Measured
from imds_proxy.telemetry.metrics import Metrics
from imds_proxy.telemetry.stats import RenewalStats
from support.plane import credentials, role_table
from support.processes import alive

ROLES = role_table() | role_table("other", default=True)
FOREIGN = "# mine\r\n[mine]\r\nregion = eu-west-1\r\n"


class Kept:
    """Files that are kept, with credentials that a test hands out."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.held, self.pending = {}, {"deploy", "other"}
        self.stats = RenewalStats()
        self.outputs = Outputs(self.held.get, self.pending.__contains__, self.stats, Clock())

    def entry(self, name="file", **keys):
        return {"role": "deploy", "path": str(self.folder / name), **keys}

    async def follow(self, *entries):
        await self.outputs.follow(parse({"roles": ROLES, "files": list(entries)}, "test"))

    def hold(self, role="deploy", key="AAAA", **life):
        self.held[role] = credentials(role, key=key, **life)
        self.pending.discard(role)
        self.outputs.refresh()

    def read(self, name="file"):
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    @property
    def only(self):
        (output,) = self.outputs.all()
        return output


@pytest.fixture
async def kept(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    kept = Kept(folder)
    yield kept
    await kept.outputs.close()


async def until(condition, seconds=8.0):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def test_it_is_written_at_once_and_at_every_renewal(kept):
    kept.hold(key="AAAA")
    await kept.follow(kept.entry())
    await until(lambda: "KEYIDAAAA" in kept.read())
    kept.hold(key="BBBB")
    await until(lambda: "KEYIDBBBB" in kept.read())
    assert "AAAA" not in kept.read()
    assert kept.stats.files[str(kept.folder / "file")].written > 0
    assert kept.only.failure is None


async def test_nothing_is_written_of_a_role_that_has_nothing(kept):
    """An empty or dead file is worse for the agent than the old one: it is believed for half an hour."""
    (kept.folder / "file").write_text("[default]\nregion = x\n")
    await kept.follow(kept.entry())
    await asyncio.sleep(0.2)
    assert kept.read() == "[default]\nregion = x\n"
    assert not kept.only.tried.is_set()
    kept.hold()
    await asyncio.wait_for(kept.only.tried.wait(), 5)
    assert "KEYIDAAAA" in kept.read()
    before = kept.read()
    kept.held.clear()
    kept.outputs.refresh()
    await asyncio.sleep(0.2)
    assert kept.read() == before
    assert kept.only.failure is None


async def test_a_start_does_not_wait_for_a_role_that_has_failed(kept):
    """One workload's broken role would keep the whole host from booting."""
    kept.hold()
    await kept.follow(kept.entry(), kept.entry(role="other", profile="second"))
    await until(kept.read)
    assert not kept.only.tried.is_set()
    kept.pending.clear()
    kept.outputs.refresh()
    await asyncio.wait_for(kept.outputs.tried(), 5)


async def test_two_roles_are_two_profiles_and_one_that_has_died_is_left(kept):
    (kept.folder / "file").write_bytes(FOREIGN.encode())
    kept.hold()
    await kept.follow(kept.entry(), kept.entry(role="other", profile="second"))
    await until(lambda: "[default]" in kept.read())
    assert not kept.only.tried.is_set()
    kept.hold("other", key="BBBB")
    await until(lambda: "BBBB" in kept.read() and kept.only.tried.is_set())
    del kept.held["other"]
    kept.hold(key="CCCC")
    await until(lambda: "CCCC" in kept.read())
    text = (kept.folder / "file").read_bytes().decode()
    assert text.startswith(FOREIGN)
    assert text.index("CCCC") < text.index("[second]") < text.index("BBBB")


@pytest.mark.parametrize("form", ["ini", "json", "env"])
async def test_what_was_removed_or_spoilt_is_there_again_within_seconds(kept, form):
    """Until the next renewal, half an hour later, programs would find nothing."""
    kept.hold()
    await kept.follow(kept.entry(format=form))
    await until(lambda: "AAAA" in kept.read())
    path, good = kept.folder / "file", kept.read()
    for spoil in (path.unlink, lambda: path.write_text(""), lambda: path.chmod(0o644), lambda: os.chown(path, 99, 99)):
        spoil()
        await until(lambda: kept.read() == good and path.stat().st_mode & 0o777 == 0o600 and not path.stat().st_uid)
    assert kept.stats.files[str(path)].failures == 0


async def test_what_somebody_else_changes_in_the_file_is_kept_and_nothing_written(kept):
    """Two programs that put right each other's lines would write for ever."""
    kept.hold()
    await kept.follow(kept.entry())
    await until(lambda: "AAAA" in kept.read())
    path = kept.folder / "file"
    with path.open("a") as file:
        file.write("[mine]\nregion = x\n")
    theirs = target_path.signature(path)
    await until(lambda: kept.only._signature == theirs)
    assert target_path.signature(path) == theirs


async def test_a_folder_that_is_gone_is_told_of_and_used_once_it_is_back(kept, caplog):
    kept.hold()
    await kept.follow(kept.entry())
    await until(kept.read)
    shutil.rmtree(kept.folder)
    await until(lambda: kept.stats.files[str(kept.folder / "file")].failures >= 2)
    assert kept.only.failure.message == f"{kept.folder}/file cannot be written: No such file or directory"
    assert kept.only.failure.advice == "create its folder"
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1  # the same words each second would hide what else there is in the log
    kept.folder.mkdir()
    await until(lambda: "AAAA" in kept.read() and kept.only.failure is None)


async def test_it_is_tried_again_for_ever_and_every_few_seconds(kept):
    """A disk that was full for a day would be too late for the file, or for good."""
    kept.hold()
    await kept.follow(kept.entry("missing/file"))
    await until(lambda: kept.only.failure)
    for failures in (1, 10, 10**9):
        kept.only._failures = failures
        assert 1 <= kept.only._wait() <= 5


async def test_an_exception_nobody_thought_of_does_not_end_it_nor_show_its_text(kept, monkeypatch, caplog):
    def replace(*_):
        raise KeyError("aws_session_token = wJalrXUtnFEMI")

    with monkeypatch.context() as patch:
        patch.setattr(target_path.OpenTarget, "replace", replace)
        kept.hold()
        await kept.follow(kept.entry())
        await until(lambda: kept.only.failure)
    assert "unexpected KeyError at test_output.py" in kept.only.failure.message
    assert "wJalr" not in kept.only.failure.message + caplog.text
    await until(lambda: "AAAA" in kept.read())


@pytest.mark.parametrize("way", ["link", "folder"])
async def test_the_daemons_own_credentials_file_is_no_target_by_any_path(kept, monkeypatch, way):
    """Its own key would be lost, and with it every session from then on."""
    home = kept.folder / "home"
    own = home / ".aws/credentials"
    own.parent.mkdir(parents=True)
    own.write_text("[default]\naws_access_key_id = AKIAOWN\n")
    (kept.folder / "away").symlink_to(own.parent)
    (own.parent / "file").symlink_to("credentials")
    monkeypatch.setenv("HOME", str(home))
    kept.hold()
    await kept.follow(kept.entry("away/file" if way == "link" else "away/credentials"))
    await until(lambda: kept.only.failure)
    assert "shared credentials file" in kept.only.failure.message
    assert own.read_text() == "[default]\naws_access_key_id = AKIAOWN\n"


async def test_sessions_that_turn_out_too_short_are_told_of_once(kept, caplog):
    """A command or a service says only with each session how long it lives."""
    kept.hold(life=20 * 60)
    await kept.follow(kept.entry())
    await until(lambda: kept.only.warnings)
    kept.hold(key="BBBB", life=20 * 60)
    await until(lambda: "BBBB" in kept.read())
    assert "live 20 min" in kept.only.warnings[0]
    assert caplog.text.count("sessions are too short") == 1
    kept.hold(key="CCCC", life=3600)
    await until(lambda: "CCCC" in kept.read() and kept.only.warnings == [])


async def test_a_saved_session_near_its_end_is_no_short_one(kept):
    """Every restart would tell of what is not so."""
    kept.held["deploy"] = replace(credentials(life=600), obtained=credentials().obtained - 3000)
    await kept.follow(kept.entry())
    await until(kept.read)
    assert kept.only.warnings == []


# Reloads


async def test_a_reload_brings_changes_and_drops_files(kept):
    kept.hold()
    await kept.follow(kept.entry(), kept.entry("second", format="json"))
    await until(lambda: kept.read() and kept.read("second"))
    first = kept.outputs.all()[0]
    await kept.follow(kept.entry(mode="0640", profile="new"))
    await until(lambda: "[new]" in kept.read())
    assert stat.S_IMODE((kept.folder / "file").stat().st_mode) == 0o640
    assert kept.only is first
    assert list(kept.stats.files) == [str(kept.folder / "file")]
    kept.hold(key="BBBB")
    await until(lambda: "BBBB" in kept.read())
    assert "AAAA" in kept.read("second")


async def test_no_write_is_under_way_after_closing(kept, monkeypatch):
    """The next daemon would have its file replaced by the old one's."""
    real, ended = target_path.OpenTarget.replace, []

    def slow(*arguments):
        time.sleep(0.5)
        ended.append(real(*arguments))
        return ended[-1]

    monkeypatch.setattr(target_path.OpenTarget, "replace", slow)
    kept.hold()
    await kept.follow(kept.entry())
    await asyncio.sleep(0.1)
    await kept.outputs.close()
    assert len(ended) == 1
    await asyncio.sleep(0.7)
    assert len(ended) == 1


@pytest.fixture
def disk(monkeypatch):
    """A disk that answers late while `disk.late` is not set; a write is given up after a moment."""
    real, disk = target_path.OpenTarget.replace, SimpleNamespace(late=threading.Event())
    disk.late.set()

    def late(*arguments):
        assert disk.late.wait(10)
        return real(*arguments)

    monkeypatch.setattr(target_path.OpenTarget, "replace", late)
    monkeypatch.setattr(output, "_WRITTEN_WITHIN", 0.2)
    return disk


async def test_a_write_that_comes_late_is_put_right_if_it_is_not_wanted_any_more(kept, disk):
    """A reload has taken it back meanwhile: the file would stay readable for a group that should not."""
    kept.hold()
    await kept.follow(kept.entry())
    await until(kept.read)
    disk.late.clear()
    await kept.follow(kept.entry(mode="0640"))
    await until(lambda: kept.only.failure)
    assert "could not be written within 0.2 s" in kept.only.failure.message
    await kept.follow(kept.entry())
    disk.late.set()
    await until(lambda: kept.only.failure is None)
    assert stat.S_IMODE((kept.folder / "file").stat().st_mode) == 0o600


# After a change


async def test_it_runs_after_a_write_that_comes_late_too(kept, tmp_path, disk):
    """What reads the file only when it is told to would go on with credentials that die."""
    ran = tmp_path / "ran"
    kept.hold()
    await kept.follow(kept.entry(after=script(tmp_path, f"echo x >> {ran}")))
    await until(lambda: ran.exists() and ran.read_text() == "x\n")
    disk.late.clear()
    kept.hold(key="BBBB")
    await until(lambda: kept.only.failure)
    disk.late.set()
    await until(lambda: ran.read_text() == "x\nx\n")
    assert "BBBB" in kept.read()
    await asyncio.sleep(0.3)
    assert ran.read_text() == "x\nx\n"


def script(folder, text):
    path = folder / "after.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return [str(path), "argument"]


async def test_what_is_to_run_after_a_change_runs_after_changes_alone(kept, tmp_path):
    command = script(tmp_path, f'echo "$1 $(grep -c KEYID {kept.folder}/file)" >> {tmp_path}/ran')
    ran = tmp_path / "ran"
    kept.hold()
    await kept.follow(kept.entry(after=command))
    await until(lambda: ran.exists() and ran.read_text() == "argument 1\n")
    await kept.follow(kept.entry(after=command, owner="root"))
    await until(lambda: kept.only._written[0][0].owner == "root")
    kept.hold(key="BBBB")
    await until(lambda: len(ran.read_text().splitlines()) == 2)
    await asyncio.sleep(0.3)
    assert len(ran.read_text().splitlines()) == 2


async def test_a_start_that_changes_nothing_runs_nothing(kept, tmp_path):
    """Every restart of the daemon would reload a service for nothing."""
    kept.hold()
    await kept.follow(kept.entry())
    await until(kept.read)
    before = target_path.signature(kept.folder / "file")
    again = Kept(kept.folder)
    again.held, again.pending = kept.held, kept.pending
    again.outputs = Outputs(again.held.get, again.pending.__contains__, again.stats, Clock())
    await again.follow(again.entry(after=script(tmp_path, f"touch {tmp_path}/ran")))
    await asyncio.wait_for(again.only.tried.wait(), 5)
    await asyncio.sleep(0.3)
    await again.outputs.close()
    assert target_path.signature(kept.folder / "file").file != before.file
    assert not (tmp_path / "ran").exists()


async def test_its_failure_is_told_and_nothing_else(kept, tmp_path, caplog):
    command = script(tmp_path, "echo 'Unit x not found' >&2; exit 5")
    kept.hold()
    await kept.follow(kept.entry(after=command))
    await until(lambda: kept.only.warnings)
    (warning,) = kept.only.warnings
    assert f"after a change {command[0]} ended with exit code 5: Unit x not found" in warning
    assert "the command after a change failed" in caplog.text
    assert kept.only.failure is None
    assert "AAAA" in kept.read()
    await kept.follow(kept.entry(after=["true"]))
    kept.hold(key="BBBB")
    await until(lambda: not kept.only.warnings)


async def test_one_that_does_not_end_is_killed_and_holds_up_nothing(kept, tmp_path, monkeypatch):
    """A reload that hangs would keep the next session out of the file."""
    monkeypatch.setattr(after_hook, "_TIME_LIMIT", 1.5)
    kept.hold()
    await kept.follow(kept.entry(after=script(tmp_path, f"echo $$ >> {tmp_path}/pid; sleep 600")))
    await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
    first = (tmp_path / "pid").read_text().split()[0]
    kept.hold(key="BBBB")
    await until(lambda: "BBBB" in kept.read(), 1.0)
    assert alive(first)
    await until(lambda: not alive(first))
    await until(lambda: len((tmp_path / "pid").read_text().split()) == 2)
    await until(lambda: any("did not end within 1.5 s" in warning for warning in kept.only.warnings))
    await kept.outputs.close()
    assert not any(alive(pid) for pid in (tmp_path / "pid").read_text().split())


async def test_what_it_leaves_running_is_let_be(kept, tmp_path):
    """A service that an init script restarts would be killed again, or taken for a command that does not end."""
    command = script(tmp_path, f"sleep 60 & echo $! > {tmp_path}/pid")
    kept.hold()
    await kept.follow(kept.entry(after=command))
    await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
    await until(lambda: kept.only._after._task is None, 5)
    pid = int((tmp_path / "pid").read_text())
    assert kept.only.warnings == []
    assert alive(pid)
    os.kill(pid, 9)


async def test_it_gets_no_secret_of_the_daemons(kept, tmp_path, monkeypatch):
    """Whatever reloads a service has no need of the host's own key, and its environment can be read by others."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the host's own")
    monkeypatch.setenv("KEEP", "this")
    kept.hold()
    await kept.follow(kept.entry(after=script(tmp_path, f"env > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/env")))
    await until((tmp_path / "env").exists)
    seen = (tmp_path / "env").read_text()
    assert "KEEP=this" in seen
    assert "the host's own" not in seen


# What is said of them


async def test_metrics_show_every_file_from_the_start(kept):
    """A series that appears with the first failure cannot raise an alert on it."""
    await kept.follow(kept.entry())
    text = Metrics(Measured(Clock(), renewals=kept.stats)).exposition().decode()
    path = kept.folder / "file"
    assert f'imds_proxy_file_written_timestamp_seconds{{path="{path}"}} 0.0' in text
    assert f'imds_proxy_file_write_failures_total{{path="{path}"}} 0.0' in text


def test_the_status_of_a_failing_file_is_a_line_with_what_to_do():
    failure = {"message": "/x/file cannot be written: No space left on device", "advice": "free space", "at": "12:00"}
    file = {"path": "/x/file", "written": None, "failure": failure, "warnings": ["too short"]}
    status = {"roles": [], "requests": 0, "connections": 0, "listeners": [], "version": "0", "started": "1"}
    text = render(
        json.loads(json.dumps(status | {"files": [file, file | {"failure": None, "warnings": []}]})), as_json=False
    )
    assert "/x/file cannot be written: No space left on device (at 12:00; never written)\n  → free space\n" in text
    assert text.count("/x/file") == 2
    assert "/x/file: too short" in text
    assert render(status, as_json=False)
