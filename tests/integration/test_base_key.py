"""The base key rotates itself, with a real file, a real process to kill, and AWS's double."""

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from email.utils import formatdate

import pytest
from moto.iam.models import iam_backends
from werkzeug.wrappers import Response

from imds_proxy.base_key.iam import ACTIONS
from imds_proxy.base_key.rotation import Rotation
from imds_proxy.config.model import BaseKeyConfig
from imds_proxy.demo.aws_double import ACCOUNT, PARTITION
from imds_proxy.errors import Denied, Invalid, Throttled, Unreachable
from imds_proxy.host.clock import Clock
from support.aws import parameter, really, sts_error
from support.base_key import AGE, DAY, QUICK, Host, Runner
from support.daemon import DaemonProcess, wait

UNKNOWN = "InvalidClientTokenId"
CALLS = [  # of one rotation; the second and the third from the end are the proofs of the new key
    "GetCallerIdentity",
    "ListAccessKeys",
    "GetAccessKeyLastUsed",
    "UpdateAccessKey",
    "DeleteAccessKey",
    "CreateAccessKey",
    "GetCallerIdentity",
    "GetCallerIdentity",
    "UpdateAccessKey",
]
FILE_STEPS = 25
DELETION = ["GetCallerIdentity", "ListAccessKeys", "DeleteAccessKey"]
DELETION_FILE_STEPS = 5


@pytest.fixture(scope="module")
def runner():
    runner = Runner()
    yield runner
    runner.close()


@pytest.fixture
def host(aws, tmp_path, monkeypatch):
    """A host that is due for a rotation; this process finds the same key."""
    host = Host(aws.double, tmp_path)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in host.environment.items():
        monkeypatch.setenv(name, value)
    return host


# Killed at each step


def test_a_rotation_makes_these_calls_and_does_so_many_things_to_files(runner, host):
    """The tests below kill it at each of them: they would miss one."""
    run = runner.run(host)
    assert (run.said, runner.calls) == ({"rotated": True, "files": FILE_STEPS}, CALLS)
    host.assert_rotated()
    host.let_retired_age(DAY)
    run = runner.run(host)
    assert (run.said, runner.calls) == ({"rotated": False, "files": DELETION_FILE_STEPS}, DELETION)
    assert host.keys() == {host.key().id: True}


STEPS = [{"at_call": number, "answered": answered} for number in range(1, len(CALLS) + 1) for answered in (False, True)]
STEPS += [{"at_file": number} for number in range(1, FILE_STEPS + 1)]


def named(step):
    if number := step.get("at_call"):
        return f"{'after' if step['answered'] else 'before'}-call-{number}-{CALLS[number - 1]}"
    return f"before-file-step-{step['at_file']}"


@pytest.mark.parametrize("step", STEPS, ids=named)
def test_killed_at_any_step_one_working_key_is_on_disk_and_a_second_run_finishes_the_work(runner, host, step):
    """A power cut in the middle of a rotation would lock the host out of its account, or leave keys behind."""
    assert runner.run(host, **step).killed
    host.assert_one_working_key_on_disk()
    assert "error" not in runner.run(host).said
    host.assert_rotated()


DELETION_STEPS = [{"at_call": number, "answered": answered} for number in (1, 2, 3) for answered in (False, True)]
DELETION_STEPS += [{"at_file": number} for number in range(1, DELETION_FILE_STEPS + 1)]


@pytest.mark.parametrize("step", DELETION_STEPS, ids=lambda step: "-".join(map(str, step.values())))
def test_killed_while_the_old_key_is_deleted_a_second_run_finishes_the_work(runner, host, step):
    """The old key would stay for ever, and be in the way of the next rotation."""
    runner.run(host)
    host.let_retired_age(DAY)
    assert runner.run(host, **step).killed
    host.assert_one_working_key_on_disk()
    assert "error" not in runner.run(host).said
    assert host.keys() == {host.key().id: True}
    assert host.record() == {"change": None, "retired": None}


def test_killed_again_and_again_it_never_makes_a_third_key(runner, host):
    """A host that crashes in a loop would be refused by AWS for having too many keys, and need a person."""
    for number in (6, 7, 6, 8, 6):
        assert runner.run(host, at_call=number, answered=True).killed
        host.assert_one_working_key_on_disk()
    runner.run(host)
    host.assert_rotated()


# Somebody else's key


