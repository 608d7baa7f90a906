"""Every verb as a person or a script runs it: what is printed where, and the exit code."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families

from imds_proxy.cli.main import parser
from imds_proxy.demo.aws_double import free_port
from support import aws as sts
from support.clients import executable, on
from support.daemon import DaemonProcess, clean_environment, request, wait
from support.many_verbs import run_each

VERBS = [
    "serve",
    "check",
    "status",
    "exec",
    "env",
    "credential-process",
    "renew",
    "rotate-base-key",
    "rotate-tokens",
    "add-addresses",
    "codedeploy",
    "webhook",
    "config",
    "completion",
    "demo",
]
PROGRAM = [sys.executable, "-m", "imds_proxy"]
NO_PROXY = "169.254.169.254,169.254.170.2,169.254.170.23,[fd00:ec2::23],127.0.0.1,localhost"
TIME_LIMIT = 30


@pytest.fixture(scope="module")
def daemon(account, tmp_path_factory):
    """A daemon with a default role, and another one that only the container protocol hands out."""
    other = f'default = true\n[roles.other]\nrole_arn = "{account.role_arn}"\nsession_name = "other"\ndefault = false\n'
    config = account.config(f'{other}sts_endpoint = "{account.double.url}"\n')
    with DaemonProcess(tmp_path_factory.mktemp("verbs"), config, account.environment) as process:
        yield process.wait_ready()


@pytest.fixture
def no_daemon(tmp_path, aws):
    """The config of a daemon that does not run."""
    return DaemonProcess(tmp_path, aws.config(), aws.environment)


def run(*arguments, environment=None, **options):
    """`imds-proxy …` in a clean environment."""
    environment = clean_environment() | (environment or {})
    options = {"capture_output": True, "text": True, "timeout": TIME_LIMIT} | options
    return subprocess.run([*PROGRAM, *map(str, arguments)], env=environment, check=False, **options)


def lines_of(text):
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


# Help, completion, schema


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_helps(verb):
    """Whoever types --help would be left alone."""
    done = run(verb, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: imds-proxy {verb}")
    assert not done.stderr


def test_the_list_of_verbs_here_is_the_list_there_is():
    """A verb without tests."""
    actions = next(action for action in parser()._actions if action.choices and "serve" in action.choices)
    assert sorted(actions.choices) == sorted(VERBS)
    described = {choice.dest for choice in actions._choices_actions if choice.help}
    assert described == set(VERBS)


@pytest.mark.parametrize(
    "arguments",
    [(), ("serv",), ("status", "--nonsense"), ("completion", "cobol"), ("config",), ("serve", "--log-level", "LOUD")],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2_and_shows_the_usage(arguments):
    """A script's typing mistake would pass as success, or look like a crash."""
    done = run(*arguments)
    assert done.returncode == 2
    assert "usage: imds-proxy" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_completion_is_valid_bash(tmp_path):
    """Every new shell of that user would start with a syntax error."""
    script = run("completion", "bash").stdout
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    assert "credential-process" in script
    assert "add-addresses" in script
    assert "--hide-cloud-services" in script


