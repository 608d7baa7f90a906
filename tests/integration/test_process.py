"""The daemon as a process: start, systemd, signals, reload, restart, and a state directory that holds rubbish."""

import http.client
import json
import os
import signal
import socket
import sys
import threading
import time

import pytest

from imds_proxy.demo.aws_double import free_port
from imds_proxy.host.state_dir import open_state_dir
from imds_proxy.renewal.seal import Seal
from support import aws as sts
from support.daemon import HOST, wait
from support.plane import credentials
from support.saved import KEY, edit, saved_sessions, seal_of, session_file, shape

ROLE_LIST = "latest/meta-data/iam/security-credentials/"


@pytest.fixture
def hanging(aws):
    """STS does not answer until the event is set."""
    go_on = threading.Event()

    def hang(request):
        if sts.is_assume_role(request):
            go_on.wait(15)

    aws.double.interfere = hang
    yield go_on
    go_on.set()


@pytest.fixture
def systemd(tmp_path):
    """The socket of a service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(0.05)
        yield ServiceManager(manager, str(tmp_path / "notify"))


class ServiceManager:
    """What the daemon told it, message by message."""

    def __init__(self, channel, address):
        self._channel, self.address, self._messages = channel, address, []
        self.environment = {"NOTIFY_SOCKET": address}

    def messages(self) -> list[dict[str, str]]:
        try:
            while True:
                text = self._channel.recv(65536).decode()
                self._messages.append(dict(line.split("=", 1) for line in text.splitlines()))
        except TimeoutError:
            return self._messages

    def wait_for(self, key, seconds=20.0):
        return wait(lambda: [m for m in self.messages() if key in m], seconds, f"{key}; got {self._messages}")[-1]


# Start


def test_it_answers_before_it_has_credentials(aws, hanging, start_daemon):
    """An SDK that starts with the host would get "connection refused", and some never try again."""
    daemon = start_daemon(ready=False)
    daemon.wait_for_event("listening")
    assert daemon.get(ROLE_LIST)[0] == 404
    with pytest.raises(ConnectionError):
        daemon.get(ROLE_LIST + "deploy")
    assert daemon.get("latest/meta-data/placement/region")[2] == b"eu-west-1"
    hanging.set()
    wait(lambda: daemon.get(ROLE_LIST)[0] == 200, 10, "credentials")


def test_the_region_of_the_profile_is_there_with_the_first_answer(aws, hanging, start_daemon, tmp_path):
    """Rust and JS v3 ask once: a client that starts with the daemon would work without a region for good."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/config").write_text("[default]\nregion = eu-north-1\n")
    role = f'[roles.deploy]\nrole_arn = "{aws.role_arn}"\n'
    config = HOST.replace("region = ", "# region = ") + role
    daemon = start_daemon(config=config, environment=aws.environment | {"HOME": str(tmp_path)}, ready=False)
    first = wait(lambda: _or_none(daemon.get, "latest/meta-data/placement/region"), 20, "an answer")
    assert (first[0], first[2]) == (200, b"eu-north-1")


def _or_none(ask, path):
    try:
        return ask(path)
    except OSError:
        return None


def test_systemd_hears_ready_only_with_the_first_credentials(aws, hanging, systemd, start_daemon):
    """Units ordered after it would start without credentials."""
    daemon = start_daemon(environment=aws.environment | systemd.environment, ready=False)
    daemon.wait_for_event("listening")
    assert daemon.get(ROLE_LIST)[0] == 404
    assert not any("READY" in message for message in systemd.messages())
    hanging.set()
    message = systemd.wait_for("READY")
    assert "serving 1 session(s)" in message["STATUS"]
    assert daemon.ready()


def test_systemd_hears_ready_after_the_grace_with_what_is_missing(aws, systemd, start_daemon):
    """A host whose AWS is down would never finish booting."""
    aws.double.interfere = lambda request: (
        sts.access_denied(request, "somebody") if sts.is_assume_role(request) else None
    )
    environment = aws.environment | systemd.environment
    start_daemon('[renewal]\nstart_grace = "2s"\n', environment=environment, ready=False)
    began = time.monotonic()
    message = systemd.wait_for("READY")
    assert time.monotonic() - began > 1.5
    assert "no credentials" in message["STATUS"]
    assert "denied" in message["STATUS"]
    assert "AccessDenied" not in message["STATUS"]  # every user may see it


