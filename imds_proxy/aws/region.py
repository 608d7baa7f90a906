"""A quick look for the region that somebody named: the config, the environment or the AWS profile.

In: the config's region, the environment, the AWS config and credentials files. Out: a region, or None. Errors:
ConfigError, naming where what is no region stands. A profile that is missing or does not parse names no region, and the
first renewal says what is wrong with it.
"""

import os
from functools import partial
from typing import Any

from imds_proxy.aws.files import AWS_FILES, file_of
from imds_proxy.aws.settings import checked, of_environment, of_profile


def named_region(configured: str | None) -> str | None:
    """The region to use. May read files: call it beside the loop.

    Clients ask for it from the first moment on, so this needs no AWS session: that takes 300 ms to import.

    Raises:
        ConfigError: What stands in the environment or the profile is no region.
    """
    return configured or of_environment("AWS_REGION") or of_environment("AWS_DEFAULT_REGION") or _of_profile()


def _of_profile() -> str | None:
    """As botocore's session merges the two files: what the credentials file says of a profile counts."""
    from botocore.configloader import load_config, raw_config_parse  # noqa: PLC0415 - 30 ms, where it is needed
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415 - the same

    name = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE") or "default"
    config, credentials = (file_of(*file) for file in AWS_FILES)

    def read(load: Any, path: str) -> dict[str, Any]:
        try:
            return dict(load(path))
        except (BotoCoreError, OSError, ValueError):
            return {}

    for path, settings in (
        (credentials, read(raw_config_parse, credentials).get(name, {})),
        (config, read(load_config, config).get("profiles", {}).get(name, {})),
    ):
        if "region" in settings:
            region = settings["region"]
            return checked(region, partial(of_profile, name, path)) if isinstance(region, str) and region else None
    return None
