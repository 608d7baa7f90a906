"""Roles Anywhere from end to end, against a double that verifies every signature for itself."""

import asyncio
import itertools
import json
import ssl
import sys
import time

import pytest
import trustme
from werkzeug.wrappers import Response

from imds_proxy.config.roles import RolesAnywhereConfig
from imds_proxy.errors import Denied, Invalid, SourceError, Throttled, Unreachable
from imds_proxy.host.clock import Clock
from imds_proxy.sources import Context, obtain
from imds_proxy.sources.roles_anywhere import certificate_rotation
from imds_proxy.sources.roles_anywhere import source as roles_anywhere
from imds_proxy.sources.roles_anywhere.source import make
from support.certificates import DAY, KEYS, Authority, put
from support.daemon import HOST, DaemonProcess, wait
from support.roles_anywhere import PROFILE, ROLE, TRUST_ANCHOR, RolesAnywhereDouble, refusal
from support.softhsm import MODULE, PIN, SoftHsm, needs_softhsm

PASSPHRASE = "correct horse battery staple"


@pytest.fixture(scope="module")
def company():
    return Authority()


@pytest.fixture(scope="module")
def service(company):
    with RolesAnywhereDouble(company.certificate) as double:
        yield double


@pytest.fixture
def anywhere(service):
    """The double, with nothing recorded and nothing in the way."""
    service.reset()
    yield service
    service.reset()


class Host:
    """A host's files, and a source that uses them."""

    def __init__(self, folder, endpoint):
        self.folder = folder
        self.options = {
            "role_arn": ROLE,
            "trust_anchor_arn": TRUST_ANCHOR,
            "profile_arn": PROFILE,
            "endpoint": endpoint,
            "certificate": str(folder / "host.crt"),
        }

    def put(self, issued):
        """Certificate with its intermediates, and key, each in a file."""
        put(self.folder / "host.crt", issued.certificate_pem(chain=True), 0o644)
        self.options["private_key"] = put(self.folder / "host.key", issued.key_pem())
        return issued

    def source(self, clock=None):
        self.clock = clock or Clock()
        settings = RolesAnywhereConfig(source="roles-anywhere", **self.options)
        return make("host", settings, Context(self.clock, lambda: None, None, lambda: None))

    async def obtain(self, source=None):
        source = source or self.source()
        return await obtain("host", source, self.clock)

    def table(self):
        keys = "".join(f"{name} = {json.dumps(value)}\n" for name, value in self.options.items())
        return f'\n[roles.host]\nsource = "roles-anywhere"\n{keys}'


@pytest.fixture
def host(tmp_path, anywhere):
    return Host(tmp_path, anywhere.url)


async def refused(host, kind, source=None):
    with pytest.raises(SourceError) as caught:
        await host.obtain(source)
    assert type(caught.value) is kind, caught.value.message
    assert caught.value.advice
    return caught.value


# A session


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("by", ["root", "intermediate"])
async def test_every_kind_of_key_gets_a_session(company, anywhere, host, kind, by):
    issuer = company if by == "root" else company.intermediate().intermediate("Site CA")
    issued = host.put(issuer.issue(kind=kind))
    credentials = await host.obtain()
    session = anywhere.sessions[-1]
    assert credentials.access_key_id == session["accessKeyId"]
    assert credentials.secret_access_key.reveal() == session["secretAccessKey"]
    assert credentials.session_token.reveal() == session["sessionToken"]
    assert credentials.expiration == pytest.approx(time.time() + 3600, abs=5)
    assert credentials.role_arn == ROLE
    assert credentials.session_arn == (
        f"arn:aws:sts::123456789012:assumed-role/Host/{issued.certificate.serial_number:x}"
    )
    received = anywhere.received[-1]
    assert received.certificate == issued.certificate
    assert received.chain == [each for each in issued.chain if each.subject != each.issuer]
    assert received.asked == {
        "profileArn": PROFILE,
        "roleArn": ROLE,
        "trustAnchorArn": TRUST_ANCHOR,
        "durationSeconds": 3600,
    }