async def test_a_key_that_somebody_makes_after_a_crash_is_not_taken_for_a_lost_one(runner, host):
    """An administrator's new key would be deleted."""
    assert runner.run(host, at_call=CALLS.index("CreateAccessKey") + 1).killed
    theirs = host.add_key()
    host.make_older(theirs.id, -60)
    with pytest.raises(Denied, match=f"…{theirs.id[-4:]}"):
        await host.rotation().run()
    assert host.keys() == {host.first.id: True, theirs.id: True}


async def test_a_key_that_was_used_is_not_taken_for_a_lost_one(runner, host):
    """The same, where the administrator was as fast as the crash."""
    assert runner.run(host, at_call=CALLS.index("CreateAccessKey") + 1).killed
    theirs = host.add_key()
    host.write(theirs)
    host.works()
    host.write(host.first)
    with pytest.raises(Denied, match=f"…{theirs.id[-4:]}"):
        await host.rotation().run()
    assert host.keys() == {host.first.id: True, theirs.id: True}


async def test_a_key_that_somebody_makes_after_a_refusal_is_left_alone(host):
    """A person who reads "no permission" and makes the key by hand would see it vanish."""
    host.double.allow(host.user, *(action for action in ACTIONS if action != "iam:CreateAccessKey"))
    with pytest.raises(Denied):
        await host.rotation().run()
    host.double.allow(host.user, *ACTIONS)
    theirs = host.add_key()
    with pytest.raises(Denied, match="IAM allows 2 keys"):
        await host.rotation().run()
    assert host.keys() == {host.first.id: True, theirs.id: True}


@pytest.mark.parametrize("active", [True, False])
async def test_with_two_keys_nothing_is_changed_and_the_message_names_them(host, active):
    """The operator would not know which of the two to delete."""
    theirs = host.add_key()
    host.set_active(theirs.id, active=active)
    before = host.path.read_bytes()
    with pytest.raises(Denied) as raised:
        await host.rotation().run()
    message = raised.value.message
    assert message.startswith("IAM allows 2 keys a user, and both are there: ")
    assert f"…{host.first.id[-4:]} (active, made " in message
    assert f"…{theirs.id[-4:]} ({'active' if active else 'inactive'}, made " in message
    assert "in use here" in message
    assert "never used" in message
    assert message.endswith("nothing was changed")
    assert "delete" in raised.value.advice
    assert host.first.id not in str(raised.value)
    assert host.keys() == {host.first.id: True, theirs.id: active}
    assert host.path.read_bytes() == before
    assert "CreateAccessKey" not in [call.action for call in host.double.calls]


async def test_a_second_key_that_shows_late_is_no_room_either(host):
    """AWS's list may be older than its keys: the answer has to be as clear then."""
    host.double.interfere = only("CreateAccessKey", lambda _: sts_error("LimitExceeded", "Cannot exceed quota", 409))
    with pytest.raises(Denied, match="IAM allows 2 keys a user, and both are there by now; nothing was changed"):
        await host.rotation().run()
    assert host.key() == host.first


async def test_the_old_key_that_somebody_activated_again_is_left_alone(host):
    """The way back after a rotation would close by itself."""
    await host.rotation().run()
    host.let_retired_age(DAY)
    host.set_active(host.first.id, active=True)
    await host.rotation().run()
    assert host.keys()[host.first.id]
    assert host.record()["retired"] is None


async def test_the_old_key_back_in_the_file_is_not_ended(host):
    """Whoever restores the file from a backup would lose the key a day later."""
    await host.rotation().run()
    new = host.key()
    host.set_active(host.first.id, active=True)
    host.write(host.first)
    host.let_retired_age(DAY)
    with pytest.raises(Denied, match="IAM allows 2 keys"):
        await host.rotation().run()
    assert host.keys() == {host.first.id: True, new.id: True}


async def test_another_users_key_in_the_file_is_not_mixed_up_with_what_was_noted(aws, host, tmp_path):
    """Notes of the user before would end keys of the new one."""
    await host.rotation().run()
    (tmp_path / "other").mkdir()
    other = Host(aws.double, tmp_path / "other")
    host.write(other.first)
    await host.rotation(rotate_every="365d").run()
    assert other.keys() == {other.first.id: True}
    assert host.record() == {"change": None, "retired": None}


# No permission


