"""Renewal with a real daemon: AWS slow, saying no, gone, or talking nonsense, and what clients get meanwhile."""

import asyncio
import json
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import formatdate

import pytest
from werkzeug.wrappers import Response

from imds_proxy.demo.aws_double import free_port
from support import aws as sts
from support.daemon import DaemonProcess, request, wait
from support.network import Relay

ROLE_LIST = "latest/meta-data/iam/security-credentials/"
A_WAIT = 0.5  # seconds; Go v2 gives up then (PROTOCOL.md 19)


# The renewal window


def test_500_concurrent_fetches_in_the_renewal_window_make_one_sts_call_and_none_waits(aws, start_daemon):
    """A busy host would be throttled by STS, or its SDKs would time out, at every renewal."""
    daemon = start_daemon('[renewal]\nmax_age = "3s"\n')
    token, old = daemon.token(), daemon.role("deploy")["key"]
    renewing, go_on, calls = threading.Event(), threading.Event(), []

    def slow(request):
        if sts.is_assume_role(request):
            calls.append(request)
            renewing.set()
            go_on.wait(20)

    aws.double.interfere = slow
    assert renewing.wait(20)
    began = time.monotonic()
    waits, keys = asyncio.run(fetch_at_once(daemon, token, 500))
    assert len(calls) == 1, f"after {time.monotonic() - began:.1f} s"
    assert [key[-4:] for key in keys] == [old[-4:]] * 500
    assert max(waits) < A_WAIT
    go_on.set()
    wait(lambda: daemon.role("deploy")["key"] != old, 10, "the new key")
    assert len(calls) == 1


async def fetch_at_once(daemon, token, count):
    """`count` clients that are connected ask at the same time; how long each waited, and the key it got."""
    headers = f"Host: 127.0.0.1:{daemon.port}\r\nX-aws-ec2-metadata-token: {token}\r\n"
    head = f"GET /{ROLE_LIST}deploy HTTP/1.1\r\n{headers}\r\n".encode()
    connections = [await asyncio.open_connection("127.0.0.1", daemon.port) for _ in range(count)]

    async def fetch(reader, writer):
        began = time.monotonic()
        writer.write(head)
        answer = await reader.readuntil(b"\r\n\r\n{")
        waited = time.monotonic() - began
        assert answer.startswith(b"HTTP/1.1 200"), answer
        document = json.loads(b"{" + await reader.readuntil(b"}"))
        writer.close()
        return waited, document["AccessKeyId"]

    return zip(*await asyncio.gather(*(fetch(*connection) for connection in connections)), strict=True)


def test_a_key_rotated_in_the_shared_credentials_file_is_picked_up_by_the_next_renewal(aws, start_daemon, tmp_path):
    """Rotating the host's own key would take a restart, or an outage."""
    first, second = (aws.double.add_user(f"rotated-{name}-{id(tmp_path)}") for name in ("first", "second"))
    role = aws.double.add_role(f"ForAnyone-{id(tmp_path)}", "*")
    file = tmp_path / "credentials"
    write_credentials(file, *first)
    config = aws.config('[renewal]\nmax_age = "1s"\n').replace(aws.role_arn, role)
    daemon = start_daemon(config=config, environment={"AWS_SHARED_CREDENTIALS_FILE": str(file)})
    wait(lambda: first[0] in aws.double.used("AssumeRole"), 10, "a call with the first key")
    write_credentials(file, *second)
    wait(lambda: second[0] in aws.double.used("AssumeRole"), 10, "a call with the second key")
    assert daemon.ready()


def write_credentials(path, key_id, secret):
    path.write_text(f"[default]\naws_access_key_id = {key_id}\naws_secret_access_key = {secret}\n")


# Bad days: each kind on a daemon of its own, all at the same time, observed once

LIFE = 12.0  # seconds a session of the stories below lives


@dataclass
class Story:
    """What was seen of one daemon while AWS had its bad day, and after."""

    failing: dict = field(default_factory=dict)
    served_while_failing: str = ""
    key: str = ""
    metrics: str = ""
    status_text: str = ""
    expired_list: int = 0
    expired_document: object = None
    expired_container: int = 0
    not_ready: dict = field(default_factory=dict)
    recovered: dict = field(default_factory=dict)
    log: str = ""