async def test_intermediates_have_a_file_of_their_own(company, anywhere, host):
    issued = host.put(company.intermediate().issue())
    put(host.folder / "host.crt", issued.certificate_pem())
    assert "chain to the trust anchor" in (await refused(host, Denied)).advice
    host.options["intermediates"] = put(host.folder / "chain.pem", issued.chain_pem(), 0o644)
    await host.obtain()
    assert anywhere.received[-1].chain == issued.chain[:1]


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
async def test_pkcs12_gets_a_session(company, anywhere, host, passphrase):
    issued = company.intermediate().issue(kind="rsa")
    put(host.folder / "host.crt", issued.pkcs12(passphrase.encode() if passphrase else None))
    if passphrase:
        host.options["passphrase_file"] = put(host.folder / "pass", passphrase.encode() + b"\n")
    await host.obtain()
    assert anywhere.received[-1].certificate == issued.certificate


async def test_an_encrypted_key_gets_a_session(company, anywhere, host):
    issued = host.put(company.issue())
    put(host.folder / "host.key", issued.key_pem(passphrase=PASSPHRASE.encode()))
    host.options["passphrase_file"] = put(host.folder / "pass", PASSPHRASE.encode())
    await host.obtain()
    assert anywhere.received[-1].certificate == issued.certificate


async def test_duration_and_session_name_are_asked_for(company, anywhere, host):
    anywhere.accepts_session_name = True
    host.put(company.issue())
    host.options |= {"duration": "12h", "session_name": "host 1/{hostname}"}
    credentials = await host.obtain()
    assert credentials.expiration == pytest.approx(time.time() + 43200, abs=5)
    asked = anywhere.received[-1].asked
    assert asked["durationSeconds"] == 43200
    assert asked["roleSessionName"].startswith("host-1-")
    assert credentials.session_arn.endswith("/" + asked["roleSessionName"])


async def test_the_region_may_be_another_than_the_trust_anchors(company, anywhere, host):
    """What is signed is that region; the double knows but one."""
    host.put(company.issue())
    host.options["region"] = "eu-central-1"
    assert "scoped to a valid region" in (await refused(host, Denied)).message
    host.options["region"] = "eu-west-1"
    await host.obtain()


async def test_it_goes_over_tls(company, host, monkeypatch):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    host.put(company.issue(kind="rsa"))
    with RolesAnywhereDouble(company.certificate, context) as double:
        host.options["endpoint"] = double.url + "/"
        assert "certificate" in (await refused(host, Unreachable)).message
        with authority.cert_pem.tempfile() as bundle:
            monkeypatch.setenv("AWS_CA_BUNDLE", bundle)
            await host.obtain()
        assert double.sessions


# The double is no pushover


def _next(digit):
    return str((int(digit, 16) + 1) % 10)


def _edit(name, change):
    return lambda headers: headers.update({name: change(headers[name])})


TAMPERED = {
    "signature": (_edit("Authorization", lambda text: text[:-1] + _next(text[-1])), "signature we calculated"),
    "no authorization": (lambda headers: headers.pop("Authorization"), "malformed"),
    "date": (_edit("X-Amz-Date", lambda text: text[:-2] + _next(text[-2]) + "Z"), "signature we calculated"),
    "day": (_edit("X-Amz-Date", lambda _: "20200101T000000Z"), "scoped to a valid region and date"),
    "content type": (_edit("Content-Type", lambda _: "text/plain"), "signature we calculated"),
    "serial": (_edit("Authorization", lambda text: text.replace("Credential=", "Credential=1")), "certificate's"),
    "unsigned header": (_edit("Authorization", lambda text: text.replace("host;", "")), "SignedHeaders"),
    "algorithm": (_edit("Authorization", lambda text: text.replace("-RSA-", "-ECDSA-")), "algorithm"),
}


@pytest.mark.parametrize("what", TAMPERED)
async def test_the_double_refuses_what_was_tampered_with(company, anywhere, host, monkeypatch, what):
    """A double that believes everything would prove nothing of the signature."""
    tamper, words = TAMPERED[what]
    host.put(company.issue(kind="rsa"))
    source = host.source()
    really = source._signed

    def tampered(pair):
        request = really(pair)
        tamper(request.headers)
        return request

    monkeypatch.setattr(source, "_signed", tampered)
    assert words in (await refused(host, Denied, source)).message
    assert not anywhere.sessions


def _without_its_intermediate(company):
    issued = company.intermediate().issue()
    issued.chain.clear()
    return issued


STRANGERS = {
    "a CA by the same name": lambda _: Authority().issue(),
    "another CA": lambda _: Authority("Other CA").intermediate().issue(),
    "a host that plays CA": lambda company: company.issue().issue(),
    "an intermediate left at home": _without_its_intermediate,
}


