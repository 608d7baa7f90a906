"""`source = "web-identity"`: tokens of a provider made here, that AWS's side verifies."""

import json
import re
import sys
from itertools import count

import pytest

from support.daemon import HOST, ISSUED, START_TIME, DaemonProcess, wait
from support.network import ConnectProxy, Listener
from support.oidc import AUDIENCE, SUBJECT, Federation, Issuer

ROLE = """
[renewal]
start_grace = 0
[roles.deploy]
source = "web-identity"
role_arn = "{arn}"
session_name = "web1"
sts_endpoint = "{sts}"
"""
NUMBERS = count()


class Cluster:
    """An issuer that AWS knows, a role that trusts a subject of it, and a file with a token of that."""

    def __init__(self, aws, folder):
        self.aws, self.folder = aws, folder
        self.federation = Federation(aws.double, Issuer())
        self.issuer = self.federation.issuer
        self.role = f"Pod{next(NUMBERS)}"
        self.arn = aws.double.add_role(self.role, "*")
        self.federation.trust(self.role, self.federation.statement())
        self.federation.register(AUDIENCE)
        aws.double.interfere = self.federation
        self.token_file = folder / "token"
        self.write()

    def write(self, token=None):
        """Replace the token, as a projected volume does."""
        new = self.folder / "token.new"
        new.write_text(f"{self.issuer.token() if token is None else token}\n")
        new.replace(self.token_file)
        (self.folder / ISSUED).write_text("\n".join(self.issuer.issued))  # the whole run's secret scan reads it

    def config(self, extra="", *, token=None, sts=None):
        token = f'token_file = "{self.token_file}"\n' if token is None else token
        return HOST + ROLE.format(arn=self.arn, sts=sts or self.aws.double.url) + token + extra

    def check(self, extra="", environment=None, **config):
        """What `imds-proxy check` says."""
        return DaemonProcess(self.folder, self.config(extra, **config), environment or {}).cli("check")


@pytest.fixture
def cluster(aws, tmp_path):
    cluster = Cluster(aws, tmp_path)
    yield cluster
    cluster.federation.unregister()


@pytest.fixture
def start(start_daemon, cluster):
    """The daemon, without any AWS key."""

    def started(extra="", **options):
        ready = options.pop("ready", True)
        return start_daemon(config=cluster.config(extra, **options), environment={}, ready=ready)

    return started


def test_a_token_is_a_session_without_any_key(start, cluster, aws):
    """Pods, CI runners and SPIFFE hosts have no AWS key, and would need one."""
    daemon = start()
    assert daemon.credentials("deploy")["AccessKeyId"] == aws.double.issued()[-1]
    assert daemon.role("deploy")["session_arn"].endswith(f":assumed-role/{cluster.role}/web1")
    assert cluster.federation.tokens == [cluster.issuer.issued[0]]


def test_the_token_is_read_at_every_renewal(start, cluster):
    """Tokens live an hour: the second renewal would be by a dead one."""
    cluster.federation.life = 8
    daemon = start()
    first = daemon.role("deploy")["key"]
    cluster.write()
    wait(lambda: cluster.federation.tokens[-1] == cluster.issuer.issued[-1], START_TIME, "a call with the new token")
    wait(lambda: daemon.role("deploy")["key"] != first, START_TIME, "another session")
    assert cluster.issuer.issued[0] == cluster.federation.tokens[0] != cluster.federation.tokens[-1]


def test_a_token_that_rotates_is_not_a_call_by_itself(start, cluster, aws):
    """A thousand pods would call STS each time that their tokens rotate."""
    daemon = start()
    assert daemon.ready()
    cluster.write()
    with pytest.raises(AssertionError, match="not within"):
        wait(lambda: len(cluster.federation.tokens) > 1, 1.5, "a second call")


def test_a_token_that_is_not_there_yet_is_missing_and_is_taken_as_soon_as_it_is(start, cluster):
    """The daemon starts before the agent that writes the token."""
    cluster.token_file.unlink()
    daemon = start(ready=False)
    failure = daemon.failure()
    assert failure["outcome"] == "invalid"
    assert f"token_file {cluster.token_file} cannot be read: No such file" in failure["message"]
    cluster.write()
    wait(daemon.ready, 4, "credentials")


