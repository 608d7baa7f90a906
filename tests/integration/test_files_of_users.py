"""Files that the real daemon, as root, keeps in folders of users who mean harm."""

import json
import os
import tempfile
import time
from pathlib import Path

import pytest

from support.daemon import wait
from support.users import temporary_users

SOON = 15.0  # seconds
LOOKS = 5.0  # seconds: two looks at every file, and two tries
SECRET = "[default]\naws_access_key_id = AKIASOMEBODYS\naws_secret_access_key = somebodys\n"
FORMATS = ("ini", "json", "env")


@pytest.fixture(scope="module")
def users():
    with temporary_users() as made:
        yield made.add(), made.add()


@pytest.fixture
def homes(users):
    """The homes of the users a and b, with a folder `.aws` of theirs in each, and one of root's."""
    with tempfile.TemporaryDirectory() as folder:
        for name, uid in (("a", users[0].uid), ("b", users[1].uid), ("root", 0)):
            (Path(folder) / name / ".aws").mkdir(parents=True)
            for path in (Path(folder) / name, Path(folder) / name / ".aws"):
                os.chown(path, uid, uid)
        Path(folder).chmod(0o755)
        yield Path(folder)


def entry(path, user, **keys):
    values = {"role": "deploy", "path": str(path), "owner": user.name, **keys}
    return "[[files]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


def put(path, uid=0):
    """Somebody's secret."""
    path.write_text(SECRET)
    path.chmod(0o600)
    os.chown(path, uid, uid)
    return path


def seen(path):
    """All of a file that may not change."""
    status = path.lstat()
    return path.read_text(), status.st_uid, status.st_gid, status.st_mode, status.st_ino, status.st_mtime_ns


def failure(daemon, path, words):
    """Why the daemon does not write a file, once it says the words."""
    return wait(
        lambda: next(
            (
                file["failure"]
                for file in daemon.status()["files"]
                if file["path"] == str(path) and file["failure"] and words in file["failure"]["message"]
            ),
            None,
        ),
        SOON,
        lambda: f"{words!r} in {daemon.status()['files']}",
    )


def as_user(user, program, *arguments):
    """What a user's own program prints."""
    with user.running(program, *arguments) as process:
        found = process.stdout.read()
        assert process.wait(10) == 0
    return found


LINK = "os.rename(sys.argv[1], sys.argv[1] + '.old'); os.symlink(sys.argv[2], sys.argv[1])"
BACK = "os.unlink(sys.argv[1]); os.rename(sys.argv[1] + '.old', sys.argv[1])"
READ = "print(open(sys.argv[1]).read())"


@pytest.mark.parametrize("whose", ["b", "root"])
def test_a_link_in_the_place_of_a_folder_leaves_the_other_users_files_alone(start_daemon, users, homes, whose):
    """Within two seconds user a would own user b's file, or root's."""
    a, b = users
    folder, other = homes / "a/.aws", homes / whose / ".aws"
    for form in FORMATS:
        put(other / form, b.uid if whose == "b" else 0)
    before = {form: seen(other / form) for form in FORMATS}
    entries = "".join(entry(folder / form, a, format=form) for form in FORMATS)
    daemon = start_daemon(f'[renewal]\nmax_age = "1s"\n{entries}')
    for form in FORMATS:
        wait((folder / form).exists, SOON, "the file")
        assert "ASIA" in as_user(a, READ, folder / form)
    as_user(a, LINK, folder, other)
    for form in FORMATS:
        words = f"{folder} is a symbolic link of uid {a.uid}, and only root's are followed"
        assert "to that user" in failure(daemon, folder / form, words)["advice"]
    time.sleep(LOOKS)
    assert {path.name: seen(path) for path in other.iterdir()} == before
    as_user(a, BACK, folder)
    wait(lambda: not any(file["failure"] for file in daemon.status()["files"]), SOON, "no failure")