@pytest.mark.parametrize("whose", STRANGERS)
async def test_the_double_refuses_a_certificate_that_does_not_lead_to_the_trust_anchor(company, anywhere, host, whose):
    host.put(STRANGERS[whose](company))
    error = await refused(host, Denied)
    assert "Untrusted certificate" in error.message
    assert "chain to the trust anchor" in error.advice
    assert not anywhere.sessions


# What is refused, and what is said


async def test_the_trust_policy_is_named_when_it_lacks_something(company, anywhere, host):
    host.put(company.issue())
    for action in sorted(anywhere.trusted):
        anywhere.trusted.remove(action)
        error = await refused(host, Denied)
        assert f"AccessDeniedException: Unable to assume role for {ROLE}" in error.message
        assert action in error.advice
        assert "rolesanywhere.amazonaws.com" in error.advice
        anywhere.trusted.add(action)
    await host.obtain()


async def test_a_session_name_that_the_profile_does_not_accept_is_named(company, anywhere, host):
    host.put(company.issue())
    host.options["session_name"] = "me"
    assert "remove session_name" in (await refused(host, Denied)).advice


async def test_an_unknown_trust_anchor_is_named(company, anywhere, host):
    host.put(company.issue())
    host.options["trust_anchor_arn"] = TRUST_ANCHOR.replace("1111", "9999", 1)
    assert "trust_anchor_arn" in (await refused(host, Invalid)).advice


@pytest.mark.parametrize(("ahead", "words"), [(1020, "17 min behind"), (-1020, "17 min ahead of")])
async def test_a_wrong_clock_is_named(company, anywhere, host, ahead, words):
    anywhere.ahead = ahead
    host.put(company.issue())
    error = await refused(host, Denied)
    assert f"this host's clock is {words} AWS's" in error.advice


async def test_a_host_whose_clock_is_hours_off_signs_with_awss_time_after_one_refusal(company, anywhere, host):
    """It would have no credentials until somebody sets its clock."""
    host.put(company.issue(age=86400.0))
    clock = Clock(lambda: time.time() - 7200)
    await refused(host, Denied, source := host.source(clock))
    assert clock.skew == pytest.approx(7200, abs=3)
    credentials = await host.obtain(source)
    assert credentials.obtained == pytest.approx(time.time(), abs=5)


async def test_the_time_that_aws_says_is_noted(company, anywhere, host):
    anywhere.ahead = 120
    host.put(company.issue())
    await host.obtain()
    assert host.clock.skew == pytest.approx(120, abs=3)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (lambda: refusal("Rate exceeded", "ThrottlingException", 429), Throttled),
        (lambda: refusal("oops", "InternalServerException", 500), Unreachable),
        (lambda: Response("<html>Bad gateway</html>", 502, content_type="text/html"), Unreachable),
        (lambda: Response("<html>Please log in</html>", 200, content_type="text/html"), Invalid),
        (lambda: Response(status=302, headers={"Location": "https://elsewhere.example.com/"}), Invalid),
        (lambda: Response(b"x" * 10_000_000, 201), Invalid),
        (lambda: Response(b"", 201), Invalid),
        (lambda: Response(b"[" * 100_000, 201), Invalid),
    ],
)
async def test_a_bad_day_has_its_outcome(company, anywhere, host, answer, kind):
    host.put(company.issue())
    anywhere.interfere = lambda _: answer()
    error = await refused(host, kind)
    assert error.message.startswith('role "host": ')


WITHOUT = [("credentialSet",), ("credentialSet", 0), ("credentialSet", 0, "credentials")]
WITHOUT += [("credentialSet", 0, "assumedRoleUser"), ("credentialSet", 0, "assumedRoleUser", "arn")]
FIELDS = ["accessKeyId", "secretAccessKey", "sessionToken", "expiration"]
WITHOUT += [("credentialSet", 0, "credentials", name) for name in FIELDS]


@pytest.mark.parametrize("path", WITHOUT, ids=lambda path: ".".join(map(str, path)))
@pytest.mark.parametrize("value", ["nothing", None, "", 7, [], {}])
async def test_an_answer_with_something_missing_is_refused_and_not_repeated(company, anywhere, host, path, value):
    """Half an answer holds half of the secrets."""
    host.put(company.issue())

    def spoiled(request):
        answer = anywhere.really(request)
        document = json.loads(answer.data)
        place = document
        for step in path[:-1]:
            place = place[step]
        if value == "nothing":
            del place[path[-1]]
        else:
            place[path[-1]] = value
        answer.data = json.dumps(document)
        return answer

    anywhere.interfere = spoiled
    error = await refused(host, Invalid)
    assert "answered 201 without credentials in it" in error.message
    session = anywhere.sessions[-1]
    assert not any(session[name] in error.message + error.advice for name in FIELDS)