def test_a_role_that_is_not_the_default_does_not_hold_ready_back(aws, systemd, start_daemon):
    """One workload's broken role would keep the whole host from booting."""
    aws.double.interfere = lambda request: (
        sts.access_denied(request, "host") if sts.parameter(request, "RoleSessionName") != "test-host" else None
    )
    extra, environment = extra_role(aws), aws.environment | systemd.environment
    daemon = start_daemon(extra, environment=environment, ready=False)
    systemd.wait_for("READY")
    assert daemon.failure("extra")["outcome"] == "denied"
    assert daemon.get(ROLE_LIST)[2] == b"deploy"


def test_two_roles_of_which_one_fails_are_told_alike_everywhere(aws, systemd, start_daemon):
    """A log that says ready, and a probe that says it is not: somebody believes the wrong one."""
    is_mended = threading.Event()
    aws.double.interfere = lambda request: (
        sts.access_denied(request, "host")
        if sts.is_assume_role(request)
        and sts.parameter(request, "RoleSessionName") != "test-host"
        and not is_mended.is_set()
        else None
    )
    environment = aws.environment | systemd.environment
    daemon = start_daemon(extra_role(aws), environment=environment, ready=False)
    systemd.wait_for("READY")
    wait(lambda: (systemd.messages()[-1].get("STATUS") or "").startswith("no credentials for 1 role(s): denied"), 20, 1)
    assert "; serving 1 session(s), the first expires at 2" in systemd.messages()[-1]["STATUS"]
    event = daemon.wait_for_event("started, but not ready")
    assert list(event["missing"]) == ["extra"]
    assert not [event for event in daemon.events() if event["event"] == "ready"]
    assert not daemon.ready()
    assert daemon.status()["ready"] is False
    assert daemon.cli("status").returncode == daemon.cli("status", "--check").returncode == 1
    is_mended.set()
    assert daemon.cli("renew", "extra").returncode == 0
    assert "serving 2 session(s)" in daemon.wait_for_event("ready")["status"]
    assert daemon.ready()
    assert daemon.status()["ready"] is True
    assert daemon.cli("status").returncode == daemon.cli("status", "--check").returncode == 0
    assert systemd.wait_for("STATUS")["STATUS"].startswith("serving 2 session(s)")
    assert len([event for event in daemon.events() if event["event"] == "ready"]) == 1


def test_with_grants_ready_waits_for_what_somebody_may_have(aws, hanging, systemd, start_daemon):
    """There is no default role then: units ordered after it would start without credentials."""
    grant = f'[[grants]]\nrole = "deploy"\nuid = {os.geteuid()}\n'
    daemon = start_daemon(grant, environment=aws.environment | systemd.environment, ready=False)
    daemon.wait_for_event("listening")
    time.sleep(1)
    assert not any("READY" in message for message in systemd.messages())
    hanging.set()
    assert "serving 1 session(s)" in systemd.wait_for("READY")["STATUS"]


def test_with_grants_a_role_that_aws_refuses_does_not_hold_ready_back(aws, systemd, start_daemon):
    """One workload's broken role would keep the whole host from booting."""
    aws.double.interfere = lambda request: (
        sts.access_denied(request, "host") if sts.parameter(request, "RoleSessionName") != "test-host" else None
    )
    grants = "".join(f'[[grants]]\nrole = "{name}"\nuid = {os.geteuid()}\n' for name in ("deploy", "extra"))
    environment = aws.environment | systemd.environment
    daemon = start_daemon(extra_role(aws) + "\n" + grants, environment=environment, ready=False)
    systemd.wait_for("READY")
    assert daemon.failure("extra")["outcome"] == "denied"


def test_systemds_watchdog_is_fed(aws, systemd, start_daemon):
    """systemd would kill a healthy daemon; or never notice a stuck one."""
    watchdog = {"WATCHDOG_USEC": "400000"}
    daemon = start_daemon(environment=aws.environment | systemd.environment | watchdog)
    wait(lambda: sum("WATCHDOG" in message for message in systemd.messages()) >= 4, 10, "four signs of life")
    assert daemon.process.poll() is None


