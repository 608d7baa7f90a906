"""Role chaining: a role assumed with another role's credentials."""

from itertools import count
from types import SimpleNamespace

import pytest

from imds_proxy.demo.aws_double import ACCOUNT
from support.aws import is_assume_role, parameter, short_session
from support.daemon import HOST, START_TIME, wait
from support.oidc import AUDIENCE, Federation, Issuer

ROLES = """
[renewal]
start_grace = 0
[roles.deploy]
role_arn = "{deploy}"
from = "middle"
duration = "2h"
session_name = "web1"
sts_endpoint = "{sts}"
[roles.middle]
role_arn = "{middle}"
from = "host"
serve = false
session_name = "web1"
sts_endpoint = "{sts}"
[roles.host]
role_arn = "{host}"
serve = false
session_name = "web1"
sts_endpoint = "{sts}"
"""
NUMBERS = count()


@pytest.fixture
def chain(aws):
    """Three roles, each of which trusts only the session of the one before, and a config of them."""
    number = next(NUMBERS)
    trusted, arns = aws.double.user_arn("host"), {}
    for name in ("host", "middle", "deploy"):
        arns[name] = aws.double.add_role(f"{name}{number}", trusted)
        trusted = f"arn:aws:sts::{ACCOUNT}:assumed-role/{name}{number}/web1"
    return SimpleNamespace(arns=arns, session=trusted, config=HOST + ROLES.format(**arns, sts=aws.double.url))


@pytest.fixture
def start_chain(start_daemon, chain):
    """The daemon, once the last role of the chain has its credentials."""

    def start(**options):
        return start_daemon(config=chain.config, **options)

    return start


def test_each_step_is_assumed_with_the_one_before(start_chain, aws, chain):
    """moto verifies signature and trust of each: another caller than the one before would be denied."""
    daemon = start_chain()
    assert daemon.role("deploy")["session_arn"] == chain.session
    callers = [key[-4:] for key in aws.double.used("AssumeRole")]
    assert callers == [aws.key_id[-4:], *(daemon.role(name)["key"][-4:] for name in ("host", "middle"))]
    assert daemon.credentials("deploy")["Code"] == "Success"


def test_a_step_of_a_chain_is_not_handed_out(start_chain):
    daemon = start_chain()
    assert daemon.get("latest/meta-data/iam/security-credentials/")[2] == b"deploy"
    assert daemon.get("latest/meta-data/iam/security-credentials/host")[0] == 404


def test_a_chained_session_asks_for_an_hour_and_says_so_if_more_was_configured(start_chain, aws):
    """AWS refuses the whole call where more is asked for."""
    asked = []
    aws.double.interfere = lambda request: asked.append(parameter(request, "DurationSeconds"))
    daemon = start_chain()
    assert set(asked) == {"3600"}
    assert daemon.wait_for_event("a chained session lasts an hour at most: duration is cut to 1h")["role"] == "deploy"


def test_when_the_parent_renews_the_children_keep_what_they_have(start_chain, aws, chain):
    """A renewal at the root would otherwise be a renewal of everything, at once."""

    def short_for_the_host(request):
        host = is_assume_role(request) and parameter(request, "RoleArn") == chain.arns["host"]
        return short_session(aws.double, request, 8) if host else None

    aws.double.interfere = short_for_the_host
    daemon = start_chain()
    first = {name: daemon.role(name)["key"] for name in chain.arns}
    wait(lambda: daemon.role("host")["key"] != first["host"], START_TIME, "another session of the host")
    assert {name: daemon.role(name)["key"] for name in ("middle", "deploy")} == {
        name: first[name] for name in ("middle", "deploy")
    }


def test_a_child_says_that_it_is_its_parent_that_is_missing(start_chain, aws, chain):
    aws.double.trust(chain.arns["host"].rpartition("/")[2], aws.double.user_arn("somebody-else"))
    daemon = start_chain(ready=False)
    assert daemon.failure("host")["outcome"] == "denied"
    assert 'from, "middle", has no credentials at this time' in daemon.failure("deploy")["message"]
    assert daemon.failure("middle")["advice"] == 'see what is wrong with "host"'


def test_check_tries_parents_first(start_chain, aws):
    done = start_chain().cli("check")
    assert done.returncode == 0, done
    tried = [line.split()[0] for line in done.stdout.splitlines() if " ok: " in line]
    assert tried == ["host", "middle", "deploy"]


def test_a_role_is_assumed_from_one_of_a_token(start_daemon, aws, tmp_path):
    """A pod's own role, and from there the one of another account."""
    number = next(NUMBERS)
    federation = Federation(aws.double, Issuer())
    pod = aws.double.add_role(f"pod{number}", "*")
    federation.trust(f"pod{number}", federation.statement())
    federation.register(AUDIENCE)
    aws.double.interfere = federation
    arn = aws.double.add_role(f"other{number}", f"arn:aws:sts::{ACCOUNT}:assumed-role/pod{number}/web1")
    (tmp_path / "token").write_text(federation.issuer.token())
    both = f'session_name = "web1"\nsts_endpoint = "{aws.double.url}"\n'
    token = f'source = "web-identity"\nrole_arn = "{pod}"\ntoken_file = "{tmp_path}/token"\nserve = false\n{both}'
    config = f'{HOST}[roles.pod]\n{token}[roles.other]\nrole_arn = "{arn}"\nfrom = "pod"\n{both}'
    daemon = start_daemon(config=config, environment={})
    federation.unregister()
    assert daemon.role("other")["session_arn"].endswith(f":assumed-role/other{number}/web1")
    assert [key[-4:] for key in aws.double.used("AssumeRole")] == [daemon.role("pod")["key"][-4:]]