def test_the_schema_is_a_valid_json_schema_and_knows_the_config(aws):
    """The editor would mark a right file as wrong."""
    import tomllib  # noqa: PLC0415

    schema = json.loads(run("config", "schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    ports = aws.config('duration = "1h"\n[renewal]\nmax_age = 900\n').replace("PORT", "1338").replace("ADMIN", "9338")
    validator.validate(tomllib.loads(ports))
    assert list(validator.iter_errors({"roles": {"deploy": {"role_arm": "x"}}}))


# serve without a file


def test_serve_with_a_role_arn_and_no_file(aws, tmp_path):
    """The first command of the README."""
    port = free_port()
    environment = (
        clean_environment() | aws.environment | {"AWS_ENDPOINT_URL_STS": aws.double.url, "HOME": str(tmp_path)}
    )
    environment |= {"STATE_DIRECTORY": str(tmp_path / "state")}
    listen, region = f"127.0.0.1:{port}", ("--region", "eu-west-1")
    command = [*PROGRAM, "serve", "--role-arn", aws.role_arn, *region, "--listen", listen, "--log-level", "DEBUG"]
    with (tmp_path / "daemon.log").open("wb") as log, subprocess.Popen(command, env=environment, stderr=log) as process:
        try:
            roles = f"http://{listen}/latest/meta-data/iam/security-credentials/"
            headers = wait(lambda: session_token(listen), 20, "a listener")
            wait(lambda: request(roles, headers=headers)[0] == 200, 20, (tmp_path / "daemon.log").read_text)
            assert request(roles, headers=headers)[2] == b"Deploy"
            document = json.loads(request(roles + "Deploy", headers=headers)[2])
            assert document["AccessKeyId"] in aws.double.issued()
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def session_token(listen):
    try:
        ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
        return {"X-aws-ec2-metadata-token": request(f"http://{listen}/latest/api/token", "PUT", ttl)[2].decode()}
    except OSError:
        return None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--role-arn", "arn:aws:iam::1:role/x"), "12 digits"),
        (("--role-arn", "arn:aws:iam::123456789012:role/x", "--config", "x.toml"), "not both"),
        (("--region", "eu-west-1"), "--role-arn"),
        (("--role-arn", "arn:aws:iam::123456789012:role/x", "--listen", "localhost:80"), "IP address"),
        (("--role-arn", "arn:aws:iam::123456789012:role/x", "--region", "Ireland"), "region"),
        (("--config", "/nonexistent/config.toml"), "/nonexistent/config.toml"),
        (("--config", "/"), "cannot be read"),
        ((), "--role-arn ARN"),
    ],
)
def test_serve_with_wrong_settings_ends_with_2_and_says_which(arguments, says):
    """A service that is started wrongly would be started again and again."""
    done = run("serve", *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


# Mistakes in the file

MISTAKES = {
    "regin": ('regin = "eu-west-1"\n', 'regin: unknown key; did you mean "region"?'),
    "role": ('[roles.a]\nrole_arn = "arn:aws:iam::12:role/x"\n', "roles.a.role_arn: expected arn:aws:iam::ACCOUNT"),
    "duration": ('[roles.b]\nrole_arn = "arn:aws:iam::123456789012:role/x"\nduration = "13h"\n', "from 15m to 12h"),
    "missing": ("[roles.c]\n", "roles.c.role_arn: is required"),
    "listen": ('[metadata]\nlisten = ["localhost:80"]\n', "metadata.listen.0: expected an IP address"),
    "nearest": ("[renewal]\nmaxage = 1\n", 'renewal.maxage: unknown key; did you mean "max_age"?'),
}


@pytest.mark.parametrize("verb", ["serve", "check", "status"])
def test_every_mistake_in_the_file_is_listed_at_once(tmp_path, verb):
    """One mistake per attempt makes an evening of ten typing mistakes."""
    path = tmp_path / "config.toml"
    path.write_text("".join(text for text, _ in MISTAKES.values()))
    done = run(verb, "--config", path)
    assert done.returncode == 2
    for name, (_, says) in MISTAKES.items():
        assert says in done.stderr, name
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"[roles", b"", b"roles = 1", b"[roles]\n", b"roles = [1]\n", b"[roles]\na = 1\n", b"\x00"]
)
def test_a_file_that_is_no_config_ends_with_2(tmp_path, content):
    """An editor's swap file would show a traceback."""
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    done = run("check", "--config", path)
    assert done.returncode == 2
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr


# check


def test_check_says_who_aws_says_each_role_is(daemon, aws):
    """What one runs before a rollout."""
    done = daemon.cli("check")
    assert done.returncode == 0
    assert re.search(r"deploy +ok: arn:aws:sts::123456789012:assumed-role/Deploy/test-host, until \S+Z", done.stdout)
    assert re.search(r"other +ok: \S+/Deploy/other, until", done.stdout)


def test_check_says_what_to_do_about_a_denied_role_and_ends_with_1(daemon, aws):
    """A pipeline would roll out a role that does not work."""
    aws.double.interfere = lambda request: (
        sts.access_denied(request, "host") if sts.parameter(request, "RoleSessionName") == "other" else None
    )
    done = daemon.cli("check")
    assert done.returncode == 1
    assert "deploy  ok" in done.stdout
    assert re.search(r"other +denied: .*AccessDenied.*\n +→ .*trust policy", done.stdout)
    assert "Traceback" not in done.stderr


# status