def test_systemd_hears_of_reload_and_stop(aws, systemd, start_daemon):
    """systemctl reload and stop would hang, or return before it is done."""
    daemon = start_daemon(environment=aws.environment | systemd.environment)
    systemd.wait_for("READY")
    daemon.process.send_signal(signal.SIGHUP)
    assert systemd.wait_for("RELOADING")["MONOTONIC_USEC"].isdecimal()
    wait(lambda: sum("READY" in message for message in systemd.messages()) == 2, 10, "ready again")
    daemon.stop()
    assert systemd.wait_for("STOPPING")


LAUNCH = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.set_inheritable(3, True)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_a_socket_passed_by_systemd_is_served(aws, start_daemon):
    """Port 80 without any privilege; and connections made before the start would be refused."""
    with socket.create_server(("127.0.0.1", 0)) as passed:
        early = socket.create_connection(passed.getsockname())
        early.sendall(b"GET / HTTP/1.0\r\n\r\n")
        daemon = start_daemon(
            config=aws.config().replace("127.0.0.1:PORT", "systemd:metadata"),
            environment=aws.environment | {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "metadata"},
            launcher=(sys.executable, "-c", LAUNCH, str(passed.fileno())),
            pass_fds=(passed.fileno(),),
        )
        daemon.port = passed.getsockname()[1]
    daemon.endpoint = f"http://127.0.0.1:{daemon.port}/"
    assert daemon.credentials("deploy")["AccessKeyId"] in aws.double.issued()
    early.settimeout(5)
    assert early.recv(100).startswith(b"HTTP/1.1 401")
    early.close()
    assert daemon.stop() == 0


def passed_by_systemd(aws, passed, extra=""):
    """What starts a daemon with a socket from systemd, for `start_daemon` and `DaemonProcess`."""
    return {
        "config": aws.config(extra).replace("127.0.0.1:PORT", "systemd:metadata"),
        "environment": aws.environment | {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "metadata"},
        "launcher": (sys.executable, "-c", LAUNCH, str(passed.fileno())),
        "pass_fds": (passed.fileno(),),
    }


def test_a_socket_of_systemd_that_others_reach_is_refused_without_grants(aws, start_daemon):
    """`ListenStream=1338` in a unit is every address of the host, and the config does not say so."""
    with socket.create_server(("0.0.0.0", 0)) as passed:
        daemon = start_daemon(**passed_by_systemd(aws, passed), ready=False)
        assert daemon.process.wait(20) == 2
        log = daemon.log.read_text()
    assert "others than this host reach systemd:metadata" in log
    assert 'role = "deploy"' in log
    assert 'listener = "systemd:metadata"' in log


def test_a_reload_does_not_open_a_socket_of_systemd_to_all(aws, start_daemon):
    """Who takes the last grant out would give the default role to the network."""
    grant = '[[grants]]\nrole = "deploy"\naddress = "127.0.0.1"\n'
    with socket.create_server(("0.0.0.0", 0)) as passed:
        daemon = start_daemon(**passed_by_systemd(aws, passed, grant))
        daemon.port = passed.getsockname()[1]
    daemon.endpoint = f"http://127.0.0.1:{daemon.port}/"
    daemon.config.write_text(daemon.config.read_text().replace(grant, ""))
    daemon.process.send_signal(signal.SIGHUP)
    refused = daemon.wait_for_event("the config was not reloaded; the old one stays")
    assert "others than this host reach systemd:metadata" in refused["error"]
    assert daemon.credentials("deploy")["AccessKeyId"] in aws.double.issued()


def test_a_reload_does_not_open_a_listener_to_all(aws, start_daemon):
    """Nor does a listener come without grants: the one that is there serves."""
    daemon = start_daemon()
    before = daemon.config.read_text()
    daemon.config.write_text(before.replace(f"127.0.0.1:{daemon.port}", f"0.0.0.0:{daemon.port}"))
    daemon.process.send_signal(signal.SIGHUP)
    refused = daemon.wait_for_event("the config was not reloaded; the old one stays")
    assert f"others than this host reach 0.0.0.0:{daemon.port}" in refused["error"]
    assert daemon.credentials("deploy")["AccessKeyId"] in aws.double.issued()
    done = daemon.cli("check")
    assert done.returncode == 2
    assert f'listener = "0.0.0.0:{daemon.port}"' in done.stderr