@dataclass(frozen=True)
class BadDay:
    """`interfere(double, request)` answers in AWS's place; None: the port is closed."""

    outcome: str
    says: str
    advice: str
    interfere: object = None


def hang(double, request):
    time.sleep(11)  # longer than the daemon's read time limit
    return sts.sts_error("InternalFailure", status=500)


BAD_DAYS = {
    "denied": BadDay(
        "denied", "AccessDenied", "sts:AssumeRole", lambda _, request: sts.access_denied(request, "somebody")
    ),
    "throttled": BadDay(
        "throttled", "Rate exceeded", "retried", lambda *_: sts.sts_error("Throttling", "Rate exceeded")
    ),
    "server-error": BadDay("unreachable", "", "retried", lambda *_: Response("<html>", 503)),
    "closed-port": BadDay("unreachable", "connect", "firewall"),
    "hanging": BadDay("unreachable", "time", "firewall", hang),
    "html": BadDay("invalid", "not what STS sends", "sts_endpoint", lambda *_: Response("<html><p>Welcome", 200)),
    "truncated": BadDay("invalid", "not what STS sends", "sts_endpoint", sts.truncated),
    "empty": BadDay("invalid", "not what STS sends", "sts_endpoint", lambda *_: Response("", 200)),
    "no-credentials": BadDay("invalid", "without credentials", "sts_endpoint", sts.without_credentials),
}
each_bad_day = pytest.mark.parametrize("kind", BAD_DAYS)


@pytest.fixture(scope="module")
def stories(account, tmp_path_factory):
    """Every bad day's story. The daemons are told apart by their session names."""
    bad = set()

    def interfere(request):
        kind = sts.parameter(request, "RoleSessionName")
        if kind in bad and BAD_DAYS[kind].interfere is not None:
            return BAD_DAYS[kind].interfere(account.double, request)
        return sts.short_session(account.double, request, LIFE) if kind in BAD_DAYS else None

    account.double.interfere = interfere
    with ThreadPoolExecutor(len(BAD_DAYS)) as pool:
        futures = {kind: pool.submit(story, account, tmp_path_factory.mktemp(kind), kind, bad) for kind in BAD_DAYS}
        told = {kind: future.result() for kind, future in futures.items()}
    account.double.interfere = lambda _: None
    return told


def story(account, folder, kind, bad):
    seen, relay = Story(), Relay(account.double.url)
    config = account.config().replace(account.double.url, relay.url).replace("test-host", kind)
    with DaemonProcess(folder, config, account.environment) as daemon:
        daemon.wait_ready()
        bad.add(kind)
        if BAD_DAYS[kind].interfere is None:
            relay.__exit__()
        tell_of_failure(daemon, seen)
        bad.discard(kind)
        with relay if BAD_DAYS[kind].interfere else Relay(account.double.url, relay.port):
            if kind == "denied":  # asked again after 30 to 60 seconds; a reload with a change asks at once
                daemon.write_config(config + '[renewal]\nmax_age = "10m"\n')
                daemon.process.send_signal(signal.SIGHUP)
            wait(lambda: daemon.role("deploy")["state"] == "ok", 75, f"recovery; {daemon.role('deploy')}")
            seen.recovered = daemon.role("deploy")
            assert daemon.get(ROLE_LIST)[0] == 200
    seen.log = daemon.log.read_text()
    return seen


def tell_of_failure(daemon, seen):
    wait(lambda: daemon.role("deploy")["failure"], 30, "a failure")
    seen.failing, seen.metrics, seen.status_text = daemon.role("deploy"), daemon.metrics(), daemon.cli("status").stdout
    if seen.failing["state"] == "failing":
        seen.served_while_failing = daemon.credentials("deploy")["AccessKeyId"]
    wait(lambda: daemon.role("deploy")["state"] == "expired", LIFE + 10, "the end of the session")
    seen.expired_list = daemon.get(ROLE_LIST)[0]
    try:
        seen.expired_document = daemon.get(ROLE_LIST + "deploy")
    except ConnectionError as error:
        seen.expired_document = error
    token = (daemon.state / "tokens/deploy").read_text()
    seen.expired_container = request(f"{daemon.endpoint}roles/deploy", headers={"Authorization": token})[0]
    seen.not_ready = json.loads(request(f"{daemon.admin}/readyz")[2])


