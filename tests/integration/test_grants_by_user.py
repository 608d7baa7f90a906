"""Which local process gets which role: real users, real processes, the real daemon."""

import json
import re
import signal
import time

import pytest

from support.client import LIST, client_of
from support.daemon import wait
from support.users import temporary_users

LISTEN = 'listen = ["127.0.0.1:PORT"]'
IMDS_V1 = f"{LISTEN}\nimds_v1 = true"
TWO_ROLES = """
[roles.logs]
role_arn = "{role_arn}"
session_name = "logs"
sts_endpoint = "{sts}"
"""


@pytest.fixture(scope="module")
def people():
    """Three users; the first two are in a group."""
    with temporary_users() as made:
        people = made.add(), made.add(), made.add()
        group = made.add_group(*people[:2])
        yield *people, group, made


def config(aws, grants, *, metadata=LISTEN):
    tables = "".join(
        "[[grants]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in grant.items()) for grant in grants
    )
    roles = TWO_ROLES.format(role_arn=aws.role_arn, sts=aws.double.url)
    return aws.config(roles + tables).replace(LISTEN, metadata)


def audit(daemon, user, status=None):
    """The lines of the audit about a user."""
    lines = [e for e in daemon.events() if e["event"] in {"credentials handed out", "credentials refused"}]
    return [line for line in lines if line.get("user") == user.name and status in {None, line["status"]}]


def complete_audit(daemon, user, roles):
    """The lines about a user, once they name these roles and no other: they are written a moment after the answer."""
    lines = audit(daemon, user)
    return lines if {line.get("role") for line in lines} == roles else None


