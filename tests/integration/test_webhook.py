"""The admission webhook as a process: real TLS, an API server that can be slow, refuse and go away."""

import asyncio
import json
import socket
import ssl
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.admission import ASKS, INJECTED, ROLE_ARN, patch_in, patched, pod_of, review_of, token_volume, variables
from support.daemon import wait
from support.webhook import TOKEN, AccountServer, WebhookProcess


@pytest.fixture
def api_server(tmp_path):
    with AccountServer(tmp_path) as running:
        running.accounts["shop", "api"] = dict(ASKS)
        running.accounts["shop", "default"] = {}
        yield running


@pytest.fixture
def start(tmp_path, api_server):
    """`start(**options)`: a running, ready webhook; stopped after the test."""
    running = []

    def make(*, ready=True, **options):
        webhook = WebhookProcess(tmp_path, api_server, **options).start()
        running.append(webhook)
        return webhook.wait_ready() if ready else webhook

    yield make
    for webhook in running:
        assert webhook.stop() == 0, webhook.log.read_text()
        assert TOKEN not in webhook.log.read_text()


def test_a_pod_whose_account_asks_gets_variables_and_token(start, api_server):
    webhook, pod = start(region="eu-west-1"), pod_of()
    answer = webhook.ask(review_of(pod))
    made = patched(pod, patch_in(answer))
    assert variables(made["spec"]["containers"][0]).items() >= INJECTED.items()
    assert token_volume(made)["audience"] == "pods.eks.amazonaws.com"
    assert (answer["allowed"], answer["auditAnnotations"]) == (True, {"role": ROLE_ARN})
    line = webhook.wait_for("pod injected")
    assert (line["namespace"], line["pod"], line["service_account"], line["role"]) == (
        "shop",
        "api-7d9f",
        "api",
        ROLE_ARN,
    )
    assert "as=PartialObjectMetadata" in api_server.requests[-1]


def test_a_pod_whose_account_does_not_ask_is_made_as_it_is(start):
    pod = pod_of(account="")
    assert start().ask(review_of(pod)).keys() == {"uid", "allowed"}


def test_a_pod_of_an_account_that_is_not_there_is_made_with_a_warning(start):
    answer = start(on_error="deny").ask(review_of(pod_of(account="typo")))
    assert answer["allowed"]
    assert "there is no service account shop/typo" in answer["warnings"][0]


@pytest.mark.parametrize("on_error", ["allow", "deny"])
def test_an_annotation_that_cannot_be_used_is_named(start, api_server, on_error):
    """Whoever makes the pod sees it at once, not in the log of an application that has no credentials."""
    api_server.accounts["shop", "api"] |= {"eks.amazonaws.com/token-expiration": "1h"}
    answer = start(on_error=on_error).ask(review_of(pod_of()))
    text = answer["warnings"][0] if on_error == "allow" else answer["status"]["message"]
    assert "eks.amazonaws.com/token-expiration is '1h': write a number of seconds from 600 to 86400" in text
    assert (answer["allowed"], "patch" in answer) == (on_error == "allow", False)


@pytest.mark.parametrize("on_error", ["allow", "deny"])
@pytest.mark.parametrize("status", ["403 Forbidden", "500 Internal Server Error", "302 Found"])
def test_an_api_server_that_refuses_leaves_it_to_on_error(start, api_server, on_error, status):
    api_server.status = status
    answer = start(on_error=on_error).ask(review_of(pod_of()))
    text = answer["warnings"][0] if on_error == "allow" else answer["status"]["message"]
    assert f"answered {status[:3]}" in text
    assert answer["allowed"] == (on_error == "allow")


def test_an_api_server_that_hangs_is_not_waited_for_longer_than_the_webhook_is(start, api_server):
    """Past its time limit the API server would not read the answer any more, nor show the reason."""
    webhook = start(on_error="deny")
    api_server.delay = 12.0
    begin = time.monotonic()
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: webhook.ask(review_of(pod_of())), range(3)))
    assert time.monotonic() - begin < 9.5
    assert not any(answer["allowed"] for answer in answers)
    begin = time.monotonic()
    answer = webhook.ask(review_of(pod_of()), timeout="3s")
    assert time.monotonic() - begin < 2.9
    assert (answer["status"]["code"], "not within 2 s" in answer["status"]["message"]) == (503, True)


