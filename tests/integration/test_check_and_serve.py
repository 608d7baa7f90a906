"""What `imds-proxy check` finds the daemon stumbles over: in the same words, and it does not end (check_host.py)."""

import json
import tempfile
from pathlib import Path

from support.check_cases import CASES, Scene
from support.daemon import DaemonProcess, wait

SOON = 15


def said_by(daemon):
    """All that is in the log, as it is meant."""
    return "\n".join(str(value) for event in daemon.events() for value in event.values())


def test_the_daemon_says_of_each_case_what_check_says(tmp_path):
    """Check would call a host unfit that is not, or fit that is not."""
    scene = Scene(tmp_path)
    daemon = DaemonProcess(tmp_path, "", {"HOME": str(tmp_path)})
    scene.port, scene.admin = daemon.port, daemon.admin_port
    scene.write(*(case.tables for case in CASES.values()))
    cases = [case for case in CASES.values() if case.key]
    checked = daemon.cli("check", "--offline")
    assert checked.returncode == 1
    assert [case for case in cases if scene.filled(case.said) not in checked.stdout] == []
    with daemon:
        path = "latest/meta-data/iam/security-credentials/deploy"
        wait(lambda: credentials(daemon, path), SOON, "credentials, which the audit tells of")

        def unsaid():
            log = said_by(daemon)
            return [case for case in cases if scene.filled(case.by_daemon or case.said) not in log]

        wait(lambda: not unsaid(), SOON, lambda: f"what the daemon said of {unsaid()}")
        assert daemon.process.poll() is None


def credentials(daemon, path):
    try:
        status, _, body = daemon.get(path)
    except OSError:
        return None
    return status == 200 and json.loads(body)["AccessKeyId"]


def test_root_asks_for_the_daemons_user(tmp_path):
    """Root reads what the daemon may not: the host would be called fit."""
    daemon = DaemonProcess(tmp_path, "", {"HOME": str(tmp_path)})
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        folder.chmod(0o755)
        scene = Scene(folder)
        scene.port, scene.admin = daemon.port, daemon.admin_port
        low = '[metadata]\nlisten = ["127.0.0.1:PORT", "127.0.0.1:81"]\n[admin]\nlisten = "127.0.0.1:ADMIN"\n'
        files = '[[files]]\nrole = "deploy"\npath = "FOLDER/out"\n'
        (folder / "roots").mkdir(mode=0o700)
        program = folder / "roots/run"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        files += f'[[files]]\nrole = "deploy"\npath = "FOLDER/roots/out"\nafter = "{program}"\n'
        files += '[audit]\nfile = "FOLDER/roots/audit.log"\n'
        files += '[[grants]]\nrole = "deploy"\ntoken_file = "FOLDER/roots/token"\n'
        daemon.config = scene.write('state_dir = "FOLDER/roots/state"\n', low, files)
        own, theirs = daemon.cli("check", "--offline"), daemon.cli("check", "--offline", "--user", "nobody")
        assert own.returncode == 0, own.stdout
        assert theirs.returncode == 1
        for said in (
            "judged as nobody (uid ",
            f"state_dir: {folder}/roots/state cannot be used: Permission denied",
            f"files.0.path: {folder}/out cannot be written: Permission denied",
            f"files.1.path: {folder}/roots/out cannot be written: Permission denied",
            f'files.1.after: role "deploy": after a change {program} may not be run by this user',
            f"audit.file: {folder}/roots/audit.log cannot be written: Permission denied",
            f"grants.0.token_file: {folder}/roots/token cannot be read: Permission denied",
            f'roles.deploy.path: role "deploy": credentials file {scene.writer.path} may not be',
        ):
            assert said in theirs.stdout, theirs.stdout
        assert not (folder / "roots/state").exists()