@pytest.mark.parametrize("length", [10, 200, 400])
async def test_a_truncated_answer_is_refused(company, anywhere, host, length):
    host.put(company.issue())

    def truncated(request):
        answer = anywhere.really(request)
        answer.data = answer.data[:length]
        return answer

    anywhere.interfere = truncated
    await refused(host, Invalid)


async def test_credentials_that_are_dead_already_are_refused(company, anywhere, host):
    host.put(company.issue())

    def dead(request):
        answer = anywhere.really(request)
        document = json.loads(answer.data)
        document["credentialSet"][0]["credentials"]["expiration"] = "2020-01-01T00:00:00Z"
        answer.data = json.dumps(document)
        return answer

    anywhere.interfere = dead
    assert "dead since 2020" in (await refused(host, Invalid)).message


async def test_an_answer_that_does_not_come_ends_the_attempt(company, anywhere, host, monkeypatch):
    monkeypatch.setattr(roles_anywhere, "_TIME_LIMIT", 0.3)
    host.put(company.issue())
    anywhere.interfere = lambda _: time.sleep(1) or Response(status=500)
    assert "no complete answer within 0.3 s" in (await refused(host, Unreachable)).message


@pytest.mark.parametrize("step", ["load", "sign"])
async def test_a_token_that_hangs_does_not_hold_up_the_daemon(company, anywhere, host, monkeypatch, step):
    """A network HSM that is away."""
    host.put(company.issue())
    source = host.source()
    if step == "load":
        monkeypatch.setattr(certificate_rotation, "_TIME_LIMIT", 0.2)
        monkeypatch.setattr(source._in_use, "_judge", lambda _: time.sleep(1))
    else:
        monkeypatch.setattr(roles_anywhere, "_TIME_LIMIT", 0.2)
        monkeypatch.setattr(source, "_signed", lambda _: time.sleep(1))
    error = await refused(host, Unreachable, source)
    assert "within 0.2 s" in error.message
    assert "token" in error.advice


async def test_a_missing_extra_says_what_to_install(company, anywhere, host, monkeypatch):
    host.put(company.issue())
    host.options |= {"private_key": "pkcs11:object=x", "pkcs11_module": "/absent.so"}
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    monkeypatch.delitem(sys.modules, "imds_proxy.sources.roles_anywhere.pkcs11", raising=False)
    assert (await refused(host, Invalid)).advice == f"{sys.executable} -m pip install 'imds-proxy[pkcs11]'"


# Rotation


@pytest.fixture
def changes():
    """`changes(source)`: its `changed()`, as the keeper waits for it."""
    tasks = []

    def start(source):
        tasks.append(asyncio.create_task(source.changed()))
        return tasks[-1]

    yield start
    for task in tasks:
        task.cancel()


async def test_a_new_pair_is_used_at_once(company, anywhere, host, changes):
    old, new = host.put(company.issue(kind="rsa")), company.issue(left=60 * DAY)
    source = host.source()
    await host.obtain(source)
    assert source.certificate.expiration == old.expiration
    changed = changes(source)
    host.put(new)
    await asyncio.wait_for(changed, 5)
    assert source.certificate.expiration == new.expiration
    await host.obtain(source)
    assert [each.certificate for each in anywhere.received] == [old.certificate, new.certificate]
    assert source.certificate.refused == 0


def _spoil(how, host, company):
    """Put something in the files that cannot be used; what the log says of it."""
    certificate, key = host.folder / "host.crt", host.folder / "host.key"
    if how == "half rotated":
        put(certificate, company.issue().certificate_pem())
        return "the private key does not belong to the certificate"
    if how == "torn":
        put(certificate, certificate.read_bytes()[:200])
        return "holds no complete certificate"
    if how == "expired":
        host.put(company.issue(age=3 * DAY, left=-DAY))
        return "the certificate expired on"
    if how == "not yet valid":
        host.put(company.issue(age=-DAY))
        return "is not valid before"
    if how == "missing":
        key.unlink()
        return f"private key {key} cannot be read"
    key.chmod(0o644)
    return f"private key {key} can be read or changed by other users"


