"""`source = "file"` in the real daemon: how soon a new session is served, and what happens when none comes."""

import json
import os
import time

import pytest

from support.daemon import HOST, DaemonProcess, request, wait
from support.pushed_file import Writer

LIST = "latest/meta-data/iam/security-credentials/"


@pytest.fixture
def writer(tmp_path):
    """A writer that has written once."""
    writer = Writer(tmp_path)
    writer.rename()
    return writer


def served(daemon):
    return daemon.credentials("deploy")["AccessKeyId"]


def ended(daemon, outcome):
    """How many renewals ended so."""
    lines = [line for line in daemon.metrics().splitlines() if line.startswith("imds_proxy_renewals_total{")]
    return sum(float(line.split()[-1]) for line in lines if f'outcome="{outcome}"' in line)


def all_failures(daemon):
    return sum(ended(daemon, outcome) for outcome in ("denied", "throttled", "unreachable", "invalid"))


def time_until_served(daemon, writer, write):
    """Seconds from the end of a write until its key is served."""
    write()
    began = time.monotonic()
    while served(daemon) != writer.key:
        assert time.monotonic() - began < 5
        time.sleep(0.01)
    return time.monotonic() - began


# A new session


@pytest.mark.parametrize("form", ["json", "imds", "ini"])
def test_each_format_is_served(start_daemon, tmp_path, form):
    writer = Writer(tmp_path, form)
    writer.rename()
    daemon = start_daemon(config=writer.config + f'format = "{form}"\n', environment={})
    assert served(daemon) == writer.key
    assert time_until_served(daemon, writer, writer.rename) < 1


def test_a_new_session_is_served_within_a_second_of_a_rename_or_a_rewrite(start_daemon, writer):
    """Who revokes a session, and renews it, waits for no schedule."""
    daemon = start_daemon(config=writer.config, environment={})
    for write in (writer.rename, writer.rewrite):
        took = [time_until_served(daemon, writer, write) for _ in range(10)]
        assert max(took) < 1, took
    assert all_failures(daemon) == 0


def test_a_session_that_came_while_the_daemon_was_down_is_served_at_once(start_daemon, writer):
    """The saved one would be served until half of its life is over."""
    daemon = start_daemon(config=writer.config)
    assert served(daemon) == writer.key
    daemon.stop()
    writer.rename()
    daemon.start().wait_ready()
    wait(lambda: served(daemon) == writer.key, 3, "the session that was pushed meanwhile")


def test_a_link_that_is_swapped_is_followed_within_a_second(start_daemon, tmp_path):
    """Kubernetes renews a mounted secret in no other way."""
    folders = []

    def swap():
        folder = tmp_path / f"..{len(folders)}"
        folders.append(folder)
        folder.mkdir()
        inner = Writer(folder)
        inner.rename()
        (tmp_path / "new").symlink_to(folder.name)
        (tmp_path / "new").rename(tmp_path / "..data")
        writer.key = inner.key

    writer = Writer(tmp_path)
    swap()
    writer.path.symlink_to("..data/deploy.credentials")
    daemon = start_daemon(config=writer.config, environment={})
    assert max(time_until_served(daemon, writer, swap) for _ in range(3)) < 1


def test_a_file_that_is_not_there_yet_is_served_within_a_second_of_coming(start_daemon, tmp_path):
    """A host starts before its first credentials are brought."""
    writer = Writer(tmp_path)
    daemon = start_daemon(config=writer.config, environment={}, ready=False)
    failure = daemon.failure()
    assert failure["outcome"] == "invalid"
    assert f"{writer.path} cannot be read: No such file" in failure["message"]
    wait(lambda: ended(daemon, "invalid") >= 3, 20, "a longer wait for the next attempt")
    writer.rename()
    began = time.monotonic()
    wait(lambda: daemon.get(LIST)[0] == 200, 5, "credentials")
    assert time.monotonic() - began < 1
    assert served(daemon) == writer.key


