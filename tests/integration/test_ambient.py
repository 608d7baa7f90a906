"""`source = "ambient"`: what the daemon's own AWS chain gives, and what it may not give."""

import json
import re
import sys
import time
from pathlib import Path

import pytest

from imds_proxy.credentials import timestamp
from support.aws import new_session
from support.daemon import HOST, ISSUED, DaemonProcess
from support.network import ConnectProxy
from support.sso import START_URL, Portal, cached_token

ROLE = '[renewal]\nstart_grace = 0\n[roles.login]\nsource = "ambient"\n'
WHERE = f"sso_start_url = {START_URL}\nsso_region = eu-west-1\n"
SSO_TOKEN = "sso-access-token-of-somebody"


class Home:
    """A user's home with AWS files, and a daemon's config that passes on what they give."""

    def __init__(self, aws, folder: Path):
        self.aws, self.folder = aws, folder
        self.aws_folder = folder / ".aws"
        (self.aws_folder / "sso/cache").mkdir(parents=True)
        self.environment = {"HOME": str(folder), "AWS_ENDPOINT_URL_STS": aws.double.url}

    def config(self, text: str) -> None:
        (self.aws_folder / "config").write_text(text)

    def credentials(self, text: str) -> None:
        (self.aws_folder / "credentials").write_text(text)

    def profile_with_login(self, portal: Portal, name: str = "Deploy") -> None:
        """A profile `work` that has its sessions from the portal."""
        role = f"sso_account_id = {self.aws.role_arn.split(':')[4]}\nsso_role_name = {name}\n"
        self.config(f"[profile work]\n{role}{WHERE}")
        self.environment["AWS_ENDPOINT_URL_SSO"] = portal.url

    def sign_in(self, name: str, life: float = 3600) -> None:
        """What `aws sso login` leaves behind; `name` is that of the session, or the start URL."""
        file, document = cached_token(SSO_TOKEN, name, life)
        (self.aws_folder / "sso/cache" / file).write_text(document)
        (self.folder / ISSUED).write_text(SSO_TOKEN)  # the whole run's secret scan reads it

    def session(self, **options) -> dict[str, str]:
        """A session of the role, as environment variables."""
        session = new_session(self.aws.role_arn, **options)
        return {
            "AWS_ACCESS_KEY_ID": session.access_key_id,
            "AWS_SECRET_ACCESS_KEY": session.secret_access_key,
            "AWS_SESSION_TOKEN": session.session_token,
        }

    def check(self, extra="", environment=None):
        """What `imds-proxy check` says."""
        return DaemonProcess(self.folder, HOST + ROLE + extra, self.environment | (environment or {})).cli("check")


@pytest.fixture
def home(aws, tmp_path):
    return Home(aws, tmp_path)


@pytest.fixture
def start(start_daemon, home):
    def started(extra="", environment=None, **options):
        return start_daemon(config=HOST + ROLE + extra, environment=home.environment | (environment or {}), **options)

    return started


def ending_in(seconds):
    return {"AWS_CREDENTIAL_EXPIRATION": timestamp(time.time() + seconds)}


# What is passed on


def test_a_session_in_the_environment_is_passed_on_with_its_expiry(start, home):
    """A guess at the end of a session is an outage at its real end."""
    session = home.session() | ending_in(3000)
    document = start(environment=session).credentials("login")
    assert document["AccessKeyId"] == session["AWS_ACCESS_KEY_ID"]
    assert document["Token"] == session["AWS_SESSION_TOKEN"]
    assert document["Expiration"] == session["AWS_CREDENTIAL_EXPIRATION"]


@pytest.fixture
def portal(aws):
    with Portal(SSO_TOKEN, aws.role_arn) as portal:
        yield portal


@pytest.mark.parametrize("form", ["session", "legacy"])
def test_the_sso_cache_is_passed_on(start, home, aws, portal, form):
    """A developer's host: they sign in in the browser, and every program here has it."""
    home.profile_with_login(portal)
    if form == "session":
        text = (home.aws_folder / "config").read_text()
        home.config(text.replace(WHERE, f"sso_session = corporate\n[sso-session corporate]\n{WHERE}"))
    home.sign_in("corporate" if form == "session" else START_URL)
    daemon = start('profile = "work"\n')
    assert daemon.credentials("login")["AccessKeyId"] == aws.double.issued()[-1]


def test_a_profile_that_assumes_a_role_is_passed_on_in_the_configs_region(start, home, aws):
    """`region` of the daemon's own config is not in ~/.aws, and botocore would not know where to call."""
    home.credentials(f"[key]\naws_access_key_id = {aws.key_id}\naws_secret_access_key = {aws.secret}\n")
    home.config(f"[profile work]\nrole_arn = {aws.role_arn}\nsource_profile = key\nrole_session_name = work\n")
    daemon = start('profile = "work"\n')
    assert daemon.credentials("login")["AccessKeyId"] == aws.double.issued()[-1]