@pytest.mark.parametrize("how", ["half rotated", "torn", "expired", "not yet valid", "missing", "open to others"])
async def test_what_cannot_be_used_leaves_the_old_pair_in_use(company, anywhere, host, changes, caplog, how):
    """A rotation that goes wrong at night is a line in the log, not an outage."""
    old = host.put(company.issue())
    source = host.source()
    await host.obtain(source)
    changed = changes(source)
    words = _spoil(how, host, company)
    await asyncio.to_thread(wait, lambda: source.certificate.refused, 5, "a refusal")
    await host.obtain(source)
    await host.obtain(source)
    assert not changed.done()
    assert source.certificate.refused == 1
    assert source.certificate.expiration == old.expiration
    assert [each.certificate for each in anywhere.received] == [old.certificate] * 3
    lines = [record for record in caplog.records if record.getMessage() == "certificate files cannot be used"]
    assert len(lines) == 1
    assert f"serial {old.certificate.serial_number:x}, until 20" in lines[0].in_use
    assert lines[0].files == f"{host.folder / 'host.crt'} {host.folder / 'host.key'}"
    assert words in lines[0].error
    assert lines[0].advice
    new = host.put(company.issue())
    await asyncio.wait_for(changed, 5)
    await host.obtain(source)
    assert anywhere.received[-1].certificate == new.certificate


async def test_a_pair_that_comes_while_nobody_looks_is_not_missed(company, anywhere, host):
    """The keeper stops waiting for a change whenever a renewal is due."""
    host.put(company.issue())
    source = host.source()
    await host.obtain(source)
    new = host.put(company.issue())
    await host.obtain(source)
    assert anywhere.received[-1].certificate == new.certificate


async def test_a_pair_that_becomes_valid_is_taken_by_the_next_renewal(company, anywhere, host):
    """Nothing happens to the files at that moment."""
    clock = Clock(lambda: time.time() + clock.later)
    clock.later = 0.0
    host.put(company.issue())
    source = host.source(clock)
    await host.obtain(source)
    new = host.put(company.issue(age=-100))
    await host.obtain(source)
    assert source.certificate.refused == 1
    clock.later = anywhere.ahead = 101.0
    await host.obtain(source)
    assert anywhere.received[-1].certificate == new.certificate


async def test_a_defect_leaves_the_old_pair_in_use(company, anywhere, host, changes, monkeypatch):
    """A token's library may do anything; a source that ended there would never renew again."""
    old = host.put(company.issue())
    source = host.source()
    await host.obtain(source)

    def defect(_):
        raise RuntimeError(PASSPHRASE)

    monkeypatch.setattr(source._in_use, "_judge", defect)
    changed = changes(source)
    host.put(company.issue())
    await asyncio.to_thread(wait, lambda: source.certificate.refused, 5, "a refusal")
    await host.obtain(source)
    assert not changed.done()
    assert anywhere.received[-1].certificate == old.certificate
    assert "unexpected RuntimeError at test_roles_anywhere.py" in source._in_use._problem.message
    assert PASSPHRASE not in source._in_use._problem.message


async def test_files_written_again_with_the_same_content_are_no_change(company, anywhere, host, changes):
    """A run of the configuration management should not make a session."""
    issued = host.put(company.issue())
    source = host.source()
    await host.obtain(source)
    changed = changes(source)
    for _ in range(3):
        host.put(issued)
        await asyncio.sleep(0.6)
    assert not changed.done()


async def test_nothing_usable_at_first_is_tried_again_until_it_is(company, anywhere, host, changes):
    host.options["private_key"] = str(host.folder / "host.key")
    source = host.source()
    assert "host.crt cannot be read: No such file" in (await refused(host, Invalid, source)).message
    await refused(host, Invalid, source)
    assert (source.certificate.refused, source.certificate.expiration) == (1, 0.0)
    changed = changes(source)
    await asyncio.sleep(0)
    issued = host.put(company.issue())
    await asyncio.wait_for(changed, 5)
    await host.obtain(source)
    assert source.certificate.expiration == issued.expiration