def test_one_change_is_one_renewal(start_daemon, writer):
    """The file would be read, and the log written, twice a second for ever."""
    daemon = start_daemon(config=writer.config, environment={})
    time_until_served(daemon, writer, writer.rename)
    time.sleep(1.5)
    assert ended(daemon, "success") == 2


# A file that is being written


def test_a_half_written_file_is_left_alone(start_daemon, writer):
    """A slow copy would be an outage, or a failure that wakes somebody."""
    daemon = start_daemon(config=writer.config + '[renewal]\nmax_age = "1s"\n', environment={})
    old, text = writer.key, writer.text()
    with writer.path.open("w") as file:
        for index in range(5):
            file.write(text[len(text) * index // 5 : len(text) * (index + 1) // 5])
            file.flush()
            until = time.monotonic() + 0.4
            while index < 4 and time.monotonic() < until:
                assert served(daemon) == old
                time.sleep(0.02)
    assert time_until_served(daemon, writer, lambda: None) < 1
    assert all_failures(daemon) == 0


def test_a_file_that_stays_torn_changes_nothing_but_is_told(start_daemon, writer):
    """The next renewal would come, and nobody know that it will fail."""
    daemon = start_daemon(config=writer.config, environment={})
    old, text = writer.key, writer.text()
    writer.path.write_text(text[:-60])
    failure = daemon.failure()
    assert failure["outcome"] == "invalid"
    assert f"credentials file {writer.path}" in failure["message"]
    assert "not JSON" in failure["message"]
    assert served(daemon) == old
    assert daemon.role("deploy")["state"] == "failing"
    check = daemon.cli("check")
    assert check.returncode == 1
    assert f"deploy  invalid: {failure['message']}" in check.stdout.splitlines()
    assert text[80:140] not in check.stdout + daemon.log.read_text()
    assert time_until_served(daemon, writer, writer.rename) < 1
    assert daemon.role("deploy")["failure"] is None


# A file that is not right


def bring_dead(writer):
    writer.rename(-3600)


def bring_everlasting(writer):
    writer.rename(200 * 365 * 86400)


def bring_nothing(writer):
    writer.path.unlink()


def bring_long_lived(writer):
    fields = json.loads(writer.text())
    writer.path.write_text(json.dumps({**fields, "SessionToken": None}))


def bring_without_a_field(writer):
    fields = json.loads(writer.text())
    del fields["SecretAccessKey"]
    writer.path.write_text(json.dumps(fields))


def bring_much(writer):
    writer.path.write_text(writer.text() + " " * (10 << 20))


def bring_open_to_others(writer):
    writer.rename()
    writer.path.chmod(0o644)


def bring_folder(writer):
    writer.path.unlink()
    writer.path.mkdir()


def bring_fifo(writer):
    writer.path.unlink()
    os.mkfifo(writer.path, 0o600)


BAD_DAYS = {
    "dead": (bring_dead, "dead since", "renew them"),
    "everlasting": (bring_everlasting, "which no session has", "true expiration"),
    "nothing": (bring_nothing, "No such file", "correct the path"),
    "long-lived": (bring_long_lived, "long-lived keys", "assume-role"),
    "missing-field": (bring_without_a_field, "SecretAccessKey is missing", "process document"),
    "large": (bring_much, "larger than 1 MB", "correct the path"),
    "open-to-others": (bring_open_to_others, "can be read or changed by other users", "chmod 600"),
    "folder": (bring_folder, "is not a regular file", "correct the path"),
    "fifo": (bring_fifo, "is not a regular file", "correct the path"),
}


@pytest.fixture(scope="module")
def bad_day(tmp_path_factory):
    """For each bad day: its writer, why the last renewal failed, how the renewals ended, and the key that is served."""
    folder = tmp_path_factory.mktemp("files")
    writers = {kind: Writer(folder, role=kind) for kind in BAD_DAYS}
    for writer in writers.values():
        writer.rename()
    first, *others = (writer.role for writer in writers.values())
    text = f"{HOST}{first}default = true\n{''.join(others)}"
    with DaemonProcess(tmp_path_factory.mktemp("daemon"), text, {}) as daemon:
        daemon.wait_ready()
        wait(lambda: all(daemon.role(kind)["state"] == "ok" for kind in BAD_DAYS), 20, "every role's credentials")
        old = {kind: writer.key for kind, writer in writers.items()}
        for kind, writer in writers.items():
            BAD_DAYS[kind][0](writer)
        wait(lambda: all(daemon.role(kind)["failure"] for kind in BAD_DAYS), 20, "every role's failure")
        return {
            kind: (old[kind], key(daemon, kind), daemon.role(kind)["failure"], daemon.metrics()) for kind in BAD_DAYS
        }


def key(daemon, role):
    """The key id that is served for a role, whether it is the default one or not."""
    token = (daemon.state / "tokens" / role).read_text()
    return json.loads(request(f"{daemon.endpoint}roles/{role}", headers={"Authorization": token})[2])["AccessKeyId"]


@pytest.mark.parametrize("kind", BAD_DAYS)
def test_on_a_bad_day_the_last_good_credentials_stay_and_it_is_told(bad_day, kind):
    """A mistake of what writes the file would be an outage, and nobody would know why."""
    _, says, advice = BAD_DAYS[kind]
    old, served_now, failure, metrics = bad_day[kind]
    assert served_now == old
    assert failure["outcome"] == "invalid"
    assert f'role "{kind}"' in failure["message"]
    assert says in failure["message"]
    assert advice in failure["advice"]
    counted = next(line for line in metrics.splitlines() if f'{{outcome="invalid",role="{kind}"}}' in line)
    assert float(counted.split()[-1]) >= 1


def test_a_file_that_is_put_right_is_served_within_a_second(start_daemon, writer):
    """After `chmod` somebody would wait for up to five minutes."""
    daemon = start_daemon(config=writer.config, environment={})
    bring_open_to_others(writer)
    daemon.failure()
    assert time_until_served(daemon, writer, lambda: writer.path.chmod(0o600)) < 1


# A file that is not renewed any more


def test_a_file_that_stops_being_renewed_shows_in_a_metric_before_it_hurts(start_daemon, writer):
    """A cron job that died would be noticed by the first deployment that fails."""
    writer.rename(20)
    daemon = start_daemon(config=writer.config, environment={})
    ends = daemon.metric('imds_proxy_credential_expiration_timestamp_seconds{role="deploy"}')
    wait(lambda: ended(daemon, "unreachable"), 20, "the metric")
    left = ends - time.time()
    assert 1 < left < 6
    assert served(daemon) == writer.key
    failure = daemon.role("deploy")["failure"]
    assert "goes on handing out the session that ends at" in failure["message"]
    assert "not renewed where it comes from" in failure["advice"]
    while time.time() < ends - 0.5:
        assert served(daemon) == writer.key
        time.sleep(0.1)
    wait(lambda: daemon.get(LIST)[0] == 404, 3, "the end")
    assert time_until_served_again(daemon, writer) < 1


def time_until_served_again(daemon, writer):
    writer.rename()
    began = time.monotonic()
    wait(lambda: daemon.get(LIST)[0] == 200, 5, "credentials")
    assert served(daemon) == writer.key
    return time.monotonic() - began


def test_a_lifetime_is_counted_from_the_files_date(start_daemon, tmp_path):
    """Each restart of the daemon would make an old session live longer."""
    writer = Writer(tmp_path, "ini")
    writer.path.write_text("".join(line for line in writer.text().splitlines(keepends=True) if "expires" not in line))
    writer.path.chmod(0o600)
    written = time.time() - 1800
    os.utime(writer.path, (written, written))
    daemon = start_daemon(config=writer.config + 'format = "ini"\nlifetime = "1h"\n', environment={})
    ends = daemon.metric('imds_proxy_credential_expiration_timestamp_seconds{role="deploy"}')
    assert ends == pytest.approx(written + 3600, abs=1)
