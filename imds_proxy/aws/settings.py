"""What the environment and the AWS profile say besides credentials: the region, and which endpoints are called.

In: the environment, `~/.aws`. Out: settings that were checked. Errors: ConfigError, naming where the setting stands.
"Environment variables support" and "Dual-stack and FIPS endpoints" of the AWS SDKs and Tools guide. botocore is
imported only where a profile has to be read.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from imds_proxy.aws.files import AWS_FILES, file_of
from imds_proxy.errors import ConfigError
from imds_proxy.host.redaction import hidden
from imds_proxy.partitions import Variants, region_mistake
from imds_proxy.printable import printable

if TYPE_CHECKING:
    from imds_proxy.aws.session import AwsChain

_VARIABLE: Final = "AWS_DEFAULT_REGION"  # botocore's; the other SDKs and this daemon know AWS_REGION too
_VARIANTS: Final = ("use_fips_endpoint", "use_dualstack_endpoint")
_LARGEST: Final = 1 << 20  # bytes of a file that is looked through


def region_of(session: Any) -> str | None:
    """The region that botocore's part of the environment or a session's profile names. Reads files.

    A variable that is there and empty counts as none: botocore would call an address without a region.

    Raises:
        ConfigError: What stands there is no region.
        BotoCoreError: There is no such profile, or a file is none of AWS's.
    """
    if region := of_environment(_VARIABLE):
        return region
    if not (region := str(session.get_scoped_config().get("region") or "").strip()):
        return None
    return checked(region, lambda: _place(session))


def calls_sts_itself(session: Any) -> bool:
    """Whether a session's credentials come from an STS in its own region, which only the profile's settings choose."""
    return "AWS_ROLE_ARN" in os.environ or "role_arn" in session.get_scoped_config()


def find_variants(chain: "Callable[[], AwsChain]") -> Variants:
    """Which endpoints are called that botocore does not choose. Reads files; a bad profile says nothing here."""
    fips, dualstack = (_flag(name, chain) for name in _VARIANTS)
    return Variants(fips=fips, dualstack=dualstack)


def of_environment(name: str) -> str | None:
    """The region in a variable; None where it is empty or not there. Raises ConfigError."""
    text = os.environ.get(name, "")
    return checked(text, lambda: name) if text.strip() else None


def checked(text: str, place: Callable[[], str]) -> str:
    """The text, if it is a region; else raises ConfigError, which says where it stands."""
    if mistake := region_mistake(text):
        raise ConfigError(f"{place()}: {mistake}")
    return text


def of_profile(profile: str, path: str) -> str:
    """The place of a profile's region, for a message."""
    return f'region of profile "{hidden(profile)}" in {printable(path)}'


def _place(session: Any) -> str:
    """Where the region of a session's profile stands. What the credentials file says goes before the config file."""
    from botocore.configloader import raw_config_parse  # noqa: PLC0415 - the session is botocore's
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415 - the same

    profile, path = session.profile or "default", session.get_config_variable("credentials_file")
    try:
        inside = raw_config_parse(path, parse_subsections=False)
    except BotoCoreError:
        inside = {}
    if "region" not in inside.get(profile, {}):
        path = session.get_config_variable("config_file")
    return of_profile(profile, path)


def _flag(name: str, chain: "Callable[[], AwsChain]") -> bool:
    text = os.environ.get(f"AWS_{name.upper()}")
    if text is not None:
        return text.lower() == "true"  # as botocore reads it
    return any(_may_say(name, file_of(*file)) for file in AWS_FILES) and chain().setting(name) is True


def _may_say(name: str, path: str) -> bool:
    """Whether a file may hold a setting. A pipe is not asked: what is read of it is gone for the session it is for."""
    try:
        if not Path(path).is_file():
            return False
        with Path(path).open("rb") as file:
            return name.encode() in file.read(_LARGEST)
    except OSError:
        return False