def test_a_new_token_is_tried_at_once_where_the_old_one_was_refused(start, cluster):
    """The agent is started again, and nothing happens for up to five minutes."""
    cluster.write(cluster.issuer.token(life=-600))
    daemon = start(ready=False)
    assert daemon.failure()["outcome"] == "denied"
    cluster.write()
    wait(daemon.ready, 4, "credentials")


def test_an_expired_token_is_told_from_a_denied_one_and_the_last_credentials_stay(start, cluster):
    """Somebody would look at trust policies while the agent that renews the token is what has stopped."""
    cluster.federation.life = 12
    daemon = start()
    held = daemon.credentials("deploy")
    cluster.write(cluster.issuer.token(life=-600))
    failure = daemon.failure()
    assert failure["outcome"] == "denied"
    assert re.search(r"the token expired on \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ, 10 minutes ago", failure["message"])
    assert failure["advice"] == f"whatever renews token_file {cluster.token_file} has stopped"
    assert daemon.credentials("deploy") == held


def test_a_denial_holds_the_statement_that_the_trust_policy_lacks(start, cluster):
    """AWS says "Not authorized" and nothing else; what is pasted from here has to work."""
    cluster.federation.trust(cluster.role, cluster.federation.statement(subject="another"))
    daemon = start(ready=False)
    failure = daemon.failure()
    assert failure["outcome"] == "denied"
    assert SUBJECT in failure["message"]
    statement = json.loads(re.search(r"statement\? (\{.*\}) 3\.", failure["advice"])[1])
    assert statement == cluster.federation.statement()
    cluster.federation.trust(cluster.role, statement)
    cluster.write()
    daemon.wait_ready()


def test_a_command_can_print_the_token(start, cluster):
    """Providers that a host asks for a token, and that write no file."""
    program = cluster.folder / "print-token"
    program.write_text(f"#!/bin/sh\ncat {cluster.token_file}\n")
    program.chmod(0o755)
    start(token=f'token_command = "{program} --audience sts"\n')
    assert cluster.federation.tokens == cluster.issuer.issued


def test_a_command_that_fails_says_what_it_said(cluster):
    """A login that has run out, seen only by whoever runs the command by hand."""
    script = "import sys; sys.exit('log in first')"
    done = cluster.check(token=f'token_command = ["{sys.executable}", "-c", "{script}"]\n')
    assert done.returncode == 1
    assert "denied" in done.stdout
    assert "log in first" in done.stdout


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "it is empty"),
        ("opaque-oauth-token", "no JSON Web Token"),
        ("a.b.c.d.e", "no JSON Web Token"),
        ("YQ.YQ.YQ", "no claims in it"),
        ("a" * 30000, "30000 characters"),
        ("\x00\x1b[31m", "no JSON Web Token"),
    ],
    ids=["empty", "opaque", "encrypted", "no claims", "long", "binary"],
)
def test_a_file_that_holds_no_token_is_named_and_not_sent(cluster, content, says):
    """The wrong file's content would go to AWS; it may be a key."""
    cluster.write(content)
    done = cluster.check()
    assert done.returncode == 1
    assert f'invalid: role "deploy": token_file {cluster.token_file}: ' in done.stdout
    assert says in done.stdout
    assert not content or content not in done.stdout
    assert not cluster.federation.tokens


# What `check` says in the operator's words


def test_check_says_whose_session_it_is(cluster):
    done = cluster.check(f'audience = "{AUDIENCE}"\n')
    assert done.returncode == 0
    assert f"deploy  ok: arn:aws:sts::123456789012:assumed-role/{cluster.role}/web1, until " in done.stdout


def test_check_says_which_audience_was_wanted(cluster):
    """A token that was made for another service is not shown to AWS."""
    done = cluster.check('audience = "https://aws.example.test"\n')
    assert done.returncode == 1
    assert f'token audience is "{AUDIENCE}" and "https://aws.example.test" was wanted' in done.stdout
    assert not cluster.federation.tokens


def test_check_says_which_audience_the_provider_has_to_list(cluster):
    cluster.write(cluster.issuer.token(aud="gitlab.example.test"))
    done = cluster.check()
    assert done.returncode == 1
    assert re.search(
        r'denied: .*Incorrect token audience\n +→ token audience is "gitlab.example.test": let', done.stdout
    )


