"""One suite of bad days for every source: each has its outcome and a message that helps, and the last good stay.

One daemon has a role for each source and day. All begin well; then everything goes bad at once.
"""

import json
import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from imds_proxy.config.roles import ROLE_TABLES
from support.bad_days import DAYS, BadDay, BadFile, BadProgram, Elsewhere
from support.certificates import Authority, put
from support.credential_service import CredentialService, Session
from support.daemon import HOST, ISSUED, DaemonProcess, request, wait
from support.oidc import AUDIENCE, Federation, Issuer
from support.roles_anywhere import PROFILE, ROLE, TRUST_ANCHOR, RolesAnywhereDouble

ALL_OK, ALL_BAD = 60, 90  # seconds; a call of AWS may take 20 before it is given up


class Scene:
    """What the subjects are made of, and what begins with the bad days."""

    def __init__(self, stack, aws, folder):
        self.aws, self.folder, self._stack = aws, folder, stack
        self.begins, self.elsewheres = [], []
        self._trust_tokens()
        self._trust_certificates()

    def _trust_tokens(self):
        """A role for whoever has the token in `token_file`."""
        federation = Federation(self.aws.double, Issuer())
        self.pod_arn = self.aws.double.add_role("BadDays", "*")
        federation.trust("BadDays", federation.statement())
        federation.register(AUDIENCE)
        self.aws.double.interfere = federation
        self._stack.callback(federation.unregister)
        token = federation.issuer.token()
        self.token_file = put(self.folder / "token", token.encode())
        put(self.folder / ISSUED, token.encode())

    def _trust_certificates(self):
        authority = Authority()
        issued = authority.issue()
        self.anywhere = self._stack.enter_context(RolesAnywhereDouble(authority.certificate))
        self.certificate = put(self.folder / "host.crt", issued.certificate_pem())
        self.private_key = put(self.folder / "host.key", issued.key_pem())

    def relay(self, day, url):
        """`url` through a service that will have that day."""
        parts = urlsplit(url)
        elsewhere = self._stack.enter_context(Elsewhere(f"{parts.scheme}://{parts.netloc}"))
        relay = self._stack.enter_context(BadDay(f"{parts.scheme}://{parts.netloc}", day, elsewhere.url))
        self.elsewheres.append(elsewhere)
        self.begins.append(relay.begin)
        return relay.url + parts.path

    def service(self, shape):
        return self._stack.enter_context(CredentialService(shape))

    def local(self, make, name, day, good):
        folder = self.folder / f"{name}-{day}"
        folder.mkdir()
        made = make(folder, day, good)
        self.begins.append(made.begin)
        return made


def assume_role(scene, day):
    url = scene.relay(day, scene.aws.double.url)
    return f'role_arn = "{scene.aws.role_arn}"\nsession_name = "{day}"\nsts_endpoint = "{url}"'


def web_identity(scene, day):
    url = scene.relay(day, scene.aws.double.url)
    settings = f'role_arn = "{scene.pod_arn}"\ntoken_file = "{scene.token_file}"\nsts_endpoint = "{url}"'
    return f'source = "web-identity"\nsession_name = "{day}"\n{settings}'


def roles_anywhere(scene, day):
    arns = f'role_arn = "{ROLE}"\nprofile_arn = "{PROFILE}"\ntrust_anchor_arn = "{TRUST_ANCHOR}"'
    files = f'certificate = "{scene.certificate}"\nprivate_key = "{scene.private_key}"'
    url = scene.relay(day, scene.anywhere.url)
    return f'source = "roles-anywhere"\n{arns}\n{files}\nendpoint = "{url}"'


def http(shape):
    def table(scene, day):
        url = scene.relay(day, scene.service(shape).url)
        return f'source = "http"\nshape = "{shape}"\ntimeout = "3s"\nurl = "{url}"'

    return table


def document(shape="process"):
    return json.dumps(Session().document(shape)).encode()


def process(scene, day):
    program = scene.local(BadProgram, "process", day, document())
    return f'source = "process"\ncommand = {json.dumps(program.command)}\ntimeout = "3s"'


def ambient(scene, day):
    """A profile whose credentials come from a program."""
    program = scene.local(BadProgram, "ambient", day, document())
    with (scene.folder / "aws-config").open("a") as config:
        config.write(f"[profile {day}]\ncredential_process = {' '.join(program.command)}\n")
    return f'source = "ambient"\nprofile = "{day}"'


def file(form):
    def table(scene, day):
        content = {"json": document, "imds": lambda: document("imds"), "ini": ini}[form]()
        pushed = scene.local(BadFile, f"file-{form}", day, content)
        return f'source = "file"\nformat = "{form}"\npath = "{pushed.path}"'

    return table