@pytest.mark.parametrize("action", ACTIONS)
async def test_without_a_permission_nothing_is_changed_and_the_message_holds_the_statement(host, action):
    """A rotation would stop half way; and the operator would look for the policy for an hour."""
    host.double.allow(host.user, *(other for other in ACTIONS if other != action))
    before = host.path.read_bytes()
    with pytest.raises(Denied) as raised:
        await host.rotation().run()
    assert action in raised.value.message
    assert raised.value.message.endswith("; nothing was changed")
    text = raised.value.advice
    statement = json.loads(text[text.index("{") :])
    arn = host.double.user_arn(host.user)
    assert statement == {"Effect": "Allow", "Action": list(ACTIONS), "Resource": arn}
    assert host.keys() == {host.first.id: True}
    assert host.path.read_bytes() == before


async def test_the_statement_of_the_message_is_all_that_is_needed(host):
    """The operator would mend one permission after another."""
    host.double.allow(host.user, "iam:GetUser")
    with pytest.raises(Denied) as raised:
        await host.rotation().run()
    statement = json.loads(raised.value.advice[raised.value.advice.index("{") :])
    host.double.allow(host.user, *statement["Action"])
    await host.rotation().run()
    host.assert_rotated()


async def test_a_permission_that_is_lost_on_the_way_leaves_the_new_key_in_use_and_is_tried_again(host):
    """A policy edited at the wrong moment would leave the host without a key, or two keys for ever."""

    def deny(request):
        if parameter(request, "AccessKeyId") == host.first.id:
            return sts_error("AccessDenied", "not authorized", 403)
        return None

    host.double.interfere = only("UpdateAccessKey", deny)
    with pytest.raises(Denied) as raised:
        await host.rotation().run()
    new = host.key()
    assert new != host.first
    end = f"the new key …{new.id[-4:]} is in use, the old one …{host.first.id[-4:]} is still active"
    assert raised.value.message.endswith(end)
    assert "iam:UpdateAccessKey" in raised.value.advice
    assert host.keys() == {host.first.id: True, new.id: True}
    host.assert_one_working_key_on_disk()
    host.double.interfere = lambda _: None
    assert (await host.rotation().run()).rotated
    host.assert_rotated()


# The file


def test_a_folder_that_is_not_writable_is_found_out_before_there_is_a_new_key(runner, host):
    """A key would be made whose secret cannot be kept."""
    host.aws.chmod(0o500)
    assert_nothing_changed(runner.run(host), host, "cannot be replaced: Permission denied")


def test_a_full_disk_is_found_out_before_there_is_a_new_key(runner, host):
    """The same."""
    with host.path.open("a") as file:
        file.write("# " + "x" * 5000 + "\n")
    assert_nothing_changed(runner.run(host, largest_file=4096), host, "cannot be replaced: File too large")


def test_a_hard_link_is_found_out_before_there_is_a_new_key(runner, host):
    """Whoever reads the file by its other name would go on with a key that is deactivated."""
    os.link(host.path, host.folder / "other-name")
    assert_nothing_changed(runner.run(host), host, "hard links")


def test_a_file_open_to_others_is_refused(runner, host):
    """A new secret would go to a file that everybody may read."""
    host.path.chmod(0o644)
    run = runner.run(host)
    host.path.chmod(0o600)
    assert_nothing_changed(run, host, f"shared credentials file {host.path} can be read or changed by other users")
    assert f"chmod 600 {host.path}" in run.said["advice"]


def assert_nothing_changed(run, host, why):
    assert why in run.said["error"]
    assert "role" not in run.said["error"]
    assert run.said["error"].endswith("nothing was changed")
    assert run.said["advice"]
    assert host.keys() == {host.first.id: True}
    assert host.key() == host.first
    assert "CreateAccessKey" not in [call.action for call in host.double.calls]


async def test_a_link_to_the_file_stays_a_link(host, monkeypatch):
    """Whatever keeps the file elsewhere, and links to it, would keep the old key."""
    link = host.folder / "link"
    link.symlink_to(host.path)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(link))
    await host.rotation().run()
    assert link.is_symlink()
    host.assert_rotated()


async def test_mode_and_owner_stay(host):
    """A program of the same group could not read the file any more."""
    host.path.chmod(0o400)
    before = host.path.stat()
    await host.rotation().run()
    after = host.path.stat()
    assert stat.S_IMODE(after.st_mode) == 0o400
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)