def test_a_socket_that_systemd_did_not_pass_is_named(aws, start_daemon):
    """The unit's socket has another name, and nothing would say so."""
    listen = '"127.0.0.1:PORT", "systemd:metadata"'
    daemon = start_daemon(config=aws.config().replace('"127.0.0.1:PORT"', listen), ready=False)
    refused = daemon.wait_for_event("cannot listen")
    assert "systemd:metadata" in refused["error"]
    assert "FileDescriptorName=metadata" in refused["advice"]


# Stop


def test_term_ends_it_at_once_with_success(aws, start_daemon):
    """Every restart of the service would wait for systemd's patience, and count as a failure."""
    daemon = start_daemon()
    idle = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=5)
    idle.request("GET", "/")
    idle.getresponse().read()
    began = time.monotonic()
    assert daemon.stop(signal.SIGTERM) == 0
    assert time.monotonic() - began < 1.5
    assert idle.sock.recv(1) == b""
    idle.close()


def test_term_lets_a_request_that_has_begun_end(aws, start_daemon):
    """A client in the middle of its request would get a reset, at every restart."""
    daemon = start_daemon()
    with socket.create_connection(("127.0.0.1", daemon.port)) as client:
        client.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{daemon.port}\r\n".encode())
        wait(lambda: daemon.status()["connections"] == 1, 5, "the connection")
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_for_event("stopping")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", daemon.port)).close()
        client.sendall(b"\r\n")
        client.settimeout(5)
        answer = client.recv(65536)
    assert answer.startswith(b"HTTP/1.1 401")
    assert b"Connection: close" in answer
    assert daemon.process.wait(5) == 0


def test_term_while_sts_hangs_ends_it_at_once(aws, hanging, start_daemon):
    """Shutting down a host whose network is gone would take as long as STS's time limit."""
    daemon = start_daemon(ready=False)
    daemon.wait_for_event("listening")
    wait(lambda: daemon.get("")[0], 10, "an answer")
    began = time.monotonic()
    assert daemon.stop(signal.SIGTERM) == 0
    assert time.monotonic() - began < 4
    assert "Traceback" not in daemon.log.read_text()


def test_interrupt_ends_it_with_success(aws, start_daemon):
    """Ctrl-C in the terminal would show a traceback."""
    daemon = start_daemon()
    assert daemon.stop(signal.SIGINT) == 0
    assert "Traceback" not in daemon.log.read_text()


# Reload


def reload(daemon, config, outcome="success"):
    before = daemon.metric(f'imds_proxy_config_reloads_total{{outcome="{outcome}"}}')
    daemon.write_config(config)
    daemon.process.send_signal(signal.SIGHUP)
    series = f'imds_proxy_config_reloads_total{{outcome="{outcome}"}}'
    wait(lambda: daemon.metric(series) == before + 1, 10, f"a reload; {daemon.log.read_text()}")


def extra_role(aws):
    """For `aws.config`: a second role."""
    settings = f'role_arn = "{aws.role_arn}"\nsts_endpoint = "{aws.double.url}"\ndefault = false'
    return f"default = true\n[roles.extra]\n{settings}"


def test_a_reload_adds_a_role_and_moves_a_listener_and_drops_nothing(aws, start_daemon):
    """Every change of the config would be a gap in everybody's credentials."""
    daemon = start_daemon()
    key, token = daemon.credentials("deploy")["AccessKeyId"], daemon.token()
    kept = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=5)
    headers = {"X-aws-ec2-metadata-token": token}
    kept.request("GET", "/" + ROLE_LIST, headers=headers)
    assert kept.getresponse().read() == b"deploy"
    kept_socket, old_port = kept.sock, daemon.port
    daemon.port = free_port()
    daemon.endpoint = f"http://127.0.0.1:{daemon.port}/"
    reload(daemon, aws.config(extra_role(aws)))

    wait(lambda: daemon.role("extra")["state"] == "ok", 10, "the new role's credentials")
    assert daemon.credentials("deploy")["AccessKeyId"] == key
    kept.request("GET", f"/{ROLE_LIST}deploy", headers=headers)
    assert json.loads(kept.getresponse().read())["AccessKeyId"] == key
    assert kept.sock is kept_socket, "the connection was dropped"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", old_port)).close()
    assert (daemon.state / "tokens/extra").exists()
    kept.close()