def ini():
    said = Session().document("process")
    lines = (
        f"aws_access_key_id = {said['AccessKeyId']}\naws_secret_access_key = {said['SecretAccessKey']}\n"
        f"aws_session_token = {said['SessionToken']}\nexpiration = {said['Expiration']}\n"
    )
    return f"[default]\n{lines}".encode()


SUBJECTS = {
    "assume-role": assume_role,
    "web-identity": web_identity,
    "roles-anywhere": roles_anywhere,
    "process": process,
    "ambient": ambient,
    **{f"http-{shape}": http(shape) for shape in ("container", "imds", "process", "iot", "vault")},
    **{f"file-{shape}": file(shape) for shape in ("json", "imds", "ini")},
}
NEITHER = {(subject, "redirect") for subject in SUBJECTS if subject.startswith(("process", "ambient", "file"))}
CASES = [(subject, day) for subject in SUBJECTS for day in DAYS if (subject, day) not in NEITHER]

OUTCOMES = dict.fromkeys(DAYS, "invalid") | {"hang": "unreachable", "drip": "unreachable"}
OTHER_OUTCOMES = {(f"file-{shape}", day): "invalid" for shape in ("json", "imds", "ini") for day in ("hang", "drip")}
SAYS = {
    "hang": "within|time",
    "drip": "within|time",
    "expired": "dead since|lease",
    "past": "dead since|lease",
    "centuries": "a life of",
    "redirect": "elsewhere|redirect",
    "huge": "1 MB",
}


@dataclass(frozen=True)
class Seen:
    """What was seen of one role: before the bad day, and on it."""

    good: dict
    bad: dict
    served: dict


@pytest.fixture(scope="module")
def scene(account, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad-days")
    with ExitStack() as stack:
        stack.callback(setattr, account.double, "interfere", lambda _: None)
        scene = Scene(stack, account, folder)
        tables = [f"[roles.{name(*case)}]\ndefault = false\n{SUBJECTS[case[0]](scene, case[1])}\n" for case in CASES]
        config = f'{HOST}[renewal]\nmax_age = "7s"\nstart_grace = 0\n' + "".join(tables)
        environment = account.environment | {"AWS_CONFIG_FILE": str(folder / "aws-config")}
        with DaemonProcess(folder, config, environment) as daemon:
            scene.daemon = daemon
            daemon.wait_ready()
            yield scene


@pytest.fixture(scope="module")
def seen(scene):
    """Every role, by subject and day."""
    good = settled(scene.daemon, "ok", ALL_OK)
    for begin in scene.begins:
        begin()
    bad = settled(scene.daemon, "failing", ALL_BAD)
    return {case: Seen(good[name(*case)], bad[name(*case)], served(scene.daemon, name(*case))) for case in CASES}


def name(subject, day):
    return f"{subject}_{day}"


def settled(daemon, state, seconds):
    """Every role, once each is in that state."""

    def others():
        return [role for role in daemon.status()["roles"] if role["state"] != state]

    wait(lambda: not others(), seconds, lambda: json.dumps(others(), indent=1))
    return {role["role"]: role for role in daemon.status()["roles"]}


def served(daemon, role):
    token = (daemon.state / "tokens" / role).read_text()
    return json.loads(request(f"{daemon.endpoint}roles/{role}", headers={"Authorization": token})[2])


each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: name(*case))


def test_every_source_has_its_bad_days():
    """A new source would have none."""
    assert {subject.partition("-")[0] for subject in SUBJECTS} == {source.partition("-")[0] for source in ROLE_TABLES}


@each_case
def test_the_outcome_and_the_message_help(seen, case):
    failure, day = seen[case].bad["failure"], case[1]
    assert failure["outcome"] == OTHER_OUTCOMES.get(case, OUTCOMES[day]), failure
    assert f'role "{name(*case)}"' in failure["message"]
    if case not in OTHER_OUTCOMES:
        assert re.search(SAYS.get(day, ""), failure["message"]), failure
    assert failure["advice"]
    assert "defect" not in failure["advice"], failure
    assert len(failure["message"]) < 600


@each_case
def test_the_last_good_credentials_stay_and_are_served(seen, case):
    of = seen[case]
    assert of.bad["key"]
    assert of.served["AccessKeyId"][-4:] == of.bad["key"][-4:]
    assert of.bad["seconds_left"] > 3000


def test_nobody_is_followed_elsewhere(seen, scene):
    """Whoever answers in place of a service could have the secrets sent to where he likes."""
    assert [elsewhere.asked for elsewhere in scene.elsewheres if elsewhere.asked] == []


def test_the_daemon_answers_all_the_while_and_has_not_grown(seen, scene):
    """Ten megabytes of answer, a hundred times, in a daemon that should have seventy."""
    assert scene.daemon.ready()
    status = Path(f"/proc/{scene.daemon.process.pid}/status").read_text()
    assert int(re.search(r"VmHWM:\s+(\d+)", status)[1]) < 200_000
