"""What the config refuses of a role by Roles Anywhere, before AWS does."""

import pytest
from pydantic import ValidationError

from imds_proxy.config.roles import RolesAnywhereConfig
from support.roles_anywhere import PROFILE, ROLE, TRUST_ANCHOR


def configured(**changes):
    settings = {
        "source": "roles-anywhere",
        "role_arn": ROLE,
        "trust_anchor_arn": TRUST_ANCHOR,
        "profile_arn": PROFILE,
        "certificate": "/etc/pki/host.pem",
    }
    return RolesAnywhereConfig(**settings | changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"profile_arn": PROFILE.replace("eu-west-1", "us-east-1")}, "are of different regions"),
        ({"endpoint": "http://rolesanywhere.example.com"}, "would send secrets in the clear"),
        ({"duration": "14m"}, "greater than or equal to 900"),
        ({"duration": "13h"}, "less than or equal to 43200"),
    ],
)
def test_a_mistake_is_named(changes, words):
    with pytest.raises(ValidationError, match=words):
        configured(**changes)


@pytest.mark.parametrize(
    "endpoint", ["https://vpce-1.rolesanywhere.eu-west-1.vpce.amazonaws.com", "http://127.0.0.1:1"]
)
def test_a_private_endpoint_is_taken(endpoint):
    assert configured(endpoint=endpoint).endpoint == endpoint