def test_a_reload_that_removes_a_role_stops_serving_and_renewing_it(aws, start_daemon):
    """Somebody took a permission away, and it would still be handed out."""
    daemon = start_daemon(extra_role(aws))
    token = (daemon.state / "tokens/extra").read_text()
    reload(daemon, aws.config())
    assert [role["role"] for role in daemon.status()["roles"]] == ["deploy"]
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=5)
    connection.request("GET", "/roles/extra", headers={"Authorization": token})
    assert connection.getresponse().status == 401
    connection.close()


def test_a_reload_that_changes_a_role_serves_the_old_session_until_the_new_one_is_there(aws, hanging, start_daemon):
    """A changed tag or policy would be an outage if AWS is slow just then."""
    hanging.set()
    daemon = start_daemon()
    old = daemon.credentials("deploy")["AccessKeyId"]
    hanging.clear()
    reload(daemon, aws.config('duration = "30m"\n'))
    assert daemon.credentials("deploy")["AccessKeyId"] == old
    hanging.set()
    wait(lambda: daemon.credentials("deploy")["AccessKeyId"] != old, 10, "the new session")


def test_a_bad_file_changes_nothing_and_every_mistake_is_in_the_log(aws, start_daemon):
    """A typing mistake would take the host's credentials away."""
    daemon = start_daemon()
    key = daemon.credentials("deploy")["AccessKeyId"]
    reload(daemon, aws.config('sesion_name = "x"\nduration = "1 week"\n'), "failure")
    line = daemon.wait_for_event("the config was not reloaded; the old one stays")
    assert 'did you mean "session_name"?' in line["error"]
    assert "roles.deploy.duration" in line["error"]
    assert daemon.credentials("deploy")["AccessKeyId"] == key
    reload(daemon, "not toml", "failure")
    daemon.config.unlink()
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for_event("the config was not reloaded; the old one stays", count=3)
    assert daemon.credentials("deploy")["AccessKeyId"] == key


def test_a_reload_to_a_listener_that_cannot_be_had_leaves_the_old_one(aws, start_daemon):
    """The daemon would run and serve nobody."""
    daemon = start_daemon()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        daemon.write_config(aws.config().replace("127.0.0.1:PORT", listen))
        daemon.process.send_signal(signal.SIGHUP)
        assert listen in daemon.wait_for_event("cannot listen")["error"]
        wait(lambda: _answers(daemon), 5, "the old listener")


def _answers(daemon):
    try:
        return daemon.get(ROLE_LIST)[2] == b"deploy"
    except OSError:
        return False


def test_a_reload_to_a_config_without_its_control_plane_port_keeps_the_data_plane(aws, start_daemon):
    """A port taken on the admin side would cost the credentials."""
    daemon = start_daemon()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        daemon.write_config(aws.config().replace("127.0.0.1:ADMIN", f"127.0.0.1:{taken.getsockname()[1]}"))
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for_event("no control plane")
    assert daemon.get(ROLE_LIST)[2] == b"deploy"
    assert daemon.ready(), "the old control plane goes on"


# Listeners


def with_listen(aws, *listen):
    return aws.config().replace('["127.0.0.1:PORT"]', json.dumps(["127.0.0.1:PORT", *listen]))