async def test_a_certificate_that_expires_in_use_is_named_with_its_day(company, anywhere, host):
    clock = Clock(lambda: time.time() + clock.later)
    clock.later = 0.0
    issued = host.put(company.issue(left=100))
    source = host.source(clock)
    await host.obtain(source)
    clock.later = 101.0
    error = await refused(host, Denied, source)
    day = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(issued.expiration))
    assert f"the certificate expired on {day}" in error.message
    put(host.folder / "host.crt", b"rubbish")
    error = await refused(host, Denied, source)
    assert f"the certificate expired on {day}" in error.message
    assert "host.crt" in error.message.partition("; and its files: ")[2]
    assert len(anywhere.received) == 1


async def test_two_renewals_at_a_time_read_the_files_once(company, anywhere, host):
    host.put(company.issue())
    source = host.source()
    await asyncio.gather(*(host.obtain(source) for _ in range(4)))
    assert len(anywhere.received) == 4
    assert source.certificate.refused == 0


# The daemon


@pytest.fixture
def daemon(host, start_daemon):
    """`daemon()`: a running daemon with this host's role alone."""
    return lambda **options: start_daemon(config=HOST + host.table(), environment={}, **options)


EXPIRATION = 'imds_proxy_certificate_expiration_timestamp_seconds{role="host"}'
REFUSALS = 'imds_proxy_certificate_refusals_total{role="host"}'


def test_the_daemon_serves_a_session_and_follows_a_rotation(company, anywhere, host, daemon):
    """From the rotation on disk to the credentials that programs see, without a restart."""
    old, new = host.put(company.issue(kind="rsa")), company.issue(kind="p384", left=90 * DAY)
    running = daemon()
    assert running.credentials("host")["AccessKeyId"] == anywhere.sessions[0]["accessKeyId"]
    assert running.metric(EXPIRATION) == old.expiration
    host.put(new)
    wait(lambda: running.metric(EXPIRATION) == new.expiration, 10, "the new expiry in the metric")
    wait(lambda: len(anywhere.sessions) == 2, 10, "a new session")
    wait(lambda: running.credentials("host")["AccessKeyId"] == anywhere.sessions[1]["accessKeyId"], 10, "it is served")
    assert anywhere.received[-1].certificate == new.certificate
    assert running.metric(REFUSALS) == 0
    event = running.wait_for_event("certificate in use", 2)
    assert f"serial {new.certificate.serial_number:x}" in event["certificate"]
    assert f"serial {old.certificate.serial_number:x}" in event["before"]


def test_half_a_rotation_changes_a_metric_and_a_log_line(company, anywhere, host, daemon):
    old, new = host.put(company.issue()), company.issue(left=90 * DAY)
    running = daemon()
    put(host.folder / "host.crt", new.certificate_pem())
    wait(lambda: running.metric(REFUSALS) == 1, 10, "the refusal in the metric")
    event = running.wait_for_event("certificate files cannot be used")
    assert f"serial {old.certificate.serial_number:x}" in event["in_use"]
    assert f"serial {new.certificate.serial_number:x}" in event["error"]
    assert str(host.folder / "host.crt") in event["files"]
    assert str(host.folder / "host.key") in event["files"]
    assert running.metric(EXPIRATION) == old.expiration
    assert running.process.poll() is None
    put(host.folder / "host.key", new.key_pem())
    wait(lambda: running.metric(EXPIRATION) == new.expiration, 10, "the new expiry in the metric")
    assert running.metric(REFUSALS) == 1


def test_a_daemon_whose_certificate_is_missing_starts_and_waits(company, anywhere, host, daemon):
    """Boot order: what brings the certificate may come later."""
    host.options["private_key"] = str(host.folder / "host.key")
    running = daemon(ready=False)
    assert "host.crt cannot be read" in running.failure("host")["message"]
    assert running.metric(EXPIRATION) == 0
    issued = host.put(company.issue())
    running.wait_ready()
    assert running.metric(EXPIRATION) == issued.expiration


# imds-proxy check


@pytest.fixture
def check(host, tmp_path):
    """`check()`: what the command prints for this host's role."""

    def check(environment=None):
        done = DaemonProcess(tmp_path, HOST + host.table(), environment or {}).cli("check")
        return done.returncode, done.stdout

    return check


def test_check_says_that_it_works(company, anywhere, host, check):
    host.put(company.issue())
    code, said = check()
    assert code == 0
    assert "host  ok: arn:aws:sts::123456789012:assumed-role/Host/" in said


def test_check_names_an_expired_certificate_and_its_day(company, anywhere, host, check):
    issued = host.put(company.issue(age=3 * DAY, left=-DAY))
    code, said = check()
    assert code == 1
    day = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(issued.expiration))
    assert f'host  denied: role "host": the certificate expired on {day} (CN=host-1.example.com' in said
    assert "→ renew it" in said