def test_every_user_gets_its_own_role_and_nobody_else_anything(aws, start_daemon, people):
    """The build user's jobs could deploy to production, or the deployment could fail for want of its role."""
    build, agent, stranger, *_ = people
    grants = [{"role": "logs", "user": build.name}, {"role": "deploy", "uid": agent.uid}]
    daemon = start_daemon(config=config(aws, grants))
    keys = {name: daemon.role(name)["key"] for name in ("deploy", "logs")}
    for user, mine, others in ((build, "logs", "deploy"), (agent, "deploy", "logs")):
        with client_of(user, daemon) as client:
            assert client.listed() == mine
            status, document = client.document(mine)
            assert (status, "…" + document["AccessKeyId"][-4:]) == (200, keys[mine])
            assert client.document(others) == client.document("nonexistent") == (404, "not found")
    with client_of(stranger, daemon) as client:
        assert client.get(LIST) == (404, "no role for this caller")
        for document in ("info", ""):
            assert client.get(f"/latest/meta-data/iam/{document}") == (404, "no role for this caller")
        for role in ("deploy", "logs", "nonexistent"):
            assert client.document(role) == (404, "not found")
            assert client.get(f"/latest/meta-data/iam/security-credentials-extended/{role}") == (404, "not found")
    asked = {"logs", "deploy", "nonexistent"}
    lines = [
        wait(lambda of=(user, roles): complete_audit(daemon, *of), 5, "the audit")
        for user, roles in ((build, asked), (agent, asked), (stranger, {None, *asked}))
    ]
    handed_out = [[line for line in of_one if line["status"] == 200] for of_one in lines]
    assert [[(line["role"], line["uid"], line["count"]) for line in of_one] for of_one in handed_out] == [
        [("logs", build.uid, 1)],
        [("deploy", agent.uid, 1)],
        [],
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"])
def test_the_user_is_known_by_whichever_address_it_comes(aws, start_daemon, people, host):
    """A Java process has an IPv6 socket with an IPv4 address in it: its user would be nobody."""
    build, agent, *_ = people
    daemon = start_daemon(
        config=config(
            aws,
            [{"role": "logs", "user": build.name}, {"role": "deploy", "user": agent.name}],
            metadata='listen = ["0.0.0.0:PORT", "[::1]:PORT"]',
        )
    )
    for user, role in ((build, "logs"), (agent, "deploy")):
        with client_of(user, daemon) as client:
            assert client.at(host).listed() == role


def test_a_group_gives_a_role_to_its_members_alone(aws, start_daemon, people):
    """A team's role would be everybody's, or nobody's."""
    build, agent, stranger, group, _ = people
    daemon = start_daemon(config=config(aws, [{"role": "logs", "group": group.gr_name}]))
    for user, role in ((build, "logs"), (agent, "logs"), (stranger, None)):
        with client_of(user, daemon) as client:
            assert client.listed() == role


def test_another_users_session_token_is_no_token(aws, start_daemon, people):
    """A token in a log or an argument list would be as good as the user it was given to."""
    build, agent, *_ = people
    grants = [{"role": "logs", "user": build.name}, {"role": "deploy", "user": agent.name}]
    daemon = start_daemon(config=config(aws, grants))
    with client_of(build, daemon) as client, client_of(agent, daemon) as thief:
        token = client.token()
        assert client.get(LIST, token) == (200, "logs")
        assert thief.get(LIST, token)[0] == 401
        assert thief.get(LIST + "logs", token)[0] == 401
        assert client.at("127.0.0.1").get(LIST + "logs", token)[0] == 200


def test_a_reload_takes_a_role_away_at_the_next_request(aws, start_daemon, people):
    """Revoking a grant would not hold for who is connected."""
    build, *_ = people
    daemon = start_daemon(config=config(aws, [{"role": "logs", "user": build.name}]))
    with client_of(build, daemon) as client:
        token = client.token()
        assert client.get(LIST, token) == (200, "logs")
        daemon.write_config(config(aws, [{"role": "logs", "user": "root"}]))
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for_event("config reloaded")
        assert client.get(LIST, token) == (404, "no role for this caller")


def test_a_client_that_is_gone_before_it_is_looked_at_is_not_root(aws, start_daemon, people):
    """The owner of a closed socket reads as uid 0: it would be handed root's role."""
    stranger = people[2]
    daemon = start_daemon(config=config(aws, [{"role": "deploy", "user": "root"}], metadata=IMDS_V1))
    program = r"""
with socket.socket() as client:
    client.connect(("127.0.0.1", int(sys.argv[1])))
    client.sendall(b"GET /latest/meta-data/iam/security-credentials/deploy HTTP/1.1\r\nHost: localhost\r\n\r\n")
"""
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        for _ in range(20):
            with stranger.running(program, daemon.port) as process:
                assert process.wait(10) == 0
    finally:
        daemon.process.send_signal(signal.SIGCONT)

    def refused():
        return [e for e in daemon.events() if e["event"] == "credentials refused" and "uid" not in e]

    assert wait(lambda: sum(line["count"] for line in refused()) == 20 and refused(), 5, "the refusals")
    assert not [e for e in daemon.events() if e["event"] == "credentials handed out"]


def test_10000_short_connections_of_two_users_get_not_one_role_of_the_other(aws, start_daemon, people):
    """A port that was used again would carry the last owner's role."""
    build, agent, *_ = people
    grants = [{"role": "logs", "user": build.name}, {"role": "deploy", "user": agent.name}]
    daemon = start_daemon(config=config(aws, grants, metadata=IMDS_V1))
    program = r"""
host, port, wanted, count = "127.0.0.1", int(sys.argv[1]), sys.argv[2].encode(), int(sys.argv[3])
request = b"GET /latest/meta-data/iam/security-credentials/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
# From the same few ports, so that each is both users' again and again.
wrong, answered, ports = [], 0, set()
for number in range(count):
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # no TIME_WAIT
        try:
            client.bind((host, 20000 + (number * 7 + os.getpid()) % 64))
            client.connect((host, port))
        except OSError:  # the other one has it at this moment
            continue
        ports.add(client.getsockname()[1])
        client.sendall(request)
        received = b""
        while data := client.recv(4096):
            received += data
        answered += 1
        if not received.endswith(b"\r\n\r\n" + wanted):
            wrong.append(received.decode())
print(json.dumps([answered, len(ports), wrong[:3]]))
"""
    answered = 0
    for _ in range(8):
        with (
            build.running(program, daemon.port, "logs", 1500) as one,
            agent.running(program, daemon.port, "deploy", 1500) as other,
        ):
            for process in (one, other):
                done, ports, wrong = json.loads(process.communicate(timeout=60)[0])
                assert not wrong
                assert ports >= 60  # something else on this machine may have one
                answered += done
        if answered >= 10_000:
            break
    assert answered >= 10_000


def test_a_process_in_a_loop_is_slowed_down_and_the_others_are_not(aws, start_daemon, people):
    """One broken script would take the processor, and the answers, from everybody."""
    build, agent, *_ = people
    grants = [{"role": "logs", "user": build.name}, {"role": "deploy", "user": agent.name}]
    daemon = start_daemon(config=config(aws, grants, metadata=f"{LISTEN}\nrate_limit = 50"))
    loop = r"""
begun, count = time.monotonic(), 0
while time.monotonic() < begun + 4:
    with socket.socket() as client:
        client.connect(("127.0.0.1", int(sys.argv[1])))
        client.sendall(b"PUT /latest/api/token HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                       b"X-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n")
        while client.recv(4096):
            count += 1
print(json.dumps(count))
"""
    with build.running(loop, daemon.port) as process, client_of(agent, daemon) as other:
        waits = []
        token = other.token()
        while process.poll() is None:
            began = time.monotonic()
            assert other.get(LIST, token) == (200, "deploy")
            waits.append(time.monotonic() - began)
            time.sleep(0.02)
        assert json.loads(process.stdout.read()) < 50 * (4 + 4) * 2
    assert max(waits) < 0.5
    assert daemon.metric('imds_proxy_requests_limited_total{protocol="imds_v2"}') > 0
    assert not re.search("uid|user", "".join(re.findall(r"imds_proxy_requests\w*{.*", daemon.metrics())))


def test_check_says_what_a_user_would_get_and_why(aws, start_daemon, people):
    """Whether a grant says what was meant would only be known in production."""
    build, agent, stranger, group, _ = people
    grants = [{"role": "logs", "user": build.name}, {"role": "deploy", "group": group.gr_name}]
    daemon = start_daemon(config=config(aws, grants))
    done = daemon.cli("check", "--as", f"user={build.name}")
    assert done.returncode == 0, done.stderr
    assert "gets logs, deploy; its list shows logs" in done.stdout
    assert f'grants.1  gives deploy: group = "{group.gr_name}"' in done.stdout
    done = daemon.cli("check", "--as", f"uid={agent.uid}")
    assert "gets deploy; its list shows deploy" in done.stdout
    assert f'grants.0  does not give logs: user = "{build.name}"' in done.stdout
    done = daemon.cli("check", "--as", f"user={stranger.name}")
    assert done.returncode == 1
    assert done.stdout.endswith("gets nothing\n")