@pytest.mark.parametrize("listen", ["taken", "203.0.113.7:80", "[2001:db8::7]:80"])
def test_a_listener_that_cannot_be_had_is_one_line_and_the_others_serve(aws, start_daemon, listen):
    """One address too many in the file would take the whole daemon away."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}" if listen == "taken" else listen
        grants = '[[grants]]\nrole = "deploy"\naddress = "127.0.0.1"\n'
        daemon = start_daemon(config=with_listen(aws, listen) + grants, ready=False)
        daemon.wait_for_event("started, but not ready")
        lines = [event for event in daemon.events() if event["event"] == "cannot listen"]
    assert len(lines) == 1
    assert listen in lines[0]["error"]
    assert lines[0]["advice"]
    assert daemon.get(ROLE_LIST)[2] == b"deploy"
    assert "Traceback" not in daemon.log.read_text()


def test_ipv6_loopback_is_served(aws, start_daemon):
    """Hosts and SDKs that are set to IPv6."""
    if not socket.has_ipv6:
        pytest.skip("this host has no IPv6")
    daemon = start_daemon(config=with_listen(aws, "[::1]:PORT"))
    connection = http.client.HTTPConnection("::1", daemon.port, timeout=5)
    connection.request("GET", "/" + ROLE_LIST, headers={"X-aws-ec2-metadata-token": daemon.token()})
    assert connection.getresponse().read() == b"deploy"
    connection.close()


def test_without_any_listener_it_ends_with_1_and_says_why(aws, start_daemon):
    """systemd would show it as running, and no client could reach it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        daemon = start_daemon(config=aws.config().replace("127.0.0.1:PORT", listen), ready=False)
        assert daemon.process.wait(20) == 1
    text = daemon.log.read_text()
    assert listen in text
    assert "ss -ltnp" in text
    assert "Traceback" not in text


# State


def credentials_after(daemon):
    assert daemon.wait_ready().credentials("deploy")["Code"] == "Success"
    assert "Traceback" not in daemon.log.read_text()


def test_files_are_for_this_user_alone(aws, start_daemon):
    """Any user of the host could read the keys."""
    mask = os.umask(0)
    try:
        daemon = start_daemon()
    finally:
        os.umask(mask)
    wait((daemon.state / "credentials/deploy.json").exists, 5, "the saved credentials")
    modes = {
        str(path.relative_to(daemon.state)): path.stat().st_mode & 0o777 for path in sorted(daemon.state.rglob("*"))
    }
    assert modes == {
        "credentials": 0o700,
        "credentials/deploy.json": 0o600,
        "state.key": 0o600,
        "token.key": 0o600,
        "tokens": 0o700,
        "tokens/deploy": 0o600,
    }
    assert daemon.state.stat().st_mode & 0o777 == 0o700
    assert b"\n" not in (daemon.state / "tokens/deploy").read_bytes()


def test_a_killed_daemon_comes_back_with_the_tokens_and_credentials_it_had(aws, start_daemon):
    """The Rust SDK repeats a forgotten token for hours; and AWS may be down just when the host comes back."""
    daemon = start_daemon()
    token, key = daemon.token(), daemon.credentials("deploy")["AccessKeyId"]
    daemon.stop(signal.SIGKILL)
    aws.double.calls.clear()
    aws.double.interfere = lambda _: sts.sts_error("Throttling")
    daemon.start().wait_ready()
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=5)
    connection.request("GET", f"/{ROLE_LIST}deploy", headers={"X-aws-ec2-metadata-token": token})
    assert json.loads(connection.getresponse().read())["AccessKeyId"] == key
    connection.close()
    assert not aws.double.calls


def test_saved_credentials_of_other_settings_are_not_used(aws, start_daemon):
    """After a policy was narrowed and the host restarted, the wider session would be served."""
    daemon = start_daemon()
    key = daemon.credentials("deploy")["AccessKeyId"]
    daemon.stop()
    daemon.write_config(aws.config('tags = { team = "a" }\n'))
    daemon.start().wait_ready()
    assert daemon.credentials("deploy")["AccessKeyId"] != key


def test_without_a_state_directory_nothing_is_written(aws, start_daemon):
    """state_dir = "" is how an operator keeps keys off the disk."""
    daemon = start_daemon(config=aws.config().replace('state_dir = "STATE"', 'state_dir = ""'))
    credentials_after(daemon)
    assert not daemon.state.exists()
    assert {path.name for path in daemon.folder.iterdir()} <= {"config.toml", "daemon.log", "session-tokens.issued"}


@pytest.mark.parametrize("place", ["file", "under-a-file"])
def test_a_state_directory_that_cannot_be_used_is_told_of_and_it_runs(aws, start_daemon, tmp_path, place):
    """A full or read-only disk would take the credentials away."""
    path = tmp_path / "state"
    path.write_text("in the way")
    wanted = path / "deeper" if place == "under-a-file" else path
    daemon = start_daemon(config=aws.config().replace('"STATE"', json.dumps(str(wanted))))
    credentials_after(daemon)
    line = next(event for event in daemon.events() if event["event"].startswith("running without a state directory"))
    assert str(wanted) in line["error"]
    assert line["advice"]


