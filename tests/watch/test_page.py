"""The status page of a real daemon, in a real browser: what it alone tells its reader on good days and bad ones."""

import re
import signal

import pytest
from playwright.sync_api import expect

from support import aws as sts
from support.control_plane_tls import Pki, TlsDaemon
from support.daemon import wait
from support.network import Relay
from support.users import User

LIFE = 14.0  # seconds a session lives; it is renewed after five to seven
SECONDS = 1000
HTML = "&lt;img src=x onerror=alert(1)&gt;&lt;script&gt;alert(2)&lt;/script&gt;"
RELAY = """
listening = socket.socket()
listening.bind(("127.0.0.1", 0))
listening.listen()
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print(listening.getsockname()[1], flush=True)
while True:
    client, _ = listening.accept()
    if os.fork():
        client.close()
        continue
    target = socket.socket()
    target.connect(("127.0.0.1", int(sys.argv[1])))
    source, sink = (client, target) if os.fork() else (target, client)
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    finally:
        os._exit(0)
"""


@pytest.fixture
def short(aws):
    """Sessions of this account are short."""

    def interfere(request):
        return sts.short_session(aws.double, request, LIFE) if sts.is_assume_role(request) else None

    aws.double.interfere = interfere
    return interfere


def says(visit, text, seconds=30):
    """The first sentence comes to say something."""
    expect(visit.page.locator("#headline")).to_have_text(re.compile(text), timeout=seconds * SECONDS)


def bar(visit, role):
    """Which part of its life a role has left, as its bar shows it."""
    return float(visit.card(role).locator(".life").evaluate("bar => bar.style.getPropertyValue('--left')"))


def renewed(visit, role):
    """How often its row of the timeline says that it was renewed."""
    row = visit.page.locator("#timeline li", has_text=role).inner_text()
    return int(re.search(r"(\d+) renewed", row)[1])


def test_a_rotation_is_seen_as_it_happens(aws, short, start_daemon, visit):
    """Who looks could not tell whether anything is renewed."""
    daemon = start_daemon()
    seen = visit(daemon.admin)
    says(seen, r"^All well: 1 role is kept fresh\.$")
    assert re.match(r"The next renewal is in \d+ s\. Were nothing renewed", seen.text("#detail"))
    card = seen.card("deploy")
    card.locator("summary").click()
    key, times = daemon.role("deploy")["key"], renewed(seen, "deploy")
    expect(card.locator("dl")).to_contain_text(key)
    expect(card.locator("dl")).to_contain_text("every caller" if daemon.role("deploy")["default"] else "its token")
    shown = [bar(seen, "deploy")]
    wait(lambda: (shown.append(bar(seen, "deploy")), daemon.role("deploy")["key"] != key)[1], 15, "another key")
    expect(card.locator("dl")).to_contain_text(daemon.role("deploy")["key"], timeout=6 * SECONDS)
    assert shown[0] > shown[-1] > 0.3, "it drains between two answers"
    assert len(set(shown)) > 3
    wait(lambda: bar(seen, "deploy") > shown[-1] + 0.1, 6, "the bar is full again")
    assert renewed(seen, "deploy") > times
    assert seen.page.title().startswith("✓ All well")
    seen.screenshot("rotation")
    seen.check_accessibility()
    seen.check()


def test_the_page_alone_says_what_an_outage_does_and_what_to_do(aws, short, start_daemon, visit):
    """The operator would find out when programs stop."""
    with Relay(aws.double.url) as relay:
        daemon = start_daemon(config=aws.config().replace(aws.double.url, relay.url))
        seen = visit(daemon.admin, color_scheme="dark")
        says(seen, "^All well")
    says(seen, r"^deploy expires in \d+ s unless a renewal succeeds: AWS cannot be reached\.$")
    assert "firewall" in seen.text("#advice")
    card = seen.card("deploy")
    expect(card.locator(".badge")).to_have_text("failing")
    assert "Could not connect" in card.locator(".message").inner_text()
    assert "tried again" in card.locator(".next").inner_text()
    seen.screenshot("outage")
    seen.check_accessibility()
    says(seen, r"^deploy has no live credentials: AWS cannot be reached\.$")
    expect(card.locator(".badge")).to_have_text("expired")
    assert "expired" in card.locator(".left").inner_text()
    assert seen.page.title().startswith("✕ deploy has no live credentials")
    assert "firewall" in seen.text("#advice")
    seen.screenshot("expiry")
    with Relay(aws.double.url, relay.port):
        says(seen, "^All well", 90)
        expect(card.locator(".failure")).to_be_hidden()
        expect(card.locator(".badge")).to_have_text("ok")
        expect(seen.page.locator("#timeline li")).to_contain_text("failed")
        seen.screenshot("recovery")
    seen.check()


def test_a_denial_is_shown_as_text_whatever_it_says(aws, short, start_daemon, visit):
    """Whoever can shape an error text of AWS's would run a script in the operator's browser."""
    daemon = start_daemon()
    seen = visit(daemon.admin)
    says(seen, "^All well")
    aws.double.interfere = lambda _: sts.sts_error("AccessDenied", HTML, 403)
    says(seen, "AWS says no")
    message = seen.card("deploy").locator(".message")
    expect(message).to_contain_text("<img src=x onerror=alert(1)><script>alert(2)</script>")
    assert "sts:AssumeRole" in seen.text("#advice")
    assert seen.page.locator("img, main script, header script").count() == 0
    seen.screenshot("denial")
    seen.check()


