"""`imds-proxy check`: what a host lacks for a config, told at once with the config's mistakes (cli/check_host.py)."""

import os
import subprocess
import sys
from subprocess import PIPE

import pytest

from imds_proxy.cli.main import main
from support.check_cases import CASES, NOBODYS, Scene


@pytest.fixture(autouse=True)
def _nothing_for_good(monkeypatch, tmp_path):
    """What the verb does to its process would outlast the test."""
    monkeypatch.setattr("imds_proxy.host.process_hardening.harden", lambda: None)
    monkeypatch.setattr("imds_proxy.telemetry.log.configure", lambda *_: None)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


@pytest.fixture
def check(capsys, scene):
    """The exit code and what is printed, of a config of these tables."""

    def run(*tables, arguments=("--offline",)):
        path = scene.write(*tables)
        code = main(["check", *arguments, "--config", str(path)])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


def test_everything_that_the_host_lacks_is_told_at_once_with_its_key(check, scene):
    """One finding a deployment makes a week of a host that lacks seven things."""
    code, said = check(*(case.tables for case in CASES.values()))
    assert code == 1
    lines = said.splitlines()
    for name, case in CASES.items():
        expected = scene.filled(f"{case.key}: {case.said}")
        assert not case.key or any(line.startswith(expected) or expected in line for line in lines), (name, said)
    findings = [number for number, line in enumerate(lines) if ": " in line and not line.startswith((" ", "not tried"))]
    assert all(lines[number + 1].startswith("  → ") for number in findings[1:]), said
    assert not (scene.folder / "missing").exists()
    assert not (scene.folder / "b").exists()


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.key and case.tables])
def test_each_alone_is_a_finding_and_ends_with_1(check, scene, name):
    """A pipeline goes by the exit code."""
    case = CASES[name]
    beside = "" if "state_dir" in case.tables else 'state_dir = ""\n'
    metadata = "" if "[metadata]" in case.tables else '[metadata]\nlisten = ["127.0.0.1:PORT"]\n'
    admin = "" if "[admin]" in case.tables else '[admin]\nlisten = "127.0.0.1:ADMIN"\n'
    grants = '[[grants]]\nrole = "deploy"\nuid = 0\n' if "[service_accounts]" in case.tables else ""
    code, said = check(beside, metadata, admin, case.tables, grants)
    assert code == 1, said
    assert scene.filled(case.said) in said


def test_a_config_that_this_host_can_serve_ends_with_0_and_says_what_was_not_tried(check, scene):
    """It would never be run in a package's script, where a role cannot be tried."""
    files = '[[files]]\nrole = "deploy"\npath = "FOLDER/out"\nafter = "true"\n[audit]\nfile = "FOLDER/audit.log"\n'
    listen = '[metadata]\nlisten = ["127.0.0.1:PORT"]\n[admin]\nlisten = "127.0.0.1:ADMIN"\n'
    code, said = check(
        'state_dir = "FOLDER/new/state"\n',
        files,
        listen,
        '[roles.o]\nrole_arn="arn:aws:iam::123456789012:role/O"\ndefault=false\n',
    )
    assert (code, said.splitlines()[0]) == (0, f"{scene.config}: valid"), said
    assert "not tried (--offline): no role was asked for credentials" in said
    assert sorted(path.name for path in scene.folder.iterdir() if path.name in {"out", "audit.log", "new"}) == []


def test_mistakes_and_findings_show_in_one_run(check, scene):
    """Two mistakes of form, and then, a deployment later, an address that is not here."""
    listen = 'regin = "eu-west-1"\n[metadata]\nlisten = ["127.0.0.1:PORT", "169.254.9.9:PORT"]\nhop_limit = 99\n'
    code, said = check(
        listen, '[[files]]\nrole = "nobody"\n', '[[files]]\nrole = "deploy"\npath = "FOLDER/missing/x"\n'
    )
    assert code == 2
    for expected in (
        "regin: unknown key",
        "metadata.hop_limit: should be less than or equal to 64",
        "files.0.path: is required",
        "files.0.role: there is no role 'nobody'",
        f"metadata.listen.1: listener 169.254.9.9:{scene.port}: Cannot assign requested address\n    → put the address",
        f"files.1.path: {scene.folder}/missing/x cannot be written: No such file or directory\n    → create its folder",
        "4 mistakes; on this host 2 findings (judged as ",
    ):
        assert expected in said, said


@pytest.mark.parametrize(
    "text", ["roles = 1\n", "[roles]\n", "x = 1\n", "[metadata]\nlisten = 7\n", "files = [1, 2]\n"]
)
def test_of_a_config_without_anything_right_only_its_mistakes_are_told(capsys, tmp_path, text):
    """A default of what was written wrongly would be told of as a finding."""
    path = tmp_path / "config.toml"
    path.write_text(text)
    assert main(["check", "--config", str(path)]) == 2
    said = capsys.readouterr().err
    assert "listen.0: listener" not in said
    assert "unexpected" not in said


def test_the_form_of_a_config_for_another_host(check):
    """CI has neither the addresses nor the users of the host that it is for."""
    listen = '[metadata]\nlisten = ["169.254.9.9:80"]\n[[grants]]\nrole = "deploy"\nuser = "no-such-user"\n'
    code, said = check('state_dir = "/proc/nowhere"\n', listen, arguments=("--form",))
    assert code == 0
    assert "not looked at (--form): this host" in said
    assert check('state_dir = "nowhere"\n', arguments=("--form",))[0] == 2


def test_a_state_directory_of_another_user(check, scene):
    """The daemon would run without it: every restart would need AWS."""
    code, said = check(f'state_dir = "{scene.foreign_state()}"\n', '[metadata]\nlisten = ["127.0.0.1:PORT"]\n')
    assert code == 1
    assert f"state_dir: {scene.folder}/theirs belongs to uid {NOBODYS}\n  → " in said
    assert f"judged as root (uid {os.geteuid()}), who runs this" in said


def test_a_port_that_another_program_has(check):
    """The daemon would try to open it for ever."""
    program = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=PIPE, stdout=PIPE, text=True) as other:
        port = int(other.stdout.readline())
        admin = f'state_dir = ""\n[metadata]\nlisten = ["127.0.0.1:PORT"]\n[admin]\nlisten = "127.0.0.1:{port}"\n'
        code, said = check(admin)
        other.stdin.close()
    assert code == 1
    assert f"admin.listen: listener 127.0.0.1:{port}: Address already in use: " in said
    assert f"(pid {other.pid}) listens there\n  → see who has it: ss -ltnp" in said
