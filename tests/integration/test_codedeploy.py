"""`imds-proxy codedeploy`, as an operator runs it: on the host, and towards CodeDeploy."""

import os
import signal
import stat
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from support.aws import sts_error
from support.codedeploy import DAY, OPERATOR, CodeDeployDouble, Registered
from support.daemon import clean_environment, wait

PROGRAM = [sys.executable, "-m", "imds_proxy", "codedeploy"]
ARN = "arn:aws:sts::123456789012:assumed-role/Deploy/web-1"
OTHER_ARN = "arn:aws:sts::123456789012:assumed-role/Deploy/web-2"


@pytest.fixture
def double():
    with CodeDeployDouble() as service:
        yield service


@pytest.fixture
def operator(double, tmp_path):
    """`operator("tag", …)`: that verb with the operator's profile, against the double."""
    (tmp_path / "operators").write_text(
        f"[ops]\naws_access_key_id = {OPERATOR[0]}\naws_secret_access_key = {OPERATOR[1]}\n"
    )
    environment = {
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "operators"),
        "AWS_CONFIG_FILE": str(tmp_path / "no-config"),
        "AWS_ENDPOINT_URL_CODEDEPLOY": double.url,
    }

    def run(verb, *arguments, profile="ops", region="eu-west-1", environment=environment):
        options = [f"--{key}={value}" for key, value in {"profile": profile, "region": region}.items() if value]
        done = codedeploy(verb, *options, *arguments, environment=environment)
        (tmp_path / "operator.log").write_text(done.stdout + done.stderr)
        assert OPERATOR[1] not in done.stdout + done.stderr
        return done

    return run


def codedeploy(*arguments, environment=None, **options):
    environment = clean_environment() | (environment or {})
    options = {"capture_output": True, "text": True, "timeout": 60} | options
    done = subprocess.run([*PROGRAM, *map(str, arguments)], env=environment, check=False, **options)
    assert "Traceback" not in done.stderr
    return done


def register(operator, *more, name="web-1", arn=ARN, **options):
    return operator("register", "--instance-name", name, "--session-arn", arn, *more, **options)


# Registration


def test_a_host_is_registered_with_its_tags(double, operator):
    """Deployments that go to tags would never reach it."""
    done = register(operator, "--tag", "site=Lyon", "--tag", "query=a=b")
    assert done.returncode == 0, done.stderr
    assert double.instances["web-1"].iamSessionArn == ARN
    assert double.instances["web-1"].tags == {"site": "Lyon", "query": "a=b"}
    assert {request.key_id for request in double.requests} == {OPERATOR[0]}


def test_the_session_and_the_region_come_from_the_hosts_own_file(double, operator, tmp_path):
    """A registered ARN that differs by one letter from the agent's is a host that never gets a deployment."""
    file = tmp_path / "codedeploy.onpremises.yml"
    file.write_text(f"iam_session_arn: {ARN}\naws_credentials_file: /c\nregion: eu-central-1\n")
    done = operator("register", "--instance-name", "web-1", "--onpremises-file", file, region=None)
    assert done.returncode == 0, done.stderr
    assert double.instances["web-1"].iamSessionArn == ARN
    assert "/eu-central-1/codedeploy/" in double.requests[0].headers["authorization"]


@pytest.mark.parametrize("arn_first", [False, True], ids=["name", "arn"])
def test_registering_again_with_the_same_arn_is_success(double, operator, arn_first):
    """A provisioning script would fail at its second run."""
    double.arn_first = arn_first
    assert register(operator).returncode == 0
    again = register(operator, "--tag", "site=Lyon")
    assert again.returncode == 0, again.stderr
    assert "as it was" in again.stdout
    assert double.instances["web-1"].tags == {"site": "Lyon"}


@pytest.mark.parametrize("arn_first", [False, True], ids=["name", "arn"])
def test_a_name_that_is_anothers_is_an_error_that_says_whose(double, operator, arn_first):
    """Two hosts of one name, of which one gets no deployments."""
    double.arn_first = arn_first
    double.instances["web-1"] = Registered("web-1", OTHER_ARN)
    done = register(operator)
    assert done.returncode == 1
    assert f"web-1 is registered for {OTHER_ARN}" in done.stderr
    assert "24 hours" in done.stderr
    assert "AddTagsToOnPremisesInstances" not in double.operations()