def test_an_api_server_that_is_gone_is_said(start, api_server):
    webhook = start()
    api_server.__exit__()
    assert "could not be read: no answer from" in webhook.ask(review_of(pod_of()))["warnings"][0]


def test_one_failure_of_the_api_server_costs_nobody_anything(start, api_server):
    """As while it is replaced by the next one."""
    webhook, answer = start(on_error="deny"), api_server.interfere

    def fail_once(inside):
        api_server.interfere = answer
        inside.close()

    api_server.interfere = fail_once
    assert webhook.ask(review_of(pod_of()))["allowed"]


def test_hundreds_of_pods_at_once_ask_for_their_account_one_at_a_time(start, api_server):
    """A Deployment of 500 replicas would be 500 more requests to the API server that is busy with it already."""
    webhook = start()
    api_server.delay, before = 0.05, len(api_server.requests)
    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda _: webhook.ask(review_of(pod_of())), range(300)))
    assert all("patch" in answer for answer in answers)
    assert api_server.most == 1
    assert len(api_server.requests) - before < 100


def test_a_pod_gets_what_its_account_is_when_it_is_made(start, api_server):
    """`kubectl annotate serviceaccount … && kubectl rollout restart …`: nothing older may be injected."""
    webhook = start()
    assert "patch" in webhook.ask(review_of(pod_of()))
    api_server.delay = 0.5
    early = threading.Thread(target=webhook.ask, args=[review_of(pod_of())])
    early.start()
    wait(lambda: api_server._now, 5, "the read before the change")
    api_server.accounts["shop", "api"] = ASKS | {"eks.amazonaws.com/role-arn": "other"}
    made = patched(pod_of(), patch_in(webhook.ask(review_of(pod_of()))))
    early.join()
    uri = variables(made["spec"]["containers"][0])["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
    assert uri.endswith("/v1/credentials/other")


def test_the_token_is_read_again_when_the_kubelet_has_renewed_it(start, api_server):
    webhook = start(on_error="deny")
    api_server.token = "renewed"
    assert not webhook.ask(review_of(pod_of()))["allowed"]
    webhook.token_file.write_text("renewed\n")
    wait(lambda: webhook.ask(review_of(pod_of()))["allowed"], 10, "the new token in use")


def test_a_webhook_without_its_token_is_not_ready_and_says_why(start, tmp_path):
    webhook = start(ready=False, token_file=tmp_path / "absent")
    line = webhook.wait_for("token or CAs of the API server cannot be used")
    assert str(tmp_path / "absent") in line["error"]
    status, body = wait_for_answer(webhook, "/readyz")
    assert (status, b"the token" in body) == (503, True)
    assert webhook.request("GET", "/healthz")[0] == 200
    assert "has not" in (text := webhook.ask(review_of(pod_of()))["warnings"][0]) or "absent" in text


def connected(webhook):
    """A TLS connection."""
    plain = socket.create_connection(("127.0.0.1", webhook.port), timeout=20)
    return webhook.tls.wrap_socket(plain, server_hostname="127.0.0.1")


def wait_for_answer(webhook, path):
    def asked():
        try:
            return webhook.request("GET", path)
        except OSError:
            return None

    return wait(asked, 10, path)


def test_a_renewed_certificate_is_shown_without_a_restart(start):
    """cert-manager renews it; the API server would refuse the old one on the day it ends."""
    webhook = start()

    def shown():
        with connected(webhook) as inside:
            return inside.getpeercert(binary_form=True)

    before = shown()
    webhook.pki.put_server()
    wait(lambda: shown() != before, 10, "the new certificate")
    assert shown() == webhook.pki.certificate


def test_a_key_that_everybody_can_read_is_refused_by_name(start, tmp_path):
    webhook = start(ready=False)
    (tmp_path / "private_key.pem").chmod(0o644)
    wait(lambda: webhook.events("webhook listening"), 10, "listening")
    key = tmp_path / "private_key.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o644
    lines = wait(
        lambda: [line for line in webhook.events() if "can be read or changed by other users" in line.get("error", "")],
        10,
        "the refusal",
    )
    assert lines[0]["error"].startswith("webhook: ")


def test_only_certified_clients_ask_where_a_client_ca_is_given(start, tmp_path):
    """Whoever may reach the port could else have service accounts read; probes have no certificate."""
    webhook = start(client_ca=tmp_path / "client_ca.pem")
    review = json.dumps(review_of(pod_of()))
    headers = {"Content-Type": "application/json"}
    assert webhook.request("POST", "/mutate", review, headers)[0] == 403
    certified = ssl.create_default_context(cadata=webhook.ca_pem.decode())
    webhook.pki.clients.issue_cert("api-server").configure_cert(certified)
    assert webhook.ask(review_of(pod_of()), certified)["allowed"]
    stranger = ssl.create_default_context(cadata=webhook.ca_pem.decode())
    webhook.pki.strangers.issue_cert("api-server").configure_cert(stranger)
    with pytest.raises(OSError):  # noqa: PT011 - which one depends on when the other end closes
        webhook.request("POST", "/mutate", review, headers, stranger)
    assert "--client-ca" in webhook.wait_for("a client's certificate is not accepted")["advice"]


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{}", "application/json", 400),
        (b"not JSON", "application/json", 400),
        (b"x" * (5 << 20), "application/json", 400),
        (json.dumps(review_of(pod_of())).encode(), "text/plain", 415),
        (json.dumps(review_of(pod_of())).encode(), "application/x-www-form-urlencoded", 415),
    ],
)
def test_what_no_api_server_sends_is_refused_and_the_next_is_answered(start, body, content_type, status):
    webhook = start()
    try:
        assert webhook.request("POST", "/mutate", body, {"Content-Type": content_type})[0] == status
    except (BrokenPipeError, ConnectionResetError):
        assert len(body) > 4 << 20  # the answer is sent before the whole of it is read
    assert webhook.ask(review_of(pod_of()))["allowed"]
    assert not webhook.events("unexpected error")


