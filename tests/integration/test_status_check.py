"""`imds-proxy status --check`, as a health check runs it: an exit code, and nothing more."""

import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from threading import Thread

import pytest

from imds_proxy.demo.aws_double import free_port
from support.control_plane_tls import Pki
from support.daemon import DaemonProcess, clean_environment, wait
from support.pushed_file import Writer
from support.squatter import squatting
from support.users import temporary_users

PROGRAM = [sys.executable, "-m", "imds_proxy", "status"]
NOT_READY = (
    "imds-proxy: not ready: a role that is served has no live credentials, or a listener is not open;"
    " imds-proxy status says more\n"
)


def status(*arguments):
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=30, check=False)


def check(*arguments):
    """Exit code, and all that was printed."""
    done = status("--check", *arguments)
    assert done.stdout == ""
    return done.returncode, done.stderr


@contextmanager
def answering(answer):
    """The config of a control plane that says `answer` to whoever connects."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        Thread(target=_answer, args=(server, answer), daemon=True).start()
        yield f'[admin]\nlisten = "127.0.0.1:{server.getsockname()[1]}"\n'


def _answer(server, answer):
    connection, _ = server.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(answer)


def test_it_says_by_its_exit_code_whether_there_are_credentials(start_daemon):
    """An application that waits for this one to be healthy would start without credentials, or never."""
    daemon = start_daemon()
    assert check("--config", daemon.config) == (0, "")
    daemon.stop()
    code, said = check("--config", daemon.config)
    assert code == 1
    assert said == f"imds-proxy: no answer from 127.0.0.1 port {daemon.admin_port}: Connection refused\n"


def test_a_role_without_credentials_is_not_well(aws, start_daemon):
    """It would count as healthy while every request of the application fails."""
    aws.double.interfere = lambda _: 500
    daemon = start_daemon(ready=False)
    daemon.failure()
    assert check("--config", daemon.config) == (1, NOT_READY)


def test_over_tls_the_certificate_is_the_one_in_the_config(tmp_path):
    """A health check would fail for ever once metrics are behind TLS."""
    pki, writer = Pki(tmp_path), Writer(tmp_path, role="deploy")
    writer.rename()
    config = f'[metadata]\nlisten = ["127.0.0.1:PORT"]\n[admin]\nlisten = "127.0.0.1:ADMIN"\n{pki.table()}{writer.role}'
    with DaemonProcess(tmp_path, f'state_dir = ""\n{config}', {}) as daemon:
        wait(lambda: check("--config", daemon.config) == (0, ""), 20, "well")
        pki.put_server(key=False)  # which the daemon cannot use: it goes on with the one before
        code, said = check("--config", daemon.config)
    assert (code, said.count("\n")) == (1, 1)
    assert "certificate is not the one in" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has other users' processes")
def test_another_users_listener_is_not_the_daemon(tmp_path):
    """A user who took the port would be taken for a healthy daemon."""
    with temporary_users() as people, squatting(people.add()) as squatter:
        config = tmp_path / "config.toml"
        config.write_text(f'[admin]\nlisten = "127.0.0.1:{squatter.port}"\n')
        code, said = check("--config", config)
    assert (code, said.count("\n")) == (1, 1)
    assert "is held by another user" in said


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1", b"SSH-2.0-x\r\n", b"x" * 100_000, b"HTTP/1.1 429 x\r\n\r\n"])
def test_what_answers_otherwise_is_not_well(tmp_path, answer):
    """Something else on the port would be taken for the daemon, or a traceback fill the engine's log."""
    config = tmp_path / "config.toml"
    with answering(answer) as text:
        config.write_text(text)
        code, said = check("--config", config)
    assert (code, said.count("\n")) == (1, 1), said


@pytest.mark.parametrize(
    "text",
    [
        "[admin\n",
        "admin = 1\n",
        "[admin]\nlisten = 9338\n",
        '[admin]\nlisten = "here"\n',
        "[admin]\ncertificate = true\n",
        "\xff",
    ],
)
def test_a_config_that_does_not_say_where_to_ask_is_a_mistake_of_use(tmp_path, text):
    """A typing mistake in a container's definition would pass for a daemon that is down."""
    config = tmp_path / "config.toml"
    config.write_text(text, "latin-1")
    code, said = check("--config", config)
    assert (code, said.count("\n")) == (2, 1), said


def test_a_missing_file_and_flags_that_print_are_mistakes_of_use(tmp_path):
    """The same."""
    assert check("--config", tmp_path / "none")[0] == 2
    for flag in ("--json", "--watch"):
        assert check(flag)[0] == 2


def test_no_file_means_the_default_address():
    """A container whose config is where it belongs takes no flags."""
    code, said = check()
    assert (code, said.count("\n")) in {(0, 0), (1, 1)}


def test_it_is_cheap(tmp_path):
    """It runs every few seconds on every host: validating the config each time takes half a second of a processor."""
    config = tmp_path / "config.toml"
    config.write_text(f'[admin]\nlisten = "127.0.0.1:{free_port()}"\n')
    took = min(_processor_seconds(lambda: check("--config", config)) for _ in range(5))
    bare = min(_processor_seconds(_bare_interpreter) for _ in range(5))
    print(f"status --check: {1000 * took:.0f} ms of processor, a bare interpreter {1000 * bare:.0f} ms")
    assert took - bare < 0.25
    loaded = subprocess.run(
        [sys.executable, "-X", "importtime", *PROGRAM[1:], "--check", "--config", str(config)],
        env=clean_environment(), capture_output=True, text=True, timeout=30, check=False,
    ).stderr  # fmt: skip
    names = {line.rpartition("|")[2].strip() for line in loaded.splitlines()}
    assert "imds_proxy.cli.status_check" in names
    assert not names & {"pydantic", "aiohttp", "asyncio", "http.client", "ssl", "rich"}


def _bare_interpreter():
    subprocess.run([sys.executable, "-c", ""], env=clean_environment(), timeout=30, check=True)


def _processor_seconds(run):
    before = os.times()
    run()
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system