async def test_a_file_that_somebody_edits_meanwhile_is_left_as_they_made_it(host):
    """A person's edit would be overwritten with what was there before."""
    theirs = f"# mine\n{host.path.read_text()}".replace(host.first.id, "AKIAIOSFODNN7EXAMPLE")

    def edit(request):
        if host.double.used("CreateAccessKey"):
            host.path.write_text(theirs)

    host.double.interfere = only("GetCallerIdentity", edit)
    with pytest.raises(Invalid, match="was changed meanwhile; the next run will see to the new key"):
        await host.rotation().run()
    assert host.path.read_text() == theirs
    host.double.interfere = lambda _: None
    host.write(host.first)
    await host.rotation().run()
    host.assert_rotated()


async def test_what_is_added_to_the_file_meanwhile_is_kept(host):
    """The same, for another profile that is written at that moment."""

    def edit(request):
        if host.double.used("CreateAccessKey"):
            host.path.write_text(f"{text}[other]\nregion = eu-west-1\n")

    text = host.path.read_text()
    host.double.interfere = only("GetCallerIdentity", edit)
    await host.rotation().run()
    assert host.path.read_text().endswith("[other]\nregion = eu-west-1\n")
    host.assert_rotated()


# A key from elsewhere


async def test_a_key_of_the_environment_is_not_rotated(host, monkeypatch):
    """The file would get a new key that nobody uses, and the one in use would be deactivated."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", host.first.id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", host.first.secret.reveal())
    await assert_refused(host, Invalid, r"comes from the environment \(AWS_ACCESS_KEY_ID\)")


async def test_a_key_of_the_config_file_is_not_rotated(host, monkeypatch):
    """The same, for a key in ~/.aws/config."""
    config = host.folder / "config"
    shutil.move(host.path, config)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    with pytest.raises(Invalid, match="comes from the AWS config file"):
        await host.rotation().run()
    assert host.keys() == {host.first.id: True}


async def test_no_key_at_all_is_said(host):
    """The daemon would fail without a word on where to put one."""
    host.path.write_text("")
    with pytest.raises(Denied, match='there is no key in profile "default"; nothing was changed'):
        await host.rotation().run()


async def test_a_profile_by_name_is_rotated_alone(aws, tmp_path, monkeypatch):
    """Two users' keys in one file would be exchanged."""
    host = Host(aws.double, tmp_path, profile="base")
    for name, value in host.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")  # for others: a profile by name comes first
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "unused")
    await host.rotation().run()
    host.assert_rotated()


async def test_a_key_of_no_user_is_not_rotated(host):
    """CreateAccessKey with the root user's key would make one more key of the root user."""
    arn = f"arn:aws:iam::{ACCOUNT}:root"
    body = f"<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>{arn}</Arn></GetCallerIdentityResult>"
    body += "</GetCallerIdentityResponse>"
    host.double.interfere = only("GetCallerIdentity", lambda _: Response(body, content_type="text/xml"))
    await assert_refused(host, Invalid, "which is no IAM user")


async def test_a_key_that_is_dead_is_said(host):
    """Where another host rotated the key of a shared user, this is all that this one sees."""
    host.set_active(host.first.id, active=False)
    with pytest.raises(Denied, match=UNKNOWN) as raised:
        await host.rotation().run()
    assert "a user of its own" in raised.value.advice


async def test_without_a_state_directory_nothing_is_changed(host):
    """Nobody would know after a crash which key is whose."""
    rotation = Rotation(BaseKeyConfig(rotate_every="30d"), None, "eu-west-1", Clock(), QUICK)
    with pytest.raises(Invalid, match="no state directory"):
        await rotation.run()
    assert host.keys() == {host.first.id: True}


async def test_two_processes_do_not_rotate_at_once(host):
    """A person at a terminal and the daemon would make a key each, and each delete the other's."""
    begun, go_on = threading.Event(), threading.Event()

    def hold(request):
        begun.set()
        go_on.wait(10)

    host.double.interfere = only("ListAccessKeys", hold)
    first = asyncio.create_task(host.rotation().run())
    assert await asyncio.to_thread(begun.wait, 10)
    with pytest.raises(Invalid, match="another process is rotating the key"):
        await host.rotation().run()
    go_on.set()
    await first
    host.assert_rotated()


async def assert_refused(host, kind, why):
    before = host.path.read_bytes()
    with pytest.raises(kind, match=why) as raised:
        await host.rotation().run()
    assert raised.value.message.endswith("nothing was changed")
    assert raised.value.advice
    assert host.path.read_bytes() == before
    assert host.keys() == {host.first.id: True}