def test_such_a_profile_can_also_be_what_calls_sts(start_daemon, home, aws):
    """The base of a chain is a profile that assumes a role itself: as many developers have it."""
    double, session = aws.double, "arn:aws:sts::123456789012:assumed-role/Deploy/work"
    home.credentials(f"[key]\naws_access_key_id = {aws.key_id}\naws_secret_access_key = {aws.secret}\n")
    home.config(f"[profile work]\nrole_arn = {aws.role_arn}\nsource_profile = key\nrole_session_name = work\n")
    next_role = double.add_role("AfterProfile", session)
    role = f'[roles.login]\nrole_arn = "{next_role}"\nprofile = "work"\nsession_name = "web1"\n'
    daemon = start_daemon(config=HOST + role, environment=home.environment)
    assert daemon.role("login")["session_arn"].endswith("assumed-role/AfterProfile/web1")


def test_a_helper_of_a_profile_is_passed_on(start, home):
    """Corporate tools are installed as credential_process of a profile."""
    session = home.session()
    document = {
        "Version": 1,
        "AccessKeyId": session["AWS_ACCESS_KEY_ID"],
        "SecretAccessKey": session["AWS_SECRET_ACCESS_KEY"],
        "SessionToken": session["AWS_SESSION_TOKEN"],
        "Expiration": timestamp(time.time() + 3000),
    }
    (home.folder / "document.json").write_text(json.dumps(document))
    home.config(f"[profile work]\ncredential_process = /bin/cat {home.folder}/document.json\n")
    assert start('profile = "work"\n').credentials("login")["Expiration"] == document["Expiration"]


def test_another_role_can_be_assumed_from_it(start, home, aws):
    """SSO for people, one more role for what they start."""
    session = home.session(name="person") | ending_in(3000)
    arn = aws.double.add_role("AfterLogin", "arn:aws:sts::123456789012:assumed-role/Deploy/person")
    role = f'role_arn = "{arn}"\nfrom = "login"\nsession_name = "web1"\nsts_endpoint = "{aws.double.url}"\n'
    extra = f"serve = false\n[roles.next]\n{role}"
    daemon = start(extra, session)
    assert daemon.role("next")["session_arn"].endswith("assumed-role/AfterLogin/web1")


# What is not


def test_a_long_lived_key_is_refused_with_a_word_on_why(home, aws):
    """Every program on the host could take away a key that never ends."""
    done = home.check(environment=aws.environment)
    assert done.returncode == 1
    assert re.search(r"invalid: .*…\w{4} of env is long-lived, and is not handed out: it would be there", done.stdout)
    assert '→ let it be this daemon\'s alone, and have it assume a role: source = "assume-role"' in done.stdout
    assert aws.key_id not in done.stdout


def test_a_session_that_does_not_say_when_it_ends_is_refused(home):
    done = home.check(environment=home.session())
    assert done.returncode == 1
    assert "does not say when it ends, and nobody here guesses" in done.stdout
    assert "AWS_CREDENTIAL_EXPIRATION" in done.stdout


@pytest.mark.parametrize(("life", "says"), [(-60, "dead since"), (400 * 365 * 86400, "days")])
def test_a_session_that_is_dead_or_never_ends_is_refused(home, life, says):
    done = home.check(environment=home.session() | ending_in(life))
    assert done.returncode == 1
    assert "invalid: " in done.stdout
    assert says in done.stdout


def test_nothing_at_all_is_denied_with_where_it_was_looked_for(home):
    done = home.check()
    assert done.returncode == 1
    assert "denied: " in done.stdout
    assert "no AWS credentials in environment, shared files, SSO cache or process" in done.stdout
    assert "aws sso login" in done.stdout


@pytest.mark.parametrize("life", [None, -60], ids=["never signed in", "signed out"])
def test_a_login_that_has_run_out_says_how_to_sign_in(home, portal, life):
    """The most frequent failure of all on a developer's host."""
    home.profile_with_login(portal)
    if life is not None:
        home.sign_in(START_URL, life)
    done = home.check('profile = "work"\n')
    assert done.returncode == 1
    assert "denied: " in done.stdout
    assert "→ as the user the daemon runs as: aws sso login --profile work" in done.stdout


def test_a_role_that_the_login_does_not_give_is_denied(home, portal):
    home.profile_with_login(portal, "Admin")
    home.sign_in(START_URL)
    done = home.check('profile = "work"\n')
    assert done.returncode == 1
    assert 'denied: role "login": AWS credentials of profile "work": ForbiddenException: No access' in done.stdout
    assert "aws sts get-caller-identity --profile work" in done.stdout


