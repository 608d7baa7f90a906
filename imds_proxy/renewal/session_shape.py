"""What a saved session has to have been obtained with, so that it may be served again: pure, but for the machine id.

Part of it is everything that is sent to obtain it: the settings, the session names (not their templates) of the role
and of those that it is assumed from, and where the environment has AWS called. No part of it is what only
authenticates the request: the base key, a token's subject, a certificate. Those are replaced all the time (that is
rotation), the session has the same rights before and after, and AWS lets it live; so does the daemon while it runs.
Nor is a region that only the profile's file names: it is where the call goes, and the session is the same.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from imds_proxy.aws import session_name
from imds_proxy.config.model import Config
from imds_proxy.errors import Invalid
from imds_proxy.sources.interface import longest_life

# Which profile, which AWS, which region: a session that came from elsewhere is another one.
_VARIABLES: Final = (
    "AWS_CONFIG_FILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_STS",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_SHARED_CREDENTIALS_FILE",
)


@dataclass(frozen=True, slots=True)
class SessionShape:
    """How a role's sessions are obtained on this host now.

    Args:
        digest: Of everything that is sent.
        session_name: As AWS has to have confirmed it; None where there is none, or where DNS would have to be asked.
        longest_life: Seconds.
    """

    digest: str
    session_name: str | None
    longest_life: int


def session_shape(config: Config, role: str, fingerprint: str, hostname: str) -> SessionShape:
    """The shape of a role's sessions. Asks neither DNS nor AWS, but reads the machine id: call it beside the loop.

    Args:
        config: With the role in it.
        role: Its name.
        fingerprint: Of its settings.
        hostname: As the kernel had it when the session was obtained: a host may be renamed.
    """
    names = [_name(template, hostname) for template in _templates(config, role)]
    environment = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    digest = hashlib.sha256(json.dumps([fingerprint, names, environment], sort_keys=True).encode()).hexdigest()
    settings = config.roles[role]
    template = getattr(settings, "session_name", None)
    exact = template is not None and not session_name.asks_dns(template)
    return SessionShape(digest, names[0] if exact else None, longest_life(settings))


def _templates(config: Config, role: str | None) -> Iterator[str | None]:
    """Of the role, and of each that it is assumed from."""
    while role is not None:
        settings = config.roles[role]
        yield getattr(settings, "session_name", None)
        role = settings.parent


def _name(template: str | None, hostname: str) -> str | None:
    if template is None:
        return None
    try:
        return session_name.render_without_dns(template, hostname)
    except Invalid:  # nothing can be obtained with it, which its source says
        return template