# AWS's bad days


async def test_a_new_key_that_aws_does_not_know_at_once_is_waited_for(host):
    """IAM tells its servers one after the other: every rotation would fail."""
    refused = []

    def not_yet(request):
        if signed_with(request) != host.first.id and len(refused) < 6:
            refused.append(parameter(request, "Action"))
            return sts_error(UNKNOWN, "The security token included in the request is invalid.", 403)
        return None

    host.double.interfere = not_yet
    await host.rotation().run()
    assert refused == ["GetCallerIdentity"] * 6
    host.assert_rotated()


async def test_an_iam_that_is_later_than_sts_is_waited_for(host):
    """The old key would stay active until the next day."""
    refused = []

    def not_yet(request):
        if signed_with(request) != host.first.id and len(refused) < 3:
            refused.append(request)
            return sts_error(UNKNOWN, "The security token included in the request is invalid.", 403)
        return None

    host.double.interfere = only("UpdateAccessKey", not_yet)
    await host.rotation().run()
    assert len(refused) == 3
    host.assert_rotated()


async def test_a_new_key_that_one_server_knows_and_the_next_does_not_is_not_written_yet(host):
    """The roles' next renewal would be refused."""
    proofs = []

    def flicker(request):
        if signed_with(request) == host.first.id:
            return None
        assert host.key() == host.first or len(proofs) >= 4
        proofs.append(request)
        return sts_error(UNKNOWN, "", 403) if len(proofs) in {1, 3} else None

    host.double.interfere = only("GetCallerIdentity", flicker)
    await host.rotation().run()
    assert len(proofs) == 4
    host.assert_rotated()


async def test_a_new_key_that_aws_never_accepts_is_deleted_again(host):
    """It would stay, and be in the way of every rotation to come."""

    def never(request):
        return sts_error(UNKNOWN, "", 403) if signed_with(request) != host.first.id else None

    host.double.interfere = only("GetCallerIdentity", never)
    with pytest.raises(Denied, match=r"the new key ….* is deleted again, the old one ….* stays"):
        await host.rotation().run()
    assert host.keys() == {host.first.id: True}
    assert host.key() == host.first


async def test_a_new_key_of_another_user_is_not_written(aws, host, tmp_path):
    """The host would act as somebody else from then on; and somebody else's key must not be deleted for it."""
    (tmp_path / "other").mkdir()
    other = Host(aws.double, tmp_path / "other")

    def theirs(request):
        answer = really(host.double, request)
        made = next(iter(host.keys().keys() - {host.first.id}))
        secret = iam_backends[ACCOUNT][PARTITION].access_keys[made].secret_access_key
        text = answer.get_data(as_text=True).replace(made, other.first.id)
        answer.set_data(text.replace(secret, other.first.secret.reveal()))
        return answer

    host.double.interfere = only("CreateAccessKey", theirs)
    with pytest.raises(Invalid, match=rf"the new key is .*/{other.user}'s, not .*/{host.user}'s"):
        await host.rotation().run()
    assert other.keys() == {other.first.id: True}
    assert host.key() == host.first


@pytest.mark.parametrize("answer", ["lost", "garbled"])
async def test_a_key_that_aws_made_without_saying_so_is_deleted_by_the_next_run(host, answer):
    """Nobody has its secret: it would be in the way for ever."""

    def make(request):
        made = really(host.double, request)
        return Response("", 503) if answer == "lost" else Response(made.data[:-200], content_type="text/xml")

    host.double.interfere = only("CreateAccessKey", make)
    kind = Unreachable if answer == "lost" else Invalid
    with pytest.raises(kind, match="if AWS made a key all the same, the next run deletes it") as raised:
        await host.rotation().run()
    secrets = [key.secret_access_key for key in iam_backends[ACCOUNT][PARTITION].list_access_keys(host.user)]
    assert len(secrets) == 2
    assert not any(secret in raised.value.message for secret in secrets)
    host.double.interfere = lambda _: None
    await host.rotation().run()
    host.assert_rotated()


async def test_throttled_it_is_told_as_such_and_nothing_is_made(host):
    """It would be retried a day later in place of a minute."""
    host.double.interfere = only("CreateAccessKey", lambda _: sts_error("Throttling", "Rate exceeded"))
    with pytest.raises(Throttled, match="nothing was changed"):
        await host.rotation().run()
    assert host.keys() == {host.first.id: True}