def test_a_state_directory_that_others_may_write_to_holds_a_private_one(aws, start_daemon, tmp_path):
    """A volume is mounted as it is: nothing would be kept in it, or everybody could read what is."""
    path = tmp_path / "state"
    path.mkdir()
    path.chmod(0o777)
    credentials_after(start_daemon(config=aws.config().replace('"STATE"', json.dumps(str(path)))))
    (private,) = path.iterdir()
    assert private.stat().st_mode & 0o777 == 0o700
    assert (private / "token.key").exists()


def test_a_state_directory_whose_parent_is_missing_is_made(aws, start_daemon, tmp_path):
    """A new machine."""
    path = tmp_path / "not/yet/there"
    credentials_after(start_daemon(config=aws.config().replace('"STATE"', json.dumps(str(path)))))
    assert (path / "token.key").exists()


@pytest.mark.parametrize("content", [b"", b"\xff\x00" * 500, b'{"fingerprint": 1, "credentials": 2}'])
def test_rubbish_in_the_state_directory_is_told_of_and_it_runs(aws, start_daemon, content):
    """A crash in the middle of a write, or a disk that lies, would need somebody on the host."""
    daemon = start_daemon()
    wait((daemon.state / "credentials/deploy.json").exists, 5, "the saved credentials")
    daemon.stop()
    for name in ("token.key", "credentials/deploy.json", "tokens/deploy"):
        (daemon.state / name).write_bytes(content)
    daemon.start()
    credentials_after(daemon)
    told = {event["event"] for event in daemon.events() if event["level"] == "warning"}
    assert "session tokens will not outlive this process" in told
    if len(content.strip()) < 16 or not content.isascii():  # what no client could send
        assert "the container protocol is off for this role" in told


WRONG_SHAPES = [
    {"expiration": "tomorrow"},
    {"expiration": None},
    {"expiration": True},
    {"expiration": 1e300},
    {"obtained": "yesterday"},
    {"obtained": -1e300},
    {"access_key_id": 7},
    {"access_key_id": ""},
    {"secret_access_key": None},
    {"session_token": ["x"]},
    {"session_arn": "?"},
    {"role_arn": 7},
]


@pytest.mark.parametrize("wrong", WRONG_SHAPES, ids=str)
def test_saved_credentials_of_the_wrong_shape_are_not_loaded(tmp_path, wrong):
    """Half a document, or one of another version, would be served or would stop the daemon at every start."""
    saved = saved_sessions(open_state_dir(tmp_path / "state").path)
    saved.save("deploy", shape(), kept := credentials())
    assert saved.load("deploy", shape(), kept.obtained) == kept
    edit(Seal(KEY, None), session_file(tmp_path / "state"), lambda document: document["credentials"].update(wrong))
    assert saved.load("deploy", shape(), kept.obtained) is None


def test_a_daemon_starts_whatever_its_saved_credentials_hold(aws, start_daemon):
    """The same, of the whole process: systemd would start it again and again in vain."""
    daemon = start_daemon()
    path = daemon.state / "credentials/deploy.json"
    wait(path.exists, 5, "the saved credentials")
    daemon.stop()
    edit(seal_of(daemon.state), path, lambda document: document["credentials"].update(obtained="yesterday"))
    daemon.start()
    credentials_after(daemon)
    assert len(aws.double.used("AssumeRole")) == 2


def test_saved_files_that_others_could_have_changed_are_not_used(aws, start_daemon):
    """Any user could plant credentials of an account of their own, and read what the host then writes there."""
    daemon = start_daemon()
    path = daemon.state / "credentials/deploy.json"
    wait(path.exists, 5, "the saved credentials")
    daemon.stop()
    path.chmod(0o666)
    daemon.start()
    credentials_after(daemon)
    assert any(event["event"] == "saved credentials are left alone" for event in daemon.events())
    assert len(aws.double.used("AssumeRole")) == 2
