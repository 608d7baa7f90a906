"""The real CodeDeploy agent lives from what the daemon writes. Its tree is named by CODEDEPLOY_AGENT_HOME."""

import contextlib
import os
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from imds_proxy.codedeploy.agent import Host, users
from support.aws import sessions
from support.codedeploy import CommandService
from support.daemon import clean_environment, wait

HOME = os.environ.get("CODEDEPLOY_AGENT_HOME", "")
RUBY = ("RUBYLIB", "RUBYOPT", "GEM_HOME", "GEM_PATH", "LD_LIBRARY_PATH")
TIME_LIMIT = 60

pytestmark = pytest.mark.skipif(not HOME, reason="CODEDEPLOY_AGENT_HOME names no tree of the CodeDeploy agent")


@pytest.fixture
def service(aws, tmp_path):
    """The command service behind TLS, which the agent insists on; it knows the keys that STS has handed out."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("localhost").configure_cert(context)

    def secret_of(key_id):
        return next((each.secret_access_key for each in sessions() if each.access_key_id == key_id), None)

    with CommandService(secret_of, tls=context, name="localhost") as double:
        yield double


class Agent:
    """The agent, with all that is its own in one folder."""

    def __init__(self, folder: Path, onpremises: Path, endpoint: str, ca: Path):
        self.folder = folder
        settings = {
            "program_name": "codedeploy-agent",
            "log_dir": folder / "log",
            "pid_dir": folder / "pid",
            "root_dir": folder / "root",
            "on_premises_config_file": onpremises,
            "deploy_control_endpoint": endpoint,
            "wait_between_runs": 1,
            "verbose": "true",
        }
        self.config = folder / "codedeployagent.yml"
        folder.mkdir()
        self.config.write_text("---\n" + "".join(f":{name}: {value}\n" for name, value in settings.items()))
        ruby = {name: os.environ[name] for name in RUBY if name in os.environ}
        trust = {"SSL_CERT_FILE": str(ca), "AWS_SSL_CA_BUNDLE": str(ca), "HOME": str(folder)}
        self.environment = clean_environment() | ruby | trust

    def __enter__(self):
        self.process = self._run("start", start_new_session=True)
        return self

    def __exit__(self, *_):
        self._run("stop").wait(TIME_LIMIT)
        self.process.wait(TIME_LIMIT)
        with contextlib.suppress(ProcessLookupError):  # what has not stopped by itself
            os.killpg(self.process.pid, signal.SIGKILL)

    def log(self) -> str:
        return "".join(path.read_text() for path in sorted(self.folder.rglob("*.log")))

    def _run(self, verb, **options):
        command = ["ruby", Path(HOME) / "lib/codedeploy-agent.rb", "--config_file", self.config, verb]
        with (self.folder / "agent.log").open("ab") as log:
            return subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, cwd=HOME, **options)


def set_up(daemon, folder: Path) -> Path:
    """`imds-proxy codedeploy setup` and a reload; the on-premises file."""
    file, credentials = folder / "codedeploy.onpremises.yml", folder / "credentials"
    command = [sys.executable, "-m", "imds_proxy", "codedeploy", "setup", "--config", daemon.config, "--role", "deploy"]
    options = ["--output", file, "--credentials-file", credentials, "--yes"]
    subprocess.run([*command, *options], env=daemon.environment, check=True, timeout=TIME_LIMIT, capture_output=True)
    daemon.process.send_signal(signal.SIGHUP)
    wait(credentials.exists, TIME_LIMIT, "a credentials file")
    return file


def test_the_agent_polls_on_across_a_renewal(aws, start_daemon, service, tmp_path):
    """Deployments would end with the first session, an hour after the host was set up."""
    daemon = start_daemon()
    onpremises = set_up(daemon, tmp_path / "conf")
    first, identifier = aws.double.issued()[-1], daemon.role("deploy")["session_arn"]
    with Agent(tmp_path / "agent", onpremises, service.url, tmp_path / "ca.pem") as agent:
        wait(lambda: service.polls, TIME_LIMIT, agent.log)
        assert service.polls[0] == (first, identifier)
        assert users(Host()), "the doctor would not see it"

        daemon.config.write_text(daemon.config.read_text() + '[renewal]\nmax_age = "31m"\n')
        daemon.process.send_signal(signal.SIGHUP)  # another age: a new session at once
        wait(lambda: aws.double.issued()[-1] != first, TIME_LIMIT, "a renewal")
        second = aws.double.issued()[-1]
        wait(lambda: second in (tmp_path / "conf/credentials").read_text(), TIME_LIMIT, "the file with the new key")

        service.superseded.add(first)
        wait(lambda: (second, identifier) in service.polls, TIME_LIMIT, agent.log)
        assert set(service.refused) == {first}
        count = len(service.polls)
        wait(lambda: len(service.polls) > count + 2, TIME_LIMIT, agent.log)
        assert {key for key, _ in service.polls[count:]} == {second}