async def test_a_list_that_does_not_show_the_new_key_yet_changes_nothing(host):
    """A new key in use would be taken for one that is gone."""
    await host.rotation().run()
    new = host.key()

    def stale(request):
        answer = really(host.double, request)
        answer.set_data(answer.get_data(as_text=True).replace(new.id, "AKIAIOSFODNN7EXAMPLE"))
        return answer

    host.double.interfere = only("ListAccessKeys", stale)
    with pytest.raises(Unreachable, match="does not list the key in use"):
        await host.rotation().run()
    host.assert_rotated()


# When


async def test_a_young_key_is_left_alone_until_it_is_due(host):
    """The host would rotate at every start."""
    host.make_older(host.first.id, -2 * DAY)
    look = await host.rotation().run()
    assert not look.rotated
    assert look.next == pytest.approx(look.created + 30 * DAY)
    assert look.created == pytest.approx(time.time() - AGE + 2 * DAY, abs=60)
    assert host.keys() == {host.first.id: True}
    assert [call.action for call in host.double.calls] == ["GetCallerIdentity", "ListAccessKeys"]


async def test_the_age_of_a_key_is_by_awss_clock(host):
    """A host whose clock is years off would rotate at every start, or never."""
    host.make_older(host.first.id, -2 * DAY)
    assert not (await host.rotation(clock_that_is_off(400 * DAY)).run()).rotated
    host.make_older(host.first.id, 2 * DAY)
    assert (await host.rotation(clock_that_is_off(-400 * DAY)).run()).rotated


def clock_that_is_off(seconds):
    """AWS has refused a signature for its time, so AWS's time is known."""
    clock = Clock(lambda: time.time() + seconds)
    clock.observe_date(formatdate(usegmt=True), "https://sts.eu-west-1.amazonaws.com", refused=True)
    return clock


async def test_the_old_key_stays_for_its_time_and_then_goes(host):
    """There would be no way back, or no room for the next key."""
    look = await host.rotation(delete_after="2h").run()
    assert look.next == pytest.approx(time.time() + 7200, abs=30)
    host.let_retired_age(7000)
    await host.rotation(delete_after="2h").run()
    assert host.keys()[host.first.id] is False
    host.let_retired_age(300)
    await host.rotation(delete_after="2h").run()
    assert host.keys() == {host.key().id: True}


# The command line, and the daemon

CONFIG = '[base_key]\nrotate_every = "30d"\n'


@pytest.fixture
def daemon_of(aws, tmp_path_factory):
    """`daemon_of(host, base_key)`: a daemon, not started, with a role that the host's user may assume."""
    running = []

    def make(host, base_key=CONFIG, renewal=""):
        role = aws.double.add_role(f"For-{host.user}", host.double.user_arn(host.user))
        config = aws.config(renewal + base_key).replace(aws.role_arn, role)
        daemon = DaemonProcess(tmp_path_factory.mktemp("daemon"), config, host.environment)
        host.state = daemon.state
        running.append(daemon)
        return daemon

    yield make
    for daemon in running:
        if hasattr(daemon, "process"):
            daemon.stop()


def test_the_command_rotates_now_and_tells_each_step(host, daemon_of):
    """An operator who suspects the key would have to do five steps by hand."""
    host.make_older(host.first.id, -AGE)
    daemon = daemon_of(host, "")
    daemon.state.mkdir(0o700)
    done = daemon.cli("rotate-base-key")
    assert done.returncode == 0, done.stderr
    new = host.key()
    assert [line.partition("INFO")[2].split("key=")[0].strip() for line in done.stdout.splitlines()[:2]] == [
        "a new base key is in use",
        "the old base key is deactivated",
    ]
    assert f"the key in use is …{new.id[-4:]}" in done.stdout
    assert new.id not in done.stdout
    host.assert_rotated()
    again = daemon.cli("rotate-base-key")
    assert again.returncode == 1
    assert f"the key before this one, …{host.first.id[-4:]}, stays deactivated until" in again.stderr
    assert "→" in again.stderr


