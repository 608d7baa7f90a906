"""What the real daemon exposes, and what is said of it, as promtool sees it."""

import json
import subprocess

import pytest

from support.base_key import Host as BaseKeyHost
from support.certificates import Authority, put
from support.daemon import HOST, wait
from support.metrics_table import metrics
from support.roles_anywhere import PROFILE, ROLE, TRUST_ANCHOR, RolesAnywhereDouble

PROMTOOL = "promtool"

CONFIG = """
[roles.deploy]
role_arn = "{role_arn}"
session_name = "test-host"
sts_endpoint = "{sts}"
default = true

[roles.anywhere]
source = "roles-anywhere"
role_arn = "{anywhere_arn}"
trust_anchor_arn = "{anchor}"
profile_arn = "{profile}"
endpoint = "{endpoint}"
certificate = "{folder}/host.crt"
private_key = "{folder}/host.key"

[[files]]
role = "deploy"
path = "{folder}/a file \\"of\\" \\\\ mine"
format = "json"

[base_key]
rotate_every = "30d"
"""


def promtool(*arguments, given=None):
    """Its exit code, and everything it says."""
    done = subprocess.run(
        [PROMTOOL, *map(str, arguments)], input=given, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def daemon(aws, start_daemon, tmp_path):
    """One that has everything there can be: a certificate, a file, a base key that rotates."""
    host = BaseKeyHost(aws.double, tmp_path)
    arn = aws.double.add_role(f"Role-{host.user}", aws.double.user_arn(host.user))
    company = Authority()
    issued = company.issue()
    put(tmp_path / "host.crt", issued.certificate_pem(chain=True), 0o644)
    put(tmp_path / "host.key", issued.key_pem())
    with RolesAnywhereDouble(company.certificate) as service:
        given = {"anywhere_arn": ROLE, "anchor": TRUST_ANCHOR, "profile": PROFILE, "endpoint": service.url}
        config = HOST + CONFIG.format(role_arn=arn, sts=aws.double.url, folder=tmp_path, **given)
        yield start_daemon(config=config, environment=host.environment)


def test_the_daemon_exposes_what_promtool_has_nothing_to_say_about(daemon):
    """Prometheus would refuse the scrape, or people would have to learn names that nobody else uses."""
    wait(lambda: 'imds_proxy_base_key_rotations_total{outcome="success"} 1.0' in daemon.metrics(), 60, "a rotation")
    wait(lambda: "imds_proxy_ready 1.0" in daemon.metrics(), 20, "every role")
    daemon.credentials("deploy")
    text = daemon.metrics()
    assert promtool("check", "metrics", given=text) == (0, "")
    exposed = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE imds_proxy_")}
    assert exposed == {row.name for row in metrics()}


def test_promtool_would_say_something():
    """A linter that is not there, or takes nothing in, finds nothing."""
    code, said = promtool("check", "metrics", given="# TYPE imds_proxy_requests counter\nimds_proxy_requests 1\n")
    assert code == 3
    assert '"_total" suffix' in said


def test_every_example_query_is_one(tmp_path):
    """Who copies it from the table would get an error."""
    rows = metrics()
    rules = [{"record": f"example:{row.name.removeprefix('imds_proxy_')}", "expr": row.query} for row in rows]
    (tmp_path / "rules.json").write_text(json.dumps({"groups": [{"name": "examples", "rules": rules}]}))
    code, said = promtool("check", "rules", tmp_path / "rules.json")
    assert code == 0, said
    assert f"SUCCESS: {len(rows)} rules found" in said
