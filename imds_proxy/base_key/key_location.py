"""Which key this host starts from, and whether it comes from the shared credentials file."""

import os
from pathlib import Path
from typing import Final

from imds_proxy.aws.session import AwsChain, find
from imds_proxy.base_key.key_file import CredentialsFile
from imds_proxy.base_key.words import LABEL, told
from imds_proxy.errors import Denied, Invalid, SourceError

_METHOD: Final = "shared-credentials-file"
_PLACES: Final = {
    "env": "the environment (AWS_ACCESS_KEY_ID)",
    "config-file": "the AWS config file, not the credentials file",
    "assume-role": "a role that the profile assumes",
    "custom-process": "credential_process",
}


async def key_in_use(profile: str) -> CredentialsFile:
    """The file that the daemon's chain takes a profile's key from.

    Raises:
        Denied: There is none.
        Invalid: It comes from elsewhere.
        SourceError: The chain cannot be read.
    """
    try:
        # Asked for by name, a profile comes before the environment; left to choose, botocore looks there first.
        found = await find(AwsChain(), LABEL, None if profile == _own_choice() else profile)
    except SourceError as error:
        raise told(error) from None
    advice = f'put an IAM user\'s key into profile "{profile}" of the shared credentials file, and nowhere else; or'
    advice += " leave [base_key] out"
    if found is None:
        raise Denied(f'there is no key in profile "{profile}"', advice)
    if found.method != _METHOD:
        place = _PLACES.get(found.method, found.method)
        raise Invalid(f"the key in use comes from {place}: that cannot be rotated here", advice)
    return CredentialsFile(_resolved(found.session.get_config_variable("credentials_file")), profile)


def _resolved(path: str) -> Path:
    return Path(os.path.expandvars(path)).expanduser().resolve()


def _own_choice() -> str:
    """As botocore chooses, in its order."""
    return os.environ.get("AWS_DEFAULT_PROFILE") or os.environ.get("AWS_PROFILE") or "default"
