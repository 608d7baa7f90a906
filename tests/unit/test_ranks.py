"""Which roles are obtained first (renewal/ranks.py)."""

import json

from imds_proxy.config.model import Config
from imds_proxy.renewal.ranks import ranks
from imds_proxy.renewal.turns import DEFAULT, EARLY, ORDINARY

ARN = "arn:aws:iam::123456789012:role/{}"


def config(**more):
    """Ten roles, of which the last is the default, one is from a file, one in one, and two are of a chain."""
    roles = {f"r{number}": {"role_arn": ARN.format(number), "default": number == 9} for number in range(10)}
    roles["r4"] = {"source": "file", "path": "/run/session", "format": "json", "default": False}
    roles["r8"] |= {"from": "r7", "serve": False}
    roles["r9"] |= {"from": "r8"}
    files = [{"role": "r5", "path": "/run/out", "format": "json"}]
    return Config.model_validate_json(json.dumps({"roles": roles, "files": files} | more))


def test_the_default_role_comes_first_and_what_it_is_assumed_from_before_it():
    """With a thousand roles its clients would wait for a minute."""
    found = ranks(config())
    assert list(found) == ["r7", "r8", "r9", "r4", "r5", "r0", "r1", "r2", "r3", "r6"]
    assert [found[name] for name in ("r7", "r9", "r4", "r5", "r0")] == [DEFAULT, DEFAULT, EARLY, EARLY, ORDINARY]


def test_with_grants_no_role_is_the_default():
    found = ranks(config(grants=[{"role": "r9", "uid": 0}]))
    assert list(found)[:2] == ["r4", "r5"]
    assert found["r9"] == ORDINARY