def test_a_profile_that_wants_a_code_is_refused_and_asks_nobody(home, aws):
    """The daemon would wait at its terminal for ever, and answer no client meanwhile."""
    home.credentials(f"[key]\naws_access_key_id = {aws.key_id}\naws_secret_access_key = {aws.secret}\n")
    mfa = "mfa_serial = arn:aws:iam::123456789012:mfa/me\n"
    home.config(f"[profile work]\nrole_arn = {aws.role_arn}\nsource_profile = key\n{mfa}")
    done = home.check('profile = "work"\n')
    assert done.returncode == 1
    assert "wants an MFA code, and a daemon has nobody to ask for it" in done.stdout


@pytest.mark.parametrize(
    "printed",
    [
        "SecretAccessKey of somebody",
        '{"Version": 1, "SecretAccessKey": "SecretAccessKey of somebody"}',
        "[]",
        '{"Version": 1, "AccessKeyId": 1, "SecretAccessKey": 2, "SessionToken": 3, "Expiration": "soon"}',
        '{"Version": 1, "AccessKeyId": "", "SecretAccessKey": "", "SessionToken": "x", "Expiration": "TIME"}',
    ],
    ids=["words", "missing", "list", "numbers", "blank"],
)
def test_what_a_helper_prints_is_in_no_message_and_no_log(start, home, printed):
    """botocore logs such errors with all of their text, and that is what the helper printed."""
    (home.folder / "document").write_text(printed.replace("TIME", timestamp(time.time() + 3000)))
    home.config(f"[profile work]\ncredential_process = /bin/cat {home.folder}/document\n")
    daemon = start('profile = "work"\n', ready=False)
    assert daemon.failure("login")["outcome"] == "invalid"
    log = daemon.log.read_text()
    assert "of somebody" not in log
    assert "Traceback" not in log
    assert "defect of imds-proxy" not in log


def test_a_helper_that_fails_says_why(home):
    script = "import sys; sys.exit('log in first')"
    home.config(f'[profile work]\ncredential_process = {sys.executable} -c "{script}"\n')
    done = home.check('profile = "work"\n')
    assert done.returncode == 1
    assert "log in first" in done.stdout


def test_the_last_credentials_stay_while_a_login_is_missing(start, home, aws):
    """Signed out over lunch: what is alive goes on to its end."""
    with Portal(SSO_TOKEN, aws.role_arn, life=16) as portal:
        home.profile_with_login(portal)
        home.sign_in(START_URL)
        daemon = start('profile = "work"\n')
        for path in (home.aws_folder / "sso/cache").iterdir():
            path.unlink()
        held = daemon.credentials("login")
        assert daemon.failure("login")["outcome"] == "denied"
        assert daemon.credentials("login") == held


# Whose they are


def test_check_asks_aws_whose_they_are(home):
    """Of three profiles, which one did it take?"""
    done = home.check(environment=home.session(name="person") | ending_in(3000))
    assert done.returncode == 0
    assert re.search(
        r"login  ok: arn:aws:sts::123456789012:assumed-role/Deploy/person, until \S+ \((49|50) min\)\n", done.stdout
    )


@pytest.mark.parametrize(
    ("spoilt", "code"),
    [
        ({"AWS_ACCESS_KEY_ID": "ASIANOTKNOWNTOAWS123"}, "InvalidClientTokenId"),
        ({"AWS_SECRET_ACCESS_KEY": "x" * 40}, "SignatureDoesNotMatch"),
    ],
)
def test_check_fails_where_aws_does_not_accept_them(home, spoilt, code):
    """The document is right, and every program that gets it fails."""
    done = home.check(environment=home.session() | ending_in(3000) | spoilt)
    assert done.returncode == 1
    assert f'denied: role "login": AWS does not accept these credentials: {code}' in done.stdout
    assert "→ see where they come from: key …" in done.stdout


def test_check_fails_for_a_session_that_aws_has_ended(home, aws):
    session = home.session()
    aws.double.shorten(session["AWS_ACCESS_KEY_ID"], -1)
    done = home.check(environment=session | ending_in(3000))
    assert done.returncode == 1
    assert "AWS does not accept these credentials: ExpiredToken" in done.stdout


def test_check_does_not_fail_where_aws_cannot_be_asked(home):
    """Hosts that reach one regional service and no STS."""
    with ConnectProxy() as proxy:
        environment = home.session() | ending_in(3000) | {"AWS_ENDPOINT_URL_STS": proxy.url}
        done = home.check(environment=environment)
    assert done.returncode == 0
    assert re.search(r"login  ok: key …\w{4}, until .*, AWS could not be asked whose they are: role ", done.stdout)