def test_status_shows_a_table(daemon):
    """The first thing to look at when something is wrong."""
    done = daemon.cli("status")
    assert done.returncode == 0
    head, first, second = done.stdout.splitlines()[:3]
    assert head.split() == ["ROLE", "STATE", "KEY", "LEFT", "NEXT", "SESSION"]
    assert first.split()[:3] == ["deploy", "*", "ok"]
    assert second.split()[:2] == ["other", "ok"]
    assert f"127.0.0.1:{daemon.port}" in done.stdout


def test_status_json_is_the_document(daemon):
    """Scripts would have to read the table."""
    document = json.loads(daemon.cli("status", "--json").stdout)
    assert [role["role"] for role in document["roles"]] == ["deploy", "other"]


def test_status_watch_goes_on_until_it_is_stopped(daemon):
    """Ctrl-C would show a traceback."""
    command = [*PROGRAM, "status", "--config", str(daemon.config), "--watch"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=daemon.environment, stdout=pipe, stderr=pipe, text=True) as process:
        shown = [process.stdout.readline() for _ in range(7)]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    assert sum("ROLE" in line for line in shown) >= 1
    assert "Traceback" not in errors
    assert process.returncode == 130


def test_status_into_a_closed_pipe_says_nothing(daemon):
    """`imds-proxy status | head -1` would end with a traceback."""
    command = f"{sys.executable} -m imds_proxy status --config {daemon.config} | true"
    done = subprocess.run(
        ["bash", "-c", command], env=daemon.environment, capture_output=True, text=True, timeout=TIME_LIMIT, check=False
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_status_in_a_locale_without_an_ellipsis_and_into_a_full_disk(daemon, tmp_path):
    """It died on the key, of which it shows the end alone; and blamed itself for the disk."""
    verbs = [("status", "--config", daemon.config, *options) for options in ((), ("--json",), ("--watch",))]
    verbs.append(("credential-process", "--config", daemon.config))
    (folder := tmp_path / "printed").mkdir()
    table, document = run_each(folder, verbs[:2], {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    head, *rows = table.out.decode("ascii").splitlines()
    key = next(role["key"] for role in json.loads(document.out)["roles"])
    assert (table.code, document.code) == (0, 0)
    assert key.replace("…", "...") in rows[0]
    for row in rows[:2]:
        assert re.match(r" \d+[hms]", row[head.index("LEFT") - 1 :]), "the columns are laid out for what is printed"
    for ran in run_each(tmp_path, verbs, out="/dev/full"):
        assert ran.code == 1, ran
        assert ran.err == b"imds-proxy: standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    "arguments", [("status",), ("status", "--json"), ("credential-process",), ("exec", "--role", "x", "true")]
)
def test_without_a_daemon_the_verbs_say_so_and_end_with_1(no_daemon, arguments):
    """Whoever forgot to start it would read a traceback."""
    done = no_daemon.cli(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("imds-proxy: ")
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_status_ends_with_1_where_a_role_has_no_credentials(aws, start_daemon):
    """A health check in a shell script."""
    aws.double.interfere = lambda request: sts.access_denied(request, "host") if sts.is_assume_role(request) else None
    daemon = start_daemon(ready=False)
    failure = daemon.failure()
    done = daemon.cli("status")
    assert done.returncode == 1
    assert "pending" in done.stdout
    assert failure["advice"] in done.stdout


# exec and env


def test_exec_gives_a_command_the_default_role_and_nothing_before_it(daemon):
    """A leftover key in the shell would be used instead, unnoticed."""
    shell = {"AWS_ACCESS_KEY_ID": "AKIALEFTOVER", "AWS_PROFILE": "old", "NO_PROXY": "example.org", "KEEP": "this"}
    done = daemon.cli("exec", "--", "env", env=daemon.environment | shell)
    seen = lines_of(done.stdout)
    assert done.returncode == 0
    assert seen["AWS_EC2_METADATA_SERVICE_ENDPOINT"] == daemon.endpoint
    assert seen["AWS_REGION"] == seen["AWS_DEFAULT_REGION"] == "eu-west-1"
    assert seen["NO_PROXY"] == seen["no_proxy"] == f"example.org,{NO_PROXY}"
    assert seen["KEEP"] == "this"
    assert not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"} & set(seen)


def test_exec_gives_a_real_client_another_role(daemon, aws):
    """A job with a role of its own."""
    environment = daemon.environment | {"AWS_ENDPOINT_URL": aws.double.url}
    command = (executable("awscli", "aws"), "sts", "get-caller-identity", "--output", "json")
    done = daemon.cli("exec", "--role", "other", "--", *command, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["Arn"].endswith("/other")


def test_exec_ends_as_its_command_does(daemon):
    """A failing job would look like a success."""
    assert daemon.cli("exec", "--", "sh", "-c", "exit 7").returncode == 7


def test_exec_passes_the_commands_own_options_on(daemon):
    """`exec -- ls --help` would show our help."""
    assert daemon.cli("exec", "--", "echo", "--help", "--role", "--", "x").stdout == "--help --role -- x\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "no command given"),
        (("--",), "no command given"),
        (("--role", "nobody", "--", "true"), "nobody"),
        (("--role", "../token.key", "--", "true"), "../token.key"),
    ],
)
def test_exec_that_does_not_know_the_role_says_why_and_ends_with_1(daemon, arguments, says):
    """A traceback in the middle of somebody's deployment."""
    done = daemon.cli("exec", *arguments)
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_exec_of_what_cannot_be_run_ends_as_a_shell_does(daemon, tmp_path):
    """Scripts and schedulers tell a missing program from one that failed by 127 and 126."""
    script, stray, orphan = (tmp_path / name for name in ("no-permission", "no-format", "no-interpreter"))
    for path, text in (
        (script, "#!/bin/sh\n"),
        (stray, "\x7fELF no such format"),
        (orphan, "#!/no/such/interpreter\n"),
    ):
        path.write_text(text)
    stray.chmod(0o755)
    orphan.chmod(0o755)
    expected = (
        ("no-such-program", 127, "no-such-program: command not found"),
        ("", 127, "'': command not found"),
        ("/no/such/program", 127, "/no/such/program: No such file or directory"),
        (str(orphan), 127, "the interpreter in its first line is not there"),
        ("/", 126, "/: Is a directory"),
        (str(script), 126, "Permission denied"),
        (str(stray), 126, "Exec format error"),
        ("/etc/passwd/x", 126, "Not a directory"),
    )
    runs = [("exec", "--config", daemon.config, "--", command) for command, _, _ in expected]
    (folder := tmp_path / "printed").mkdir()
    for ran, (_, code, says) in zip(run_each(folder, runs), expected, strict=True):
        assert ran.code == code, ran
        assert says in ran.err.decode()
        assert b"Traceback" not in ran.err
        assert b"warning" not in ran.err


def test_what_exec_runs_ends_at_a_closed_pipe_as_it_would_alone(daemon):
    """Python ignores that signal, and the command would inherit it: `yes` would complain, others would go on."""
    command = f"{' '.join(PROGRAM)} exec --config {daemon.config} -- yes | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], env=daemon.environment, capture_output=True, text=True, timeout=TIME_LIMIT, check=False
    )
    assert (done.stdout, done.stderr) == (f"y\n{128 + signal.SIGPIPE}\n", "")


def test_exec_and_env_run_without_a_daemon_and_say_so(no_daemon):
    """Nothing but the SDK's own "unable to locate credentials" would be seen."""
    done = no_daemon.cli("exec", "--", "sh", "-c", "echo ran; exit 7")
    assert (done.returncode, done.stdout) == (7, "ran\n")
    assert "warning: no answer from http://127.0.0.1:" in done.stderr
    assert "→ is the daemon running" in done.stderr
    done = no_daemon.cli("env")
    assert done.returncode == 0
    assert f"export AWS_EC2_METADATA_SERVICE_ENDPOINT={no_daemon.endpoint}" in done.stdout
    assert "warning: no answer from" in done.stderr


def test_exec_waits_for_a_daemon_only_so_long_and_then_runs_nothing(no_daemon):
    """A job at boot would start before its credentials; or, if they never come, hang for ever."""
    done = no_daemon.cli("exec", "--wait", "1s", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("imds-proxy: no credentials after 1 s, nothing was run: no answer from")
    assert "→ is the daemon running" in done.stderr
    assert no_daemon.cli("exec", "--wait", "soon", "--", "true").returncode == 2


def test_the_region_comes_from_the_daemon_where_no_config_can_be_read(daemon):
    """Go and Java find no region in the metadata of a host that does not say what machine it is."""
    environment = {name: value for name, value in daemon.environment.items() if not name.startswith("AWS_")}
    done = run("env", "--endpoint", daemon.endpoint, environment=environment)
    assert "export AWS_REGION=eu-west-1\nexport AWS_DEFAULT_REGION=eu-west-1\n" in done.stdout
    assert not done.stderr
    done = run("exec", "--endpoint", daemon.endpoint, "env", environment=environment | {"AWS_REGION": "us-east-1"})
    assert lines_of(done.stdout)["AWS_REGION"] == lines_of(done.stdout)["AWS_DEFAULT_REGION"] == "us-east-1"


def test_the_token_itself_is_in_the_environment_only_on_request(daemon):
    """minio-java and s5cmd know no token file; but an environment is seen by more than one program."""
    variable = "AWS_CONTAINER_AUTHORIZATION_TOKEN"
    plain = lines_of(daemon.cli("exec", "--role", "other", "env").stdout)
    assert variable not in plain
    seen = lines_of(daemon.cli("exec", "--role", "other", "--token-in-environment", "env").stdout)
    assert seen.pop(variable) == (daemon.state / "tokens/other").read_text()
    assert seen.keys() == plain.keys()
    printed = run("env", "--config", daemon.config, "--role", "other", "--token-in-environment").stdout
    assert f"export {variable}=" in printed
    done = daemon.cli("env", "--token-in-environment")
    assert done.returncode == 2
    assert "goes with --role" in done.stderr
    done = daemon.cli("exec", "--role", "nobody", "--token-in-environment", "true")
    assert done.returncode == 1


def test_exec_of_a_user_without_a_grant_says_so_and_waits_for_one(aws, start_daemon):
    """The command would be refused by every service, and nothing would say that the grant is missing."""
    grant = '[[grants]]\nrole = "deploy"\nuid = {}\n'
    daemon = start_daemon(grant.format(54321))
    done = daemon.cli("exec", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert "warning: the daemon has no role for this user" in done.stderr
    assert re.search("→ imds-proxy check --as user=(?!NAME)", done.stderr)
    assert "warning: the daemon has no role for this user" in daemon.cli("env").stderr
    done = daemon.cli("exec", "--wait", "0s", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (1, "")
    assert "after 0 s, nothing was run: the daemon has no role for this user" in done.stderr

    command = [*PROGRAM, "exec", "--config", str(daemon.config), "--wait", "1m", "--", "echo", "ran"]
    with subprocess.Popen(command, env=daemon.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as waiting:
        time.sleep(1)  # it has looked at least once; if it has not, it has less to wait for
        assert waiting.poll() is None
        daemon.write_config(aws.config(grant.format(os.getuid())))
        daemon.process.send_signal(signal.SIGHUP)
        assert waiting.communicate(timeout=TIME_LIMIT) == (b"ran\n", b"")
    assert waiting.returncode == 0


def test_exec_of_a_role_on_demand_has_it_obtained_and_does_not_warn(start_daemon):
    """The command's SDK would be the first to ask, be told that there is nothing, and give up."""
    daemon = start_daemon('serve = "on-demand"\n')
    done = daemon.cli("exec", "--", "echo", "ran")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")


def test_a_default_profile_that_would_be_used_instead_is_warned_of(daemon, tmp_path):
    """SDKs take the shared file first: the command would run with the old key."""
    file = tmp_path / "credentials"
    file.write_text("[default]\naws_access_key_id = AKIAOLD\naws_secret_access_key = old\n")
    environment = daemon.environment | {"AWS_SHARED_CREDENTIALS_FILE": str(file)}
    done = daemon.cli("exec", "--", "true", env=environment)
    assert done.returncode == 0
    assert f"{file} has a [default] profile" in done.stderr
    file.write_text("[other]\naws_access_key_id = AKIAOLD\n")
    assert "warning" not in daemon.cli("exec", "--", "true", env=environment).stderr


def test_env_is_what_a_shell_evaluates(daemon, tmp_path):
    """The two lines of the README for a developer's shell."""
    script = 'eval "$("$@")" && env'
    command = ["sh", "-euc", script, "sh", *PROGRAM, "env", "--config", str(daemon.config)]
    shell = daemon.environment | {"AWS_SESSION_TOKEN": "leftover", "NO_PROXY": "a b'c;d"}
    done = subprocess.run(command, env=shell, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
    seen = lines_of(done.stdout)
    assert seen["AWS_EC2_METADATA_SERVICE_ENDPOINT"] == daemon.endpoint
    assert seen["NO_PROXY"] == f"a b'c;d,{NO_PROXY}"
    assert "AWS_SESSION_TOKEN" not in seen


def test_env_of_a_role_is_the_container_protocol_and_turns_the_hosts_role_off(daemon):
    """A workload whose token is refused would fall through to the host's role (PROTOCOL 28)."""
    text = daemon.cli("env", "--role", "other").stdout
    assert f"export AWS_CONTAINER_CREDENTIALS_FULL_URI={daemon.endpoint}roles/other" in text
    assert f"export AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE={daemon.state}/tokens/other" in text
    assert "export AWS_EC2_METADATA_DISABLED=true" in text


# credential-process


@pytest.mark.parametrize("role", ["deploy", "other"])
def test_credential_process_serves_a_real_boto3(daemon, aws, tmp_path, role):
    """Programs that only read a profile."""
    command = f"{' '.join(PROGRAM)} credential-process --config {daemon.config} --role {role}"
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {command}\n")
    environment = on(aws.double.url) | {
        "AWS_ENDPOINT_URL": aws.double.url,
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    program = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])"
    done = subprocess.run(
        [executable("boto3", "python"), "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
        check=False,
    )
    assert done.stdout.strip() == daemon.role(role)["session_arn"], done.stderr


def test_credential_process_is_the_version_1_document(daemon):
    """The SDKs refuse any other."""
    document = json.loads(daemon.cli("credential-process").stdout)
    assert list(document) == ["Version", "AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"]
    assert document["Version"] == 1


# The control plane


def test_the_metrics_can_be_read_and_are_the_contract(daemon):
    """Dashboards and alerts are made of these names."""
    daemon.credentials("deploy")
    families = {family.name: family for family in text_string_to_metric_families(daemon.metrics())}
    labels = {name: set(family.samples[0].labels) - {"le"} for name, family in families.items() if family.samples}
    contract = {
        "credential_expiration_timestamp_seconds": {"role"},
        "credential_renewed_timestamp_seconds": {"role"},
        "renewals": {"role", "outcome"},
        "credential_renewal_due_timestamp_seconds": {"role"},
        "role_info": {"role", "source", "role_arn"},
        "ready": set(),
        "listener_up": {"address"},
        "renewal_duration_seconds": set(),
        "requests": {"protocol", "document", "status"},
        "request_duration_seconds": set(),
        "clock_skew_seconds": set(),
        "config_reloads": {"outcome"},
        "config_last_reload_successful": set(),
        "build_info": {"version", "python"},
    }
    assert {name: labels.get(f"imds_proxy_{name}") for name in contract} == contract
    outcomes = {sample.labels["outcome"] for sample in families["imds_proxy_renewals"].samples}
    assert outcomes == {"success", "denied", "throttled", "unreachable", "invalid"}


def test_healthz_answers_while_readyz_says_which_role_is_missing_and_why(aws, start_daemon):
    """A probe would kill a daemon that only waits for AWS; or send it traffic."""
    aws.double.interfere = lambda request: sts.access_denied(request, "host") if sts.is_assume_role(request) else None
    daemon = start_daemon(ready=False)
    daemon.failure()
    assert request(f"{daemon.admin}/healthz")[0] == 200
    status, _, body = request(f"{daemon.admin}/readyz")
    assert status == 503
    assert "AccessDenied" in json.loads(body)["missing"]["deploy"]


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/status.json", "/nothing", "/"])
def test_no_page_of_the_control_plane_holds_a_secret(daemon, aws, path):
    """Metrics and status are read by many more people than may have the role."""
    page = request(daemon.admin + path)[2].decode()
    documents = [json.loads(daemon.cli("credential-process", "--role", role).stdout) for role in ("deploy", "other")]
    for document in documents:
        for name in ("AccessKeyId", "SecretAccessKey", "SessionToken"):
            assert document[name] not in page
    for token in (daemon.state / "tokens").iterdir():
        assert token.read_text() not in page
    assert aws.secret not in page


def test_no_verb_but_credential_process_prints_a_secret(daemon, aws):
    """Terminals are recorded, and pasted into tickets."""
    document = json.loads(daemon.cli("credential-process").stdout)
    text = "".join(str(daemon.cli(verb)) for verb in ("check", "status", "env"))
    text += str(daemon.cli("exec", "--", "env", env={**daemon.environment, **dict.fromkeys(aws.environment, "")}))
    assert document["SecretAccessKey"] not in text
    assert document["SessionToken"] not in text
    assert aws.secret not in text