def test_a_name_of_an_iam_users_host_is_an_error_that_says_whose(double, operator):
    """Hosts that were registered the older way."""
    double.instances["web-1"] = Registered("web-1", iamUserArn="arn:aws:iam::123456789012:user/web-1")
    assert "arn:aws:iam::123456789012:user/web-1" in register(operator).stderr


def test_a_name_that_was_deregistered_stays_taken_for_a_day(double, operator):
    """Whoever tries again at once would not know when it can work."""
    double.instances["web-1"] = Registered("web-1", ARN, deregister=time.time() - DAY / 2)
    done = register(operator)
    assert done.returncode == 1
    assert "24 hours" in done.stderr
    tomorrow = time.strftime("%Y-%m-%dT%H:", time.gmtime(time.time() + DAY / 2))
    assert f"after {tomorrow}" in done.stderr
    double.instances["web-1"].deregister -= DAY
    assert register(operator).returncode == 0


def test_a_session_that_has_another_name_is_an_error(double, operator):
    """One host under two names is refused by AWS, with words that name neither."""
    double.instances["old-name"] = Registered("old-name", ARN)
    done = register(operator)
    assert done.returncode == 1
    assert "under another name than web-1" in done.stderr
    assert "list-on-premises-instances" in done.stderr


def test_tag_untag_show_deregister(double, operator):
    """The life of an instance."""
    register(operator)
    web = ("--instance-name", "web-1")
    assert operator("tag", *web, "--tag", "site=Lyon", "--tag", "ring=1").returncode == 0
    assert operator("untag", *web, "--tag", "ring=1").returncode == 0
    shown = operator("show", *web)
    assert [line.split() for line in shown.stdout.splitlines() if line.startswith(("name", "registered", "tag"))] == [
        ["name", "web-1"],
        ["registered", "for", ARN],
        ["tag", "site=Lyon"],
    ]
    gone = operator("deregister", *web)
    assert gone.returncode == 0
    assert "24 hours" in gone.stdout
    assert "deregistered" in operator("show", *web).stdout
    assert operator("tag", *web, "--tag", "site=Lyon").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("register", "--instance-name", "02:00:5e:00:53:01", "--session-arn", ARN), "MAC address"),
        (("register", "--instance-name", "w" * 101, "--session-arn", ARN), "101 characters"),
        (("register", "--instance-name", "web-1", "--session-arn", ARN, "--tag", "site"), "KEY=VALUE"),
        (
            ("register", "--instance-name", "web-1", "--session-arn", "arn:aws:iam::123456789012:role/Deploy"),
            "expected arn:aws:sts",
        ),
        (("tag", "--instance-name", "web-1", "--tag", "=x"), "KEY=VALUE"),
        (("untag", "--instance-name", "web 1", "--tag", "a=b"), "letters, digits"),
        (("show", "--instance-name", ""), "is empty"),
        (("deregister", "--instance-name", "é"), "letters, digits"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_names_and_tags_are_checked_before_any_call(double, operator, arguments, says):
    """A half-done registration, because the tags were refused after the name was taken."""
    done = operator(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert not double.requests


def test_more_tags_than_an_instance_may_have_is_said_in_words(double, operator):
    """The limit counts those that are there already, which only AWS knows."""
    double.instances["web-1"] = Registered("web-1", ARN, tags={f"k{n}": "v" for n in range(10)})
    done = operator("tag", "--instance-name", "web-1", "--tag", "one=more")
    assert done.returncode == 1
    assert "10 tags at most" in done.stderr


def test_a_missing_permission_is_the_statement_to_add(double, operator):
    """Whoever writes the operator's policy would have to look the action up."""
    double.denied.add("RegisterOnPremisesInstance")
    done = register(operator)
    assert done.returncode == 1
    assert '"Action": ["codedeploy:RegisterOnPremisesInstance"]' in done.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"profile": "nobody"}, "no AWS profile 'nobody'"),
        ({"profile": None}, "no AWS credentials"),
        ({"region": None}, "no region"),
    ],
    ids=["profile", "credentials", "region"],
)
def test_what_is_missing_on_the_operators_side_is_named(double, operator, options, says):
    """A traceback of botocore's."""
    done = operator("show", "--instance-name", "web-1", **options)
    assert done.returncode == 1
    assert says in done.stderr


def test_an_endpoint_that_does_not_answer_is_said_so(double, operator):
    """A host without a way out."""
    environment = {
        "AWS_ENDPOINT_URL_CODEDEPLOY": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "AKIAX",
        "AWS_SECRET_ACCESS_KEY": "x",
    }
    done = operator("show", "--instance-name", "web-1", profile=None, environment=environment)
    assert done.returncode == 1
    assert "HTTPS_PROXY" in done.stderr