def test_what_is_in_a_users_folder_and_not_the_users_is_left_alone(start_daemon, users, homes):
    """Root's file, another user's, and one that has a second name elsewhere: whatever was moved there."""
    a, b = users
    folder, said = homes / "a/.aws", {}
    for form in FORMATS:
        said[put(folder / f"roots-{form}")] = "belongs to uid 0 and may have been moved here by another user"
        said[put(folder / f"theirs-{form}", b.uid)] = f"belongs to uid {b.uid}, neither its owner (uid {a.uid}) nor"
        os.link(put(homes / f"root/{form}"), folder / f"linked-{form}")
        said[folder / f"linked-{form}"] = "has hard links"
    before = {path: seen(path) for path in said}
    entries = [entry(path, a, format=path.name.partition("-")[2]) for path in (*said, folder / "own-ini")]
    daemon = start_daemon("".join(entries))
    wait((folder / "own-ini").exists, SOON, "the file that may be written")
    for path, words in said.items():
        assert failure(daemon, path, words)["advice"]
    time.sleep(LOOKS)
    assert {path: seen(path) for path in said} == before


def test_a_file_in_the_folder_of_another_user_is_not_made(start_daemon, users, homes):
    a, b = users
    daemon = start_daemon(entry(homes / "b/.aws/file", a))
    failure(daemon, homes / "b/.aws/file", f"is in a folder of uid {b.uid}'s, not of its owner's (uid {a.uid})")
    assert list((homes / "b/.aws").iterdir()) == []


def test_check_names_each_unsafe_path_and_why_and_writes_nothing(start_daemon, aws, users, homes):
    """It would be known only from the log of the daemon, after a rollout."""
    a, b = users
    (homes / "a/.aws").rmdir()
    (homes / "a/.aws").symlink_to(homes / "b/.aws")
    os.chown(homes / "a/.aws", a.uid, a.gid, follow_symlinks=False)
    put(homes / "root/theirs", b.uid)
    daemon = start_daemon()
    token = f'[[grants]]\nrole = "deploy"\ntoken_file = "{homes}/a/.aws/token"\n'
    audit = f'[audit]\nfile = "{homes}/a/audit.log"\n'
    files = entry(homes / "a/.aws/file", a) + entry(homes / "root/theirs", a) + entry(homes / "root/new", a)
    daemon.write_config(aws.config(files + token + audit))
    done = daemon.cli("check")
    assert done.returncode == 1
    link = f"{homes}/a/.aws is a symbolic link of uid {a.uid}, and only root's are followed"
    assert f"files.0.path: {homes}/a/.aws/file is not safe: {link}\n  → let every folder" in done.stdout
    assert f"files.1.path: {homes}/root/theirs belongs to uid {b.uid}, neither its owner" in done.stdout
    assert "files.2.path" not in done.stdout
    assert f"grants.0.token_file: {homes}/a/.aws/token is not read: {link}" in done.stdout
    assert f"audit.file: {homes}/a/audit.log is not safe" in done.stdout
    assert "state_dir" not in done.stdout
    assert "deploy  ok" in done.stdout
    assert [sorted(os.listdir(homes / name)) for name in ("a", "b/.aws", "root")] == [  # noqa: PTH208 - names alone
        [".aws"],
        [],
        [".aws", "theirs"],
    ]


def test_a_pushed_file_and_a_token_are_not_taken_from_behind_a_users_link(start_daemon, aws, users, homes):
    """User a would be served the credentials that were pushed for another role, or open another grant's door."""
    a, _ = users
    pushed, token = homes / "root/pushed.json", homes / "root/token"
    document = {"Version": 1, "AccessKeyId": "ASIAOFANOTHERROLE", "SecretAccessKey": "k" * 40, "SessionToken": "t" * 40}
    document["Expiration"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    for path, content in ((pushed, json.dumps(document)), (token, "x" * 40)):
        path.write_text(content)
        path.chmod(0o600)
        link = homes / "a" / path.name
        link.symlink_to(path)
        os.chown(link, a.uid, a.gid, follow_symlinks=False)
    role = f'[roles.pushed]\nsource = "file"\npath = "{homes}/a/pushed.json"\n'
    grants = f'[[grants]]\nrole = "pushed"\ntoken_file = "{homes}/a/token"\n[[grants]]\nrole = "deploy"\nuid = 0\n'
    daemon = start_daemon(role + grants, ready=False)
    assert "is a symbolic link of uid" in daemon.failure("pushed")["message"]
    event = daemon.wait_for_event("token file cannot be used; it lets nobody in")
    assert "is a symbolic link of uid" in event["error"]