def test_check_says_that_the_identity_provider_is_missing(cluster):
    cluster.federation.unregister()
    done = cluster.check()
    assert done.returncode == 1
    assert f"→ make an identity provider for {cluster.issuer.url} in IAM of account 123456789012" in done.stdout


def test_check_says_that_the_token_is_by_another_key(cluster):
    """A cluster that was made anew under its old address."""
    cluster.write(Issuer().token())
    done = cluster.check()
    assert done.returncode == 1
    assert f"→ see what renews token_file {cluster.token_file}: {cluster.issuer.url} may have revoked" in done.stdout


def test_check_says_by_how_much_the_clock_is_wrong(cluster):
    """Tokens made here are dated by this host's clock, and look alive here."""
    cluster.federation.ahead = 2400
    cluster.write(cluster.issuer.token(life=1800))
    done = cluster.check()
    assert done.returncode == 1
    assert "the token expired on " in done.stdout
    assert "→ this host's clock is 40 min behind AWS's: set it" in done.stdout


def test_a_clock_that_is_ahead_does_not_stop_what_aws_accepts(cluster):
    """By this host's time the token is dead; by AWS's, which decides, it is not."""
    cluster.federation.ahead = -2400
    cluster.write(cluster.issuer.token(life=-600))
    assert cluster.check().returncode == 0


def test_check_says_what_the_trust_policy_lacks(cluster):
    cluster.federation.trust(cluster.role, cluster.federation.statement(audience="another"))
    done = cluster.check()
    assert done.returncode == 1
    assert "denied: " in done.stdout
    assert json.dumps(cluster.federation.statement()) in done.stdout


class RefusingProxy(ConnectProxy):
    """Lets nobody through."""

    def handle(self, connection):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")


def test_check_names_the_proxy_that_refuses(cluster):
    """Everybody would look at AWS and at the firewall first."""
    with RefusingProxy() as proxy:
        done = cluster.check(environment={"HTTPS_PROXY": proxy.url}, sts="https://sts.example.test")
    assert done.returncode == 1
    assert "unreachable: " in done.stdout
    assert f'"{proxy.url}" (it answered 403)' in done.stdout
    assert "→ the proxy in HTTPS_PROXY does not answer or refuses https://sts.example.test" in done.stdout


# Bad days


class Answers(Listener):
    """Answers every request with the same bytes; `requests` are what was sent."""

    def __init__(self, answer: bytes):
        self.requests, self._answer = [], answer
        super().__init__()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def handle(self, connection):
        data = connection.recv(65536)
        self.requests.append(data)
        connection.sendall(self._answer)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"])
def test_a_redirect_does_not_carry_the_token_elsewhere(cluster, status):
    """Whoever can redirect one answer would have a token that is good for the role."""
    with Answers(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as elsewhere:
        head = f"HTTP/1.1 {status}\r\nLocation: {elsewhere.url}/\r\nContent-Length: 0\r\n\r\n"
        with Answers(head.encode()) as endpoint:
            done = cluster.check(sts=endpoint.url)
    assert done.returncode == 1
    assert f"invalid: .*answered {status[:3]}, which sends elsewhere".split(".*")[1] in done.stdout
    assert endpoint.requests
    assert not elsewhere.requests


@pytest.mark.parametrize("length", ["Content-Length: 10000000", "Connection: close"])
def test_an_answer_of_megabytes_is_not_read_to_its_end(cluster, length):
    """It would be in memory a few times over, on a host of 512 MB."""
    body = f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n".encode() + b" " * 10_000_000
    with Answers(body) as endpoint:
        done = cluster.check(sts=endpoint.url)
    assert done.returncode == 1
    assert "it answered more than 1 MB" in done.stdout


@pytest.mark.parametrize("end", ["tomorrow", "99999-01-01T00:00:00Z", "", "-1"])
def test_an_expiration_that_is_none_is_invalid(cluster, aws, end):
    """botocore raises what is none of its errors: the daemon would call it a defect of its own."""

    def spoilt(request):
        answer = cluster.federation(request)
        answer.data = re.sub(rb"<Expiration>.*</Expiration>", f"<Expiration>{end}</Expiration>".encode(), answer.data)
        return answer

    aws.double.interfere = spoilt
    done = cluster.check()
    assert done.returncode == 1
    assert "invalid: " in done.stdout
    assert "Traceback" not in done.stderr