def test_a_wrong_key_of_the_operators_is_said_so(double, operator):
    """The double verifies signatures, as AWS does."""
    environment = {
        "AWS_ENDPOINT_URL_CODEDEPLOY": double.url,
        "AWS_ACCESS_KEY_ID": OPERATOR[0],
        "AWS_SECRET_ACCESS_KEY": "x",
    }
    done = operator("show", "--instance-name", "web-1", profile=None, environment=environment)
    assert done.returncode == 1
    assert "InvalidSignatureException" in done.stderr


def test_what_a_profiles_helper_prints_is_not_repeated(operator, tmp_path):
    """A helper that fails may print what it was about to hand out."""
    config = tmp_path / "helper-config"
    config.write_text("[profile ops]\ncredential_process = sh -c 'echo hush >&2; echo hush; exit 1'\n")
    done = operator("show", "--instance-name", "web-1", environment={"AWS_CONFIG_FILE": str(config)})
    assert done.returncode == 1
    assert "credentials cannot be had" in done.stderr
    assert "hush" not in done.stdout + done.stderr


def test_the_operators_credentials_are_never_those_of_this_hosts_daemon(double, operator, start_daemon):
    """The host would register itself by its own role, or fail with that role's name in the message."""
    daemon = start_daemon()
    environment = {
        "AWS_ENDPOINT_URL_CODEDEPLOY": double.url,
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": daemon.endpoint,
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{daemon.endpoint}roles/deploy",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(daemon.state / "tokens" / "deploy"),
    }
    before = daemon.status()["requests"]
    done = operator("show", "--instance-name", "web-1", profile=None, environment=environment)
    assert done.returncode == 1
    assert "no AWS credentials" in done.stderr
    assert daemon.status()["requests"] == before


# setup


@pytest.fixture
def host(start_daemon, tmp_path):
    """A host with a running daemon, whose agent's files are in a folder of the test's."""
    return SetUp(start_daemon(), tmp_path / "agent")


class SetUp:
    def __init__(self, daemon, folder):
        self.daemon = daemon
        self.file = folder / "codedeploy.onpremises.yml"
        self.credentials = folder / "credentials"

    def run(self, *more, role="deploy", **options):
        arguments = ["setup", "--config", self.daemon.config, "--role", role, "--output", self.file]
        done = codedeploy(*arguments, "--credentials-file", self.credentials, *more, **options)
        with (self.daemon.folder / "cli.log").open("a") as log:
            log.write(done.stdout + done.stderr)
        return done

    def entries(self):
        return tomllib.loads(self.daemon.config.read_text()).get("files", [])


def test_setup_writes_what_the_agent_needs(host):
    """From nothing: two files by hand, one of them with an ARN that must fit letter for letter."""
    before = host.daemon.config.read_bytes()
    done = host.run("--yes")
    assert done.returncode == 0, done.stderr
    arn = host.daemon.role("deploy")["session_arn"]
    assert host.file.read_text() == (
        f"iam_session_arn: {arn}\naws_credentials_file: {host.credentials}\nregion: eu-west-1\n"
    )
    assert stat.S_IMODE(host.file.stat().st_mode) == 0o644
    assert host.entries() == [{"role": "deploy", "path": str(host.credentials), "format": "ini", "profile": "default"}]
    assert host.daemon.config.read_bytes().startswith(before)
    assert "systemctl reload imds-proxy" in done.stdout


def test_setup_shows_what_it_will_write_and_asks(host):
    """A config of the operator's that changes unasked."""
    before = host.daemon.config.read_bytes()
    done = host.run(input="n\n")
    assert done.returncode == 1
    assert "iam_session_arn: arn:aws:sts::" in done.stdout
    assert "[[files]]" in done.stdout
    assert not host.file.exists()
    assert host.daemon.config.read_bytes() == before
    assert host.run(stdin=subprocess.DEVNULL).returncode == 1
    assert not host.file.exists()
    assert host.run(input="y\n").returncode == 0
    assert host.file.exists()


def test_setup_a_second_time_changes_nothing(host):
    """A second entry for the same file, or a restart for nothing."""
    host.run("--yes")
    files = (host.file, host.daemon.config)
    before = [(path.read_bytes(), path.stat().st_ino) for path in files]
    again = host.run("--yes")
    assert again.returncode == 0
    assert "as it should be" in again.stdout
    assert [(path.read_bytes(), path.stat().st_ino) for path in files] == before