def test_check_gives_the_chmod(company, anywhere, host, check):
    host.put(company.issue())
    (host.folder / "host.key").chmod(0o644)
    code, said = check()
    assert code == 1
    assert f"→ chmod 600 {host.folder / 'host.key'}" in said


def test_check_gives_the_trust_policy(company, anywhere, host, check):
    host.put(company.issue())
    anywhere.trusted.clear()
    code, said = check()
    assert code == 1
    assert "denied" in said
    assert '"Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]' in said


def test_check_names_a_wrong_clock(company, anywhere, host, check):
    host.put(company.issue())
    anywhere.ahead = -3600
    code, said = check()
    assert code == 1
    assert "→ this host's clock is 60 min ahead of AWS's: set it" in said


# A token


@pytest.fixture
def hsm(tmp_path):
    hsm = SoftHsm(tmp_path)
    hsm.add_token("host")
    return hsm


@pytest.fixture
def token_key(company, host, hsm):
    """`token_key(kind)`: a key on the token alone, with its certificate in a file; the host's config names it."""
    numbers = itertools.count(1)

    def put_there(kind):
        issued, number = company.issue(kind=kind), next(numbers)
        hsm.add_key("host", "imds key", f"{number:02x}", issued.key_pem())
        put(host.folder / "host.crt", issued.certificate_pem(), 0o644)
        host.options |= {
            "private_key": f"pkcs11:token=host;object=imds%20key;id=%{number:02x}",
            "pkcs11_module": MODULE,
            "passphrase_file": put(host.folder / "pin", f"{PIN}\n".encode()),
        }
        return issued

    return put_there


@needs_softhsm
@pytest.mark.parametrize("kind", KEYS)
def test_a_key_on_a_token_gets_a_session(anywhere, hsm, token_key, check, kind):
    issued = token_key(kind)
    code, said = check(hsm.environment)
    assert code == 0, said
    assert anywhere.received[-1].certificate == issued.certificate


@needs_softhsm
def test_a_wrong_pin_is_named_and_not_shown(anywhere, host, hsm, token_key, check):
    token_key("rsa")
    put(host.folder / "pin", b"999999")
    code, said = check(hsm.environment)
    assert code == 1
    assert "denied" in said
    assert "the token refused the PIN for token host, object imds key, id 01" in said
    assert "999999" not in said


@needs_softhsm
def test_a_certificate_for_another_key_than_the_tokens_is_refused(company, anywhere, host, hsm, token_key, check):
    token_key("p256")
    put(host.folder / "host.crt", company.issue(kind="p256").certificate_pem())
    code, said = check(hsm.environment)
    assert code == 1
    assert "the private key does not belong to the certificate" in said


@needs_softhsm
def test_a_daemon_uses_a_key_on_a_token(company, anywhere, host, hsm, token_key, start_daemon):
    """The certificate is renewed for the key that stays where it is."""
    first = token_key("rsa")
    running = start_daemon(config=HOST + host.table(), environment=hsm.environment)
    assert running.metric(EXPIRATION) == first.expiration
    put(host.folder / "host.crt", company.issue(kind="rsa").certificate_pem())
    wait(lambda: running.metric(REFUSALS) == 1, 10, "the refusal in the metric")
    renewed = company.issue(key=first.key, left=90 * DAY)
    put(host.folder / "host.crt", renewed.certificate_pem())
    wait(lambda: running.metric(EXPIRATION) == renewed.expiration, 10, "the new expiry in the metric")
    wait(lambda: len(anywhere.sessions) == 2, 10, "a new session")
    assert anywhere.received[1].certificate == renewed.certificate
    assert PIN not in running.log.read_text()


async def test_an_end_without_a_zone_is_refused_by_its_name(company, anywhere, host):
    """Hours more or less: something between here and AWS answers in its place."""
    host.put(company.issue())

    def spoiled(request):
        answer = anywhere.really(request)
        document = json.loads(answer.data)
        fields = document["credentialSet"][0]["credentials"]
        fields["expiration"] = fields["expiration"].removesuffix("Z")
        answer.data = json.dumps(document)
        return answer

    anywhere.interfere = spoiled
    assert "expiration is no time in ISO 8601 with its zone" in (await refused(host, Invalid)).message