def test_the_command_killed_finishes_when_it_is_run_again(host, daemon_of):
    """The same promise holds for a person's Ctrl-C, or a lost connection."""
    daemon = daemon_of(host, "")
    daemon.state.mkdir(0o700)
    running = []

    def kill(request):
        answer = really(host.double, request)
        running[0].kill()
        return answer

    host.double.interfere = only("CreateAccessKey", kill)
    command = [sys.executable, "-m", "imds_proxy", "rotate-base-key", "--config", str(daemon.config)]
    running.append(subprocess.Popen(command, env=daemon.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    running[0].communicate(timeout=60)
    assert running[0].returncode == -signal.SIGKILL
    host.assert_one_working_key_on_disk()
    assert len(host.keys()) == 2
    host.double.interfere = lambda _: None
    done = daemon.cli("rotate-base-key")
    assert done.returncode == 0, done.stderr
    assert "whose secret was lost is deleted" in done.stdout
    host.assert_rotated()


def test_roles_go_on_renewing_across_a_rotation_without_one_failure(host, daemon_of):
    """The host's programs would feel the rotation."""
    daemon = daemon_of(host, renewal='[renewal]\nmax_age = "1s"\n').start().wait_ready()
    daemon.wait_for_event("the old base key is deactivated", seconds=60)
    new = host.key()
    wait(lambda: host.double.used("AssumeRole").count(new.id) >= 3, 20, "renewals with the new key")
    assert host.double.used("AssumeRole").count(host.first.id) >= 3, "no renewal before the rotation"
    assert [call for call in host.double.calls if call.action == "AssumeRole" and call.status != 200] == []
    failures = [f'renewals_total{{outcome="{o}",role="deploy"}}' for o in ("denied", "invalid", "unreachable")]
    assert [daemon.metric(f"imds_proxy_{name}") for name in failures] == [0, 0, 0]
    assert daemon.metric('imds_proxy_base_key_rotations_total{outcome="success"}') == 1
    assert daemon.metric("imds_proxy_base_key_created_timestamp_seconds") == pytest.approx(time.time(), abs=60)
    host.assert_rotated()


def test_a_daemon_killed_in_the_middle_goes_on_at_its_next_start(host, daemon_of):
    """A reboot at the wrong moment would need a person."""
    daemon = daemon_of(host)
    killed = threading.Event()

    def kill(request):
        if host.double.used("CreateAccessKey"):
            daemon.process.kill()
            killed.set()

    host.double.interfere = only("GetCallerIdentity", kill)
    daemon.start()
    assert killed.wait(30)
    daemon.process.wait(10)
    host.assert_one_working_key_on_disk()
    host.double.interfere = lambda _: None
    daemon.start()
    daemon.wait_for_event("the old base key is deactivated", seconds=60)
    host.assert_rotated()
    daemon.stop()
    host.let_retired_age(DAY)
    daemon.start()
    daemon.wait_for_event("the old base key is deleted", seconds=30)
    assert host.keys() == {host.key().id: True}


def test_a_reload_switches_it_on_and_off(host, daemon_of):
    """It would take a restart; or go on rotating for somebody who does not want it."""
    daemon = daemon_of(host, "")
    off = daemon.config.read_text()
    daemon.start().wait_ready()
    assert "base_key" not in daemon.metrics()
    assert "ListAccessKeys" not in [call.action for call in host.double.calls]
    reload(daemon, off + CONFIG, 1)
    daemon.wait_for_event("the old base key is deactivated", seconds=60)
    assert daemon.metric('imds_proxy_base_key_rotations_total{outcome="success"}') == 1
    reload(daemon, off, 2)
    wait(lambda: "base_key" not in daemon.metrics(), 10, "the metrics to go")
    host.assert_rotated()


def test_a_rotation_that_fails_stops_nothing_else_and_is_told(host, daemon_of):
    """The host's roles would go with the key's permission."""
    host.double.allow(host.user, "iam:GetUser")
    daemon = daemon_of(host).start().wait_ready()
    event = daemon.wait_for_event("base key rotation failed")
    assert event["outcome"] == "denied"
    assert event["error"].startswith("base key: iam:ListAccessKeys on arn:")
    assert "CreateAccessKey" in event["advice"]
    assert daemon.metric('imds_proxy_base_key_rotations_total{outcome="denied"}') == 1
    assert daemon.role("deploy")["state"] == "ok"


def reload(daemon, config, count):
    daemon.config.write_text(config)
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for_event("config reloaded", count)


def only(action, interfere):
    """Interfere with the calls of one action."""
    return lambda request: interfere(request) if parameter(request, "Action") == action else None


def signed_with(request):
    return request.headers["Authorization"].partition("Credential=")[2].partition("/")[0]
