"""What every test can ask for."""

import logging

import hypothesis
import pytest

from imds_proxy.demo.aws_double import AwsDouble
from support import secret_scan
from support.daemon import HOST, DaemonProcess

# How long an example takes is this machine's mood; what takes too long for a user has a test of its own.
hypothesis.settings.register_profile("any-machine", deadline=None)
hypothesis.settings.load_profile("any-machine")

ROLE = """
[roles.deploy]
role_arn = "{role_arn}"
session_name = "test-host"
sts_endpoint = "{sts}"
"""


class Account:
    """An AWS double with a user `host` that may assume the role `Deploy`."""

    def __init__(self, double: AwsDouble):
        self.double = double
        self.key_id, self.secret = double.add_user("host")
        self.role_arn = double.add_role("Deploy", double.user_arn("host"))
        self.environment = {"AWS_ACCESS_KEY_ID": self.key_id, "AWS_SECRET_ACCESS_KEY": self.secret}

    def config(self, extra: str = "") -> str:
        """A config with the role `deploy`; `extra` is appended, and so may add keys to that role's table."""
        return HOST + ROLE.format(role_arn=self.role_arn, sts=self.double.url) + extra


@pytest.fixture(scope="session")
def account():
    """One AWS account for the whole run (moto's state is the process's); each test leaves it as it was."""
    with AwsDouble() as double:
        yield Account(double)


@pytest.fixture
def aws(account):
    """The account, with nothing recorded and nothing in the way."""
    account.double.interfere = lambda _: None
    account.double.calls.clear()
    yield account
    account.double.interfere = lambda _: None


@pytest.fixture
def start_daemon(aws, tmp_path_factory):
    """`start_daemon(extra_config, environment={}, config=None)`: a running, ready daemon; stopped after the test.

    `process` goes to `DaemonProcess`: arguments, launcher, pass_fds.
    """
    running = []

    def start(extra="", environment=None, *, config=None, ready=True, **process):
        folder = tmp_path_factory.mktemp("daemon")
        config = aws.config(extra) if config is None else config
        environment = aws.environment if environment is None else environment
        daemon = DaemonProcess(folder, config, environment, **process)
        running.append(daemon.start())
        return daemon.wait_ready() if ready else daemon

    yield start
    for daemon in running:
        daemon.stop()


@pytest.fixture(scope="session", autouse=True)
def _no_secret_in_any_log(tmp_path_factory):
    """Everything this process logs at DEBUG is scanned at its end, with the logs of all that it started."""
    path = tmp_path_factory.getbasetemp() / "pytest.log"
    handler = logging.FileHandler(path)
    logging.getLogger("imds_proxy").setLevel(logging.DEBUG)
    logging.getLogger("imds_proxy").addHandler(handler)
    yield
    logging.getLogger("imds_proxy").removeHandler(handler)
    handler.close()
    secret_scan.scan(tmp_path_factory.getbasetemp())


@pytest.fixture(autouse=True)
def _logged_at_debug():
    """A verb that a test before ran in this process has set the level, and where lines go: that is closed by now."""
    logging.getLogger("imds_proxy").setLevel(logging.DEBUG)
    yield
    root = logging.getLogger()
    for handler in [each for each in root.handlers if type(each).__module__ == "imds_proxy.telemetry.log"]:
        root.removeHandler(handler)