def test_a_daemon_that_is_gone_is_told_and_one_that_is_back_is_noticed(aws, start_daemon, visit):
    """A page that stands still looks like a daemon that is well."""
    daemon = start_daemon()
    seen = visit(daemon.admin)
    says(seen, "^All well")
    daemon.stop()
    says(seen, r"^The daemon does not answer\.$")
    assert re.match(r"Last answer at \d\d:\d\d:\d\d, \d+ s ago\.", seen.text("#detail"))
    assert "systemctl status imds-proxy" in seen.text("#advice")
    expect(seen.page.locator("#others")).to_contain_text("Last known: All well")
    expect(seen.page.locator("#age")).to_have_text(re.compile(r"updated \d+ s ago"))
    assert "left" in seen.card("deploy").locator(".left").inner_text()
    assert "due in" in seen.card("deploy").locator(".next").inner_text()
    assert seen.page.title().startswith("✕ The daemon does not answer")
    seen.screenshot("daemon-gone")
    seen.check_accessibility()
    daemon.start().wait_ready()
    says(seen, "^All well")
    expect(seen.page.locator("#age")).to_have_text("updated now")
    seen.check(unanswered=True)


def test_a_session_that_ends_while_the_daemon_is_gone_is_shown_as_ended(aws, short, start_daemon, visit):
    """The last answer said that it lives."""
    daemon = start_daemon()
    seen = visit(daemon.admin)
    says(seen, "^All well")
    daemon.stop()
    expect(seen.page.locator("#others")).to_contain_text("deploy has no live credentials", timeout=30 * SECONDS)
    expect(seen.card("deploy").locator(".badge")).to_have_text("expired")


def test_another_user_is_told_that_it_sees_a_part(aws, start_daemon, visit):
    """Its reader would take silence about the other roles for health, and look for the reason in vain."""
    user = User(None, 64321, 64321)
    other = f'\n[roles.other]\nrole_arn = "{aws.role_arn}"\nsts_endpoint = "{aws.double.url}"\n'
    grants = f'[[grants]]\nrole = "deploy"\nuid = {user.uid}\n[[grants]]\nrole = "other"\nuid = 0\n'
    aws.double.interfere = lambda request: sts.access_denied(request, "somebody")
    daemon = start_daemon(other + grants, ready=False)
    assert daemon.failure()["message"]
    relay = user.start(RELAY, daemon.admin_port)
    try:
        seen = visit(f"http://127.0.0.1:{int(relay.stdout.readline())}")
        says(seen, r"^deploy has no live credentials: AWS says no\.$")
        assert "allowed_users" in seen.text("#advice")
        expect(seen.page.locator("#limited")).to_be_visible()
        assert seen.page.locator("li.card").count() == 1
        assert "not authorized" not in seen.page.content()
        seen.card("deploy").locator("summary").click()
        assert "Who may have it" not in seen.card("deploy").inner_text()
        seen.screenshot("limited")
        seen.check_accessibility()
        seen.check()
        seen.context.close()
    finally:
        relay.kill()
        relay.communicate()


def test_a_refusal_is_told_in_the_daemons_words(aws, start_daemon, visit):
    """Whoever took a name out of the config would look for a daemon that has stopped."""
    daemon = start_daemon()
    daemon.write_config(aws.config().replace("[admin]", '[admin]\nallowed_hosts = ["web-1.example"]'))
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for_event("config reloaded")
    seen = visit(f"http://web-1.example:{daemon.admin_port}")
    says(seen, "^All well")
    daemon.write_config(aws.config())
    daemon.process.send_signal(signal.SIGHUP)
    says(seen, "no longer shows its status")
    assert "allowed_hosts" in seen.text("#advice")


def test_it_works_over_tls(aws, tmp_path, visit):
    """Whoever turns TLS on would have a page without style or script."""
    pki, listen = Pki(tmp_path), 'listen = "127.0.0.1:ADMIN"\n'
    with TlsDaemon(tmp_path, aws.config().replace(listen, listen + pki.table()), aws.environment) as daemon:
        daemon.context = pki.context()
        daemon.wait_ready()
        seen = visit(f"https://127.0.0.1:{daemon.admin_port}", ignore_https_errors=True)
        says(seen, "^All well")
        seen.check()


def test_what_is_wrong_with_the_host_is_told_too(aws, start_daemon, visit):
    """A file that is not written, a closed listener or a refused reload would stay unseen until it hurts."""
    folder = "/proc/nowhere"
    file = f'\n[[files]]\nrole = "deploy"\npath = "{folder}/credentials"\nformat = "ini"\n'
    config = aws.config(file).replace('["127.0.0.1:PORT"]', '["127.0.0.1:PORT", "169.254.77.77:80"]')
    daemon = start_daemon(config=config, ready=False)  # it is not, while one of its listeners is not open
    daemon.wait_for_event("started, but not ready")
    daemon.get("latest/meta-data/iam/security-credentials/")
    daemon.write_config("nonsense")
    daemon.process.send_signal(signal.SIGHUP)
    seen = visit(daemon.admin)
    everything = seen.page.locator("header")
    expect(everything).to_contain_text("Nothing listens on 169.254.77.77:80")
    expect(everything).to_contain_text("The last reload was refused")
    expect(everything).to_contain_text(folder)
    expect(seen.page.locator("#host")).to_contain_text("✕ 169.254.77.77:80")
    expect(seen.page.locator("#files")).to_contain_text(f"{folder}/credentials")
    expect(seen.page.locator("#requests")).to_contain_text("IMDSv2")
    assert seen.page.title().startswith("✕ ")
    seen.screenshot("host")
    seen.check_accessibility()
    seen.check()