def test_setup_takes_the_region_it_is_given(host):
    """The agent polls another region than the daemon's."""
    host.run("--yes", "--region", "eu-central-1")
    assert "region: eu-central-1\n" in host.file.read_text()


def test_setup_keeps_mode_and_owner_of_the_config(host):
    """A daemon that may not read its config after a setup by root."""
    host.daemon.config.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(host.daemon.config, 12345, 12346)
    before = host.daemon.config.stat()
    assert host.run("--yes").returncode == 0
    after = host.daemon.config.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_setup_never_shows_the_key_of_an_iam_user_whose_file_it_replaces(host):
    """Hosts that were registered the older way have a secret key in that file."""
    host.file.parent.mkdir()
    host.file.write_text(
        "iam_user_arn: arn:aws:iam::123456789012:user/x\naws_secret_access_key: hush-hush\nregion: x\n"
    )
    done = host.run("--yes")
    assert done.returncode == 0
    assert "in place of the one that is there" in done.stdout
    assert "hush" not in done.stdout + done.stderr + host.file.read_text()


def test_setup_refuses_the_shared_credentials_file(host):
    """The agent reads that one once: the first renewal would be its last deployment."""
    host.credentials = "/home/deploy/.aws/credentials"
    done = host.run("--yes")
    assert done.returncode == 2
    assert "reads that one once" in done.stderr
    assert not host.file.exists()
    assert not host.entries()


def test_setup_refuses_a_role_that_is_not_there(host):
    """A typing mistake would be an agent without credentials."""
    done = host.run("--yes", role="depoly")
    assert done.returncode == 1
    assert 'no role "depoly"' in done.stderr


def test_setup_refuses_sessions_too_short_for_the_agent(start_daemon, tmp_path):
    """The agent would use a key for minutes after its end, at every renewal."""
    host = SetUp(start_daemon('duration = "20m"\n'), tmp_path)
    done = host.run("--yes")
    assert done.returncode == 1
    assert "live for 20 minutes" in done.stderr
    assert not host.file.exists()


def test_setup_refuses_a_role_without_a_session(aws, start_daemon, tmp_path):
    """An ARN made up here, and not AWS's word, is registered for ever and never polls."""
    aws.double.interfere = lambda _: sts_error("AccessDenied", status=403)
    host = SetUp(start_daemon(ready=False), tmp_path)
    host.daemon.failure()
    done = host.run("--yes")
    assert done.returncode == 1
    assert "has no session yet" in done.stderr


def test_setup_without_the_daemon_says_so(host):
    """The ARN is AWS's to say, and only the daemon has heard it."""
    host.daemon.stop()
    done = host.run("--yes")
    assert done.returncode == 1
    assert "no answer from" in done.stderr


def test_setup_for_windows_makes_the_file_by_its_name_there(host, tmp_path):
    """A Windows host's agent looks for another name, and in another place."""
    arguments = ["setup", "--config", host.daemon.config, "--role", "deploy", "--platform", "windows", "--yes"]
    done = codedeploy(*arguments, cwd=tmp_path, environment={"PYTHONPATH": str(Path.cwd())})
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "conf.onpremises.yml").read_text()
    assert "aws_credentials_file: C:\\ProgramData\\Amazon\\CodeDeploy\\credentials\n" in text
    assert "C:\\ProgramData\\Amazon\\CodeDeploy\\conf.onpremises.yml" in done.stdout
    assert not host.entries()
    share = tmp_path / "share" / "credentials"
    assert (
        codedeploy(
            *arguments, "--written-as", share, cwd=tmp_path, environment={"PYTHONPATH": str(Path.cwd())}
        ).returncode
        == 0
    )
    assert [entry["path"] for entry in host.entries()] == [str(share)]


@pytest.mark.parametrize("in_state_dir", [False, True], ids=["agent's folder", "state directory"])
def test_a_daemon_that_reloads_keeps_the_credentials_file(host, in_state_dir):
    """The whole way: after setup and a reload, the file holds the role's key."""
    host.file.parent.mkdir()
    if in_state_dir:  # as the README has it, for a daemon that may write nothing else
        host.credentials = host.daemon.state / "codedeploy-credentials"
    host.run("--yes")
    host.daemon.process.send_signal(signal.SIGHUP)
    wait(host.credentials.exists, 10, host.daemon.log.read_text)
    assert host.daemon.role("deploy")["key"][1:] in host.credentials.read_text()