@pytest.mark.parametrize("kind", [kind for kind in BAD_DAYS if kind != "hanging"])  # that fails when it has expired
def test_the_last_good_credentials_are_served_until_they_expire(stories, kind):
    """A bad hour at AWS would be an outage on this host."""
    seen = stories[kind]
    assert seen.failing["state"] == "failing"
    assert seen.failing["seconds_left"] > 0
    assert seen.served_while_failing[-4:] == seen.failing["key"][-4:]


@each_bad_day
def test_expired_credentials_are_never_served(stories, kind):
    """31 of 32 clients would sign with them; the C runtime would abort on any other body (PROTOCOL 16, 17)."""
    seen = stories[kind]
    assert seen.expired_list == 404
    assert isinstance(seen.expired_document, ConnectionError), seen.expired_document
    assert seen.expired_container == 503
    assert "deploy" in seen.not_ready["missing"]


@each_bad_day
def test_metric_and_status_say_which_failure_and_what_to_do(stories, kind):
    """Whoever is woken up would have to guess."""
    seen, expected = stories[kind], BAD_DAYS[kind]
    failure = seen.failing["failure"]
    assert failure["outcome"] == expected.outcome
    assert expected.says.lower() in failure["message"].lower()
    assert expected.advice in failure["advice"]
    assert 'role "deploy"' in failure["message"]
    assert failure["message"] in seen.status_text
    assert failure["advice"] in seen.status_text
    counted = f'imds_proxy_renewals_total{{outcome="{expected.outcome}",role="deploy"}} '
    line = next(line for line in seen.metrics.splitlines() if line.startswith(counted))
    assert float(line.split()[-1]) >= 1


@each_bad_day
def test_the_log_says_which_failure_and_what_to_do(stories, kind):
    """The log is what is left of the night."""
    lines = [json.loads(line) for line in stories[kind].log.splitlines()]
    failed = [line for line in lines if line["event"] == "renewal failed"]
    assert failed
    assert all(line["outcome"] == BAD_DAYS[kind].outcome for line in failed)
    assert all(line["error"] and line["advice"] for line in failed)
    assert "Traceback" not in stories[kind].log


@each_bad_day
def test_it_recovers_without_a_restart_when_aws_is_back(stories, kind):
    """Somebody would have to restart every host after an AWS incident."""
    assert stories[kind].recovered["state"] == "ok"
    assert stories[kind].recovered["failure"] is None
    assert stories[kind].recovered["key"] != stories[kind].failing["key"]


def test_after_a_denial_it_asks_again_within_a_minute(stories):
    """Whoever mended the trust policy would wait for ever."""
    seen = stories["denied"].failing
    failed, again = (datetime.fromisoformat(when).timestamp() for when in (seen["failure"]["at"], seen["next_attempt"]))
    assert 29 <= again - failed <= 61


# From the start


def test_with_aws_unreachable_at_start_it_starts_says_so_and_gets_there(aws, start_daemon):
    """A host that boots before its network would stay without credentials."""
    port = free_port()
    daemon = start_daemon(config=aws.config().replace(aws.double.url, f"http://127.0.0.1:{port}"), ready=False)
    daemon.wait_for_event("renewal failed")
    assert daemon.get(ROLE_LIST)[0] == 404
    with pytest.raises(ConnectionError):
        daemon.get(ROLE_LIST + "deploy")
    assert daemon.role("deploy")["state"] == "pending"
    assert daemon.role("deploy")["failure"]["outcome"] == "unreachable"
    with Relay(aws.double.url, port):
        wait(lambda: daemon.get(ROLE_LIST)[0] == 200, 30, "credentials")
    assert daemon.credentials("deploy")["AccessKeyId"] in aws.double.issued()


