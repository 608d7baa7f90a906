"""The environment that makes a program's SDK find the daemon, and nothing else before it."""

from collections.abc import Mapping
from configparser import ConfigParser, Error
from pathlib import Path

from imds_proxy.host import utf8
from imds_proxy.host.utf8 import NotUtf8Error

NO_PROXY = (  # PROTOCOL.md 29; in brackets as "EKS Pod Identity" has it
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "[fd00:ec2::23]",
    "127.0.0.1",
    "localhost",
)

_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")

# Each of these comes before the instance metadata in the SDKs' chain, or turns it off.
_OVERRIDES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
)


def instance_metadata(endpoint: str) -> dict[str, str]:
    """For the instance metadata protocol."""
    return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": endpoint}


def container(endpoint: str, role: str, token_file: Path, token: str | None = None) -> dict[str, str]:
    """For the container protocol, with no way back to the host's own role (PROTOCOL.md 28).

    Args:
        endpoint: The daemon's.
        role: Its name.
        token_file: Holds the role's token.
        token: The token itself, for clients that cannot read the file; a secret. Those that can still do.
    """
    return ({} if token is None else {"AWS_CONTAINER_AUTHORIZATION_TOKEN": token}) | {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{endpoint}roles/{role}",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token_file),
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def region_of(base: Mapping[str, str]) -> str | None:
    """The region that `base` has for SDKs."""
    return next((base[name] for name in _REGIONS if base.get(name)), None)


def changes(base: Mapping[str, str], settings: Mapping[str, str], region: str | None) -> dict[str, str | None]:
    """What to set in `base`, and with None what to unset, so that an SDK takes `settings`.

    `region` is for where `base` has none; one that is there goes into both variables, since boto3 reads only one of
    them, and others only the other one.
    """
    wanted: dict[str, str | None] = {name: None for name in _OVERRIDES if name in base}
    wanted |= settings
    region = region_of(base) or region
    if region is not None:
        wanted |= {name: region for name in _REGIONS if not base.get(name)}
    for name in ("NO_PROXY", "no_proxy"):
        there = [
            host for host in (base.get(name) or base.get("NO_PROXY") or base.get("no_proxy") or "").split(",") if host
        ]
        wanted[name] = ",".join(there + [host for host in NO_PROXY if host not in there])
    return wanted


def shadowing_profile(base: Mapping[str, str]) -> Path | None:
    """The shared credentials file whose `[default]` profile SDKs would take before this daemon, if there is one."""
    path = Path(base.get("AWS_SHARED_CREDENTIALS_FILE") or Path.home() / ".aws/credentials")
    parser = ConfigParser(default_section="", interpolation=None)
    try:
        parser.read_string(utf8.decoded(path.read_bytes()))
    except (OSError, Error, NotUtf8Error):
        return None
    return path if parser.has_section("default") else None