def test_other_paths_and_methods_have_no_answer(start):
    webhook = start()
    assert webhook.request("GET", "/mutate")[0] == 405
    assert webhook.request("GET", "/metrics")[0] == 404


def test_clients_that_say_nothing_shut_nobody_out(start):
    """Any pod of the cluster can connect to the webhook."""
    webhook = start()
    silent = [socket.create_connection(("127.0.0.1", webhook.port)) for _ in range(700)]
    try:
        for _ in range(5):
            assert webhook.ask(review_of(pod_of()))["allowed"]
        files = Path(f"/proc/{webhook.process.pid}/fd")
        wait(lambda: len(list(files.iterdir())) < 512 + 40, 5, "those beyond the limit cut off")
    finally:
        for each in silent:
            each.close()


def test_a_client_that_does_not_go_on_is_cut_off(start):
    webhook = start()
    head = b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
    with connected(webhook) as inside:
        inside.sendall(head)
        begin = time.monotonic()
        assert b" 400 " in inside.recv(65536)
        assert time.monotonic() - begin < 12


def test_what_has_begun_is_answered_when_it_is_told_to_stop(start, api_server):
    """A rolling update would else fail the pods of that moment, or make them without credentials."""
    webhook = start()
    api_server.delay = 0.8
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(webhook.ask, review_of(pod_of()))
        wait(lambda: api_server._now, 5, "the read that takes long")
        assert webhook.stop() == 0
        assert "patch" in answer.result()
    with pytest.raises(OSError):  # noqa: PT011
        webhook.request("GET", "/healthz")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"expiration": 300}, "--expiration is '300'"),
        ({"audience": "a b"}, "--audience is"),
        ({"uri": "169.254.170.23"}, "--uri"),
        ({"api_server": "http://127.0.0.1:1"}, "give https://HOST:PORT"),
        ({"listen": "localhost:1"}, "--listen"),
        ({"certificate": "tls.crt"}, "absolute path"),
    ],
)
async def test_a_mistake_on_the_command_line_is_said_at_once(tmp_path, api_server, options, words):
    webhook = WebhookProcess(tmp_path, api_server, **options).start()
    assert await asyncio.to_thread(webhook.process.wait, 20) == 2
    assert words in webhook.log.read_text()


def test_a_port_that_is_taken_is_said(start, tmp_path, api_server):
    other = start()
    folder = tmp_path / "second"
    folder.mkdir()
    webhook = WebhookProcess(folder, api_server, listen=f"127.0.0.1:{other.port}").start()
    assert webhook.process.wait(20) == 1
    assert "see who has it" in webhook.log.read_text()