def test_where_the_trust_is_missing_the_message_holds_the_statement_to_add(aws, start_daemon):
    """The commonest mistake of all, and AWS says only AccessDenied."""
    role = aws.double.add_role(f"Untrusting-{id(start_daemon)}", aws.double.user_arn("somebody-else"))
    daemon = start_daemon(config=aws.config().replace(aws.role_arn, role), ready=False)
    failure = daemon.failure()
    assert failure["outcome"] == "denied"
    assert role in failure["message"]
    assert aws.double.user_arn("host") in failure["message"]
    assert f'"Principal": {{"AWS": "{aws.double.user_arn("host")}"}}, "Action": ["sts:AssumeRole"]' in failure["advice"]


def test_a_role_that_aws_does_not_know_is_named(aws, start_daemon):
    """A typing mistake in the ARN gets the same AccessDenied from AWS as a missing trust."""
    role = "arn:aws:iam::123456789012:role/NoSuchRole"
    aws.double.interfere = lambda request: (
        sts.access_denied(request, aws.double.user_arn("host")) if sts.is_assume_role(request) else None
    )
    failure = start_daemon(config=aws.config().replace(aws.role_arn, role), ready=False).failure()
    assert f"does {role} exist?" in failure["advice"]
    assert aws.double.user_arn("host") in failure["message"]


def test_a_role_that_wants_an_external_id_gets_it_and_without_it_the_advice_holds_the_condition(aws, start_daemon):
    """Cross-account access would be refused; or the wrong id would go unnoticed among the other reasons."""

    def wants_external_id(request):
        if sts.is_assume_role(request) and sts.parameter(request, "ExternalId") != "zebra-1234":
            return sts.access_denied(request, aws.double.user_arn("host"))
        return None

    aws.double.interfere = wants_external_id
    assert start_daemon('external_id = "zebra-1234"\n').role("deploy")["state"] == "ok"
    wrong = start_daemon('external_id = "lion-1234"\n', ready=False).failure()
    assert '"Condition": {"StringEquals": {"sts:ExternalId": "lion-1234"}}' in wrong["advice"]
    missing = start_daemon(ready=False).failure()
    assert "external_id" in missing["advice"]


def test_without_any_base_credentials_the_advice_says_where_to_put_them(aws, start_daemon):
    """The first thing a newcomer runs into."""
    failure = start_daemon(environment={}, ready=False).failure()
    assert failure["outcome"] == "denied"
    assert "AWS_ACCESS_KEY_ID" in failure["advice"]


def test_a_base_key_that_aws_does_not_know_is_said_to_be_the_cause(aws, start_daemon):
    """Denied by the key itself and denied by a policy need different people."""
    environment = aws.environment | {"AWS_ACCESS_KEY_ID": "AKIAUNKNOWNUNKNOWN12"}
    failure = start_daemon(environment=environment, ready=False).failure()
    assert failure["outcome"] == "denied"
    assert "replace" in failure["advice"]
    assert "…" in failure["message"] or "N12" in failure["message"]
    assert "AKIAUNKNOWNUNKNOWN12" not in json.dumps(failure)


def test_aws_time_ahead_of_this_host_is_measured(aws, start_daemon):
    """A clock that is off makes signatures fail, and nobody sees why."""

    def ten_minutes_ahead(request):
        answer = sts.really(aws.double, request)
        answer.headers["Date"] = formatdate(time.time() + 600, usegmt=True)
        return answer

    aws.double.interfere = ten_minutes_ahead
    daemon = start_daemon()
    assert daemon.metric("imds_proxy_clock_skew_seconds") == pytest.approx(600, abs=5)
    assert daemon.wait_for_event("this host's clock is off")["seconds_behind_aws"] == pytest.approx(600, abs=5)


def test_a_signature_refused_for_its_time_says_that_the_clock_is_off_and_which_way(aws, start_daemon):
    """A virtual machine restored from a snapshot."""

    def too_late(request):
        answer = sts.sts_error("SignatureDoesNotMatch", "Signature expired: 20200101T000000Z is now earlier", 403)
        answer.headers["Date"] = formatdate(time.time() + 1200, usegmt=True)
        return answer

    aws.double.interfere = too_late
    failure = start_daemon(ready=False).failure()
    assert "20 min behind" in failure["advice"]
